"""Attend to sessions: complete those whose payment has succeeded, end those whose time has passed. The worker's part.

The consumer `orders` notes, in the commit that moves its position, the sessions whose payment has news; `attend_sessions` works
off what is noted and what is due by time. So a session is completed though nobody looks at its page any more.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from guilder.core.clock import SECOND, Clock
from guilder.core.errors import Refusal, ResultUnknown, Unavailable
from guilder.db import Connection
from guilder.db.errors import Again
from guilder.log.model import Entry, announced_from
from guilder.orders.complete import completed
from guilder.orders.expire import EXPIRED, ended_of, payment_of
from guilder.orders.model import Session, Standing
from guilder.orders.services import Services
from guilder.orders.states import SESSION, SessionEvent, SessionState
from guilder.orders.store import SessionChange, note
from guilder.payments.cancel import given_up
from guilder.payments.states import allows

log = structlog.get_logger(__name__)

CONSUMER: Final = "orders"

NEWS: Final = frozenset({"payment_intent.succeeded", "payment_intent.amount_capturable_updated", "payment_intent.payment_failed"})
"""After these a session may be complete, or its end, which had waited for the attempt, may have come."""

# Sessions of one round; the next round comes at once when it was full.
ROUND_MAX: Final = 100
# How soon a session is looked at again whose payment is under way when its time passes, or that somebody else changes.
AGAIN_SECONDS: Final = 2
# The same after a failure of ours, which no haste mends.
FAILED_SECONDS: Final = 60


def note_payments(clock: Clock) -> Callable[[Connection, Sequence[Entry]], Awaitable[None]]:
    """The handler of the events topic: notes the sessions whose payments have news."""

    async def handle(connection: Connection, entries: Sequence[Entry]) -> None:
        payments = sorted({
            entry.key for entry in entries if any(type_ in NEWS for _, type_ in announced_from(entry.payload).events)
        })  # fmt: skip
        if payments:
            await note(connection, payments, clock.now())

    return handle


async def attend_sessions(services: Services, limit: int = ROUND_MAX) -> int:
    """Look at the sessions that are due, at most so many; returns how many there were. Safe to repeat."""
    due = await services.store.due(services.clock.now(), limit)
    for session in due:
        try:
            await _attend(services, session)
        except (Unavailable, ResultUnknown, Again):
            raise
        except Exception:
            # One session must not keep the others from being looked at.
            log.exception("session_not_attended", state=session.facts.status)
            await services.store.look_later(session, services.clock.now() + FAILED_SECONDS * SECOND)
    return len(due)


async def _attend(services: Services, session: Session) -> None:
    standing = Standing(session=session, payment=await payment_of(services, session))
    change = completed(standing, services.ids)
    if change is not None:
        await services.store.commit(change)
    elif not allows(SESSION, SessionState(session.facts.status), SessionEvent.EXPIRED):
        await services.store.look_later(session, None)
    elif services.clock.now() < session.facts.expires_at * SECOND:
        await services.store.look_later(session, session.facts.expires_at * SECOND)
    elif not await _end(services, standing):
        await services.store.look_later(session, services.clock.now() + AGAIN_SECONDS * SECOND)


async def _end(services: Services, standing: Standing) -> bool:
    """End a session whose time has passed; False while its payment is under way: what comes of that decides first."""
    ended, happened = ended_of(standing.session, services.ids, None)
    if standing.payment is None:
        return await services.store.commit(SessionChange(session=ended, events=(happened,))) is None
    try:
        change = given_up(standing.payment, None, None, EXPIRED, now=services.clock.now(), ids=services.ids)
    except Refusal:
        return False
    change = replace(change, answer=None, events=(*change.events, happened))
    return await services.store.commit_with_payment(ended, change) is None
