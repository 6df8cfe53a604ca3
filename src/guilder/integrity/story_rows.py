"""The rows that one payment left behind, read in one snapshot by their own SQL; story.py makes a timeline of them."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from guilder.core.clock import SECOND
from guilder.db import Connection, Record

# Events after a payment began that are looked through one by one. An event does not know its payment; on a system that has
# had more events since, only those around the payment's own moments are looked at.
SCANNED_MAX: Final = 500_000
# Events of a commit stand within this of it: a flush's time is its own, and machines differ by less.
AROUND: Final = 5 * SECOND

_FIND: Final = {
    "pi": "SELECT $1::text AS payment",
    "ch": "SELECT payment FROM charge WHERE id = $1",
    "re": "SELECT payment FROM refund WHERE id = $1",
    "at": "SELECT payment FROM attempt WHERE id = $1",
    "cs": "SELECT payment FROM checkout_session WHERE id = $1",
    "txn": "SELECT payment FROM balance_transaction WHERE id = $1",
}
_PAYMENT: Final = "SELECT * FROM payment WHERE id = $1"
_SESSIONS: Final = "SELECT id, state, created_at FROM checkout_session WHERE payment = $1"
_ATTEMPTS: Final = "SELECT * FROM attempt WHERE payment = $1 ORDER BY created_at, id"
_OPEN: Final = "SELECT * FROM attempt_open WHERE payment = $1 ORDER BY slot"
_MESSAGES: Final = "SELECT * FROM attempt_message WHERE attempt = ANY ($1) ORDER BY at, ctid"
# Without its id, which is the secret of the buyer's way.
_CHALLENGES: Final = """
SELECT attempt, state, opened_at, expires_at, ended_at FROM challenge WHERE payment = $1 ORDER BY opened_at, attempt
"""
_CHARGES: Final = "SELECT * FROM charge WHERE payment = $1 ORDER BY id"
_REFUNDS: Final = "SELECT * FROM refund WHERE payment = $1 ORDER BY id"
_ENTRIES: Final = "SELECT * FROM balance_transaction WHERE source = ANY ($1) ORDER BY created_at, id"
_TRANSFERS: Final = """
SELECT t.*, d.kind AS debit_kind, d.owner AS debit_owner, d.day AS debit_day, c.kind AS credit_kind, c.owner AS credit_owner,
       c.day AS credit_day
FROM ledger_transfer t JOIN ledger_account d ON d.number = t.debit JOIN ledger_account c ON c.number = t.credit
WHERE t.reference = ANY ($1) ORDER BY t.index
"""
_RELEASES: Final = """
SELECT DISTINCT w.day, w.released_at FROM balance_transaction b
JOIN wallet_release w ON (w.account, w.day, w.currency, w.livemode) = (b.account, b.day, b.currency, b.livemode)
WHERE b.source = ANY ($1) ORDER BY w.released_at
"""
_KEYS: Final = """
SELECT key, request_id, object, created_at, answer FROM idempotency_key
WHERE key = ANY ($1) AND account = $2 AND livemode = $3 ORDER BY created_at
"""

# The first event of an account at or after a moment: numbers follow time, so the moment is found by halving.
_HEAD: Final = "SELECT head FROM event_head WHERE account = $1 AND livemode = $2"
_AT: Final = "SELECT created_at FROM event WHERE account = $1 AND livemode = $2 AND number = $3"
_EVENTS: Final = """
SELECT id, number, type, created_at, request_id, idempotency_key FROM event e
WHERE account = $1 AND livemode = $2 AND number >= $3 AND number <= $4
  AND EXISTS (SELECT FROM unnest($5::text[]) x(id) WHERE position(convert_to(x.id, 'UTF8') IN e.facts) > 0)
ORDER BY number
"""
# One row for each try that is told of: those that failed, and the one that arrived.
_WEBHOOKS: Final = """
SELECT a.sent_at, d.event, d.type, d.endpoint, d.number, a.status, a.failure
FROM webhook_delivery d JOIN webhook_attempt a ON a.endpoint = d.endpoint AND a.number = d.number WHERE d.event = ANY ($1)
UNION ALL
SELECT d.sent_at, d.event, d.type, d.endpoint, d.number, d.status, NULL
FROM webhook_delivery d WHERE d.event = ANY ($1) AND d.sent_at IS NOT NULL
ORDER BY sent_at, endpoint, number
"""


class Rows(Struct, frozen=True, kw_only=True):
    """Everything that was found, in the tables' own words."""

    payment: Record
    # The Checkout Session that it was made for: one, or none.
    sessions: list[Record]
    attempts: list[Record]
    open: list[Record]
    messages: list[Record]
    challenges: list[Record]
    charges: list[Record]
    refunds: list[Record]
    transfers: list[Record]
    entries: list[Record]
    releases: list[Record]
    keys: list[Record]
    events: list[Record]
    webhooks: list[Record]
    # False when only the events around the payment's own moments were looked at.
    all_events: bool


async def read(connection: Connection, id_: str, key_of: Callable[[bytes], str | None]) -> Rows | None:
    """The rows of the payment to which this payment, charge, refund, attempt or balance transaction belongs; None for none.

    `key_of` reads the idempotency key from an attempt's facts.
    """
    find = _FIND.get(id_.partition("_")[0])
    payment_id = str(await connection.fetchval(find, id_)) if find else None
    payment = await connection.fetchrow(_PAYMENT, payment_id) if payment_id else None
    if payment is None or payment_id is None:
        return None
    attempts = await connection.fetch(_ATTEMPTS, payment_id)
    charges = await connection.fetch(_CHARGES, payment_id)
    refunds = await connection.fetch(_REFUNDS, payment_id)
    sources = [row["id"] for row in (*charges, *refunds)]
    moments = [payment["created_at"], *(row["created_at"] for row in (*attempts, *charges, *refunds))]
    moments += [row["finished_at"] for row in attempts if row["finished_at"] is not None]
    events, whole = await _events(connection, payment, [payment_id, *sources], moments)
    keys = {key for row in attempts if (key := key_of(row["facts"]))} | {
        row["idempotency_key"] for row in events if row["idempotency_key"]
    }
    return Rows(
        payment=payment, attempts=attempts, charges=charges, refunds=refunds, events=events, all_events=whole,
        sessions=await connection.fetch(_SESSIONS, payment_id), challenges=await connection.fetch(_CHALLENGES, payment_id),
        open=await connection.fetch(_OPEN, payment_id), webhooks=await connection.fetch(_WEBHOOKS, [row["id"] for row in events]),
        messages=await connection.fetch(_MESSAGES, [row["id"] for row in attempts]),
        transfers=await connection.fetch(_TRANSFERS, sources),
        entries=await connection.fetch(_ENTRIES, sources),
        releases=await connection.fetch(_RELEASES, sources),
        keys=await connection.fetch(_KEYS, sorted(keys), payment["account"], payment["livemode"]),
    )  # fmt: skip


async def _events(
    connection: Connection, payment: Record, about: list[str], moments: list[int]
) -> tuple[list[Record], bool]:
    """The events whose facts name the payment, its charges or refunds; and whether every event since was looked at."""
    whose = (payment["account"], payment["livemode"])
    head = int(await connection.fetchval(_HEAD, *whose) or 0)
    first = await _number_at(connection, whose, head, payment["created_at"] - AROUND)
    if head - first < SCANNED_MAX:
        return await connection.fetch(_EVENTS, *whose, first, head, about), True
    found: dict[int, Record] = {}
    for moment in sorted(moments):
        start = await _number_at(connection, whose, head, moment - AROUND)
        end = min(await _number_at(connection, whose, head, moment + AROUND), start + SCANNED_MAX)
        for row in await connection.fetch(_EVENTS, *whose, start, end, about):
            found[row["number"]] = row
    return [found[number] for number in sorted(found)], False


async def _number_at(connection: Connection, whose: tuple[str, bool], head: int, moment: int) -> int:
    """The least number whose event is not older than the moment; one past the last when all are older."""
    low, high = 1, head + 1
    while low < high:
        middle = (low + high) // 2
        created_at = await connection.fetchval(_AT, *whose, middle)
        if created_at is not None and created_at < moment:
            low = middle + 1
        else:
            high = middle
    return low
