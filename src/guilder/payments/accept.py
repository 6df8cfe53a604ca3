"""Accept: the first of a payment's three commits. The key is claimed, the payment under way, the attempt and its log entry stored.

Every verb comes through here: it hands in a plan, which is a decision on the payment as it stands. When the payment has
moved on before the plan was stored, it is read again and planned again.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from guilder.core.clock import SECOND
from guilder.core.ensure import ensure, present
from guilder.core.errors import Refusal, Unavailable, missing
from guilder.db.errors import may_be_stored
from guilder.idempotency.model import Claim, Result
from guilder.idempotency.once import Pending, find, in_use, store_answer
from guilder.payments.answers import PAYMENT_REQUIRED, complete, included_in, refused, success
from guilder.payments.declines import is_a_decline
from guilder.payments.model import BEGINNING, Change, Payment
from guilder.payments.services import Services, lock_timeout
from guilder.payments.store import FUNDS, KEY_TAKEN, SLOT_TAKEN
from guilder.shapes.facts import Answer

Plan = Callable[[Payment], Awaitable[Change]]
"""Decides on the payment as read. Raises Refusal; is called again on a newer version, so it must not act."""

Ending = Callable[[Services, Claim], Awaitable[Result]]
"""Waits for the answer of a claim that was accepted."""

# A payment that has changed so often while one request was deciding is being hammered; the client may come again.
DECISIONS_MAX: Final = 20
# How long a request waits for the outcome; then it is told what is known (DESIGN section 3, "One answer").
ANSWER_WAIT_SECONDS: Final = 10.0

LATE: Final = "the request's own time is over"

# Not stored with a key: they say nothing about the request itself.
_NEVER_STORED: Final = frozenset({401, 403, 404, 409, 429})


async def accept_new(services: Services, claim: Claim, change: Change) -> Result:
    """Store a new payment under the claim; waits for the outcome when an attempt goes with it. As `accept`."""
    if (why := _turned_away(services, claim)) is not None:
        return await _seen_before(services, claim, why)
    change = await complete(change, services.load(claim.account, claim.livemode))
    return await _answered(services, claim, change, await services.store.commit(change), outcome)


async def accept(
    services: Services, claim: Claim, payment: str, plan: Plan, *, no_funds: Plan | None = None, ending: Ending | None = None,
) -> Result:  # fmt: skip
    """Store what the plan decides about a payment under the claim, and return the key's answer.

    Args:
        payment: id of a payment, or of a charge or refund of it.
        ending: waits for the outcome in another way than `outcome`.
        no_funds: the plan to take instead when the ledger refuses this one's transfers for lack of money.

    Raises:
        Refusal: as the plan; 404 for what this account and mode does not have; 409 for a taken slot or a key in use.
        Unavailable: nothing was stored. ResultUnknown: nobody can tell now; repeat with the same key.
    """
    if (why := _turned_away(services, claim)) is not None:
        return await _seen_before(services, claim, why)
    try:
        for _ in range(DECISIONS_MAX):
            read = await services.store.read(payment, claim.account, claim.livemode)
            if read is None:
                raise missing(_KINDS.get(payment.partition("_")[0], "payment_intent"), payment)
            change = await complete(await plan(read), services.load(claim.account, claim.livemode))
            if _is_late(services, claim):
                # The plan may have asked others, who took their time.
                return await _seen_before(services, claim, LATE)
            stored = await services.store.commit(change)
            if stored is None or stored == KEY_TAKEN:
                return await _answered(services, claim, change, stored, ending or outcome)
            if stored == SLOT_TAKEN:
                raise lock_timeout()
            if stored.startswith(FUNDS) and no_funds is not None:
                plan, no_funds = no_funds, None
        raise lock_timeout()
    except Refusal as refusal:
        return await _refuse(services, claim, refusal)


async def refuse(services: Services, claim: Claim, refusal: Refusal) -> Result:
    """The answer to a request that is refused before it is planned: the stored one if the key was seen before."""
    return await _refuse(services, claim, refusal)


_KINDS: Final = {"pi": "payment_intent", "ch": "charge", "re": "refund"}


async def _answered(services: Services, claim: Claim, change: Change, stored: str | None, ending: Ending) -> Result:
    if stored == KEY_TAKEN:
        with may_be_stored("the key is taken, and its answer could not be read"):
            return await standing(services, claim)
    ensure(stored is None, "a change is stored or refused by name", result=stored)
    if change.answer is not None:
        return Result(change.answer)
    with may_be_stored("the accept is stored, and its outcome could not be read"):
        result = await ending(services, claim)
    if result.answer.status == PAYMENT_REQUIRED and result.answer.error is not None and is_a_decline(result.answer.error):
        # Counted where the first request learns of it; a repeated one never gets here.
        for attempt in change.attempts:
            if attempt.operation in BEGINNING:
                services.signals.count(attempt.facts.payment_method)
    return result


async def _refuse(services: Services, claim: Claim, refusal: Refusal) -> Result:
    """The key first: a request that was seen before gets its answer whatever has become of the payment since."""
    found = await _look(services, claim)
    if found is not None:
        return found
    if refusal.status in _NEVER_STORED:
        raise refusal
    return await store_answer(services.db, claim, services.clock.now(), refused(refusal))


def _turned_away(services: Services, claim: Claim) -> str | None:
    """Why nothing is accepted now; None for no reason."""
    if services.backlog.full:
        return "the outbox is full: its consumers are too far behind"
    return LATE if _is_late(services, claim) else None


def _is_late(services: Services, claim: Claim) -> bool:
    return claim.deadline is not None and services.clock.now() >= claim.deadline


async def _seen_before(services: Services, claim: Claim, why: str) -> Result:
    """The stored answer if the key was seen before. Raises Unavailable (`why`): nothing is accepted."""
    found = await _look(services, claim)
    if found is not None:
        return found
    raise Unavailable(why)


async def _look(services: Services, claim: Claim) -> Result | None:
    found = await find(services.db, claim)
    if isinstance(found, Pending):
        with may_be_stored("the key is taken, and its answer could not be read"):
            return await standing(services, claim)
    return None if found is None else Result(found, replayed=True)


async def standing(services: Services, claim: Claim) -> Result:
    """What stands under a key that was claimed before: its answer; past the wait of the first request, the present state.

    Raises Refusal: other parameters (400), or still in progress (409, repeat).
    """
    found = await find(services.db, claim)
    if found is None:
        raise in_use(claim.key)
    if isinstance(found, Answer):
        return Result(found, replayed=True)
    waited = services.clock.now() - found.created_at
    if found.object is None or waited < ANSWER_WAIT_SECONDS * SECOND:
        raise in_use(claim.key)
    return Result(await _present(services, claim, found), replayed=True)


async def outcome(services: Services, claim: Claim) -> Result:
    """Wait for the answer that the outcome writes; after the longest wait, write what is known and return what stands."""
    answer = await services.waiting.answer(claim, ANSWER_WAIT_SECONDS)
    if answer is not None:
        return Result(answer)
    found = await services.in_vain.find(claim)
    if isinstance(found, Answer):
        return Result(found)
    if found is None:
        raise Unavailable("the key is not there")
    return Result(await _present(services, claim, found))


async def _present(services: Services, claim: Claim, pending: Pending) -> Answer:
    """Answer with the payment or refund as it stands, unless an answer has come meanwhile."""
    object_ = present(pending.object, "a pending key names its object", key=claim.key)
    root = await services.in_vain.object(object_, claim)
    answer = success(root, pending.expand)
    included = await included_in(root, pending.expand, {}, services.load(claim.account, claim.livemode))
    return await services.in_vain.answer_if_none(claim, Answer(answer.shape, answer.status, root, None, pending.expand, included))
