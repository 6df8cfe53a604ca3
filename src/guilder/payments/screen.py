"""Screen: what the external risk service says of a payment, where one is configured; else our own rules decide alone.

it answers            the stricter of both holds
it says nothing       up to the configured amount the payment passes, and its attempt says so; a larger one is refused, or
accepted and kept by the executor, which asks again until it answers or the payment's time is over
"""

from typing import Final

import structlog
from msgspec import Struct

from guilder.idempotency.model import Claim
from guilder.idempotency.once import find
from guilder.payments.fallback import RISK_REFUSED, RISK_SILENT
from guilder.payments.fallen import Fallen
from guilder.payments.model import NEW_PAYMENTS, Attempt
from guilder.payments.services import Services
from guilder.psp.model import Order
from guilder.risk import Decision, Question, RiskService, Silent, Verdict, joined, without_opinion
from guilder.shapes.facts import PaymentIntentFacts, PaymentMethodFacts

log = structlog.get_logger(__name__)

PASSED: Final = "risk service: no answer, passed by its amount"
WAITED: Final = "risk service: no answer, kept until it answers"
UNAVAILABLE: Final = "try_again_later"


class Screened(Struct, frozen=True):
    """The decision, and what fell back on the way to it; None for nothing."""

    decision: Decision
    fallen: Fallen | None = None


async def screen(
    services: Services, claim: Claim | None, facts: PaymentIntentFacts, method: PaymentMethodFacts, ours: Decision, *,
    account: str, off_session: bool,
) -> Screened:  # fmt: skip
    """What is decided about a payment that is about to be tried. The key first: one that was seen before asks nobody."""
    risk = services.risk
    if risk is None or ours.verdict is Verdict.REFUSE or (claim is not None and await find(services.db, claim) is not None):
        return Screened(ours)
    question = question_of(facts, method, account=account, off_session=off_session, score=ours.score)
    try:
        return Screened(joined(ours, await risk.service.ask(question)))
    except Silent:
        match without_opinion(risk.tuning, facts.amount, facts.currency):
            case "pass":
                return Screened(ours, Fallen(notes=(PASSED,)))
            case "wait":
                return Screened(ours, Fallen(notes=(WAITED,), asks_risk=True))
            case "refuse":
                return Screened(
                    Decision(
                        verdict=Verdict.REFUSE, level=ours.level, score=ours.score, reason="rule", decline_code=UNAVAILABLE,
                    )
                )  # fmt: skip


def question_of(
    facts: PaymentIntentFacts, method: PaymentMethodFacts, *, account: str, off_session: bool, score: int,
) -> Question:  # fmt: skip
    """What the service is asked about a payment."""
    card = method.card
    return Question(
        payment=facts.id, account=account, livemode=facts.livemode, amount=facts.amount, currency=facts.currency, brand=card.brand,
        iin=card.iin, last4=card.last4, fingerprint=card.fingerprint, customer=facts.customer, off_session=off_session, score=score,
    )  # fmt: skip


def asks_risk(attempt: Attempt, order: Order) -> bool:
    """Whether no money is to be asked for before the service has answered."""
    fallen = attempt.facts.fallen
    return fallen is not None and fallen.asks_risk and order.first and order.operation in NEW_PAYMENTS


async def asked_again(service: RiskService, facts: PaymentIntentFacts, attempt: Attempt) -> str | None:
    """Ask about an attempt that waits for the service: None when it may be sent, else the reason why it is not, or not yet.

    A wish for a challenge is not heeded any more: the buyer has been told that his payment is being made.
    """
    known = attempt.facts
    question = question_of(
        facts, known.payment_method, account=attempt.account, off_session=known.off_session, score=known.risk_score,
    )  # fmt: skip
    try:
        opinion = await service.ask(question)
    except Silent:
        return RISK_SILENT
    except Exception:
        # Whatever it is: an attempt that is neither sent nor put off is one that nobody looks at again.
        log.exception("risk_service_failed", attempt=attempt.id)
        return RISK_SILENT
    return RISK_REFUSED if opinion.verdict == "refuse" else None
