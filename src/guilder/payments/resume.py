"""Resume: what comes next for an attempt that somebody has just claimed. Pure.

    created      the first request; past `execute_by` it is closed as not sent
    in_doubt     an answer that is stored on it is booked first; else the PSP is asked
    awaiting     the PSP is asked whether the buyer has paid at its page
    reversing    the reversal, until it is acknowledged
    recheck      an undone attempt is asked about again

An authentication moves nothing, so one whose sender was lost is asked for once more: the same request gets the same answer.

After "not found" a capture or refund is sent again with its stored key, inside the key's window, and a void at any time. So is
the order for a PSP's own page, until its deadline: nobody has been told its address, so nobody can have paid there.
"""

from typing import Final

from msgspec.structs import replace

from guilder.core.clock import SECOND
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.payments.model import BEGINNING, Attempt, AttemptFacts
from guilder.payments.secure import ThreeDSecure
from guilder.payments.states import AttemptState
from guilder.psp.model import Declares, Operation, Order, Reason, query_about, reversal_of

RESENT: Final = frozenset({Operation.CAPTURE, Operation.REFUND})
"""Operations that are sent again, inside the key's window, when the PSP does not know them; a new payment is reversed instead."""

# Kept free at the end of the PSP's idempotency window: a resend under way when it closes would count as new.
WINDOW_MARGIN_SECONDS: Final = 600

NO_AUTHENTICATION: Final = Declined("authentication_unavailable")
"""What an authentication ends as that nobody could ask for in time: it is never in doubt."""


def first_order(attempt: Attempt) -> Order:
    """The attempt's request as its row fixes it: first send, resend, and what queries and reversals are made from."""
    facts = attempt.facts
    wire = facts.wire
    with_card = attempt.operation in BEGINNING and facts.own_page is None
    order = Order(
        attempt_id=attempt.id, operation=attempt.operation, first=True, account=attempt.account, livemode=attempt.livemode,
        psp_merchant=facts.psp_merchant, amount_minor=attempt.amount, currency=attempt.currency, psp_key=wire.psp_key,
        reference=wire.reference, transmitted_at=wire.transmitted_at, stan=wire.stan, original=facts.original,
        payment_method_id=facts.payment_method.id if with_card else None, send_cvc=facts.send_cvc, send_by=attempt.execute_by,
        own_page=facts.own_page,
    )  # fmt: skip
    if with_card and (facts.three_d_secure is not None or facts.till is not None or facts.off_session):
        return _with_circumstances(order, facts)
    return order


def _with_circumstances(order: Order, facts: AttemptFacts) -> Order:
    """What most payments have none of: an authentication or its proof, a till, a buyer who is not there."""
    secure = facts.three_d_secure or ThreeDSecure()
    if order.operation is Operation.AUTHENTICATE:
        return replace(order, send_cvc=False, returns_to=secure.returns_to, wants_challenge=secure.wants_challenge)
    return replace(order, proof=secure.proof, merchant_initiated=facts.off_session, card_present=facts.till is not None)


def next_step(attempt: Attempt, state: str, tries: int, now: int) -> Order | Outcome:
    """What to send for a claimed attempt, or the outcome that is known already and only has to be settled."""
    order = first_order(attempt)
    match state:
        case AttemptState.CREATED:
            return NotSent(Reason.EXPIRED.value) if now >= attempt.execute_by else order
        case AttemptState.REVERSING:
            return replace(reversal_of(order), repeat=tries > 0)
        case AttemptState.IN_DOUBT if isinstance(attempt.noted, Approved | Declined):
            return attempt.noted
        case AttemptState.IN_DOUBT if attempt.operation is Operation.AUTHENTICATE:
            return NO_AUTHENTICATION if now >= attempt.execute_by else replace(order, first=False)
        case _:
            return query_about(order)


def believed(order: Order, outcome: Outcome | NotFound) -> Outcome | NotFound:
    """What an answer says of its attempt.

    That a resend is declined says nothing of the request before it: a PSP that did not honour the key has seen two, and cannot
    do what it has done. The question that follows is about both.
    """
    if isinstance(outcome, Declined) and not order.first and order.operation in RESENT:
        return Unknown(Reason.RESEND_DECLINED.value)
    return outcome


def resend(attempt: Attempt, declares: Declares, now: int) -> Order | None:
    """The same request once more, after the PSP said that it does not know it; None where that is not safe (any more).

    A void is always safe: what it voids is voided once, however often it comes.
    """
    if attempt.operation is Operation.VOID:
        return replace(first_order(attempt), first=False)
    window = declares.idempotency_window_seconds
    page = attempt.facts.own_page
    if not (attempt.operation in RESENT or (page is not None and now < page.closes_at)) or window is None:
        return None
    if now >= attempt.created_at + (window - WINDOW_MARGIN_SECONDS) * SECOND:
        return None
    return replace(first_order(attempt), first=False)
