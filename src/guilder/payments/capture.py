"""Capture: take some or all of an authorized amount."""

from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from guilder.core.errors import Refusal
from guilder.core.money import Money
from guilder.idempotency.model import Claim, Result
from guilder.payments.accept import accept
from guilder.payments.begin import follow
from guilder.payments.commands import CapturePayment
from guilder.payments.model import Change, Key, Payment
from guilder.payments.services import Services, lock_timeout, wrong_state
from guilder.payments.states import PAYMENT, PaymentEvent, PaymentState, after, allows
from guilder.psp.model import Operation
from guilder.shapes.metadata import merged

_CAPTURABLE: Final = tuple(state for state in PaymentState if allows(PAYMENT, state, PaymentEvent.CAPTURE_SENT))


async def capture(services: Services, claim: Claim, command: CapturePayment) -> Result:
    """Take an authorized amount; what is not taken is released. The answer waits for the outcome.

    Commits accept, claim and outcome; safe to repeat under one key.

    Raises:
        Refusal: no such payment (404); wrong state, more than is capturable (400); the slot is taken (409, repeat).
    """

    async def plan(payment: Payment) -> Change:
        facts = payment.facts
        if facts.status == PaymentState.PROCESSING:
            raise lock_timeout()
        if not allows(PAYMENT, PaymentState(facts.status), PaymentEvent.CAPTURE_SENT):
            raise wrong_state(facts, "capture", _CAPTURABLE)
        amount = facts.amount_capturable if command.amount_to_capture is None else command.amount_to_capture
        if amount > facts.amount_capturable:
            raise Refusal(
                f"The requested capture amount ({Money(amount, facts.currency)}) is greater than the amount you can capture "
                f"for this PaymentIntent ({Money(facts.amount_capturable, facts.currency)}).", code="amount_too_large",
                param="amount_to_capture",
            )
        key = Key(claim.key, claim.request_id, claim.expand)
        attempt = follow(payment, Operation.CAPTURE, amount, key, now=services.clock.now(), ids=services.ids)
        facts = replace(
            facts, status=after(PAYMENT, PaymentState(facts.status), PaymentEvent.CAPTURE_SENT),
            metadata=merged(facts.metadata, command.metadata),
            **{
                name: getattr(command, name)
                for name in ("statement_descriptor", "statement_descriptor_suffix")
                if getattr(command, name) is not UNSET
            },
        )  # fmt: skip
        return Change(
            account=payment.account, livemode=facts.livemode, payment=facts, expected=payment.version, claim=claim,
            confirmations=payment.confirmations, attempts=(attempt,),
        )  # fmt: skip

    return await accept(services, claim, command.payment, plan)
