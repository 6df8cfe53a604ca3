"""Authenticate: 3-D Secure from the issuer's wish to the authorization that carries its proof. Pure.

    soft decline        the try goes on with an authentication, in the same commit (never without the buyer)
    authenticated       the next authorization carries the proof, in the same commit
    challenge wanted    the payment waits for the buyer (challenge.py)
    not authenticated   the payment asks for another card
    no word             where the issuer had asked for it, nothing can be charged; where only the merchant had, it goes on without

An authentication moves no money, so it is never in doubt: what brings no definite answer has brought no word.
"""

from typing import Final

from msgspec.structs import replace

from guilder.core.errors import ErrorFacts
from guilder.core.outcome import ActionRequired, Approved, Authentication, Declined, NotFound, NotSent, Outcome
from guilder.payments.answers import failure
from guilder.payments.begin import CHALLENGE, asked_of_issuer, successor, taking
from guilder.payments.challenge import answered, opened, refusal, shown
from guilder.payments.declines import AUTHENTICATION_UNAVAILABLE, card_error
from guilder.payments.events import event
from guilder.payments.model import NEW_PAYMENTS, AttemptMove, Change, challenge_slot
from guilder.payments.secure import ThreeDSecure
from guilder.payments.settling import Settling, changed, failed, move
from guilder.payments.states import ATTEMPT, AttemptEvent, AttemptState, after
from guilder.psp.model import Operation
from guilder.shapes.facts import ThreeDSecureFacts

FAILED: Final = "authentication_failed"
REQUIRED: Final = "authentication_required"
_RESULTS: Final = {"authentication_not_supported": "not_supported"}


def asks_for_authentication(s: Settling, declined: Declined) -> bool:
    """Whether this decline is the issuer's wish to see the buyer, and there is a way to let it: once in a try."""
    facts = s.attempt.facts
    return (
        declined.wants_authentication
        and s.authenticates
        and s.attempt.operation in NEW_PAYMENTS
        and facts.three_d_secure is None
        and facts.till is None
        and not facts.off_session
        and not facts.error_on_requires_action
    )


def authentication_begun(s: Settling) -> Change:
    """The issuer's soft decline: nothing was charged, and the buyer is to be authenticated."""
    after(ATTEMPT, AttemptState(s.open.state), AttemptEvent.DECLINE)
    facts = replace(s.payment.facts, in_doubt=False)
    secure = asked_of_issuer(s.origin, s.ids, required=True, wants_challenge=facts.request_three_d_secure == CHALLENGE)
    next_ = successor(
        s.attempt, facts, Operation.AUTHENTICATE, secure, execute_by=s.attempt.execute_by, now=s.now, ids=s.ids,
    )  # fmt: skip
    return replace(changed(s, facts, move(s, AttemptState.DECLINED)), attempts=(next_,))


def authenticated(s: Settling, outcome: Outcome | NotFound) -> Change:
    """What the outcome of an authentication makes of its payment."""
    if s.open.slot == challenge_slot(s.attempt.id):
        return answered(s, outcome)
    match outcome:
        case Approved(authentication=Authentication() as authentication):
            secure = ThreeDSecure(proof=authentication.proof, shown=shown(authentication))
            return _authorization(s, move(s, AttemptState.APPROVED), secure)
        case ActionRequired() if s.attempt.facts.error_on_requires_action:
            return _ended(s, move(s, AttemptState.DECLINED, reporter=s.reporter), card_error(Declined(REQUIRED), None))
        case ActionRequired(url=url):
            return opened(s, url)
        case Declined(code=code) if code == FAILED:
            return _ended(s, move(s, AttemptState.DECLINED), refusal())
        case Declined(code=code):
            return _no_word(s, move(s, AttemptState.DECLINED), code)
        case NotSent() if s.open.state == AttemptState.CREATED:
            return _no_word(s, move(s, AttemptState.NOT_SENT, reporter=s.reporter), "")
        case _:
            return _no_word(s, move(s, AttemptState.DECLINED, reporter=s.reporter), "")


def _no_word(s: Settling, move_: AttemptMove, code: str) -> Change:
    secure = s.attempt.facts.three_d_secure or ThreeDSecure()
    if secure.required:
        error = ErrorFacts(type="card_error", message=AUTHENTICATION_UNAVAILABLE, code="card_declined", decline_code=REQUIRED)
        return _ended(s, move_, error)
    return _authorization(s, move_, ThreeDSecure(shown=ThreeDSecureFacts(_RESULTS.get(code, "processing_error"))))


def _authorization(s: Settling, move_: AttemptMove, secure: ThreeDSecure) -> Change:
    """The try goes on: the attempt that takes or holds the money, accepted in the same commit."""
    facts = s.payment.facts
    next_ = successor(s.attempt, facts, taking(facts), secure, execute_by=s.attempt.execute_by, now=s.now, ids=s.ids)
    return replace(changed(s, facts, move_), attempts=(next_,))


def _ended(s: Settling, move_: AttemptMove, error: ErrorFacts) -> Change:
    """No payment by this try, and no charge: nobody was asked for money."""
    facts = failed(s.payment.facts, s.attempt.facts.payment_method, error, s.payment.facts.latest_charge)
    events = (event(s.ids, s.payment.account, "payment_intent.payment_failed", facts, s.attempt.facts.key),)
    return replace(changed(s, facts, move_), events=events, answer=failure(facts, error))
