"""Settle: what an outcome makes of a payment. Pure: the payment as read, the attempt and the outcome in, one change out.

The change is committed whole: state, charge, ledger, balance transaction, events and the stored API answer. It is
decided on one version of the payment; when the store finds another one there, whoever decided reads and decides again.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from guilder.core.clock import DAY, epoch_seconds
from guilder.core.ensure import InvariantBroken
from guilder.core.errors import ErrorFacts
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.payments import books, own_page, refunds
from guilder.payments.answers import expand_of, failure, success
from guilder.payments.authenticate import asks_for_authentication, authenticated, authentication_begun
from guilder.payments.declines import NOT_CHARGED, UNDONE, card_error, nothing_charged
from guilder.payments.events import created, event
from guilder.payments.fallback import RISK_REFUSED, goes_on, may_wait, put_off
from guilder.payments.model import NEW_PAYMENTS, Change, Charge, OpenSlot, recheck_slot
from guilder.payments.recheck import RECHECK, asked_again, rechecked, reversal_answered
from guilder.payments.settling import Settling, at_rest, changed, failed, move
from guilder.payments.states import ATTEMPT, PAYMENT, AttemptEvent, AttemptState, PaymentEvent, PaymentState, after
from guilder.payments.voids import voided
from guilder.psp.model import Operation, Reason
from guilder.shapes.facts import CardFacts, ChargeFacts

# How long an authorization of a buyer who was present can be captured; every scheme of the sandbox keeps it so long.
AUTHORIZATION_DAYS: Final = 7

def settle(s: Settling, outcome: Outcome | NotFound) -> Change:
    """The change that this outcome makes; safe to decide again on a newer version."""
    change = authenticated(s, outcome) if s.attempt.operation is Operation.AUTHENTICATE else _decided(s, outcome)
    if not s.attempt.facts.announces_payment or not _is_first(s.open):
        return change
    return replace(change, events=(created(s.ids, s.payment.account, s.payment.facts, s.attempt.facts.key), *change.events))


def _is_first(open_: OpenSlot) -> bool:
    """No outcome of the attempt was settled before: setting a row free leaves it without a try."""
    return open_.state in (AttemptState.CREATED, AttemptState.IN_DOUBT) and open_.tries == 0


def _decided(s: Settling, outcome: Outcome | NotFound) -> Change:
    if s.open.slot == recheck_slot(s.attempt.id):
        return rechecked(s, outcome) if s.open.state == RECHECK else reversal_answered(s, outcome)
    if s.open.state == AttemptState.REVERSING:
        return _reversal_answered(s, outcome)
    change = own_page.decided(s, outcome) if s.attempt.facts.own_page is not None else None
    return _answered(s, outcome) if change is None else change


def _answered(s: Settling, outcome: Outcome | NotFound) -> Change:
    match outcome:
        case Approved():
            return _too_late(s) if _nobody_waits(s) else _APPROVED[s.attempt.operation](s, outcome)
        case Declined():
            return _declined(s, outcome)
        case NotSent() if s.open.state == AttemptState.CREATED:
            return _not_sent(s, outcome)
        case Unknown(reason=Reason.MISMATCH) if s.attempt.operation in NEW_PAYMENTS:
            return _mismatched(s, outcome)
        case NotSent() | Unknown():
            return _in_doubt(s, outcome)
        case NotFound():
            return _not_found(s)
        case _:
            raise InvariantBroken(f"no connector here asks for an action of the buyer (attempt={s.attempt.id!r})")


def _declined(s: Settling, declined: Declined) -> Change:
    if s.onward is not None and s.now < s.attempt.execute_by:
        return goes_on(s, s.onward, declined)
    return _DECLINED[s.attempt.operation](s, declined)


def _not_sent(s: Settling, unsent: NotSent) -> Change:
    """Certainly nothing was moved: elsewhere, later, or not at all."""
    if unsent.reason == RISK_REFUSED:
        return _refused(s)
    if s.onward is not None and s.now < s.attempt.execute_by:
        return goes_on(s, s.onward, unsent)
    if may_wait(s, unsent):
        return put_off(s, unsent)
    return _UNSENT[s.attempt.operation](s, AttemptState.NOT_SENT)


# --- doubt ----------------------------------------------------------------------------------------------------------


def _in_doubt(s: Settling, outcome: NotSent | Unknown) -> Change:
    """Nobody knows: the payment shows `processing` (a refund `pending`), and whoever waits is told so once."""
    event_ = AttemptEvent.PROVED_UNSENT if isinstance(outcome, NotSent) else AttemptEvent.NO_DEFINITE_ANSWER
    state = after(ATTEMPT, AttemptState(s.open.state), event_)
    tries = s.open.tries + 1 if s.open.state == state else 1
    move_ = move(s, state, retry_at=s.retry_at(state, tries), tries=tries, reporter=s.reporter)
    trace = outcome if isinstance(outcome, Unknown) and outcome.reason == Reason.IN_PROGRESS else None
    change = changed(s, s.payment.facts, replace(move_, noted=trace))
    if s.attempt.refund is not None:
        return replace(change, answer=success(refunds.of(s.payment, s.attempt).facts, expand_of(s.attempt.facts.key)))
    facts = s.payment.facts
    if facts.in_doubt:
        return change
    facts = replace(facts, in_doubt=True)
    return replace(
        change, payment=facts, events=(event(s.ids, s.payment.account, "payment_intent.processing", facts, s.attempt.facts.key),),
        # At the till somebody waits for the end of it, and closes it when that takes too long.
        answer=None if s.attempt.facts.till else success(facts, expand_of(s.attempt.facts.key)),
    )  # fmt: skip


def _nobody_waits(s: Settling) -> bool:
    """Whether a till's time was over before the PSP could be asked: the buyer has gone with or without the goods, unpaid."""
    return s.attempt.facts.till is not None and s.asked is Operation.QUERY and s.now >= s.attempt.execute_by


def _too_late(s: Settling) -> Change:
    """What is found then is taken back. The word is definite, so it counts whoever brings it."""
    state = after(ATTEMPT, AttemptState(s.open.state), AttemptEvent.REVERSAL_DECIDED)
    return changed(s, s.payment.facts, move(s, state, retry_at=s.now))


def _mismatched(s: Settling, outcome: Unknown) -> Change:
    """Another amount or currency was approved than was asked for: whatever it is, it is taken back, and no answer approves it any more."""
    doubt = _in_doubt(s, outcome)
    state = after(ATTEMPT, AttemptState.IN_DOUBT, AttemptEvent.REVERSAL_DECIDED)
    return replace(doubt, moves=(move(s, state, retry_at=s.now, reporter=s.reporter),))


def _not_found(s: Settling) -> Change:
    """The PSP does not know the reference, which is no proof of absence.

    A new payment is reversed until that is acknowledged; anything else is asked about until the finality horizon has passed.
    """
    if s.attempt.facts.own_page is not None:
        # Nobody has its address: it is asked about until its deadline.
        return _in_doubt(s, Unknown("not_found"))
    if s.attempt.operation in NEW_PAYMENTS:
        state = after(ATTEMPT, AttemptState(s.open.state), AttemptEvent.REVERSAL_DECIDED)
        return changed(s, s.payment.facts, move(s, state, retry_at=s.now, reporter=s.reporter))
    # A PSP that has shown a trace of the request once, and now says that it does not know it, has forgotten.
    traceless = not isinstance(s.attempt.noted, Unknown)
    if traceless and s.horizon is not None and s.now >= s.horizon:
        after(ATTEMPT, AttemptState(s.open.state), AttemptEvent.FINALITY_PASSED)
        return _undone(s)
    return _in_doubt(s, Unknown("not_found"))


def _reversal_answered(s: Settling, outcome: Outcome | NotFound) -> Change:
    """From `reversing` nothing but the reversal's acknowledgement leads on; a late approval is noted."""
    if s.asked is Operation.REVERSAL and isinstance(outcome, Approved):
        after(ATTEMPT, AttemptState.REVERSING, AttemptEvent.REVERSAL_ACKNOWLEDGED)
        return _undone(s)
    noted = outcome if isinstance(outcome, Approved | Declined) and s.asked is not Operation.REVERSAL else None
    tries = s.open.tries + 1
    # Silence is asked about as any doubt: when the PSP is back, so is the reversal.
    answered = isinstance(outcome, Declined) or (isinstance(outcome, Unknown) and outcome.reason == Reason.MISMATCH)
    move_ = move(s, s.open.state, retry_at=s.retry_at(s.open.state, tries, answered=answered), tries=tries, reporter=s.reporter)
    return changed(s, s.payment.facts, replace(move_, noted=noted, reporter=None if noted else s.reporter))


def _undone(s: Settling) -> Change:
    """On evidence, the reversal's acknowledgement or the end of the horizon: nothing was moved. It is asked about again later."""
    change = _UNSENT[s.attempt.operation](s, AttemptState.UNDONE)
    return replace(change, reopened=(*change.reopened, asked_again(s.attempt, s.now)))


# --- a purchase or an authorization ---------------------------------------------------------------------------------


def _paid(s: Settling, approved: Approved) -> Change:
    """A purchase was approved: the money is the merchant's, less the fee, from the day it is released."""
    facts = s.payment.facts
    charge = Charge(facts=replace(_charge_facts(s, "succeeded", approved), captured=True, amount_captured=s.attempt.amount))
    booked = books.purchase(s.attempt, charge, available_now=approved.available_now, now=s.now, ids=s.ids)
    facts = replace(
        facts, status=after(PAYMENT, PaymentState(facts.status), PaymentEvent.PAID), amount_received=s.attempt.amount,
        latest_charge=charge.facts.id, in_doubt=False, next_action_url=None,
    )  # fmt: skip
    return at_rest(s, facts, AttemptState.APPROVED, booked.charge, ("charge.succeeded", "payment_intent.succeeded"), booked)


def _authorized(s: Settling, approved: Approved) -> Change:
    """An authorization was approved: the amount is held until it is captured, canceled or expires."""
    facts = s.payment.facts
    before = epoch_seconds(s.now + AUTHORIZATION_DAYS * DAY)
    charge = Charge(facts=replace(_charge_facts(s, "succeeded", approved), capture_before=before))
    booked = books.authorization(s.attempt, charge, ids=s.ids)
    facts = replace(
        facts, status=after(PAYMENT, PaymentState(facts.status), PaymentEvent.AUTHORIZED), amount_capturable=s.attempt.amount,
        latest_charge=charge.facts.id, in_doubt=False, next_action_url=None,
    )  # fmt: skip
    events = ("charge.succeeded", "payment_intent.amount_capturable_updated")
    return at_rest(s, facts, AttemptState.APPROVED, booked.charge, events, booked)


def _payment_declined(s: Settling, declined: Declined) -> Change:
    """The issuer said no: the payment asks for another card, and the failed charge stays to be seen."""
    if asks_for_authentication(s, declined):
        return authentication_begun(s)
    charge = _charge_facts(s, "failed", None)
    error = card_error(declined, charge.id)
    charge = replace(
        charge, failure_code=error.code, failure_message=error.message, decline_code=error.decline_code,
        network_decline_code=declined.network_code, outcome_type="issuer_declined", outcome_reason=declined.code,
        card=_checked(s, declined), amount_captured=0,
    )  # fmt: skip
    facts = failed(s.payment.facts, s.attempt.facts.payment_method, error, charge.id)
    change = at_rest(s, facts, AttemptState.DECLINED, Charge(facts=charge), ("charge.failed", "payment_intent.payment_failed"), None)
    return replace(change, answer=failure(facts, error))


def _payment_unsent(s: Settling, state: AttemptState) -> Change:
    """Nothing was charged, through no decision of the issuer: the payment asks for a card again, unless it was given up."""
    if s.payment.facts.status == PaymentState.CANCELED:
        return changed(s, s.payment.facts, move(s, state))
    error = nothing_charged(NOT_CHARGED if state is AttemptState.NOT_SENT else UNDONE)
    if own_page.is_past(s):
        error = own_page.expired()
    facts = failed(s.payment.facts, s.attempt.facts.payment_method, error, s.payment.facts.latest_charge)
    reporter = s.reporter if state is AttemptState.NOT_SENT else None
    change = changed(s, facts, move(s, state, reporter=reporter))
    events = (event(s.ids, s.payment.account, "payment_intent.payment_failed", facts, s.attempt.facts.key),)
    return replace(change, events=events, answer=failure(facts, error))


def _refused(s: Settling) -> Change:
    """The external risk service, for which it had waited, says no: nothing was sent."""
    error = card_error(Declined("fraudulent"), None)
    facts = failed(s.payment.facts, s.attempt.facts.payment_method, error, s.payment.facts.latest_charge)
    change = changed(s, facts, move(s, after(ATTEMPT, AttemptState.CREATED, AttemptEvent.PROVED_UNSENT), reporter=s.reporter))
    events = (event(s.ids, s.payment.account, "payment_intent.payment_failed", facts, s.attempt.facts.key),)
    return replace(change, events=events, answer=failure(facts, error))


# --- a capture or a void --------------------------------------------------------------------------------------------


def _captured(s: Settling, _approved: Approved) -> Change:
    """An authorized amount, or a part of it, was taken; the rest is let go."""
    before = refunds.charge_of(s.payment)
    taken = replace(before.facts, captured=True, amount_captured=s.attempt.amount)
    booked = books.capture(s.attempt, replace(before, facts=taken), now=s.now, ids=s.ids)
    facts = s.payment.facts
    facts = replace(
        facts, status=after(PAYMENT, PaymentState(facts.status), PaymentEvent.CAPTURED), amount_capturable=0,
        amount_received=s.attempt.amount, in_doubt=False,
    )  # fmt: skip
    return at_rest(s, facts, AttemptState.APPROVED, booked.charge, ("charge.captured", "payment_intent.succeeded"), booked)


def _capture_failed(s: Settling, declined: Declined) -> Change:
    error = card_error(declined, s.payment.facts.latest_charge)
    return _back_to_capture(s, AttemptState.DECLINED, PaymentEvent.CAPTURE_FAILED, error)


def _capture_unsent(s: Settling, state: AttemptState) -> Change:
    return _back_to_capture(s, state, PaymentEvent.CAPTURE_FAILED, nothing_charged(NOT_CHARGED))


def _voided(s: Settling, _approved: Approved) -> Change:
    return voided(s, PaymentEvent.CANCELED)


def _void_failed(s: Settling, declined: Declined) -> Change:
    error = card_error(declined, s.payment.facts.latest_charge)
    return _back_to_capture(s, AttemptState.DECLINED, PaymentEvent.CANCEL_FAILED, error)


def _void_unsent(s: Settling, state: AttemptState) -> Change:
    return _back_to_capture(s, state, PaymentEvent.CANCEL_FAILED, nothing_charged(NOT_CHARGED))


def _back_to_capture(s: Settling, state: AttemptState, event_: PaymentEvent, error: ErrorFacts) -> Change:
    """The authorization stands as before; the caller is told 402."""
    facts = replace(s.payment.facts, status=after(PAYMENT, PaymentState(s.payment.facts.status), event_), in_doubt=False)
    change = changed(s, facts, move(s, state, reporter=s.reporter if state is AttemptState.NOT_SENT else None))
    return replace(change, answer=failure(facts, error))


# --- a refund -------------------------------------------------------------------------------------------------------


def _paid_back(s: Settling, approved: Approved) -> Change:
    change = changed(s, s.payment.facts, move(s, AttemptState.APPROVED))
    change = refunds.paid_back(change, s.payment, s.attempt, ids=s.ids)
    # What was in doubt may have been sent more than once, by whoever held it, and done more than once: also after the question that has
    # found it. Whoever does not honour a key tells it only when asked.
    doubted = s.open.state == AttemptState.IN_DOUBT
    if approved.ask_again_seconds is None and not doubted and not approved.surplus:
        return change
    return replace(change, reopened=(asked_again(s.attempt, s.now, seconds=approved.ask_again_seconds),))


def _refund_declined(s: Settling, declined: Declined) -> Change:
    change = changed(s, s.payment.facts, move(s, AttemptState.DECLINED))
    return refunds.refused(change, s.payment, s.attempt, declined, now=s.now, ids=s.ids)


def _refund_unsent(s: Settling, state: AttemptState) -> Change:
    change = changed(s, s.payment.facts, move(s, state, reporter=s.reporter if state is AttemptState.NOT_SENT else None))
    return refunds.begun_anew(
        change, s.payment, s.attempt, s.schedule.refund, undone=state is AttemptState.UNDONE, now=s.now, ids=s.ids,
    )  # fmt: skip


# --- what all of them share -----------------------------------------------------------------------------------------

_APPROVED: Final[Mapping[Operation, Callable[[Settling, Approved], Change]]] = {
    Operation.PURCHASE: _paid,
    Operation.AUTHORIZE: _authorized,
    Operation.CAPTURE: _captured,
    Operation.VOID: _voided,
    Operation.REFUND: _paid_back,
}
_DECLINED: Final[Mapping[Operation, Callable[[Settling, Declined], Change]]] = {
    Operation.PURCHASE: _payment_declined,
    Operation.AUTHORIZE: _payment_declined,
    Operation.CAPTURE: _capture_failed,
    Operation.VOID: _void_failed,
    Operation.REFUND: _refund_declined,
}
# Certainly without effect: proved unsent, or undone.
_UNSENT: Final[Mapping[Operation, Callable[[Settling, AttemptState], Change]]] = {
    Operation.PURCHASE: _payment_unsent,
    Operation.AUTHORIZE: _payment_unsent,
    Operation.CAPTURE: _capture_unsent,
    Operation.VOID: _void_unsent,
    Operation.REFUND: _refund_unsent,
}


def _charge_facts(s: Settling, status: str, approved: Approved | None) -> ChargeFacts:
    facts, attempt = s.payment.facts, s.attempt.facts
    return ChargeFacts(
        id=s.ids.new("ch"), livemode=facts.livemode, created=epoch_seconds(s.now), amount=s.attempt.amount, currency=s.attempt.currency,
        status=status, payment_intent=facts.id, payment_method=attempt.payment_method.id, card=_checked(s, approved),
        customer=facts.customer, description=facts.description, metadata=facts.metadata, billing=attempt.payment_method.billing,
        personal=facts.personal, statement_descriptor=facts.statement_descriptor,
        statement_descriptor_suffix=facts.statement_descriptor_suffix, risk_level=attempt.risk_level, risk_score=attempt.risk_score,
        authorization_code=approved.authorization_code if approved else None,
        network_transaction_id=approved.network_transaction_id if approved else None, connector=attempt.connector,
        three_d_secure=attempt.three_d_secure.shown if attempt.three_d_secure else None,
        reader=attempt.till.reader if attempt.till else None, location=attempt.till.location if attempt.till else None,
    )  # fmt: skip


def _checked(s: Settling, outcome: Approved | Declined | None) -> CardFacts:
    """The card as the issuer's answer leaves it: with what was checked."""
    card = s.attempt.facts.payment_method.card
    if outcome is None:
        return card
    checks = outcome.checks
    return replace(
        card, cvc_check=checks.cvc or card.cvc_check, postal_code_check=checks.postal_code or card.postal_code_check,
        line1_check=checks.line1 or card.line1_check,
    )  # fmt: skip
