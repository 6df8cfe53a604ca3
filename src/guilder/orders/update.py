"""Update: change a session's metadata; nothing else of it may change once a buyer may have seen it."""

from msgspec.structs import replace

from guilder.idempotency import Claim, Result
from guilder.orders.changes import answer_of, store_under
from guilder.orders.model import Session, UpdateSession
from guilder.orders.services import Services
from guilder.orders.store import SessionChange, moved
from guilder.shapes.metadata import merged


async def update(services: Services, claim: Claim, command: UpdateSession) -> Result:
    """Change a session. Commits once; safe to repeat under one key. Raises Refusal (404, or too much metadata)."""

    async def plan(session: Session) -> SessionChange:
        facts = replace(session.facts, metadata=merged(session.facts.metadata, command.metadata))
        return SessionChange(
            session=moved(session, facts, session.due_at), claim=claim, answer=await answer_of(services, claim, facts),
        )  # fmt: skip

    return await store_under(services, claim, command.session, plan)
