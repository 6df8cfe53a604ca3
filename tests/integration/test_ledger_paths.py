"""Both paths of ledger_book against the pure model: the same answers, the same books."""

import asyncio
from collections.abc import Iterator
from itertools import count

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_world import book, book_carefully, open_as, owner_connection, standing
from msgspec.structs import replace

from guilder.core.clock import ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger.columns import encode
from guilder.ledger.model import Kind, Transfer
from guilder.ledger.pure import Book, PureAccount

ACCOUNTS = [
    PureAccount(merchant="acct_a"),
    PureAccount(merchant="acct_a"),
    PureAccount(merchant="acct_a", debits_limited=True),
    PureAccount(merchant="acct_a", debits_limited=True, overdraft=30),
    PureAccount(merchant="acct_a", credits_limited=True, overdraft=10),
    PureAccount(merchant="acct_a", currency="jpy"),
    PureAccount(merchant="acct_b"),
]
NOWHERE = 10**12
NAMES = [f"t{number}" for number in range(9)]
_runs = count()

new_transfer = st.builds(
    Transfer,
    id=st.sampled_from(NAMES),
    debit=st.sampled_from([1, 2, 3, 4, 5, 6, 7, NOWHERE]),
    credit=st.sampled_from([1, 2, 3, 4, 5, 1, 2, 3, 6]),
    amount=st.sampled_from([10, 20, 50, 0, 10**15 + 1]),
    kind=st.sampled_from([Kind.POSTED, Kind.PENDING, Kind.PENDING]),
    code=st.sampled_from([1, 1, 1, 2]),
    fact=st.booleans(),
    linked=st.booleans(),
    reference=st.sampled_from([None, None, "ch_1"]),
    timeout=st.sampled_from([None, None, None, 3, -1]),
)
resolution = st.builds(
    Transfer,
    id=st.sampled_from(NAMES),
    debit=st.sampled_from([0, 0, 0, 1]),
    credit=st.sampled_from([0, 0, 0, 2]),
    amount=st.sampled_from([0, 0, 10, 15, 20]),
    kind=st.sampled_from([Kind.POST, Kind.POST, Kind.VOID, Kind.EXPIRE]),
    code=st.just(1),
    pending_id=st.sampled_from(NAMES),
    linked=st.booleans(),
)
anything = st.builds(
    Transfer,
    id=st.sampled_from(["", *NAMES]),
    debit=st.sampled_from([0, 1, 2]),
    credit=st.sampled_from([0, 1, 3]),
    amount=st.sampled_from([-1, 0, 10]),
    kind=st.sampled_from(Kind),
    code=st.just(1),
    pending_id=st.sampled_from([None, *NAMES]),
    timeout=st.sampled_from([None, 5]),
)
sound = st.builds(
    Transfer,
    id=st.uuids().map(str),
    debit=st.sampled_from([1, 2]),
    credit=st.sampled_from([3, 4]),
    amount=st.integers(1, 50),
    code=st.just(1),
)
batch = st.lists(st.one_of(new_transfer, resolution, anything), min_size=1, max_size=6) | st.lists(sound, min_size=1, max_size=6)
history = st.lists(st.tuples(batch, st.integers(0, 4)), min_size=1, max_size=6)


class Subject:
    """One database; the test book takes ledger_book's way, the live book the careful path."""

    def __init__(self, dsn: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.ids = Ids(ManualClock())
        self.run(self._connect(dsn))

    async def _connect(self, dsn: str) -> None:
        self.db = await Database.connect(dsn, role="guilder_app", max_size=1, hot=True, name="test")
        self.owner: asyncpg.Connection = await owner_connection(dsn)

    def run(self, work):
        """Wait for it."""
        return self.loop.run_until_complete(work)

    async def close(self) -> None:
        """Hang up."""
        await self.db.close()
        await self.owner.close()


@pytest.fixture
def subject(server: dict[str, str]) -> Iterator[Subject]:
    """A fresh database with a loop of its own, because hypothesis calls from plain functions."""
    loop = asyncio.new_event_loop()
    name = f"paths_{next(_runs)}_{id(loop)}"

    async def admin(sql: str) -> None:
        connection = await asyncpg.connect(server["admin"])
        await connection.execute(sql)
        await connection.close()

    loop.run_until_complete(admin(f"CREATE DATABASE {name} TEMPLATE {server['template']}"))
    subject = Subject(server["dsn"].replace("DATABASE", name))
    yield subject
    subject.run(subject.close())
    subject.loop.close()
    loop.run_until_complete(admin(f"DROP DATABASE {name} WITH (FORCE)"))
    loop.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=history)
def test_both_paths_answer_and_store_what_the_model_does(subject: Subject, history: list[tuple[list[Transfer], int]]) -> None:
    """Random batches with repeated ids, chains, resolutions, limits, facts and time limits."""
    subject.run(_compare(subject, history))


async def _compare(subject: Subject, history: list[tuple[list[Transfer], int]]) -> None:
    prefix = f"{next(_runs)}-"  # ids are unique in both books together
    numbers = {mode: await open_as(subject.db, subject.ids, mode, ACCOUNTS) for mode in (False, True)}
    heads = {row["livemode"]: row for row in await subject.db.fetch("SELECT * FROM ledger_head")}
    models = {mode: Book(dict(zip(numbers[mode], ACCOUNTS, strict=True))) for mode in (False, True)}
    for mode, model in models.items():
        model.last_at = heads[mode]["last_at"]
    now = max(model.last_at for model in models.values())
    for transfers, passed in history:
        now += passed
        for mode in (False, True):
            asked = [_real(transfer, f"{prefix}{mode}-", numbers[mode]) for transfer in transfers]
            asked[-1] = replace(asked[-1], linked=False)
            expected = models[mode].book(asked, now)
            if mode:
                answered = await book_carefully(subject.owner, encode(asked, {}), now=now, livemode=True)
            else:
                answered = await book(subject.db, asked, now=now)
            assert answered == expected, (mode, asked)
    for mode, model in models.items():
        await _same_books(subject, mode, model, numbers[mode], heads[mode]["last_index"])


async def _same_books(subject: Subject, mode: bool, model: Book, numbers: list[int], base: int) -> None:
    accounts = [model.accounts[number] for number in numbers]
    assert await standing(subject.db, numbers) == [
        (a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted) for a in accounts
    ]
    rows = await subject.db.fetch("SELECT * FROM ledger_transfer WHERE livemode = $1 AND index > $2 ORDER BY index", mode, base)
    stored = [
        (row["index"] - base, row["created_at"], row["id"], row["debit"], row["credit"], row["amount"], row["kind"],
         row["pending_id"], row["fact"], row["code"], row["reference"], row["expires_at"], row["linked"])
        for row in rows
    ]  # fmt: skip
    assert stored == [
        (one.index, one.at, one.asked.id, one.debit, one.credit, one.amount, one.asked.kind, one.asked.pending_id, one.asked.fact,
         one.asked.code, one.asked.reference, one.expires_at, one.asked.linked)
        for one in model.transfers.values()
    ]  # fmt: skip


def _real(transfer: Transfer, prefix: str, numbers: list[int]) -> Transfer:
    """The transfer with ids of this run and the numbers of its accounts."""

    def number(side: object) -> int:
        return side if side in (0, NOWHERE) else numbers[side - 1]

    return replace(
        transfer,
        id=transfer.id and prefix + transfer.id,
        pending_id=transfer.pending_id and prefix + transfer.pending_id,
        debit=number(transfer.debit),
        credit=number(transfer.credit),
    )
