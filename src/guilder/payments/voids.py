"""Voids: what becomes of a payment whose authorization is gone at the PSP. Pure."""

from msgspec.structs import replace

from guilder.core.clock import epoch_seconds
from guilder.payments import books, refunds
from guilder.payments.model import Change
from guilder.payments.settling import Settling, at_rest
from guilder.payments.states import PAYMENT, AttemptState, PaymentEvent, PaymentState, after


def voided(s: Settling, event: PaymentEvent) -> Change:
    """The authorization was given up: its hold is let go, and the payment is canceled."""
    booked = books.release(refunds.charge_of(s.payment), ids=s.ids)
    facts = s.payment.facts
    reason = s.attempt.facts.cancellation_reason
    facts = replace(
        facts, status=after(PAYMENT, PaymentState(facts.status), event), amount_capturable=0, canceled_at=epoch_seconds(s.now),
        cancellation_reason=reason, in_doubt=False,
    )  # fmt: skip
    events = ("charge.expired", "payment_intent.canceled") if reason == "expired" else ("payment_intent.canceled",)
    return at_rest(s, facts, AttemptState.APPROVED, booked.charge, events, booked)
