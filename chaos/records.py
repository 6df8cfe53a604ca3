"""The three records of a run, read at its end: what clients wrote, what the bank did, what our books hold. SQL of our own."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
from msgspec import Struct

from chaos.history import Line
from chaos.receiver import Seen

_ATTEMPTS: Final = """
SELECT id, payment, account, operation, slot, refund, amount, currency, reference, state, created_at, finished_at,
       position('no answer, passed by its amount'::bytea IN facts) > 0 AS passed
FROM attempt
"""
_OPEN: Final = "SELECT payment, slot, attempt, state FROM attempt_open"
_CHARGES: Final = "SELECT payment, captured, refunded, refunding FROM charge WHERE succeeded"
_REFUNDS: Final = "SELECT id, payment, state, amount FROM refund"
_ADJUSTMENTS: Final = "SELECT source, -sum(amount)::bigint AS amount FROM balance_transaction WHERE type = 'adjustment' GROUP BY source"
_PAYMENTS: Final = "SELECT id, account, state FROM payment"
_TRANSFERS: Final = """
SELECT t.index, t.id, t.debit, t.credit, t.amount, t.kind, t.pending_id, t.fact, d.currency AS debit_currency, c.currency AS credit_currency
FROM ledger_transfer t JOIN ledger_account d ON d.number = t.debit JOIN ledger_account c ON c.number = t.credit
WHERE NOT t.livemode ORDER BY t.index
"""
_STANDING: Final = """
SELECT s.number, a.id, a.kind, a.currency, s.debits_pending, s.debits_posted, s.credits_pending, s.credits_posted, s.overdraft,
       s.debits_limited, s.credits_limited
FROM ledger_standing s JOIN ledger_account a ON a.number = s.number WHERE NOT a.livemode
"""
_LOG: Final = """
SELECT h.topic, h.partition, h.head, count(e.position) AS count, min(e.position) AS first, max(e.position) AS last
FROM log_head h LEFT JOIN log_entry e ON (e.topic, e.partition) = (h.topic, h.partition) GROUP BY h.topic, h.partition, h.head
"""
_CONSUMERS: Final = """
SELECT c.consumer, c.partition, c.applied_to, h.head FROM log_consumer c JOIN log_head h ON (h.topic, h.partition) = (c.topic, c.partition)
"""
_EVENTS: Final = "SELECT id, account, number, type FROM event WHERE NOT livemode ORDER BY account, number"
_LANES: Final = "SELECT l.endpoint, l.head, e.account FROM webhook_lane l JOIN webhook_endpoint e ON e.id = l.endpoint"
_KEYS: Final = "SELECT count(*) FROM idempotency_key WHERE answer IS NULL"

# What each kind of attempt has done at the bank when it was approved.
EFFECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "purchase": ("authorization", "capture"), "authorize": ("authorization",), "capture": ("capture",), "void": ("void",),
    "refund": ("refund",), "authenticate": (),
}  # fmt: skip


class Books(Struct, frozen=True, kw_only=True):
    """Our books, as rows."""

    attempts: Sequence[Any]
    open: Sequence[Any]
    charges: Sequence[Any]
    refunds: Sequence[Any]
    adjustments: Sequence[Any]
    payments: Sequence[Any]
    transfers: Sequence[Any]
    standing: Sequence[Any]
    log: Sequence[Any]
    consumers: Sequence[Any]
    events: Sequence[Any]
    lanes: Sequence[Any]
    keys_open: int


async def read_books(connection: asyncpg.Connection) -> Books:
    """Everything, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        read = connection.fetch
        return Books(
            attempts=await read(_ATTEMPTS), open=await read(_OPEN), charges=await read(_CHARGES), refunds=await read(_REFUNDS),
            payments=await read(_PAYMENTS), transfers=await read(_TRANSFERS), standing=await read(_STANDING), log=await read(_LOG),
            adjustments=await read(_ADJUSTMENTS), consumers=await read(_CONSUMERS), events=await read(_EVENTS), lanes=await read(_LANES),
            keys_open=await connection.fetchval(_KEYS),
        )  # fmt: skip


class Effects:
    """The bank's truth, added up: what each reference did, less what was taken back of it."""

    def __init__(self, truth: Sequence[Mapping[str, Any]]) -> None:
        self.net: dict[str, Counter[tuple[str, int, str]]] = defaultdict(Counter)
        self.first: dict[str, int] = {}
        self.currencies: dict[str, set[str]] = defaultdict(set)
        self.all = truth
        self._reversed: list[Mapping[str, Any]] = []
        for effect in truth:
            if effect["kind"] == "authentication":
                continue
            if effect["kind"] == "reversal":
                self.net[effect["original"]][effect["reversed"], effect["amount"], effect["currency"]] -= 1
            else:
                self.net[effect["reference"]][effect["kind"], effect["amount"], effect["currency"]] += 1
                self.first.setdefault(effect["reference"], effect["time"])

    def of(self, reference: str) -> Counter[tuple[str, int, str]]:
        """What is left of a reference's effects."""
        return +self.net[reference] if reference in self.net else Counter()

    def taken(self, reference: str, kind: str) -> int:
        """Minor units that a reference has moved in this way, and that were not moved back."""
        return sum(amount * times for (what, amount, _), times in self.of(reference).items() if what == kind)


class Records(Struct, frozen=True, kw_only=True):
    """All of it.

    Args:
        lines: the clients' histories, in time order.
        shown: every payment as the API shows it at the end, by id, with its charge's amounts.
        webhooks: what the receiver has seen, by its own name for each endpoint; `endpoints` tells their ids.
        sent: how many requests of attempts passed the wire, by message type (`counted`), and how often each first request (`sent`).
        opinions: what the risk service has said, by payment.
        sessions: every Checkout Session as the API shows it at the end, by id.
        taken: what each card of the purse lacks at the bank, by its number.
        clocks_agree: no wall clock was made wrong in this run, so that times of different processes can be compared.
        lost: attempts that a restore took with it; `lines` and `truth` are without what is lost with them (restored.py).
    """

    lines: Sequence[Line]
    truth: Effects
    books: Books
    shown: Mapping[str, Mapping[str, Any]]
    webhooks: Mapping[str, Sequence[Seen]]
    endpoints: Mapping[str, tuple[str, str]]
    counted: Mapping[str, int]
    sent: Mapping[str, int]
    opinions: Mapping[str, str]
    sessions: Mapping[str, Mapping[str, Any]]
    taken: Mapping[str, Counter[str]]
    clocks_agree: bool = True
    lost: Sequence[Any] = ()
