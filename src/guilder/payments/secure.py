"""3-D Secure's nouns: what it adds to an attempt, and the buyer who was sent to his bank."""

from msgspec import Struct

from guilder.core.outcome import Approved, Declined
from guilder.payments.states import ChallengeState
from guilder.shapes.facts import ThreeDSecureFacts


class ThreeDSecure(Struct, frozen=True, array_like=True):
    """What 3-D Secure adds to an attempt: to an authentication, and to the authorization that follows it.

    Args:
        required: the issuer asked for the authentication; without it there is no payment.
        challenge: the id of the challenge that is opened if the issuer wants one, drawn at accept because the issuer is
            told where to send the buyer back to (`returns_to`).
        proof: what the authorization carries; None where the authentication brought none, and was not required.
        shown: how the charge tells of it.
    """

    required: bool = False
    wants_challenge: bool = False
    challenge: str | None = None
    returns_to: str | None = None
    proof: str | None = None
    shown: ThreeDSecureFacts | None = None


class Challenge(Struct, frozen=True, kw_only=True):
    """A buyer who was sent to the issuer of the card: until he is back, the payment waits and holds no slot."""

    id: str
    attempt: str
    # The issuer's page.
    url: str
    state: ChallengeState
    expires_at: int


class ChallengeMove(Struct, frozen=True, kw_only=True):
    """What becomes of a challenge. `opened`: it is new. `after` None: it stays as it is, and `result` is kept on it.

    Args:
        result: what the issuer said, also when it came too late to move anything.
    """

    id: str
    before: ChallengeState | None = None
    after: ChallengeState | None = None
    opened: Challenge | None = None
    result: Approved | Declined | None = None
