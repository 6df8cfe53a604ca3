"""Orders' SQL. Each change of a session is one statement, so that no lock of a session or payment outlives its client."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from guilder.core.clock import SECOND, Clock
from guilder.core.crash import crash_point
from guilder.core.errors import missing
from guilder.db import Connection, Database
from guilder.db.pages import Listing, Page, fetch_page
from guilder.idempotency import Claim
from guilder.log import TOPIC_EVENTS, NewEvent, partition_of
from guilder.log.model import Announced, announced_bytes
from guilder.orders.model import Session, pack, session_facts_from
from guilder.payments.model import Change
from guilder.payments.store import Beside
from guilder.payments.store import Store as Payments
from guilder.shapes.facts import Answer, CheckoutSessionFacts, encode

STALE: Final = "stale"
"""The session, or its payment, has moved on since the change was decided: read again, decide again."""
KEY_TAKEN: Final = "key_taken"

SESSIONS: Final = Listing(table="checkout_session", columns="facts", kind="checkout.session")

_INSERT: Final = """
INSERT INTO checkout_session (id, account, livemode, version, state, customer, due_at, created_at, facts)
VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8)
"""
_COLUMNS: Final = "account, version, due_at, facts"
_READ: Final = f"SELECT {_COLUMNS} FROM checkout_session WHERE id = $1 AND account = $2 AND livemode = $3"
# The buyer has no key: the id, which nobody can guess, is what lets them in.
_READ_BY_ID: Final = f"SELECT {_COLUMNS} FROM checkout_session WHERE id = $1"
_STORE: Final = "SELECT checkout_session_store($1, $2, $3::key_in, $4, $5, $6, $7, $8, $9, $10::event_in[], $11::log_in[])"
_DUE: Final = f"SELECT {_COLUMNS} FROM checkout_session WHERE due_at <= $1 ORDER BY due_at LIMIT $2"
# News of these payments: the worker looks at their sessions now. Sessions are locked in the order of their ids. Due already
# or not, the instant is a new one: whoever is looking on older news meanwhile puts nothing off.
_NOTE: Final = """
WITH noted AS (
    SELECT id FROM checkout_session WHERE payment = ANY($1) ORDER BY id FOR UPDATE
)
UPDATE checkout_session s SET due_at = $2 FROM noted n WHERE s.id = n.id
"""
# What the worker has looked at: nothing to be done before this instant, unless somebody has changed it meanwhile.
_LATER: Final = "UPDATE checkout_session SET due_at = $3 WHERE id = $1 AND version = $2 AND due_at IS NOT DISTINCT FROM $4"


class SessionChange(Struct, frozen=True, kw_only=True):
    """What one commit does to one session; `session` is as it is after it, with the version that was decided on."""

    session: Session
    claim: Claim | None = None
    answer: Answer | None = None
    events: tuple[NewEvent, ...] = ()


class Store:
    """Reads and changes sessions; one per process."""

    def __init__(self, db: Database, payments: Payments, clock: Clock) -> None:
        self._db = db
        self._payments = payments
        self._clock = clock

    async def insert(self, connection: Connection, session: Session) -> None:
        """Store a new session in the caller's transaction."""
        facts = session.facts
        await connection.execute(
            _INSERT, facts.id, session.account, facts.livemode, facts.status, facts.customer, session.due_at, facts.created * SECOND,
            pack(facts),
        )  # fmt: skip

    async def read(self, id_: str, account: str, livemode: bool) -> Session:  # noqa: FBT001
        """A session of this account and mode. Raises Refusal (404)."""
        row = await self._db.fetchrow(_READ, id_, account, livemode)
        if row is None:
            raise missing("checkout.session", id_)
        return _session(row)

    async def find(self, id_: str) -> Session | None:
        """A session by its id alone: for the buyer, and for the worker."""
        row = await self._db.fetchrow(_READ_BY_ID, id_)
        return None if row is None else _session(row)

    async def commit(self, change: SessionChange) -> str | None:
        """Store a change of the session alone; None when stored, else STALE or KEY_TAKEN."""
        session, claim = change.session, change.claim
        facts = session.facts
        key = None
        if claim is not None and change.answer is not None:
            expand = ",".join(claim.expand)
            key = (1, claim.key, claim.account, claim.fingerprint, claim.request_id, expand, None, encode(change.answer))
        events = [(1, one.id, one.account, one.type, one.facts(), one.request_id, one.idempotency_key) for one in change.events]
        crash_point("session.before", facts.status)
        stored = await self._db.fetchval(
            _STORE, facts.livemode, self._clock.now(), key, facts.id, session.version, facts.status, facts.payment_intent,
            session.due_at, pack(facts), events, _log(session, change.events),
        )  # fmt: skip
        crash_point("session.after", facts.status)
        return None if stored is None else str(stored)

    async def commit_with_payment(self, session: Session, change: Change) -> str | None:
        """Store a change of the session and of its payment, both or neither; None when stored, else why not.

        The session's lock comes first (DESIGN section 4).
        """
        facts = session.facts
        beside = Beside(
            lock="checkout_session_lock",
            locked=(facts.id, session.version),
            write="checkout_session_write",
            written=(facts.id, facts.status, facts.payment_intent, session.due_at, pack(facts)),
        )
        crash_point("session.before", facts.status)
        stored = await self._payments.commit_beside(change, beside)
        crash_point("session.after", facts.status)
        return stored

    async def due(self, now: int, limit: int) -> list[Session]:
        """The sessions that somebody has to look at, the one that has waited longest first."""
        return [_session(row) for row in await self._db.fetch(_DUE, now, limit)]

    async def look_later(self, session: Session, due_at: int | None) -> None:
        """Nothing is to be done with this session before that instant; without effect when there was news meanwhile."""
        await self._db.execute(_LATER, session.facts.id, session.version, due_at, session.due_at)

    async def list(
        self, account: str, livemode: bool, page: Page, *, customer: str | None, payment: str | None, state: str | None,  # noqa: FBT001
    ) -> tuple[Sequence[CheckoutSessionFacts], bool]:
        """A page of sessions, newest first, and whether there are more."""
        named = (("customer = ?", customer), ("payment = ?", payment), ("state = ?", state))
        where = [(condition, value) for condition, value in named if value is not None]
        rows, more = await fetch_page(self._db, SESSIONS, page, account=account, livemode=livemode, where=where)
        return [session_facts_from(row["facts"]) for row in rows], more


async def note(connection: Connection, payments: Sequence[str], now: int) -> None:
    """Let the worker look at the sessions of these payments at once; commits with the caller's transaction."""
    await connection.execute(_NOTE, payments, now)


def moved(session: Session, facts: CheckoutSessionFacts, due_at: int | None) -> Session:
    """The session as a change leaves it."""
    return replace(session, facts=facts, due_at=due_at)


def _log(session: Session, events: Sequence[NewEvent]) -> list[tuple[Any, ...]]:
    if not events:
        return []
    announced = Announced(session.account, session.facts.livemode, tuple((one.id, one.type) for one in events))
    return [(1, TOPIC_EVENTS, partition_of(session.facts.id), session.facts.id, announced_bytes(announced))]


def _session(row: Any) -> Session:  # noqa: ANN401 - a row of _COLUMNS
    return Session(facts=session_facts_from(row["facts"]), account=row["account"], version=row["version"], due_at=row["due_at"])
