"""Confirm: try to take a payment. What create with `confirm` and confirm share is `begin_taking`."""

from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from guilder.core.errors import ErrorFacts, Refusal
from guilder.idempotency.model import Claim, Result
from guilder.payments.accept import accept
from guilder.payments.answers import failure
from guilder.payments.begin import CVC_SECONDS, Try, take
from guilder.payments.challenge import discarded
from guilder.payments.commands import ConfirmPayment
from guilder.payments.declines import message_of
from guilder.payments.events import event
from guilder.payments.fallen import Fallen
from guilder.payments.model import Change, Charge, Key, Payment, Terms, Till
from guilder.payments.own_page import PSP_PAGE, refuse_while_open
from guilder.payments.screen import screen
from guilder.payments.services import Services, lock_timeout, of_session, wrong_state
from guilder.payments.states import PAYMENT, PaymentEvent, PaymentState, after, allows
from guilder.payments.withdraw import withdrawing
from guilder.psp.errors import RouteRefused
from guilder.psp.router import Choice, choose
from guilder.risk import Decision, Signals, Verdict, decide
from guilder.shapes.facts import ChargeFacts, PaymentIntentFacts, PaymentMethodFacts

# A card that is tried more often than this on one payment is being tested, not used.
CONFIRMATIONS_MAX: Final = 25
CARD_PRESENT: Final = ("card_present",)


async def confirm(services: Services, claim: Claim, command: ConfirmPayment) -> Result:
    """Send a stored payment; the answer waits for the outcome. Commits like create.

    Raises:
        Refusal: no such payment (404), wrong state, missing payment method (400); its slot is taken (409, repeat).
    """

    async def plan(payment: Payment) -> Change:
        facts = payment.facts
        if facts.checkout_session != command.checkout_session:
            raise of_session(facts, "confirm")
        if command.number is not None and command.number != payment.confirmations + 1:
            raise _overtaken()
        refuse_while_open(payment)
        if facts.status == PaymentState.PROCESSING:
            raise lock_timeout()
        if not allows(PAYMENT, PaymentState(facts.status), PaymentEvent.CONFIRMED):
            raise wrong_state(facts, "confirm", _CONFIRMABLE)
        if facts.payment_method_types == CARD_PRESENT:
            raise Refusal(
                "This PaymentIntent is for a card at a reader. Process it with a reader: "
                "POST /v1/terminal/readers/{reader}/process_payment_intent.", code="payment_intent_unexpected_state",
            )
        method = await _method(services, payment, command)
        facts = _merged(facts, command, method)
        change = Change(
            account=payment.account, livemode=facts.livemode, payment=facts, expected=payment.version, claim=claim,
            confirmations=payment.confirmations + 1, challenges=discarded(payment),
        )  # fmt: skip
        check_tries(payment)
        return await begin_taking(
            services, change, method, off_session=command.off_session, error_on_requires_action=command.error_on_requires_action,
        )

    async with withdrawing(services, claim, command.payment):
        return await accept(services, claim, command.payment, plan)


def check_tries(payment: Payment) -> None:
    """Refuse one more try of a payment that was tried too often (400)."""
    if payment.confirmations >= CONFIRMATIONS_MAX:
        raise Refusal(
            f"This PaymentIntent has been confirmed {CONFIRMATIONS_MAX} times, which is the limit. Create a new one.",
            code="payment_intent_unexpected_state",
        )


def _overtaken() -> Refusal:
    """The refusal of a try that another one has come before: the payment as it stands now may need none."""
    return Refusal("This payment has been tried since. Look at its present state first.", status=409, code="lock_timeout")


_CONFIRMABLE: Final = tuple(state for state in PaymentState if allows(PAYMENT, state, PaymentEvent.CONFIRMED))


async def _method(services: Services, payment: Payment, command: ConfirmPayment) -> PaymentMethodFacts:
    method = command.payment_method
    if method is UNSET:
        if payment.facts.payment_method is None:
            raise Refusal(
                "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
                "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment "
                "method or ConfirmationToken.", code="payment_intent_unexpected_state",
            )
        method = await services.payment_method(payment.account, payment.facts.livemode, payment.facts.payment_method)
    check_method(method, payment.facts.customer)
    return method


def check_method(method: PaymentMethodFacts, customer: str | None) -> None:
    """Refuse a payment method that belongs to another customer than the payment's."""
    if method.customer is not None and method.customer != customer:
        raise Refusal(
            f"The provided PaymentMethod {method.id} belongs to the Customer {method.customer}. "
            "Set `customer` to that Customer to use it.", code="payment_method_unexpected_state", param="payment_method",
        )


def _merged(facts: PaymentIntentFacts, command: ConfirmPayment, method: PaymentMethodFacts) -> PaymentIntentFacts:
    changes = {
        name: getattr(command, name)
        for name in ("capture_method", "setup_future_usage", "return_url", "personal", "request_three_d_secure")
        if getattr(command, name) is not UNSET
    }
    return replace(facts, payment_method=method.id, **changes)


async def begin_taking(
    services: Services, change: Change, method: PaymentMethodFacts, *, off_session: bool = False, error_on_requires_action: bool = False,
    till: Till | None = None,
) -> Change:
    """The change that sends a payment: rules asked, connector chosen, attempt made; or the change that refuses it.

    Raises Refusal when no connector takes it.
    """
    facts, now = change.payment, services.clock.now()
    _check_kind(facts, method, off_session=off_session, error_on_requires_action=error_on_requires_action)
    decision, fallen, key = decide(_signals(services, facts, method)), None, _key(change)
    if services.risk is not None:
        screened = await screen(services, change.claim, facts, method, decision, account=change.account, off_session=off_session)
        decision, fallen = screened.decision, screened.fallen
    if decision.verdict is Verdict.REFUSE:
        return _blocked(services, change, method, decision, now)
    try:
        choice = choose(
            services.routes, currency=facts.currency, amount_minor=facts.amount, brand=method.card.brand, livemode=facts.livemode,
            own_page=method.card.own_page, card_present=till is not None, payment=facts.id, rules=services.rules,
        )
    except RouteRefused as error:
        raise Refusal(str(error), code="payment_intent_incompatible_payment_method", param="payment_method") from error
    terms = await services.terms(change.account, facts.livemode)
    fresh = now // 1_000_000 - method.created < CVC_SECONDS
    wait_seconds = services.fallback.waits(change.account) if off_session else None
    try_ = Try(
        payment_method=method, choice=choice, terms=Terms(terms.price_version, terms.basis_points),
        send_cvc=fresh and method.customer is None and not off_session and method.card.cvc_check is not None,
        off_session=off_session, error_on_requires_action=error_on_requires_action, risk_level=decision.level,
        risk_score=decision.score, origin=services.checkout_url, till=till,
        deadline=change.claim.deadline if change.claim else None, wait_seconds=wait_seconds,
        fallen=fallen if wait_seconds is None else replace(fallen or Fallen(), waits=True),
        authenticate=None if till or off_session or method.card.own_page else _authenticate(services, facts, choice, decision.verdict),
    )  # fmt: skip
    processing, attempt = take(facts, try_, key, account=change.account, now=now, ids=services.ids)
    return replace(change, payment=processing, attempts=(attempt,), confirmations=max(change.confirmations, 1))


def _check_kind(
    facts: PaymentIntentFacts, method: PaymentMethodFacts, *, off_session: bool, error_on_requires_action: bool,
) -> None:  # fmt: skip
    """Refuse a method of a kind that the payment does not take, and the PSP's own page where nobody could go there."""
    if (PSP_PAGE in facts.payment_method_types) < method.card.own_page:
        raise Refusal(
            f"The payment_method_types of this PaymentIntent do not hold {PSP_PAGE}, so it cannot be paid at the payment provider's page.",
            code="payment_intent_incompatible_payment_method", param="payment_method",
        )
    if facts.payment_method_types == (PSP_PAGE,) and not method.card.own_page:
        raise Refusal(
            f"This PaymentIntent can only be paid by a PaymentMethod of type {PSP_PAGE}.",
            code="payment_intent_incompatible_payment_method", param="payment_method",
        )
    if not method.card.own_page:
        return
    for name, given in (("off_session", off_session), ("error_on_requires_action", error_on_requires_action)):
        if given:
            raise Refusal(f"A {PSP_PAGE} payment sends the buyer to the payment provider: leave out `{name}`.", param=name)
    if facts.setup_future_usage is not None:
        raise Refusal(f"A {PSP_PAGE} PaymentMethod cannot be saved: leave out `setup_future_usage`.", param="setup_future_usage")


# What a merchant says who wants the buyer authenticated although the issuer has not asked for it.
_ASKED_FOR: Final = frozenset({"any", "challenge"})


def _authenticate(services: Services, facts: PaymentIntentFacts, choice: Choice, verdict: Verdict) -> str | None:
    """How the buyer is to be authenticated before the issuer asks for it, by the merchant's wish or the risk; None for not."""
    wish = facts.request_three_d_secure if facts.request_three_d_secure in _ASKED_FOR else None
    if wish is None and verdict is Verdict.CHALLENGE:
        wish = "any"
    able = any(route.connector == choice.connector and route.declares.three_d_secure for route in services.routes)
    return wish if able else None


def _key(change: Change) -> Key | None:
    claim = change.claim
    return Key(claim.key, claim.request_id, claim.expand) if claim else None


def _signals(services: Services, facts: PaymentIntentFacts, method: PaymentMethodFacts) -> Signals:
    return services.signals.gather(facts.amount, facts.currency, method)


def _blocked(services: Services, change: Change, method: PaymentMethodFacts, decision: Decision, now: int) -> Change:
    """Refused by our own rules before anything is sent: it reads as a decline, and of the reason the payer learns what he may know."""
    before = change.payment
    message = message_of(decision.decline_code or "")
    charge = ChargeFacts(
        id=services.ids.new("ch"), livemode=before.livemode, created=now // 1_000_000, amount=before.amount, currency=before.currency,
        status="failed", payment_intent=before.id, payment_method=method.id, card=method.card, customer=before.customer,
        description=before.description, metadata=before.metadata, billing=method.billing, personal=before.personal,
        failure_code="card_declined", failure_message=message, decline_code=decision.decline_code,
        outcome_type="blocked", outcome_reason=decision.reason, risk_level=decision.level, risk_score=decision.score,
    )  # fmt: skip
    error = ErrorFacts(
        type="card_error", message=message, code="card_declined", decline_code=decision.decline_code, charge=charge.id,
    )  # fmt: skip
    facts = replace(
        before, status=after(PAYMENT, PaymentState(before.status), PaymentEvent.REFUSED), payment_method=None,
        last_payment_error=error, failed_payment_method=method, latest_charge=charge.id, next_action_url=None,
    )  # fmt: skip
    key = _key(change)
    events = tuple(
        event(services.ids, change.account, name, shown, key)
        for name, shown in (("charge.failed", charge), ("payment_intent.payment_failed", facts))
    )
    return replace(
        change, payment=facts, charges=(Charge(facts=charge),), events=change.events + events, answer=failure(facts, error),
        confirmations=max(change.confirmations, 1),
    )  # fmt: skip
