"""How a change of a session is stored under an idempotency key: decided on a version, and decided again when that has moved."""

from collections.abc import Awaitable, Callable
from typing import Final

from guilder.core.errors import Refusal
from guilder.db.errors import may_be_stored
from guilder.idempotency import Claim, Result, look
from guilder.orders.model import Session
from guilder.orders.services import Services
from guilder.orders.store import KEY_TAKEN, SessionChange
from guilder.payments.accept import refuse
from guilder.payments.answers import included_in
from guilder.payments.model import Change
from guilder.payments.services import lock_timeout
from guilder.shapes.facts import SHAPE, Answer, CheckoutSessionFacts

Plan = Callable[[Session], Awaitable["SessionChange | tuple[Session, Change]"]]
"""Decides on the session as read: a change of it alone, or of it and its payment. Raises Refusal; it must not act."""

# A session that changes so often while one request decides is being hammered; the client may come again.
DECISIONS_MAX: Final = 20


async def answer_of(services: Services, claim: Claim, facts: CheckoutSessionFacts) -> Answer:
    """The answer that shows a session, with what the claim's `expand` asks for."""
    load = services.payments.load(claim.account, claim.livemode)
    included = await included_in(facts, claim.expand, {}, load) if claim.expand else ()
    return Answer(SHAPE, 200, facts, None, claim.expand, included)


async def store_under(services: Services, claim: Claim, session: str, plan: Plan) -> Result:
    """Store what the plan decides about a session under the claim, and return the key's answer.

    Raises:
        Refusal: as the plan; 404 for a session that this account and mode does not have.
        Unavailable: nothing was stored. ResultUnknown: repeat with the same key.
    """
    try:
        for _ in range(DECISIONS_MAX):
            decided = await plan(await services.store.read(session, claim.account, claim.livemode))
            if isinstance(decided, SessionChange):
                stored, answer = await services.store.commit(decided), decided.answer
            else:
                stored, answer = await services.store.commit_with_payment(*decided), decided[1].answer
            if stored is None and answer is not None:
                return Result(answer)
            if stored == KEY_TAKEN:
                return await _standing(services, claim)
        raise lock_timeout()
    except Refusal as refusal:
        return await refuse(services.payments, claim, refusal)


async def _standing(services: Services, claim: Claim) -> Result:
    with may_be_stored("the key is taken, and its answer could not be read"):
        found = await look(services.db, claim)
    if found is None:
        raise lock_timeout()
    return found
