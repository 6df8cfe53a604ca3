"""After each run: is everything that was taken in the books, once, and does the bank world say the same?"""

import asyncio
from collections import Counter
from typing import Any, Final

import asyncpg

from benchmarks.system import System

# How long open attempts are waited for after the generator has stopped.
SETTLE_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.1


class Wrong(Exception):  # noqa: N818 - what was found, in words
    """The books disagree with what was done; no figure of this run counts."""


# What must hold whatever was done, as (what, query for the number of exceptions).
NONE_OF: Final = (
    ("attempts that are still open", "SELECT count(*) FROM attempt_open"),
    ("keys without an answer", "SELECT count(*) FROM idempotency_key WHERE answer IS NULL"),
    ("payments that did not succeed", "SELECT count(*) FROM payment WHERE state <> 'succeeded'"),
    ("attempts that were not approved", "SELECT count(*) FROM attempt WHERE state IS DISTINCT FROM 'approved'"),
    ("currencies that do not balance",
     "SELECT count(*) FROM (SELECT FROM ledger_account_balance GROUP BY currency, livemode "
     "HAVING sum(debits_posted) <> sum(credits_posted) OR sum(debits_pending) <> sum(credits_pending)) x"),
    ("currencies whose transfers are not what their balances say",
     "SELECT count(*) FROM (SELECT currency, sum(amount) AS sum FROM ledger_transfer WHERE kind = 0 GROUP BY 1) t FULL JOIN "
     "(SELECT currency, sum(debits_posted) AS sum FROM ledger_account_balance GROUP BY 1 HAVING sum(debits_posted) > 0) b "
     "USING (currency) WHERE t.sum IS DISTINCT FROM b.sum"),
    ("gaps in the ledger's index", "SELECT max(index) - count(*) FROM ledger_transfer WHERE NOT livemode"),
    ("gaps in the log's positions",
     "SELECT count(*) FROM (SELECT FROM log_entry GROUP BY topic, partition HAVING max(position) <> count(*)) x"),
    ("disagreements of wallet and ledger", "SELECT count(*) FROM wallet_difference"),
)  # fmt: skip
COUNTS: Final = """
SELECT (SELECT count(*) FROM payment) AS payments, (SELECT count(*) FROM charge WHERE succeeded) AS charges,
       (SELECT count(*) FROM ledger_transfer t WHERE t.reference IN (SELECT id FROM charge)) AS transfers,
       (SELECT count(*) FROM balance_transaction) AS entries,
       (SELECT count(*) FROM event WHERE type = 'payment_intent.succeeded') AS events
"""
TAKEN: Final = "SELECT reference, amount FROM attempt WHERE operation = 'purchase' AND state = 'approved'"


async def settled(system: System) -> None:
    """Wait until no attempt is open. Raises Wrong when that does not come."""
    connection = await asyncpg.connect(system.dsn)
    try:
        for _ in range(int(SETTLE_SECONDS / LOOK_SECONDS)):
            if not await connection.fetchval("SELECT count(*) FROM attempt_open"):
                return
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await connection.close()
    raise Wrong(f"attempts are still open {SETTLE_SECONDS} s after the last request")


async def check_payments(system: System, *, least: int) -> dict[str, int]:
    """Compare books, answers and the bank world's truth, to the cent. Returns the counts; raises Wrong with all that differs.

    `least`: payments that were answered with success; a generator that stops with requests under way leaves more.
    """
    await settled(system)
    connection = await asyncpg.connect(system.dsn)
    try:
        await connection.execute("SET ROLE guilder_app")
        problems = [f"{found} {what}" for what, query in NONE_OF if (found := await connection.fetchval(query))]
        counts = dict(await connection.fetchrow(COUNTS))
        taken = Counter({row["reference"]: row["amount"] for row in await connection.fetch(TAKEN)})
    finally:
        await connection.close()
    payments = counts["payments"]
    counts["truth"], told = captures(system)
    expected = {"charges": payments, "transfers": 2 * payments, "entries": payments, "events": payments, "truth": payments}
    problems += [f"{counts[name]} {name} for {payments} payments" for name, number in expected.items() if counts[name] != number]
    if payments < least:
        problems.append(f"{least} payments were answered, {payments} are stored")
    if taken != told:
        problems.append(f"amounts differ from the bank's for {len(taken.items() ^ told.items())} references")
    if problems:
        raise Wrong("; ".join(problems))
    return counts


def captures(system: System) -> tuple[int, Counter[str]]:
    """How many captures the bank world remembers, and the amount by reference; a second one of a reference adds up."""
    count, told = 0, Counter[str]()
    for effect in system.truth():
        if effect["kind"] == "capture":
            count += 1
            told[effect["reference"]] += effect["amount"]
        elif effect["kind"] != "authorization":
            told[f"{effect['kind']} {effect['reference']}"] += effect["amount"]
    return count, told


# A flush gives all its rows one time, so the times tell how many there were.
BATCHES: Final = """
SELECT (SELECT count(*)::float / greatest(count(DISTINCT created_at), 1) FROM payment WHERE created_at > $1) AS accept,
       (SELECT count(*)::float / greatest(count(DISTINCT created_at), 1) / 2 FROM ledger_transfer WHERE created_at > $1) AS settle
"""
MARKERS: Final = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn AS wal, pg_database_size(current_database()) AS size"


async def markers(system: System) -> dict[str, Any]:
    """How far the database has come: bytes of log written, bytes stored, and its newest payment's instant."""
    connection = await asyncpg.connect(system.dsn)
    try:
        await connection.execute("SET ROLE guilder_app")
        row = await connection.fetchrow(MARKERS)
        newest = await connection.fetchval("SELECT coalesce(max(created_at), 0) FROM payment")
        return {"wal": int(row["wal"]), "size": int(row["size"]), "newest": newest}
    finally:
        await connection.close()


async def batches(system: System, since: int) -> dict[str, float]:
    """Mean payments in a flush of accept and of settle, since an instant."""
    connection = await asyncpg.connect(system.dsn)
    try:
        await connection.execute("SET ROLE guilder_app")
        row = await connection.fetchrow(BATCHES, since)
        return {name: round(row[name], 1) for name in ("accept", "settle")}
    finally:
        await connection.close()
