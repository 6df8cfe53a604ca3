"""Challenge: a buyer who was sent to the issuer of the card, and what his answer makes of the payment. Pure.

While he is away the payment holds no slot. Cancel, another amount, currency or card, a new confirm, the end of the wait
and the issuer's word each move the payment on by a commit of its own; the first one counts, and what the issuer says
after that is kept on the challenge and moves nothing.
"""

from typing import Final

from msgspec.structs import replace

from guilder.core.clock import SECOND
from guilder.core.ensure import present
from guilder.core.errors import ErrorFacts
from guilder.core.ids import Ids
from guilder.core.outcome import ActionRequired, Approved, Authentication, Declined, NotFound, Outcome
from guilder.payments.answers import expand_of, success
from guilder.payments.begin import EXECUTE_BY_SECONDS, PATH, successor, taking
from guilder.payments.declines import ATTEMPT_EXPIRED, AUTHENTICATION_FAILED
from guilder.payments.events import event
from guilder.payments.model import (
    Attempt,
    AttemptMove,
    Change,
    Payment,
    Reopened,
    challenge_slot,
)
from guilder.payments.recheck import RECHECK
from guilder.payments.secure import Challenge, ChallengeMove, ThreeDSecure
from guilder.payments.settling import Settling, changed, failed, move
from guilder.payments.states import (
    ATTEMPT,
    CHALLENGE,
    PAYMENT,
    AttemptEvent,
    AttemptState,
    ChallengeEvent,
    ChallengeState,
    PaymentEvent,
    PaymentState,
    after,
)
from guilder.shapes.facts import ThreeDSecureFacts

# A buyer who has not answered his bank by then has gone; the basket is held no longer.
CHALLENGE_SECONDS: Final = 15 * 60


def opened(s: Settling, url: str) -> Change:
    """The issuer wants an answer from the buyer: the payment waits for him, and the caller is told where to send him."""
    secure = present(s.attempt.facts.three_d_secure, "an authentication has its terms", attempt=s.attempt.id)
    id_ = present(secure.challenge, "an authentication has its challenge's id", attempt=s.attempt.id)
    after(ATTEMPT, AttemptState(s.open.state), AttemptEvent.ACTION_WANTED)
    facts = replace(
        s.payment.facts, status=after(PAYMENT, PaymentState(s.payment.facts.status), PaymentEvent.ACTION_WANTED),
        next_action_url=f"{s.origin}{PATH}/{id_}",
    )  # fmt: skip
    challenge = Challenge(
        id=id_, attempt=s.attempt.id, url=url, state=ChallengeState.OPEN, expires_at=s.now + CHALLENGE_SECONDS * SECOND,
    )  # fmt: skip
    key = s.attempt.facts.key
    return replace(
        changed(s, facts, move(s, AttemptState.ACTION_REQUIRED, reporter=s.reporter)),
        challenges=(ChallengeMove(id=id_, after=challenge.state, opened=challenge),),
        events=(event(s.ids, s.payment.account, "payment_intent.requires_action", facts, key),),
        answer=success(facts, expand_of(key)),
    )  # fmt: skip


def asked(payment: Payment, challenge: Challenge, now: int) -> Change:
    """The buyer says that he is back: the issuer is to be asked what came of it."""
    slot = challenge_slot(challenge.attempt)
    return Change(
        account=payment.account, livemode=payment.facts.livemode, payment=payment.facts, expected=payment.version,
        confirmations=payment.confirmations, reopened=(Reopened(challenge.attempt, slot, RECHECK, now),),
    )  # fmt: skip


def answered(s: Settling, outcome: Outcome | NotFound) -> Change:
    """What the issuer says came of a challenge."""
    secure = present(s.attempt.facts.three_d_secure, "an authentication has its terms", attempt=s.attempt.id)
    id_ = present(secure.challenge, "an authentication has its challenge's id", attempt=s.attempt.id)
    waited_for = s.payment.challenge is not None and s.payment.challenge.id == id_
    match outcome:
        case Approved(authentication=Authentication()) | Declined() if not waited_for:
            # Too late: it is kept, and moves nothing.
            return replace(_let_go(s), challenges=(ChallengeMove(id=id_, result=outcome),))
        case Approved(authentication=Authentication() as authentication):
            return _passed(s, id_, outcome, authentication)
        case Declined():
            return _refused(s, id_, outcome)
        case ActionRequired():
            # The buyer has not answered yet; whoever comes back next asks again.
            return _let_go(s)
        case _ if waited_for:
            tries = s.open.tries + 1
            again = move(s, RECHECK, retry_at=s.retry_at(AttemptState.IN_DOUBT, tries), tries=tries, reporter=s.reporter)
            return changed(s, s.payment.facts, again)
        case _:
            return _let_go(s)


def discarded(payment: Payment) -> tuple[ChallengeMove, ...]:
    """What becomes of an open challenge when the payment moves on without it; nothing where there is none."""
    return _ended(payment, ChallengeEvent.OVERTAKEN)


def abandoned(payment: Payment, attempt: Attempt, *, ids: Ids) -> Change:
    """The buyer has not come back in time: the payment asks for a card again."""
    error = ErrorFacts(type="invalid_request_error", message=ATTEMPT_EXPIRED, code="payment_intent_payment_attempt_expired")
    facts = failed(payment.facts, attempt.facts.payment_method, error, payment.facts.latest_charge)
    return Change(
        account=payment.account, livemode=facts.livemode, payment=facts, expected=payment.version, confirmations=payment.confirmations,
        challenges=_ended(payment, ChallengeEvent.EXPIRED),
        events=(event(ids, payment.account, "payment_intent.payment_failed", facts),),
    )  # fmt: skip


def shown(authentication: Authentication) -> ThreeDSecureFacts:
    """How a charge tells of an authentication that brought a proof."""
    return ThreeDSecureFacts(
        "authenticated" if authentication.authenticated else "attempt_acknowledged",
        "challenge" if authentication.challenged else "frictionless", authentication.indicator, authentication.transaction_id,
    )  # fmt: skip


def refusal() -> ErrorFacts:
    """The error of a payment whose buyer was not authenticated."""
    return ErrorFacts(type="invalid_request_error", message=AUTHENTICATION_FAILED, code="payment_intent_authentication_failure")


def _passed(s: Settling, id_: str, outcome: Approved, authentication: Authentication) -> Change:
    """The next authorization carries the proof; with the buyer here again, its time begins anew."""
    facts = replace(
        s.payment.facts, status=after(PAYMENT, PaymentState(s.payment.facts.status), PaymentEvent.CONFIRMED), next_action_url=None,
    )  # fmt: skip
    secure = ThreeDSecure(proof=authentication.proof, shown=shown(authentication))
    attempt = successor(
        s.attempt, facts, taking(facts), secure, execute_by=s.now + EXECUTE_BY_SECONDS * SECOND, now=s.now, ids=s.ids,
    )  # fmt: skip
    event_ = ChallengeEvent.AUTHENTICATED if authentication.authenticated else ChallengeEvent.ANSWERED_FOR
    return replace(changed(s, facts, _closed(s)), attempts=(attempt,), challenges=(_moved(id_, event_, outcome),))


def _refused(s: Settling, id_: str, outcome: Declined) -> Change:
    error = refusal()
    facts = failed(s.payment.facts, s.attempt.facts.payment_method, error, s.payment.facts.latest_charge)
    events = (event(s.ids, s.payment.account, "payment_intent.payment_failed", facts, s.attempt.facts.key),)
    return replace(
        changed(s, facts, _closed(s)), challenges=(_moved(id_, ChallengeEvent.REJECTED, outcome),), events=events,
    )  # fmt: skip


def _let_go(s: Settling) -> Change:
    return changed(s, s.payment.facts, _closed(s))


def _closed(s: Settling) -> AttemptMove:
    """The slot in which was asked goes; the attempt has ended long ago."""
    return move(s, AttemptState.ACTION_REQUIRED)


def _moved(id_: str, event_: ChallengeEvent, result: Approved | Declined) -> ChallengeMove:
    before = ChallengeState.OPEN
    return ChallengeMove(id=id_, before=before, after=after(CHALLENGE, before, event_), result=result)


def _ended(payment: Payment, event_: ChallengeEvent) -> tuple[ChallengeMove, ...]:
    challenge = payment.challenge
    if challenge is None:
        return ()
    return (ChallengeMove(id=challenge.id, before=challenge.state, after=after(CHALLENGE, challenge.state, event_)),)
