"""Ask the PSP now: the buyer says that he is back from its page, or the PSP says that something has changed.

Either is only a reason: the executor asks the PSP, server to server, and books what it answers.
"""

from typing import Final

from msgspec.structs import replace

from guilder.core.clock import sleep
from guilder.core.errors import Unavailable
from guilder.payments.model import NEW_PAYMENTS, Attempt
from guilder.payments.recheck import reopened
from guilder.payments.services import Services
from guilder.payments.states import AttemptState
from guilder.payments.store import HELD
from guilder.psp.model import Operation

# A row that an executor holds just now has been asked about a moment too early: it is free again within a call's time.
TRIES: Final = 10
PAUSE_SECONDS: Final = 0.2
# What may have moved money although its attempt has ended otherwise.
_WITHOUT_WORD: Final = frozenset({AttemptState.NOT_SENT, AttemptState.UNDONE})
_MOVES_MONEY: Final = NEW_PAYMENTS | {Operation.CAPTURE, Operation.REFUND}


async def ask_psp(services: Services, attempt: Attempt) -> bool:
    """See to it that an executor asks about this attempt now. Commits at most once; safe to repeat.

    False when somebody was at it all the time: what he is told may be older than what gave the reason to ask.

    One that has ended without the PSP's word is asked about in a slot of its own: what is found then is undone, or booked as a fact.
    """
    for _ in range(TRIES):
        found = await services.store.hurry(attempt, services.clock.now())
        if found in _WITHOUT_WORD:
            await _look_again(services, attempt)
        if found != HELD:
            return True
        await sleep(PAUSE_SECONDS)
    return False


async def told_by_psp(services: Services, attempt_id: str | None, connector: str, reference: str) -> bool:
    """A PSP says that something has changed about a request of ours; whether there is such a request. As ask_psp.

    Raises Unavailable when it cannot be asked yet: the PSP is to tell again.
    """
    attempt = None if attempt_id is None else await services.store.attempt(attempt_id)
    if attempt is None or attempt.facts.connector != connector or attempt.facts.wire.reference != reference:
        return False
    if not await ask_psp(services, attempt):
        raise Unavailable("the PSP is being asked about this just now")
    return True


async def _look_again(services: Services, attempt: Attempt) -> None:
    payment = await services.store.read(attempt.payment, attempt.account, attempt.livemode)
    if payment is None or attempt.operation not in _MOVES_MONEY or attempt.id in payment.approved:
        return
    if any(slot.attempt == attempt.id for slot in payment.open_slots):
        return
    now = services.clock.now()
    change = reopened(payment, attempt, now)
    # Whoever moves the payment meanwhile has news of its own; the PSP tells again, and the recheck's schedule stands behind it.
    await services.store.commit(replace(change, reopened=tuple(replace(slot, retry_at=now) for slot in change.reopened)))
