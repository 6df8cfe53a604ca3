"""Update: change what a merchant may change of a payment, a charge or a refund."""

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from guilder.core.ids import Ids
from guilder.idempotency.model import Claim, Result
from guilder.log.model import NewEvent
from guilder.payments.accept import accept
from guilder.payments.answers import success
from guilder.payments.challenge import discarded
from guilder.payments.commands import UpdateCharge, UpdatePayment, UpdateRefund
from guilder.payments.confirm import check_method
from guilder.payments.events import event
from guilder.payments.model import Change, Key, Payment, Refund
from guilder.payments.own_page import refuse_while_open
from guilder.payments.services import Services, of_session, wrong_state
from guilder.payments.states import PAYMENT, PaymentEvent, PaymentState, after
from guilder.payments.withdraw import withdrawing
from guilder.shapes.facts import ChargeFacts, PaymentIntentFacts, RefundFacts
from guilder.shapes.metadata import merged
from guilder.shapes.previous import previous_attributes

_CHANGEABLE: Final = (
    PaymentState.REQUIRES_PAYMENT_METHOD, PaymentState.REQUIRES_CONFIRMATION, PaymentState.REQUIRES_ACTION,
)  # fmt: skip
_ALWAYS: Final = frozenset({"payment", "metadata", "description", "personal"})


async def update(services: Services, claim: Claim, command: UpdatePayment) -> Result:
    """Change a payment. Amount, currency, card and the like only while it is not under way; metadata at any time.

    Commits once. Raises Refusal: no such payment (404), wrong state (400).
    """
    given = {name: value for name in command.__struct_fields__ if (value := getattr(command, name)) is not UNSET}

    async def plan(payment: Payment) -> Change:
        facts = payment.facts
        if facts.checkout_session is not None and set(given) - _ALWAYS:
            raise of_session(facts, "update")
        if set(given) - _ALWAYS:
            refuse_while_open(payment)
        if facts.status not in _CHANGEABLE and set(given) - _ALWAYS:
            raise wrong_state(facts, "update", _CHANGEABLE)
        changes = {name: value for name, value in given.items() if name not in ("payment", "metadata", "payment_method")}
        if "metadata" in given:
            changes["metadata"] = merged(facts.metadata, command.metadata)
        if "payment_method" in given:
            changes.update(_with_method(payment, command))
        facts = _after_action(payment, replace(facts, **changes))
        left = discarded(payment) if facts.status != PaymentState.REQUIRES_ACTION else ()
        return replace(_immediate(payment, claim), payment=facts, answer=success(facts, claim.expand), challenges=left)

    async with withdrawing(services, claim, command.payment):
        return await accept(services, claim, command.payment, plan)


def _after_action(payment: Payment, facts: PaymentIntentFacts) -> PaymentIntentFacts:
    """An authentication holds for one amount and currency: another one, and the buyer's answer counts for nothing any more."""
    same = (facts.amount, facts.currency) == (payment.facts.amount, payment.facts.currency)
    if facts.status != PaymentState.REQUIRES_ACTION or same:
        return facts
    return replace(facts, status=after(PAYMENT, PaymentState.REQUIRES_ACTION, PaymentEvent.CHANGED), next_action_url=None)


def _with_method(payment: Payment, command: UpdatePayment) -> Mapping[str, object]:
    method = command.payment_method
    status = PaymentState(payment.facts.status)
    if method is None or method is UNSET:
        if status in (PaymentState.REQUIRES_CONFIRMATION, PaymentState.REQUIRES_ACTION):
            status = after(PAYMENT, status, PaymentEvent.METHOD_TAKEN)
        return {"payment_method": None, "status": status, "next_action_url": None}
    check_method(method, payment.facts.customer if command.customer is UNSET else command.customer)
    return {"payment_method": method.id, "status": after(PAYMENT, status, PaymentEvent.METHOD_GIVEN), "next_action_url": None}


async def update_charge(services: Services, claim: Claim, command: UpdateCharge) -> Result:
    """Change a charge's description, metadata, customer or receipt address. Raises Refusal (404)."""

    async def plan(payment: Payment) -> Change:
        charge = next(charge for charge in payment.charges if charge.facts.id == command.charge)
        changes = {
            name: value for name in ("description", "customer", "personal") if (value := getattr(command, name)) is not UNSET
        }
        facts = replace(charge.facts, metadata=merged(charge.facts.metadata, command.metadata), **changes)
        change = replace(_immediate(payment, claim), charges=(replace(charge, facts=facts),), answer=success(facts, claim.expand))
        return replace(change, events=_updated(services.ids, claim, charge.facts, facts, "charge.updated"))

    return await accept(services, claim, command.charge, plan)


async def update_refund(services: Services, claim: Claim, command: UpdateRefund) -> Result:
    """Change a refund's metadata. Raises Refusal (404)."""

    async def plan(payment: Payment) -> Change:
        refund = next(refund for refund in payment.refunds if refund.facts.id == command.refund)
        facts = replace(refund.facts, metadata=merged(refund.facts.metadata, command.metadata))
        change = replace(
            _immediate(payment, claim), refunds=(Refund(facts=facts, waiting=refund.waiting),), answer=success(facts, claim.expand),
        )  # fmt: skip
        return replace(change, events=_updated(services.ids, claim, refund.facts, facts, "refund.updated", "charge.refund.updated"))

    return await accept(services, claim, command.refund, plan)


def _updated(
    ids: Ids, claim: Claim, before: ChargeFacts | RefundFacts, facts: ChargeFacts | RefundFacts, *names: str,
) -> tuple[NewEvent, ...]:  # fmt: skip
    """The events of an update, with the values before; none when nothing has changed."""
    if facts == before:
        return ()
    key = Key(claim.key, claim.request_id, claim.expand)
    previous = previous_attributes(before, facts)
    return tuple(event(ids, claim.account, name, facts, key, previous) for name in names)


def _immediate(payment: Payment, claim: Claim) -> Change:
    return Change(
        account=payment.account, livemode=payment.facts.livemode, payment=payment.facts, expected=payment.version, claim=claim,
        confirmations=payment.confirmations,
    )  # fmt: skip
