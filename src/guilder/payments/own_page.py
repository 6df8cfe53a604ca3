"""The PSP's own page: a buyer who pays there, and what the payment does meanwhile. Pure.

The page can take money at any moment, so its attempt stays open and keeps the payment's slot: the payment waits for the buyer,
the PSP is asked. Whoever wants it otherwise (a cancel, another card, another amount, the end of 15 minutes) has the attempt
undone: from then on nothing that is found approves it, and only its end lets another attempt in.

    created, in doubt   the page is being opened; its address may be lost on the way, and then the same order brings it
    awaiting buyer      the address is known; paid, declined, or still open: the PSP says which
    reversing           it is closed at the PSP, and what was paid there is given back
"""

from typing import Final

from msgspec.structs import replace

from guilder.core.ensure import present
from guilder.core.errors import ErrorFacts, Refusal
from guilder.core.ids import Ids
from guilder.core.outcome import ActionRequired, Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.payments.answers import expand_of, success
from guilder.payments.begin import way_to_page
from guilder.payments.declines import PAGE_EXPIRED, PAGE_FAILED
from guilder.payments.events import event
from guilder.payments.model import PAYMENT_SLOT, AttemptMove, Change, OpenSlot, Payment
from guilder.payments.settling import Settling, changed, failed, move
from guilder.payments.states import ATTEMPT, PAYMENT, AttemptEvent, AttemptState, PaymentEvent, PaymentState, after
from guilder.psp.model import OwnPage, Reason
from guilder.shapes.facts import PaymentIntentFacts

PSP_PAGE: Final = "psp_page"
"""The type of a PaymentMethod without a card: the buyer enters one at the PSP."""
EXPIRED: Final = "page_expired"
_LEFT: Final = frozenset({EXPIRED, "page_canceled", "page_declined"})


class PageOpen(Refusal):
    """The payment's page at the PSP may still be paid. It is being closed; 409, repeat the request in a moment."""

    def __init__(self) -> None:
        super().__init__(
            "The buyer may be paying at the payment provider's page. That page is being closed; repeat the request in a moment.",
            status=409, code="lock_timeout", should_retry=True,
        )  # fmt: skip


def refuse_while_open(payment: Payment) -> None:
    """Refuse what cannot be done until a page is closed. Raises PageOpen; whoever asked has it closed (`withdrawn`)."""
    open_ = payment.open_in(PAYMENT_SLOT)
    if open_ is not None and open_.own_page:
        raise PageOpen


def decided(s: Settling, outcome: Outcome | NotFound) -> Change | None:
    """What an outcome means at the PSP's own page; None where it means what it means of any payment."""
    waits = s.open.state == AttemptState.AWAITING_BUYER
    match outcome:
        case ActionRequired():
            return opened(s, outcome)
        case Declined():
            return left(s, outcome)
        case Approved():
            return None
        case Unknown(reason=Reason.MISMATCH):
            return closed(s) if waits else None
        case NotSent() if s.open.state == AttemptState.CREATED:
            return None
        case _ if s.now >= _page(s).closes_at:
            return closed(s)
        case _:
            return _asked_again(s) if waits else None


def opened(s: Settling, outcome: ActionRequired) -> Change:
    """The PSP's page is open, or still is: the payment waits for the buyer, and the caller is told where to send him."""
    page = _page(s)
    if s.now >= page.closes_at:
        return closed(s)
    before = AttemptState(s.open.state)
    state = after(ATTEMPT, before, AttemptEvent.PAGE_OPENED)
    if before is AttemptState.AWAITING_BUYER:
        return _asked_again(s)
    facts = s.payment.facts
    facts = replace(
        facts, status=after(PAYMENT, PaymentState(facts.status), PaymentEvent.ACTION_WANTED), next_action_url=way_to_page(page),
        in_doubt=False,
    )  # fmt: skip
    key = s.attempt.facts.key
    at = min(s.retry_at(state, 1), page.closes_at)
    return replace(
        changed(s, facts, replace(move(s, state, retry_at=at, tries=1, reporter=s.reporter), noted=outcome)),
        events=(event(s.ids, s.payment.account, "payment_intent.requires_action", facts, key),),
        answer=success(facts, expand_of(key)),
    )  # fmt: skip


def closed(s: Settling) -> Change:
    """The time for paying is over: whatever happened at the page is undone."""
    after(ATTEMPT, AttemptState(s.open.state), AttemptEvent.REVERSAL_DECIDED)
    facts = _withdrawn(s.payment.facts)
    change = changed(s, facts, move(s, AttemptState.REVERSING, retry_at=s.now, reporter=s.reporter))
    if s.payment.facts.in_doubt:
        return change
    return replace(change, events=(event(s.ids, s.payment.account, "payment_intent.processing", facts),))


def is_past(s: Settling) -> bool:
    """Whether this is the order for a page whose time is over."""
    page = s.attempt.facts.own_page
    return page is not None and s.now >= page.closes_at


def withdrawn(payment: Payment, *, now: int, ids: Ids) -> Change | None:
    """The change that has an open page undone, because something else is to be done with the payment; None where none is open."""
    open_ = _waiting(payment)
    if open_ is None:
        return None
    facts = _withdrawn(payment.facts)
    return Change(
        account=payment.account, livemode=facts.livemode, payment=facts, expected=payment.version, confirmations=payment.confirmations,
        moves=undoing(payment, now), events=(event(ids, payment.account, "payment_intent.processing", facts),),
    )  # fmt: skip


def undoing(payment: Payment, now: int) -> tuple[AttemptMove, ...]:
    """What becomes of an open page when the payment is given up; nothing where there is none."""
    open_ = _waiting(payment)
    if open_ is None:
        return ()
    state = after(ATTEMPT, AttemptState.AWAITING_BUYER, AttemptEvent.REVERSAL_DECIDED)
    return (AttemptMove(attempt=open_.attempt, slot=open_.slot, before=open_.state, after=state, retry_at=now),)


def left(s: Settling, declined: Declined) -> Change | None:
    """The buyer has left the page without paying, or let its time pass; None for a decline of another kind."""
    if declined.code not in _LEFT:
        return None
    error = expired() if declined.code == EXPIRED else _failure()
    facts = failed(s.payment.facts, s.attempt.facts.payment_method, error, s.payment.facts.latest_charge)
    events = (event(s.ids, s.payment.account, "payment_intent.payment_failed", facts, s.attempt.facts.key),)
    return replace(changed(s, facts, move(s, AttemptState.DECLINED)), events=events)


def expired() -> ErrorFacts:
    """The error of a payment whose buyer did not pay at the page in time."""
    return ErrorFacts(type="invalid_request_error", message=PAGE_EXPIRED, code="payment_intent_payment_attempt_expired")


def _failure() -> ErrorFacts:
    return ErrorFacts(type="invalid_request_error", message=PAGE_FAILED, code="payment_intent_payment_attempt_failed")


def _page(s: Settling) -> OwnPage:
    return present(s.attempt.facts.own_page, "the attempt is one at the PSP's own page", attempt=s.attempt.id)


def _asked_again(s: Settling) -> Change:
    """The page is still open, or nobody could tell: asked again, at the deadline for the last time."""
    after(ATTEMPT, AttemptState(s.open.state), AttemptEvent.NO_DEFINITE_ANSWER)
    tries = s.open.tries + 1
    at = min(s.retry_at(AttemptState.AWAITING_BUYER, tries), _page(s).closes_at)
    return changed(s, s.payment.facts, move(s, AttemptState.AWAITING_BUYER, retry_at=at, tries=tries, reporter=s.reporter))


def _withdrawn(facts: PaymentIntentFacts) -> PaymentIntentFacts:
    status = PaymentState(facts.status)
    if status is PaymentState.REQUIRES_ACTION:
        status = after(PAYMENT, status, PaymentEvent.WITHDRAWN)
    return replace(facts, status=status, next_action_url=None, in_doubt=True)


def _waiting(payment: Payment) -> OpenSlot | None:
    open_ = payment.open_in(PAYMENT_SLOT)
    return open_ if open_ is not None and open_.state == AttemptState.AWAITING_BUYER else None
