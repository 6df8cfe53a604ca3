"""The rules: pure. Signals in, a decision out; the first rule that refuses decides."""

from collections.abc import Mapping
from enum import Enum
from typing import Final, Literal, assert_never

from msgspec import Struct

Level = Literal["normal", "elevated", "highest"]

# Stripe's scale: below 65 normal, from 65 elevated, from 75 highest.
NORMAL_SCORE: Final = 10
NORMAL_SCORE_MAX: Final = 64
ELEVATED_SCORE: Final = 65
HIGHEST_SCORE: Final = 90
# What each earlier try with a card in the longest window adds.
TRY_SCORE: Final = 2


class Verdict(Enum):
    """What is to be done with a payment."""

    ALLOW = "allow"
    CHALLENGE = "challenge"
    REFUSE = "refuse"


class Limit(Struct, frozen=True):
    """At most so many declined tries with one card within so many seconds."""

    seconds: int
    tries_max: int


class Rules(Struct, frozen=True, kw_only=True):
    """What a mode's rules are.

    Args:
        limits: velocity by card, for one merchant; the first one that is reached refuses.
        refuse_highest: whether a payment of the highest risk is refused.
        challenge_elevated: whether one of elevated risk asks the issuer for authentication.
        sandbox_cards: whether the published test cards have the risk that they are published for.
    """

    limits: tuple[Limit, ...] = ()
    refuse_highest: bool = True
    challenge_elevated: bool = False
    sandbox_cards: bool = False


class Signals(Struct, frozen=True, kw_only=True):
    """What is known before a payment is tried.

    Args:
        tries: declined tries with this card within each window of the rules' limits, in their order.
    """

    livemode: bool
    amount_minor: int
    currency: str
    iin: str
    last4: str
    tries: tuple[int, ...]
    rules: Rules


class Decision(Struct, frozen=True, kw_only=True):
    """What the rules say. `reason` is Stripe's `outcome.reason`; `decline_code` stands when it is refused."""

    verdict: Verdict
    level: Level
    score: int
    reason: str | None = None
    decline_code: str | None = None


class _Card(Enum):
    """What a published test card is for."""

    BLOCKED = "blocked"
    HIGHEST = "highest"
    ELEVATED = "elevated"


# First six and last four digits of the test cards with a risk of their own.
SANDBOX_CARDS: Final[Mapping[tuple[str, str], _Card]] = {
    ("410000", "0019"): _Card.BLOCKED,
    ("400000", "4954"): _Card.HIGHEST,
    ("400000", "9235"): _Card.ELEVATED,
}


def decide(signals: Signals) -> Decision:
    """Whether this payment is tried, and how risky it is."""
    rules = signals.rules
    for limit, tries in zip(rules.limits, signals.tries, strict=True):
        if tries >= limit.tries_max:
            return Decision(
                verdict=Verdict.REFUSE,
                level="elevated",
                score=ELEVATED_SCORE,
                reason="rule",
                decline_code="card_velocity_exceeded",
            )
    card = SANDBOX_CARDS.get((signals.iin, signals.last4)) if rules.sandbox_cards else None
    match card:
        case _Card.BLOCKED:
            return _highest(Verdict.REFUSE)
        case _Card.HIGHEST:
            return _highest(Verdict.REFUSE if rules.refuse_highest else Verdict.ALLOW)
        case _Card.ELEVATED:
            verdict = Verdict.CHALLENGE if rules.challenge_elevated else Verdict.ALLOW
            return Decision(verdict=verdict, level="elevated", score=ELEVATED_SCORE, reason="elevated_risk_level")
        case None:
            score = min(NORMAL_SCORE + TRY_SCORE * max(signals.tries, default=0), NORMAL_SCORE_MAX)
            return Decision(verdict=Verdict.ALLOW, level="normal", score=score)
        case _:
            assert_never(card)


def _highest(verdict: Verdict) -> Decision:
    return Decision(
        verdict=verdict,
        level="highest",
        score=HIGHEST_SCORE,
        reason="highest_risk_level",
        decline_code="fraudulent" if verdict is Verdict.REFUSE else None,
    )
