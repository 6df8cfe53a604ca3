"""Recheck: what is found about an attempt that has ended. Pure.

What had been sent may have been under way all the time, so an attempt that was undone is asked about again in a slot of its
own, after the waits of RECHECKS. An approval that is found then, or that comes late, is never lost, and never refused:

    purchase, authorize, capture   reversed at once and asked about again; the payment is not moved
    refund                         the money has gone to the buyer: booked as a fact
    refund, once more than we knew the PSP did not honour the key of a resend: booked as an adjustment, for a person to see to
    void                           the authorization has gone, which nothing brings back: its hold is let go, the payment canceled

While another attempt of the same refund, or of the payment's slot, may be under way, a fact waits for it: what it means
depends on what that one did.
"""

from typing import Final

from msgspec.structs import replace

from guilder.core.clock import SECOND
from guilder.core.outcome import Approved, Declined, NotFound, Outcome, Unknown
from guilder.payments import refunds
from guilder.payments.model import (
    NEW_PAYMENTS,
    PAYMENT_SLOT,
    UNCLAIMED,
    Adjusted,
    Attempt,
    AttemptMove,
    Change,
    Payment,
    Reopened,
    recheck_slot,
    refund_slot,
)
from guilder.payments.schedule import RECHECKS
from guilder.payments.settling import Settling, changed, move
from guilder.payments.states import ATTEMPT, PAYMENT, AttemptEvent, AttemptState, PaymentEvent, PaymentState, after, allows
from guilder.payments.voids import voided
from guilder.psp.model import Operation, Reason

RECHECK: Final = "recheck"
"""The state of a slot in which an attempt that has ended is asked about again. Its `tries` are the answers so far."""

_REVERSED: Final = NEW_PAYMENTS | {Operation.CAPTURE}


def asked_again(attempt: Attempt, now: int, *, seconds: int | None = None) -> Reopened:
    """The slot in which an attempt that ends now is asked about again; the schedule's first wait unless one is given."""
    wait = RECHECKS[0] if seconds is None else seconds * SECOND
    return Reopened(attempt.id, recheck_slot(attempt.id), RECHECK, now + wait)


def may_be_news(payment: Payment, attempt: Attempt, asked: Operation, outcome: Outcome | NotFound) -> bool:
    """Whether an answer about an attempt that holds no slot tells of something that the books do not have."""
    if attempt.operation is Operation.AUTHENTICATE:
        # It moved nothing.
        return False
    return isinstance(outcome, Approved) and asked is not Operation.REVERSAL and attempt.id not in payment.approved


def reopened(payment: Payment, attempt: Attempt, now: int) -> Change:
    """The change that gives a closed attempt its slot, so that what was found is settled there."""
    return Change(
        account=payment.account, livemode=payment.facts.livemode, payment=payment.facts, expected=payment.version,
        confirmations=payment.confirmations, reopened=(asked_again(attempt, now),),
    )  # fmt: skip


def rechecked(s: Settling, outcome: Outcome | NotFound) -> Change:
    """An attempt that has ended was asked about again, or its answer came late."""
    paid = s.attempt.id in s.payment.approved
    match outcome:
        case Approved() if s.attempt.operation in _REVERSED:
            return _reversed(s, outcome)
        # Another amount was approved than was asked for: whatever it is, it is taken back.
        case Unknown(reason=Reason.MISMATCH) if s.attempt.operation in NEW_PAYMENTS:
            return _reversed(s, outcome)
        case Approved() if paid and s.attempt.operation is Operation.REFUND and outcome.surplus > _adjusted(s.attempt):
            return _surplus_found(s)
        case Approved() if not paid:
            return _void_found(s, outcome) if s.attempt.operation is Operation.VOID else _refund_found(s, outcome)
        case Declined() if paid and s.attempt.operation is Operation.REFUND:
            change = changed(s, s.payment.facts, move(s, AttemptState.UNDONE))
            return refunds.returned(change, s.payment, s.attempt, outcome, now=s.now, ids=s.ids)
        case Approved() | Declined() | NotFound() | Unknown(reason=Reason.MISMATCH):
            return _next(s, _answers(s))
        case _:
            return _unanswered(s)


def reversal_answered(s: Settling, outcome: Outcome | NotFound) -> Change:
    """In this slot a reversal takes back what was found; what it achieved is asked about like any other undoing.

    The PSP may have answered from memory: the reversal is the same message each time.
    """
    if s.asked is Operation.REVERSAL and isinstance(outcome, Approved):
        after(ATTEMPT, AttemptState.REVERSING, AttemptEvent.REVERSAL_ACKNOWLEDGED)
        return _next(s, s.open.tries)
    noted = outcome if isinstance(outcome, Approved | Declined) and s.asked is not Operation.REVERSAL else None
    again = move(
        s, AttemptState.REVERSING, retry_at=s.now + RECHECKS[0], tries=max(s.open.tries, 1), reporter=None if noted else s.reporter,
    )  # fmt: skip
    return changed(s, s.payment.facts, replace(again, noted=noted))


def alert_of(change: Change) -> str | None:
    """What a person is to be told of this change; None for nothing."""
    found = [one for one in change.moves if one.before == RECHECK]
    if any(one.after == AttemptState.REVERSING for one in found):
        return "late_approval_is_undone"
    if any(one.facts.type == refunds.ADJUSTMENT and one.facts.amount < 0 for one in change.balance_transactions):
        return "refund_paid_beyond_what_was_asked"
    return "late_approval_is_booked" if any(one.after == AttemptState.APPROVED for one in found) else None


def _answers(s: Settling) -> int:
    """How often was asked and answered, this one included; what comes unasked does not shorten the schedule."""
    return s.open.tries + (s.asked is Operation.QUERY)


def _next(s: Settling, answers: int) -> Change:
    """So many answers there have been: wait for the next one, or let it be."""
    later = s.now + RECHECKS[answers] if answers < len(RECHECKS) else None
    state = RECHECK if later is not None else AttemptState.UNDONE
    return changed(s, s.payment.facts, move(s, state, retry_at=later, tries=answers))


def _unanswered(s: Settling) -> Change:
    """Nobody waits for it, and `tries` counts the answers: a minute, however long the PSP is away."""
    return changed(s, s.payment.facts, move(s, RECHECK, retry_at=s.now + RECHECKS[0], tries=s.open.tries))


def _waiting(s: Settling, found: Approved) -> Change:
    """What it means is not known yet: kept on the attempt, and asked about again in a minute."""
    change = _unanswered(s)
    return replace(change, moves=(replace(change.moves[0], noted=found),))


def _reversed(s: Settling, found: Approved | Unknown) -> Change:
    again = move(s, AttemptState.REVERSING, retry_at=s.now, tries=_answers(s))
    return changed(s, s.payment.facts, replace(again, noted=found))


def _refund_found(s: Settling, found: Approved) -> Change:
    """The refund was paid by this attempt after all. A successor that nobody has sent is not needed any more."""
    refund = refunds.of(s.payment, s.attempt)
    successor = s.payment.open_in(refund_slot(refund.facts.id))
    if successor is not None and (successor.state != AttemptState.CREATED or successor.sender is not None):
        return _waiting(s, found)
    change = changed(s, s.payment.facts, replace(move(s, AttemptState.APPROVED), noted=found))
    if successor is not None:
        unsent = AttemptMove(
            attempt=successor.attempt, slot=successor.slot, before=successor.state, after=AttemptState.NOT_SENT, reporter=UNCLAIMED,
        )  # fmt: skip
        change = replace(change, moves=(*change.moves, unsent))
    if found.ask_again_seconds is not None or found.surplus:
        change = replace(change, reopened=(asked_again(s.attempt, s.now, seconds=found.ask_again_seconds),))
    return refunds.found(change, s.payment, s.attempt, now=s.now, ids=s.ids)


def _surplus_found(s: Settling) -> Change:
    """Paid once more: booked, and asked about again, since it may have been more often still."""
    again = move(s, RECHECK, retry_at=s.now + RECHECKS[0], tries=s.open.tries)
    change = changed(s, s.payment.facts, replace(again, noted=Adjusted(_adjusted(s.attempt) + 1)))
    return refunds.adjusted(change, s.payment, s.attempt, now=s.now, ids=s.ids)


def _adjusted(attempt: Attempt) -> int:
    return attempt.noted.times if isinstance(attempt.noted, Adjusted) else 0


def _void_found(s: Settling, found: Approved) -> Change:
    if s.payment.open_in(PAYMENT_SLOT) is not None:
        return _waiting(s, found)
    if allows(PAYMENT, PaymentState(s.payment.facts.status), PaymentEvent.FOUND_VOIDED):
        change = voided(s, PaymentEvent.FOUND_VOIDED)
        return replace(change, moves=(replace(change.moves[0], noted=found),), answer=None)
    return changed(s, s.payment.facts, replace(move(s, AttemptState.APPROVED), noted=found))
