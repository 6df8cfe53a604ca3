"""The port to an external risk service: what it is asked, what it may say, and what holds when it says nothing. Pure.

Nothing about the card is told but what a receipt shows: brand, first six and last four digits, and a fingerprint that means
something to this merchant only.
"""

from typing import Final, Literal, Protocol

from msgspec import Struct

from guilder.core.errors import GuilderError
from guilder.risk.rules import ELEVATED_SCORE, HIGHEST_SCORE, Decision, Verdict
from guilder.tuning import RiskTuning

SCORE_MAX: Final = 100


class Question(Struct, frozen=True, kw_only=True):
    """A payment that is about to be tried. `score` is what our own rules say."""

    payment: str
    account: str
    livemode: bool
    amount: int
    currency: str
    brand: str
    iin: str | None
    last4: str
    fingerprint: str
    customer: str | None
    off_session: bool
    score: int


class Opinion(Struct, frozen=True, kw_only=True):
    """What the service says. `score` is 0 to 100; None when it gives none."""

    verdict: Literal["allow", "challenge", "refuse"]
    score: int | None = None


class Silent(GuilderError):
    """The service gave no opinion; why, in a word: refused, unreadable, connect, timeout, status, breaker_open."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the risk service gave no opinion: {why}")
        self.why = why


class RiskService(Protocol):
    """Whoever scores payments outside."""

    async def ask(self, question: Question) -> Opinion:
        """Its opinion. Changes nothing there that matters; may be repeated. Raises Silent."""
        ...


def joined(ours: Decision, opinion: Opinion) -> Decision:
    """Our decision and its opinion: the stricter one, and the higher score."""
    score = ours.score if opinion.score is None else max(ours.score, min(opinion.score, SCORE_MAX))
    match opinion.verdict:
        case "refuse":
            return Decision(
                verdict=Verdict.REFUSE, level="highest", score=max(score, HIGHEST_SCORE), reason="highest_risk_level",
                decline_code="fraudulent",
            )  # fmt: skip
        case "challenge" if ours.verdict is Verdict.ALLOW:
            return Decision(verdict=Verdict.CHALLENGE, level="elevated", score=max(score, ELEVATED_SCORE), reason="elevated_risk_level")
        case _:
            return Decision(verdict=ours.verdict, level=ours.level, score=score, reason=ours.reason, decline_code=ours.decline_code)


def without_opinion(tuning: RiskTuning, amount: int, currency: str) -> Literal["pass", "wait", "refuse"]:
    """What becomes of a payment about which the service says nothing. Minor units."""
    return "pass" if amount <= tuning.pass_up_to.get(currency, 0) else tuning.larger
