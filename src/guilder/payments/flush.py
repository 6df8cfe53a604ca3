"""A list of changes as the arguments of `payments_flush`: one array per kind of row, one round trip. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from guilder.core.clock import SECOND
from guilder.ledger.model import AccountKey, Transfer
from guilder.log.model import TOPIC_ATTEMPTS, TOPIC_EVENTS, Announced, announced_bytes, partition_of
from guilder.payments.begin import UNCLAIMED_RETRY_SECONDS
from guilder.payments.model import Change, pack
from guilder.payments.states import FINAL_ATTEMPT_STATES
from guilder.shapes.facts import encode

FLUSH: Final = """
SELECT * FROM payments_flush(
    $1, $2, $3::key_in[], $4::payment_in[], $5::attempt_in[], $6::open_in[], $7::move_in[], $8::charge_in[], $9::refund_in[],
    $10::balance_in[], $11::int[], $12::text[], $13::int[], $14::bigint[], $15::bigint[], $16::bigint[], $17::smallint[], $18::text[],
    $19::boolean[], $20::smallint[], $21::text[], $22::event_in[], $23::log_in[], $24::answer_in[], $25::challenge_in[])
"""

# How many arguments FLUSH takes.
ARGUMENTS: Final = FLUSH.count("$")


def beside(lock: str, write: str, locked: int, written: int) -> str:
    """FLUSH in one statement with a row of a room above: locked before everything else, written when all was stored.

    Args:
        lock: an SQL function that locks the row and says whether it is still what was decided on; takes `locked` arguments.
        write: one that takes the flush's results and `written` arguments more, and gives back the first result, if any.

    The arguments follow those of FLUSH. A branch of CASE is evaluated only when it is taken, and a subquery only when it is needed.
    """
    own = [f"${ARGUMENTS + 1 + number}" for number in range(locked + written)]
    return (
        f"SELECT CASE WHEN {lock}({', '.join(own[:locked])}) "
        f"THEN {write}(ARRAY(SELECT f.result FROM ({FLUSH}) f), {', '.join(own[locked:])}) ELSE 'stale' END"
    )


Numbers = Mapping[AccountKey, int]
Row = tuple[Any, ...]


def arguments(livemode: bool, now: int, changes: Sequence[Change], numbers: Numbers) -> list[Any]:  # noqa: FBT001
    """The arguments of FLUSH. Items are counted from 1, in the order of the changes; all are of one mode."""
    items = list(enumerate(changes, 1))
    transfers = [(item, transfer) for item, change in items for transfer in change.transfers]
    return [
        livemode,
        now,
        [row for item, change in items for row in _keys(item, change)],
        [_payment(item, change, now) for item, change in items],
        [row for item, change in items for row in _attempts(item, change)],
        [(item, change.payment.id, one.slot, one.attempt, one.state, one.retry_at) for item, change in items for one in change.reopened],
        [row for item, change in items for row in _moves(item, change)],
        [row for item, change in items for row in _charges(item, change)],
        [row for item, change in items for row in _refunds(item, change)],
        [row for item, change in items for row in _entries(item, change, now)],
        *_transfers(transfers, numbers),
        [
            (item, one.id, one.account, one.type, one.facts(), one.request_id, one.idempotency_key)
            for item, change in items
            for one in change.events
        ],
        [row for item, change in items for row in _log(item, change, now)],
        [row for item, change in items for row in _answers(item, change)],
        [row for item, change in items for row in _challenges(item, change)],
    ]


def _keys(item: int, change: Change) -> Iterator[Row]:
    claim = change.claim
    if claim is not None:
        object_ = change.refunds[0].facts.id if change.attempts and change.refunds else change.payment.id
        answer = encode(change.answer) if change.answer else None
        yield item, claim.key, claim.account, claim.fingerprint, claim.request_id, ",".join(claim.expand), object_, answer


def _answers(item: int, change: Change) -> Iterator[Row]:
    if change.answers is not None and change.answer is not None:
        yield item, change.answers.key, change.account, encode(change.answer)
    if change.closed is not None:
        key, answer = change.closed
        yield item, key.key, change.account, encode(answer)


def _payment(item: int, change: Change, now: int) -> Row:
    facts = change.payment
    return item, facts.id, change.account, change.expected, facts.status, change.confirmations, facts.customer, pack(facts), now


def _attempts(item: int, change: Change) -> Iterator[Row]:
    for one in change.attempts:
        retry_at = one.begin_at or one.created_at + UNCLAIMED_RETRY_SECONDS * SECOND
        yield (
            item, one.id, one.payment, one.account, one.operation.value, one.slot, one.refund, one.amount, one.currency,
            one.facts.wire.reference, one.execute_by, retry_at, pack(one.facts),
        )  # fmt: skip


def _moves(item: int, change: Change) -> Iterator[Row]:
    for one in change.moves:
        final = one.after in FINAL_ATTEMPT_STATES
        noted = pack(one.noted) if one.noted is not None else None
        yield (
            item, one.attempt, change.payment.id, one.slot, one.before, one.reporter, one.after, final, one.retry_at, one.tries, noted,
            one.breaker,
        )  # fmt: skip


def _challenges(item: int, change: Change) -> Iterator[Row]:
    for one in change.challenges:
        new, result = one.opened, pack(one.result) if one.result is not None else None
        yield (
            item, one.id, change.payment.id, change.account, new.attempt if new else None, new.url if new else None,
            new.expires_at if new else None, one.before, one.after, result,
        )  # fmt: skip


def _charges(item: int, change: Change) -> Iterator[Row]:
    for one in change.charges:
        facts = one.facts
        captured = facts.amount_captured if facts.captured else 0
        # Looked for by who expires authorizations; nothing is left to expire once the payment has ended.
        open_authorization = change.payment.status in ("requires_capture", "processing") and not facts.captured
        capture_before = facts.capture_before * SECOND if facts.capture_before and open_authorization else None
        yield (
            item, facts.id, change.account, facts.payment_intent, facts.customer, facts.status == "succeeded", captured, one.refunded,
            one.refunding, one.day, capture_before, one.hold, facts.created * SECOND, pack(facts),
        )  # fmt: skip


def _refunds(item: int, change: Change) -> Iterator[Row]:
    for one in change.refunds:
        facts = one.facts
        yield (
            item, facts.id, change.account, facts.payment_intent, facts.charge, facts.status, facts.amount, one.waiting,
            facts.created * SECOND, pack(facts),
        )  # fmt: skip


def _entries(item: int, change: Change, now: int) -> Iterator[Row]:
    for one in change.balance_transactions:
        facts = one.facts
        yield (
            item, facts.id, change.account, one.payment, one.day, now, facts.amount, facts.fee, facts.currency, facts.type, facts.source,
            facts.description,
        )  # fmt: skip


def _transfers(transfers: Sequence[tuple[int, Transfer]], numbers: Numbers) -> list[list[Any]]:
    """The ledger's columns. All transfers of an item are one chain."""

    def number(account: AccountKey | int) -> int:
        return numbers[account] if isinstance(account, AccountKey) else account

    return [
        [item for item, _ in transfers],
        [one.id for _, one in transfers],
        [item for item, _ in transfers],
        [number(one.debit) for _, one in transfers],
        [number(one.credit) for _, one in transfers],
        [one.amount for _, one in transfers],
        [one.kind for _, one in transfers],
        [one.pending_id for _, one in transfers],
        [one.fact for _, one in transfers],
        [one.code for _, one in transfers],
        [one.reference for _, one in transfers],
    ]


def _log(item: int, change: Change, now: int) -> Iterator[Row]:
    payment = change.payment.id
    for one in change.attempts:
        if one.begin_at is None or one.begin_at <= now:
            yield item, TOPIC_ATTEMPTS, partition_of(payment), payment, one.id.encode()
    if change.events:
        announced = Announced(change.account, change.livemode, tuple((one.id, one.type) for one in change.events))
        yield item, TOPIC_EVENTS, partition_of(payment), payment, announced_bytes(announced)
