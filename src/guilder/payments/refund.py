"""Refund: give money back. The amount is reserved on the charge and in the ledger before anything is sent."""

from typing import Final

from msgspec.structs import replace

from guilder.core.clock import epoch_seconds
from guilder.core.errors import Refusal
from guilder.core.ids import Ids
from guilder.core.money import Money
from guilder.idempotency.model import Claim, Result
from guilder.payments import books
from guilder.payments.accept import Plan, accept
from guilder.payments.answers import success
from guilder.payments.begin import pay_back
from guilder.payments.commands import CancelRefund, CreateRefund
from guilder.payments.events import event
from guilder.payments.model import Change, Charge, Key, Payment, Refund
from guilder.payments.refunds import charge_of, counted
from guilder.payments.services import Services
from guilder.payments.states import REFUND, PaymentState, RefundEvent, RefundState, after, allows
from guilder.shapes.facts import RefundFacts

PENDING_FUNDS = "insufficient_funds"
# Refunds of one payment, whatever became of them: each decision about a payment reads them all, some 0.7 kB each. Nobody
# gives an order back in more pieces; who needs that has a loop that does not end.
REFUNDS_MAX: Final = 100


async def refund(services: Services, claim: Claim, command: CreateRefund) -> Result:
    """Refund a payment in part or whole. The answer waits for the outcome; `pending` while it is in doubt or waits for money.

    Commits accept, claim and outcome; safe to repeat under one key.

    Raises:
        Refusal: no such payment or charge (404); nothing captured, more than is left, too many refunds (400).
    """

    def plan_with(funded: bool) -> Plan:  # noqa: FBT001 - the two plans differ in just this
        async def plan(payment: Payment) -> Change:
            charge = _refundable(payment, command)
            left = charge.facts.amount_captured - charge.refunded - charge.refunding
            amount = _amount(command, charge, left)
            now, key = services.clock.now(), Key(claim.key, claim.request_id, claim.expand)
            facts = RefundFacts(
                id=services.ids.new("re"), livemode=payment.facts.livemode, created=epoch_seconds(now), amount=amount,
                currency=payment.facts.currency, status=RefundState.PENDING, charge=charge.facts.id, payment_intent=payment.facts.id,
                reason=command.reason, metadata=command.metadata,
            )  # fmt: skip
            change = Change(
                account=payment.account, livemode=payment.facts.livemode, payment=payment.facts, expected=payment.version,
                confirmations=payment.confirmations, claim=claim, charges=(counted(charge, refunded=charge.refunded,
                refunding=charge.refunding + amount),),
            )  # fmt: skip
            if funded:
                return offered(change, payment, facts, key, created=True, now=now, ids=services.ids)
            return _waiting(change, facts, key, services.ids)

        return plan

    target = command.payment or command.charge
    if target is None:
        raise Refusal(
            "One of the following params should be provided for this request: payment_intent or charge.", code="parameter_missing",
        )
    return await accept(services, claim, target, plan_with(True), no_funds=plan_with(False))


def offered(
    change: Change, payment: Payment, facts: RefundFacts, key: Key | None, *, created: bool, now: int, ids: Ids,
) -> Change:  # fmt: skip
    """The change with the refund's money reserved and its attempt made; the ledger may refuse it for lack of funds."""
    charge = charge_of(payment)
    booked = books.refund_reserved(payment, charge, facts, now=now, ids=ids)
    facts = replace(facts, balance_transaction=booked.entries[0].facts.id, pending_reason="processing")
    attempt = pay_back(payment, facts, booked.transfers[0].id, key, now=now, ids=ids)
    names = ("refund.created",) if created else ("refund.updated", "charge.refund.updated")
    return replace(
        change, refunds=(Refund(facts=facts),), attempts=(attempt,), transfers=booked.transfers, balance_transactions=booked.entries,
        events=tuple(event(ids, change.account, name, facts, key) for name in names),
    )  # fmt: skip


def offer_again(payment: Payment, refund_id: str, *, now: int, ids: Ids) -> Change | None:
    """The change that gives a waiting refund its money and its attempt; None when it does not wait any more."""
    refund_ = next((one for one in payment.refunds if one.facts.id == refund_id and one.waiting), None)
    if refund_ is None:
        return None
    change = Change(
        account=payment.account, livemode=payment.facts.livemode, payment=payment.facts, expected=payment.version,
        confirmations=payment.confirmations,
    )  # fmt: skip
    return offered(change, payment, refund_.facts, None, created=False, now=now, ids=ids)


async def cancel_refund(services: Services, claim: Claim, command: CancelRefund) -> Result:
    """Withdraw a refund that waits for money: nothing was reserved and nothing sent.

    Raises Refusal: no such refund (404); it is under way or has ended (400).
    """

    async def plan(payment: Payment) -> Change:
        refund_ = next(one for one in payment.refunds if one.facts.id == command.refund)
        if not refund_.waiting or not allows(REFUND, RefundState(refund_.facts.status), RefundEvent.WITHDRAWN):
            raise Refusal(
                "Only a refund that still waits for funds can be canceled; this one is "
                f"{'being sent to the card network' if refund_.facts.status == RefundState.PENDING else refund_.facts.status}.",
                code="refund_not_cancelable",
            )
        key = Key(claim.key, claim.request_id, claim.expand)
        facts = replace(refund_.facts, status=after(REFUND, RefundState(refund_.facts.status), RefundEvent.WITHDRAWN), pending_reason=None)
        charge = charge_of(payment)
        return Change(
            account=payment.account, livemode=payment.facts.livemode, payment=payment.facts, expected=payment.version,
            confirmations=payment.confirmations, claim=claim, refunds=(Refund(facts=facts),),
            charges=(counted(charge, refunded=charge.refunded, refunding=charge.refunding - facts.amount),),
            events=tuple(event(services.ids, payment.account, name, facts, key) for name in ("refund.updated", "charge.refund.updated")),
            answer=success(facts, claim.expand),
        )  # fmt: skip

    return await accept(services, claim, command.refund, plan)


def _waiting(change: Change, facts: RefundFacts, key: Key, ids: Ids) -> Change:
    """Accepted, and waits for money: the worker offers it again when some arrives."""
    facts = replace(facts, pending_reason=PENDING_FUNDS)
    return replace(
        change, refunds=(Refund(facts=facts, waiting=True),), events=(event(ids, change.account, "refund.created", facts, key),),
        answer=success(facts, key.expand),
    )  # fmt: skip


def _refundable(payment: Payment, command: CreateRefund) -> Charge:
    facts = payment.facts
    charge = payment.charge
    if command.charge is not None and (charge is None or charge.facts.id != command.charge):
        raise Refusal("This charge failed, so there is nothing to refund.", code="charge_not_refundable", param="charge")
    if facts.status == PaymentState.REQUIRES_CAPTURE:
        raise Refusal(
            f"This PaymentIntent ({facts.id}) cannot be refunded because it is only authorized: cancel it instead.",
            code="payment_intent_unexpected_state",
        )
    if charge is None or not charge.facts.captured:
        raise Refusal(
            f"This PaymentIntent ({facts.id}) does not have a successful charge to refund.", code="payment_intent_unexpected_state",
        )
    if len(payment.refunds) >= REFUNDS_MAX:
        raise Refusal(f"Charge {charge.facts.id} has {REFUNDS_MAX} refunds already, and takes no more.", code="refund_limit_reached")
    return charge


def _amount(command: CreateRefund, charge: Charge, left: int) -> int:
    if left == 0:
        raise Refusal(f"Charge {charge.facts.id} has already been refunded.", code="charge_already_refunded")
    amount = left if command.amount is None else command.amount
    if amount > left:
        raise Refusal(
            f"Refund amount ({Money(amount, charge.facts.currency).with_symbol}) is greater than unrefunded amount on charge "
            f"({Money(left, charge.facts.currency).with_symbol})", param="amount",
        )
    return amount
