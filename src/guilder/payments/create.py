"""Create a payment, and with `confirm` take it at once."""

from typing import Final

from msgspec.structs import replace

from guilder.core.clock import epoch_seconds
from guilder.core.errors import Refusal
from guilder.idempotency.model import Claim, Result
from guilder.payments.accept import accept_new, refuse
from guilder.payments.answers import success
from guilder.payments.commands import CreatePayment
from guilder.payments.confirm import begin_taking, check_method
from guilder.payments.events import event
from guilder.payments.model import Change, Key
from guilder.payments.services import Services
from guilder.payments.states import PaymentState
from guilder.shapes.facts import PaymentIntentFacts

CLIENT_SECRET_BITS: Final = 160


async def create(services: Services, claim: Claim, command: CreatePayment) -> Result:
    """Store a payment; with `confirm` it is sent, and the answer waits for the outcome.

    Commits the accept, and when it is sent the claim and the outcome (by the executor). Safe to repeat under one key.

    Raises:
        Refusal: the payment method cannot be used (400); nobody takes the payment; another request has the key.
    """
    facts = facts_of(services, claim.livemode, command)
    key = Key(claim.key, claim.request_id, claim.expand)
    created = event(services.ids, claim.account, "payment_intent.created", facts, key)
    change = Change(
        account=claim.account, livemode=claim.livemode, payment=facts, expected=None, claim=claim, events=(created,),
    )  # fmt: skip
    try:
        change = await _begun(services, change, command) if command.confirm else replace(change, answer=success(facts, claim.expand))
    except Refusal as refusal:
        return await refuse(services, claim, refusal)
    return await accept_new(services, claim, change)


async def _begun(services: Services, change: Change, command: CreatePayment) -> Change:
    method = command.payment_method
    if method is None:
        raise Refusal(
            "You cannot confirm this PaymentIntent because it's missing a payment method. Provide `payment_method` or "
            "`payment_method_data`, or confirm it later.", code="parameter_missing", param="payment_method",
        )
    check_method(method, command.customer)
    begun = await begin_taking(
        services, change, method, off_session=command.off_session, error_on_requires_action=command.error_on_requires_action,
    )
    # What is sent announces the payment with its first outcome.
    attempts = tuple(replace(one, facts=replace(one.facts, announces_payment=True)) for one in begun.attempts)
    return replace(begun, attempts=attempts, events=()) if attempts else begun


def facts_of(services: Services, livemode: bool, command: CreatePayment) -> PaymentIntentFacts:  # noqa: FBT001
    """A new payment as the command describes it; nothing is stored."""
    id_ = services.ids.new("pi")
    state = PaymentState.REQUIRES_CONFIRMATION if command.payment_method else PaymentState.REQUIRES_PAYMENT_METHOD
    return PaymentIntentFacts(
        id=id_, livemode=livemode, created=epoch_seconds(services.clock.now()), amount=command.amount,
        currency=command.currency, status=state, client_secret=services.ids.secret(f"{id_}_secret_", CLIENT_SECRET_BITS),
        capture_method=command.capture_method,
        payment_method=command.payment_method.id if command.payment_method else None,
        payment_method_types=command.payment_method_types, automatic_payment_methods=command.automatic_payment_methods,
        customer=command.customer, description=command.description, metadata=command.metadata, personal=command.personal,
        statement_descriptor=command.statement_descriptor, statement_descriptor_suffix=command.statement_descriptor_suffix,
        setup_future_usage=command.setup_future_usage, return_url=command.return_url,
        request_three_d_secure=command.request_three_d_secure, checkout_session=command.checkout_session,
    )  # fmt: skip
