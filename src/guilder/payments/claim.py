"""Claim: the second of a payment's three commits. What this sender may work on, and the consumer's position, in one statement."""

from collections.abc import Sequence
from typing import Any, Final

import structlog
from msgspec import Struct

from guilder.core.crash import crash_point
from guilder.core.ensure import InvariantBroken
from guilder.db.pool import Database
from guilder.log import Entry
from guilder.payments.codec import payment_facts_from
from guilder.payments.model import Attempt, OpenSlot, Payment, attempt_facts_from, noted_from
from guilder.psp.model import Operation, Order

log = structlog.get_logger(__name__)

# New entries of one partition in one claim. A claim that brought fewer in all has left none behind, so another one, which
# costs a statement even when it finds nothing, waits for the next wake-up.
CLAIM_EACH: Final = 64
# Rows whose retry time has come, in one claim: enough to work off an outage, few enough to leave room for new payments.
CLAIM_DUE: Final = 64

CLAIM: Final = "SELECT * FROM payments_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
_SET_FREE: Final = "SELECT attempts_set_free($1, $2, $3)"
_FORGET_BREAKERS: Final = """
WITH locked AS MATERIALIZED (
    SELECT payment, slot FROM attempt_open WHERE breaker <> ALL ($1) ORDER BY attempt FOR UPDATE
)
UPDATE attempt_open o SET breaker = NULL FROM locked l WHERE (o.payment, o.slot) = (l.payment, l.slot) AND o.breaker <> ALL ($1)
"""
_GIVE_BACK: Final = "SELECT attempts_give_back($1, $2, $3)"
CONSUMER: Final = "executor"


class Claimed(Struct, frozen=True):
    """An attempt that this sender holds, and its payment as it stood at the claim (without charges and refunds)."""

    attempt: Attempt
    open: OpenSlot
    payment: Payment
    sender: str
    # Straight from the log, never looked at before.
    fresh: bool
    # Its first claim: no byte of it left before.
    since: int = 0


class Passage(Struct, frozen=True):
    """What a breaker lets through now of the payments that it has stopped: so many, of those whose retry time is not after `until`."""

    breaker: str
    until: int
    through: int


async def claim(
    hot: Database, sender: str, epoch: int, *, now: int, due: bool, each: int = CLAIM_EACH, room: int = CLAIM_DUE,
    entries: Sequence[Entry] | None = None, passages: Sequence[Passage] = (),
) -> list[Claimed]:
    """Claim new entries of this sender's partitions and, with `due`, rows whose retry time has come.

    Args:
        each: new entries of one partition at most.
        room: rows that nobody has begun with, among those whose retry time has come.
        entries: what a reader has brought; None: the statement reads the outbox itself.
        passages: of each breaker that payments may wait for; they take half of `room` at most. One that is not named lets nothing through.

    One commit. Empty when there is nothing, or when the sender has lost its epoch. A lost answer leaves rows claimed
    by us without a call in hand; `set_free` finds them.
    """
    crash_point("claim.before")
    due_max = CLAIM_DUE if due else 0
    waiting = [one.breaker for one in passages], [one.until for one in passages], [one.through for one in passages]
    rows = await hot.fetch(CLAIM, sender, epoch, now, each, due_max, min(due_max, room), *_columns(entries), *waiting)
    claimed = []
    for row in rows:
        try:
            claimed.append(_claimed(row, sender))
        except Exception:
            # One row that cannot be read must not stop the others; it is set free, tried again and reported each time.
            log.exception("attempt_unreadable", attempt=row["attempt"])
            continue
        crash_point("claim.after", claimed[-1].attempt.operation)
    return claimed


async def set_free(db: Database, sender: str, in_hand: list[str], now: int) -> int:
    """Set rows free that this sender holds without a call in hand; never between a claim and its hand-over."""
    return int(await db.fetchval(_SET_FREE, sender, in_hand, now))


async def give_back(db: Database, sender: str, attempts: list[str], now: int) -> int:
    """Undo this sender's claims of attempts of which certainly no byte has left under them; they are due at once. Safe to repeat."""
    return int(await db.fetchval(_GIVE_BACK, sender, attempts, now))


async def forget_breakers(db: Database, known: Sequence[str]) -> None:
    """Have what waits for a breaker that is not known any more be claimed by its time, as everything else. Safe to repeat."""
    await db.execute(_FORGET_BREAKERS, list(known))


def _columns(entries: Sequence[Entry] | None) -> tuple[list[Any] | None, ...]:
    if entries is None:
        return (None, None, None, None)
    return (
        [one.partition for one in entries], [one.position for one in entries], [one.key for one in entries],
        # Whatever it holds: a text that is no attempt's claims nothing, and its row is found when its retry time has come.
        [one.payload.decode(errors="replace").replace("\0", "") for one in entries],
    )  # fmt: skip


def _claimed(row: Any, sender: str) -> Claimed:  # noqa: ANN401 - a row of payments_claim
    facts = attempt_facts_from(row["facts"])
    attempt = Attempt(
        id=row["attempt"], payment=row["payment"], account=row["account"], livemode=row["livemode"], operation=Operation(row["operation"]),
        slot=row["slot"], amount=row["amount"], currency=row["currency"], execute_by=row["execute_by"], created_at=row["created_at"],
        facts=facts, refund=row["refund"], noted=noted_from(row["noted"]),
    )  # fmt: skip
    open_ = OpenSlot(row["slot"], row["attempt"], row["open_state"], sender, row["tries"], facts.key, facts.announces_payment)
    payment = Payment(
        facts=payment_facts_from(row["payment_facts"]), account=row["account"], version=row["version"], confirmations=row["confirmations"],
    )  # fmt: skip
    return Claimed(attempt, open_, payment, sender, row["fresh"], row["since_at"])


def claim_of(order: Order) -> tuple[str, str]:
    """The claim that an order goes out under: sender id and slot."""
    match order.sender_epoch:
        case (str(sender), str(slot)):
            return sender, slot
        case _:
            raise InvariantBroken(f"an order names its claim (attempt={order.attempt_id!r})")
