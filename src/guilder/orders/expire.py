"""Expire: a session ends unpaid. Its payment is canceled in the same commit, so that a later submit meets a canceled payment."""

from msgspec.structs import replace

from guilder.core.ensure import present
from guilder.core.errors import Refusal
from guilder.core.ids import Ids
from guilder.idempotency import Claim, Result
from guilder.log import NewEvent
from guilder.orders.changes import answer_of, store_under
from guilder.orders.model import Session
from guilder.orders.services import Services
from guilder.orders.states import SESSION, SessionEvent, SessionState
from guilder.orders.store import SessionChange, moved
from guilder.payments.cancel import given_up
from guilder.payments.events import event
from guilder.payments.model import Change, Key, Payment
from guilder.payments.states import after, allows

EXPIRED = "expired"
"""The payment's `cancellation_reason`."""


async def expire(services: Services, claim: Claim, session: str) -> Result:
    """End an open session. Commits once; safe to repeat under one key.

    Raises:
        Refusal: no such session (404); it is not open, or its payment is taken or in doubt (400); an attempt is under way (409).
    """

    async def plan(read: Session) -> SessionChange | tuple[Session, Change]:
        if not allows(SESSION, SessionState(read.facts.status), SessionEvent.EXPIRED):
            raise Refusal(
                'Only Checkout Sessions with a status in ["open"] can be expired. '
                f"This Checkout Session has a status of {read.facts.status}."
            )
        ended, happened = ended_of(read, services.ids, Key(claim.key, claim.request_id, claim.expand))
        payment = await payment_of(services, read)
        answer = await answer_of(services, claim, ended.facts)
        if payment is None:
            return SessionChange(session=ended, claim=claim, answer=answer, events=(happened,))
        if payment.facts.in_doubt:
            raise Refusal(
                "This Checkout Session cannot be expired: its payment is processing, and it is not known yet whether the buyer has paid."
            )
        change = given_up(
            payment, claim, Key(claim.key, claim.request_id, claim.expand), EXPIRED, now=services.clock.now(), ids=services.ids,
        )  # fmt: skip
        return ended, replace(change, answer=answer, events=(*change.events, happened))

    return await store_under(services, claim, session, plan)


def ended_of(session: Session, ids: Ids, key: Key | None) -> tuple[Session, NewEvent]:
    """The session as it ends unpaid, and its event."""
    facts = replace(session.facts, status=after(SESSION, SessionState(session.facts.status), SessionEvent.EXPIRED))
    return moved(session, facts, None), event(ids, session.account, "checkout.session.expired", facts, key)


async def payment_of(services: Services, session: Session) -> Payment | None:
    """The session's payment as it stands, None while there is none."""
    facts = session.facts
    if facts.payment_intent is None:
        return None
    payment = await services.payments.store.read(facts.payment_intent, session.account, facts.livemode)
    return present(payment, "a session names a payment that exists", session=facts.id)
