"""The ledger from Python objects: transfers a second, for one hot pair of accounts and for ten thousand of them.

    python -m benchmarks.ledger [--quick] [--rows N] [--json]

Batches of 1, of 100 (8 in flight), of 8,189, and 1,000 concurrent callers with one transfer each, through the Ledger that
the API uses, on an embedded PostgreSQL with fsync on. Half of the ten thousand accounts have a limit that does not bind.
The server is warmed up first, the books are empty.
With --rows they are filled to so many transfers first, and the figures are shown beside those of empty books.
A figure is the median of the rounds. Exits with 1 when the books do not add up; a missed figure is no failure.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any, Final

import asyncpg
import msgspec
import uvloop
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from benchmarks import measure, report
from guilder.core.clock import SystemClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.db.embedded import SUPERUSER, EmbeddedServer
from guilder.db.migrate import migrate
from guilder.ledger import store
from guilder.ledger.accounts import Accounts, Opening
from guilder.ledger.book import Ledger
from guilder.ledger.model import BATCH_MAX, AccountKey, Transfer

MERCHANT: Final = "acct_0123456789abcdefghijbnch"
ACCOUNTS: Final = 10_000
# So far below any limit that none can bind in a run.
OVERDRAFT: Final = 10**15
ROUNDS: Final = 3
READS: Final = 2_000
PAGE: Final = 100


class Load(Struct, frozen=True, kw_only=True):
    """One way to ask: batches of a size, so many in flight, so many transfers in all; the figure that it is to reach."""

    name: str
    size: int
    in_flight: int
    transfers: int
    target: int


LOADS: Final = (
    Load(name="one at a time", size=1, in_flight=1, transfers=4_000, target=1_500),
    Load(name="batches of 100, 8 in flight", size=100, in_flight=8, transfers=160_000, target=40_000),
    Load(name="batches of 8,189", size=BATCH_MAX, in_flight=1, transfers=20 * BATCH_MAX, target=80_000),
    Load(name="batches of 8,189, 2 in flight", size=BATCH_MAX, in_flight=2, transfers=20 * BATCH_MAX, target=80_000),
    Load(name="1,000 concurrent singles", size=1, in_flight=1_000, transfers=60_000, target=15_000),
)
# What large books may cost: figures at least so much of those with empty books, and a balance read below so many ms at p99.
LARGE_SHARE: Final = 0.9
BALANCE_MS_MAX: Final = 2.0


class Bench:
    """The ledger on a fresh database, and the two workloads."""

    def __init__(self, db: Database) -> None:
        self.clock = SystemClock()
        self.ids = Ids(self.clock)
        self.random = Random(1)
        self.db = db
        self.keys = [AccountKey(MERCHANT, False, str(place), "own", "eur") for place in range(ACCOUNTS)]
        self.accounts = Accounts(db, self.clock, self.ids, _opening)
        self.ledger = Ledger(db, self.accounts, self.clock)

    async def open(self) -> None:
        """Open the accounts."""
        for start in range(0, ACCOUNTS, 1_000):
            await self.accounts.numbers(self.keys[start : start + 1_000])

    def hot(self) -> Transfer:
        """A transfer between always the same two accounts, one of them limited."""
        return Transfer(id=self.ids.new("ltr"), debit=self.keys[0], credit=self.keys[1], amount=10, code=1)

    def wide(self) -> Transfer:
        """A transfer between any two of the ten thousand."""
        debit, credit = self.random.sample(self.keys, 2)
        return Transfer(id=self.ids.new("ltr"), debit=debit, credit=credit, amount=10, code=1)

    async def run(self, make: Callable[[], Transfer], load: Load) -> tuple[float, float]:
        """Transfers a second, and CPU microseconds of this process for each."""
        batches = [[make() for _ in range(load.size)] for _ in range(load.transfers // load.size)]
        waiting = iter(batches)
        begun, cpu = perf_counter(), process_time()
        await asyncio.gather(*(self._send(waiting) for _ in range(load.in_flight)))
        seconds = perf_counter() - begun
        count = len(batches) * load.size
        return count / seconds, (process_time() - cpu) / count * 1e6

    async def fill(self, rows: int) -> None:
        """Book between any two of the accounts until the books hold so many transfers."""
        while (missing := rows - await self.db.fetchval("SELECT last_index FROM ledger_head WHERE NOT livemode")) > 0:
            sizes = repeat(BATCH_MAX, max(1, min(40, missing // BATCH_MAX)))
            await self._send([self.wide() for _ in range(size)] for size in sizes)
            sys.stdout.write(f"\r{rows - missing:,} transfers in the books")
            sys.stdout.flush()
        sys.stdout.write("\n")

    async def reads(self) -> dict[str, dict[str, float]]:
        """Milliseconds of a balance now, a balance as of a time, and a page of a statement."""
        last, first = await self.db.fetchrow("SELECT max(created_at), min(created_at) FROM ledger_transfer")  # type: ignore[misc]

        def number() -> Awaitable[int]:
            return self.accounts.number(self.random.choice(self.keys))

        async def then() -> None:
            await store.balance_at(self.db, await number(), self.random.randint(first, last))

        async def now() -> None:
            await store.balance_at(self.db, await number(), last)

        async def page() -> None:
            await store.statement(self.db, await number(), store.Span(limit=PAGE), livemode=False)

        return {"balance now": await _timed(now), "balance as of": await _timed(then), "statement, 100 lines": await _timed(page)}

    async def check(self) -> list[str]:
        """What does not add up in the books; nothing, if all is well."""
        problems = []
        for livemode, currency, debits, credits_ in await self.db.fetch(
            "SELECT livemode, currency, debits_posted, credits_posted FROM ledger_trial_balance"
        ):
            if debits != credits_:
                problems.append(f"the trial balance of {currency} ({livemode=}) is {debits - credits_}")
        gaps = await self.db.fetchval("SELECT max(index) - count(*) FROM ledger_transfer")
        moved, stands = await self.db.fetchrow(  # type: ignore[misc]
            "SELECT (SELECT sum(amount) FROM ledger_transfer), (SELECT sum(debits_posted) FROM ledger_account_balance)"
        )
        problems += [f"{gaps} gaps in the index"] if gaps else []
        problems += [f"transfers are {moved}, balances {stands}"] if moved != stands else []
        return problems

    async def _send(self, batches: Iterator[Sequence[Transfer]]) -> None:
        for batch in batches:
            booked = await self.ledger.book(False, batch)
            if booked.refused:
                raise RuntimeError(f"refused: {booked.refused[:3]}")


async def _opening(key: AccountKey) -> Opening:
    limited = int(key.owner) % 2 == 0
    return Opening(debits_limited=limited, overdraft=OVERDRAFT if limited else 0)


async def _timed(read: Callable[[], Awaitable[None]]) -> dict[str, float]:
    times = []
    for _ in range(READS):
        begun = perf_counter()
        await read()
        times.append((perf_counter() - begun) * 1000)
    times.sort()
    return {"p50_ms": round(times[READS // 2], 3), "p99_ms": round(times[READS * 99 // 100], 3)}


async def _figures(bench: Bench, rounds: int, *, rows: int) -> list[dict[str, Any]]:
    found = []
    for workload, make in (("hot pair", bench.hot), ("10,000 accounts", bench.wide)):
        for load in LOADS:
            each = [await bench.run(make, load) for _ in range(rounds)]
            found.append(
                {
                    "workload": workload, "run": load.name, "rows": rows, "target": load.target, "loop_ms": measure.loop_ms(),
                    "per_second": round(statistics.median(rate for rate, _ in each)),
                    "best": round(max(rate for rate, _ in each)),
                    "python_us": round(statistics.median(cpu for _, cpu in each), 2),
                }
            )  # fmt: skip
    return found


def _show(console: Console, found: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]] | None) -> None:
    table = Table(title="Ledger from Python objects, transfers a second, fsync on")
    for name in ("workload", "run"):
        table.add_column(name)
    for name in ("/s", "best", "python us", "target", ""):
        table.add_column(name, justify="right")
    if before:
        table.add_column("of empty", justify="right")
    for place, row in enumerate(found):
        verdict = "" if row["per_second"] >= row["target"] else "MISSED"
        share = [f"{row['per_second'] / before[place]['per_second']:.2f}"] if before else []
        table.add_row(
            row["workload"], row["run"], f"{row['per_second']:,}", f"{row['best']:,}", f"{row['python_us']}", f"{row['target']:,}",
            verdict, *share,
        )  # fmt: skip
    console.print(table)


async def _bench(dsn: str, folder: Path, given: argparse.Namespace) -> int:
    await migrate(dsn)
    db = await Database.connect(dsn, role="guilder_app", max_size=4, hot=True, name="bench")
    bench = Bench(db)
    await bench.open()
    console = Console(width=130)
    rounds = 1 if given.quick else ROUNDS
    empty = await _figures(bench, rounds, rows=0)
    _show(console, empty, None)
    runs = list(empty)
    if given.rows:
        await bench.fill(given.rows)
        full = await _figures(bench, rounds, rows=given.rows)
        _show(console, full, empty)
        runs += full
        short = [f"{row['workload']}, {row['run']}" for row, was in zip(full, empty, strict=True)
                 if row["per_second"] < LARGE_SHARE * was["per_second"]]  # fmt: skip
        console.print(f"at least {LARGE_SHARE} of the empty figures: {'missed by ' + '; '.join(short) if short else 'reached'}")
    reads = await bench.reads()
    console.print(f"reads (a balance is to be below {BALANCE_MS_MAX} ms at p99): {reads}")
    disk_ms = measure.disk_ms(folder)
    console.print(f"fdatasync of this disk: {disk_ms} ms; database {await _size(dsn) / 1e6:,.0f} MB")
    history = report.History("ledger", quick=given.quick)
    for row in runs:
        history.add({**row, "disk_ms": disk_ms, "reads": reads})
    if given.json:
        sys.stdout.write(msgspec.json.encode({"runs": runs, "reads": reads, "disk_ms": disk_ms}).decode() + "\n")
    problems = await bench.check()
    await bench.ledger.close()
    await db.close()
    for problem in problems:
        sys.stderr.write(f"WRONG: {problem}\n")
    return 1 if problems else 0


async def _warm(superuser: str) -> None:
    """Bring the server where it is after its first minutes: log files to write again, cache that has been touched.

    A new server makes its log files while it writes them, which costs a large batch a tenth.
    """
    connection = await asyncpg.connect(superuser)
    try:
        await connection.execute("CREATE TABLE warm AS SELECT repeat('x', 1000) AS filler FROM generate_series(1, 1000000)")
        await connection.execute("DROP TABLE warm")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _size(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT pg_database_size(current_database())"))
    finally:
        await connection.close()


def main() -> int:
    """Start a database of our own, measure, and remove it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description="The ledger from Python objects.")
    parser.add_argument("--quick", action="store_true", help="one round each")
    parser.add_argument("--rows", type=int, default=0, help="transfers to fill the books with for a second look")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="guilder-bench-") as name:
        folder = Path(name)
        server = EmbeddedServer(
            folder, socket_folder=folder / "run", password_file=folder / "passwords.json", log=folder / "postgres.log"
        )  # fmt: skip
        server.create()
        server.start()
        try:
            server.wait_until_ready()
            uvloop.run(_warm(server.dsn(user=SUPERUSER)))
            return uvloop.run(_bench(server.dsn(), folder, given))
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
