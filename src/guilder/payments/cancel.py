"""Cancel: give a payment up. An authorization is voided at the PSP first; what nobody has sent yet is closed as not sent."""

from typing import Final

from msgspec.structs import replace

from guilder.core.clock import epoch_seconds
from guilder.core.ids import Ids
from guilder.idempotency.model import Claim, Result
from guilder.payments.accept import accept
from guilder.payments.answers import expand_of, failure, success
from guilder.payments.begin import follow
from guilder.payments.challenge import discarded
from guilder.payments.commands import CancelPayment
from guilder.payments.declines import NOT_CHARGED, nothing_charged
from guilder.payments.events import created, event
from guilder.payments.model import PAYMENT_SLOT, UNCLAIMED, AttemptMove, Change, Key, Payment
from guilder.payments.own_page import undoing
from guilder.payments.services import Services, lock_timeout, of_session, wrong_state
from guilder.payments.states import PAYMENT, AttemptState, PaymentEvent, PaymentState, after, allows
from guilder.psp.model import Operation
from guilder.shapes.facts import PaymentIntentFacts

_CANCELABLE: Final = tuple(
    state for state in PaymentState
    if state is not PaymentState.PROCESSING
    and (allows(PAYMENT, state, PaymentEvent.CANCELED) or allows(PAYMENT, state, PaymentEvent.CANCEL_SENT))
)  # fmt: skip


async def cancel(services: Services, claim: Claim, command: CancelPayment) -> Result:
    """Cancel a payment. Immediate where nothing is held; else the answer waits for the void's outcome.

    Safe to repeat under one key.

    Raises:
        Refusal: no such payment (404); wrong state (400); an operation is under way at the PSP (409, repeat).
    """

    async def plan(payment: Payment) -> Change:
        now, ids = services.clock.now(), services.ids
        key = Key(claim.key, claim.request_id, claim.expand)
        if allows(PAYMENT, PaymentState(payment.facts.status), PaymentEvent.CANCEL_SENT):
            return void(payment, claim, key, command.cancellation_reason, now=now, ids=ids)
        if payment.facts.checkout_session is not None:
            raise of_session(payment.facts, "cancel")
        return given_up(payment, claim, key, command.cancellation_reason, now=now, ids=ids)

    return await accept(services, claim, command.payment, plan)


def given_up(
    payment: Payment, claim: Claim | None, key: Key | None, reason: str | None, *, now: int, ids: Ids,
) -> Change:  # fmt: skip
    """The change that cancels a payment for which nothing is held. Raises Refusal: wrong state (400), under way at the PSP (409)."""
    status = PaymentState(payment.facts.status)
    if status is PaymentState.PROCESSING:
        return _unclaimed(payment, claim, key, reason, now, ids)
    if allows(PAYMENT, status, PaymentEvent.CANCELED):
        return _at_once(payment, claim, key, reason, now, ids)
    raise wrong_state(payment.facts, "cancel", _CANCELABLE)


def void(payment: Payment, claim: Claim | None, key: Key | None, reason: str | None, *, now: int, ids: Ids) -> Change:
    """The change that sends a void: for a cancel, and for an authorization that expires."""
    facts = replace(payment.facts, status=after(PAYMENT, PaymentState(payment.facts.status), PaymentEvent.CANCEL_SENT))
    attempt = follow(payment, Operation.VOID, facts.amount_capturable, key, now=now, ids=ids, cancellation_reason=reason)
    return replace(_change(payment, facts, claim), attempts=(attempt,))


def _at_once(payment: Payment, claim: Claim | None, key: Key | None, reason: str | None, now: int, ids: Ids) -> Change:
    facts = replace(
        payment.facts, status=after(PAYMENT, PaymentState(payment.facts.status), PaymentEvent.CANCELED), canceled_at=epoch_seconds(now),
        cancellation_reason=reason, next_action_url=None,
    )  # fmt: skip
    change = _change(payment, facts, claim)
    events = (event(ids, payment.account, "payment_intent.canceled", facts, key),)
    return replace(
        change, events=events, answer=success(facts, expand_of(key)), challenges=discarded(payment), moves=undoing(payment, now),
    )  # fmt: skip


def _unclaimed(payment: Payment, claim: Claim | None, key: Key | None, reason: str | None, now: int, ids: Ids) -> Change:
    """Nobody has sent the open attempt yet: close it as not sent and cancel, in one commit that fails if somebody claims it."""
    open_ = payment.open_in(PAYMENT_SLOT)
    if open_ is None or open_.state != AttemptState.CREATED or open_.sender is not None or payment.facts.amount_capturable:
        raise lock_timeout()
    change = _at_once(payment, claim, key, reason, now, ids)
    move = AttemptMove(
        attempt=open_.attempt, slot=open_.slot, before=open_.state, after=AttemptState.NOT_SENT, reporter=UNCLAIMED,
    )  # fmt: skip
    answer = failure(change.payment, nothing_charged(NOT_CHARGED))
    # What was put off has been announced by that.
    unannounced = open_.announces_payment and not open_.tries
    events = (created(ids, payment.account, payment.facts, open_.key), *change.events) if unannounced else change.events
    return replace(change, moves=(move,), events=events, closed=(open_.key, answer) if open_.key else None)


def _change(payment: Payment, facts: PaymentIntentFacts, claim: Claim | None) -> Change:
    return Change(
        account=payment.account, livemode=facts.livemode, payment=facts, expected=payment.version, claim=claim,
        confirmations=payment.confirmations,
    )  # fmt: skip
