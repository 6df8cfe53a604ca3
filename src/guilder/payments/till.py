"""The till: a payment whose buyer stands there with his card. Answered within 8 seconds, one way or the other.

Accepting wakes the executors directly. What is not final after 8 seconds is closed: not sent where nobody had claimed it,
else reversing, committed before anybody is told "not paid"; from then on no answer approves it, and the reversal is
repeated until it is acknowledged.
"""

import asyncio
from typing import Final

from msgspec.structs import replace

from guilder.core.clock import SECOND
from guilder.core.ensure import present
from guilder.core.errors import Refusal, missing
from guilder.core.ids import Ids
from guilder.db.errors import may_be_stored
from guilder.idempotency.model import Claim, Result
from guilder.idempotency.once import Pending, find, in_use
from guilder.payments.accept import DECISIONS_MAX, accept
from guilder.payments.answers import failure
from guilder.payments.begin import TILL_SECONDS
from guilder.payments.confirm import begin_taking, check_tries
from guilder.payments.declines import NOT_CHARGED, NOT_PAID_IN_TIME, nothing_charged
from guilder.payments.events import event
from guilder.payments.model import PAYMENT_SLOT, UNCLAIMED, Attempt, AttemptMove, Change, Key, OpenSlot, Payment, Till
from guilder.payments.services import Services, lock_timeout, wrong_state
from guilder.payments.settling import failed
from guilder.payments.states import ATTEMPT, AttemptEvent, AttemptState, PaymentState, after
from guilder.shapes.facts import PaymentIntentFacts, PaymentMethodFacts

CARD_PRESENT: Final = "card_present"
_PROCESSABLE: Final = (PaymentState.REQUIRES_PAYMENT_METHOD, PaymentState.REQUIRES_CONFIRMATION)


def check_processable(facts: PaymentIntentFacts) -> None:
    """Refuse a payment that no reader can take."""
    if CARD_PRESENT not in facts.payment_method_types:
        raise Refusal(
            "The payment_method_types of this PaymentIntent do not hold card_present, so no reader can process it.",
            code="payment_intent_incompatible_payment_method", param="payment_intent",
        )
    if facts.status not in _PROCESSABLE:
        raise wrong_state(facts, "process", _PROCESSABLE)


async def take_at_till(services: Services, claim: Claim, payment: str, method: PaymentMethodFacts, till: Till) -> Result:
    """Take a payment with the card that a reader has read; the answer is there within 8 seconds. Commits like confirm.

    Safe to repeat under one key, also by a caller who does not know whether the one before came through.

    Raises:
        Refusal: no such payment (404), it cannot be processed or was tried too often (400), another operation is under way (409, repeat).
        ResultUnknown: it was not final in time and could not be closed; repeat with the same key.
    """

    async def plan(read: Payment) -> Change:
        if read.facts.status == PaymentState.PROCESSING:
            raise lock_timeout()
        check_processable(read.facts)
        check_tries(read)
        change = Change(
            account=read.account, livemode=read.facts.livemode, payment=read.facts, expected=read.version, claim=claim,
            confirmations=read.confirmations + 1,
        )  # fmt: skip
        return await begin_taking(services, change, method, till=till)

    # Waits are of the real clock, and what the accept takes is part of the buyer's.
    loop = asyncio.get_running_loop()
    until = loop.time() + TILL_SECONDS

    async def ending(services: Services, claim: Claim) -> Result:
        return await _in_time(services, claim, payment, until - loop.time())

    pending = await find(services.db, claim)
    if isinstance(pending, Pending):
        # Whoever asked before has gone, or is still there: its time counts from the accept.
        left = TILL_SECONDS - (services.clock.now() - pending.created_at) // SECOND
        return await _in_time(services, claim, payment, left)
    return await accept(services, claim, payment, plan, ending=ending)


async def _in_time(services: Services, claim: Claim, payment_id: str, seconds: float) -> Result:
    """The answer, or after so many seconds the end of waiting for it: whatever is open is closed first."""
    with may_be_stored("the payment was not final in time, and it could not be closed"):
        answer = await services.waiting.answer(claim, max(seconds, 0.0))
        if answer is not None:
            return Result(answer)
        for _ in range(DECISIONS_MAX):
            found = await find(services.db, claim)
            if found is not None and not isinstance(found, Pending):
                return Result(found)
            payment = await services.store.read(payment_id, claim.account, claim.livemode)
            if payment is None:
                raise missing("payment_intent", payment_id)
            open_ = payment.open_in(PAYMENT_SLOT)
            if open_ is None or open_.key is None or open_.key.key != claim.key:
                # Ended meanwhile: its answer is there at the next look.
                continue
            attempt = present(await services.store.attempt(open_.attempt), "an open attempt exists", attempt=open_.attempt)
            change = too_late(payment, attempt, open_, now=services.clock.now(), ids=services.ids)
            if await services.store.commit(change) is None and change.answer is not None:
                return Result(change.answer)
    raise in_use(claim.key)


def too_late(payment: Payment, attempt: Attempt, open_: OpenSlot, *, now: int, ids: Ids) -> Change:
    """The change that ends the wait at the till. Pure.

    Nobody has claimed it: certainly not sent. Else it may have been: from here on it is undone, and nothing approves it.
    """
    key = attempt.facts.key
    if open_.state == AttemptState.CREATED and open_.sender is None:
        error = nothing_charged(NOT_CHARGED)
        facts = failed(payment.facts, attempt.facts.payment_method, error, payment.facts.latest_charge)
        move = AttemptMove(
            attempt=attempt.id, slot=open_.slot, before=open_.state, after=AttemptState.NOT_SENT, reporter=UNCLAIMED,
        )  # fmt: skip
        change = _change(payment, facts, key, move)
        events = (event(ids, payment.account, "payment_intent.payment_failed", facts, key),)
        return replace(change, events=events, answer=failure(facts, error))
    error = nothing_charged(NOT_PAID_IN_TIME)
    facts = replace(payment.facts, in_doubt=True)
    state = open_.state
    if state != AttemptState.REVERSING:
        state = after(ATTEMPT, AttemptState(open_.state), AttemptEvent.REVERSAL_DECIDED)
    move = AttemptMove(attempt=attempt.id, slot=open_.slot, before=open_.state, after=state, retry_at=now, tries=open_.tries)
    change = replace(_change(payment, facts, key, move), answer=failure(facts, error))
    if payment.facts.in_doubt:
        return change
    return replace(change, events=(event(ids, payment.account, "payment_intent.processing", facts, key),))


def _change(payment: Payment, facts: PaymentIntentFacts, key: Key | None, move: AttemptMove) -> Change:
    return Change(
        account=payment.account, livemode=facts.livemode, payment=facts, expected=payment.version, confirmations=payment.confirmations,
        moves=(move,), answers=key,
    )  # fmt: skip

