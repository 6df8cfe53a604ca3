"""Parking: what becomes of an entry that its consumer cannot handle. Its key waits, others pass.

It is tried again on the schedule, with what became of each try beside it; after the last one, and at once when no further try can
mend what went wrong, it is a dead letter, and its key stays closed until a person replays or discards it (dead_letters.py).
An outage of the database says nothing of the entry: it is no try, and the entry waits for the schedule's first wait.
"""

import json
import traceback
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from guilder.core.clock import SECOND, Clock
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.ids import Ids
from guilder.core.retry import Retry
from guilder.db import Connection, Database, storable
from guilder.log.model import Announced, Entry, announced_from
from guilder.security.mask import mask_text

log = structlog.get_logger(__name__)

TRACE_MAX: Final = 8_000
REASON_MAX: Final = 500
BEHIND: Final = "waits behind an earlier entry of its key"
OUTAGE: Final = (Unavailable, ResultUnknown)
"""What says that the database could not do it, whatever the entry holds."""

_CLOSED: Final = "SELECT DISTINCT key FROM log_parked WHERE consumer = $1 AND key = ANY($2)"
_PARK: Final = """
INSERT INTO log_parked (consumer, key, topic, partition, position, payload, tries, retry_at, reason, history)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb) ON CONFLICT DO NOTHING
"""
_DUE: Final = """
SELECT p.key, p.topic, p.partition, p.position, p.tries, p.payload FROM log_parked p
WHERE p.consumer = $1 AND p.retry_at <= $2 AND p.dead_letter IS NULL
  AND NOT EXISTS (SELECT FROM log_parked b WHERE b.consumer = p.consumer AND b.key = p.key AND b.position < p.position)
ORDER BY p.retry_at LIMIT $3
"""
_UNPARK: Final = "DELETE FROM log_parked WHERE consumer = $1 AND key = $2 AND position = $3 AND dead_letter IS NULL"
_NEXT_DUE: Final = """
UPDATE log_parked SET retry_at = least(retry_at, $3) WHERE consumer = $1 AND key = $2 AND dead_letter IS NULL
"""
_PUT_OFF: Final = """
UPDATE log_parked SET retry_at = $4, reason = $5 WHERE consumer = $1 AND key = $2 AND position = $3 AND dead_letter IS NULL
"""
_FAILED: Final = """
UPDATE log_parked SET tries = $4, retry_at = $5, reason = $6, history = history || $7::jsonb
WHERE consumer = $1 AND key = $2 AND position = $3 AND dead_letter IS NULL
"""
# Only while it waits for a try: one whose commit lost its answer may have handled it, and another process may have tried it, too.
_DIE: Final = """
WITH parked AS (
    UPDATE log_parked SET dead_letter = $1, tries = $10, reason = $8, history = history || $14::jsonb
    WHERE consumer = $2 AND key = $6 AND position = $5 AND dead_letter IS NULL RETURNING history
)
INSERT INTO dead_letter (id, consumer, topic, partition, position, key, payload, reason, trace, tries, created_at, account, livemode,
                         history, state)
SELECT $1, $2, $3::smallint, $4::smallint, $5::bigint, $6, $7::bytea, $8, $9, $10::integer, $11::bigint, $12, $13::boolean, history, 'open'
FROM parked
"""


class Failure(Struct, frozen=True):
    """One try that failed: its number, when, and why."""

    tries: int
    at: int
    reason: str


class Parking:
    """The parked entries of one consumer."""

    def __init__(self, db: Database, clock: Clock, ids: Ids, consumer: str, retry: Retry) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._consumer = consumer
        self._retry = retry

    async def closed(self, connection: Connection, keys: Sequence[str]) -> set[str]:
        """Which of these keys have an entry here, so that later ones wait behind it."""
        return {row["key"] for row in await connection.fetch(_CLOSED, self._consumer, list(keys))}

    async def behind(self, connection: Connection, entry: Entry) -> None:
        """Park an entry because an earlier one of its key is here."""
        await self._park(connection, entry, 0, BEHIND, ())

    async def failed(self, connection: Connection, entry: Entry, error: BaseException) -> None:
        """Park an entry whose first try has failed, in the transaction whose database may be the reason."""
        if isinstance(error, OUTAGE):
            await self._park(connection, entry, 0, reason_of(error), ())
            return
        log.exception("entry_parked", consumer=self._consumer, key=entry.key, partition=entry.partition, position=entry.position)
        failure = Failure(1, self._clock.now(), reason_of(error))
        wait = self._retry.delay_after(1, self._ids.uniform, error=_names(error))
        await self._park(connection, entry, 1, failure.reason, () if wait is None else (failure,))
        if wait is None:
            await self._die(connection, entry, failure, error)

    async def failed_again(self, entry: Entry, tries: int, error: BaseException) -> None:
        """A parked entry was tried again: its so many-th try has failed, unless that was an outage's doing. Commits by itself."""
        if isinstance(error, OUTAGE):
            await self._put_off(entry, error)
            return
        failure = Failure(tries, self._clock.now(), reason_of(error))
        wait = self._retry.delay_after(tries, self._ids.uniform, error=_names(error))
        if wait is None:
            await self._die(self._db, entry, failure, error)
            return
        retry_at = failure.at + round(wait * SECOND)
        await self._db.execute(
            _FAILED, self._consumer, entry.key, entry.position, tries, retry_at, failure.reason, _history([failure]),
        )  # fmt: skip

    async def due(self, limit: int) -> list[tuple[Entry, int]]:
        """The first waiting entry of each key whose time has come, as a person mended it, and its tries so far."""
        rows = await self._db.fetch(_DUE, self._consumer, self._clock.now(), limit)
        return [(Entry(row["topic"], row["partition"], row["position"], row["key"], row["payload"]), row["tries"]) for row in rows]

    async def take(self, connection: Connection, entry: Entry) -> bool:
        """Take an entry out, to handle it in the same transaction; False when another has done so, or it is a dead letter.

        What follows is due at once.
        """
        if await connection.execute(_UNPARK, self._consumer, entry.key, entry.position) != "DELETE 1":
            return False
        await connection.execute(_NEXT_DUE, self._consumer, entry.key, self._clock.now())
        return True

    async def _park(self, connection: Connection, entry: Entry, tries: int, reason: str, history: Collection[Failure]) -> None:
        await connection.execute(
            _PARK, self._consumer, entry.key, entry.topic, entry.partition, entry.position, entry.payload, tries, self._first_wait(),
            reason, _history(history),
        )  # fmt: skip

    async def _put_off(self, entry: Entry, error: BaseException) -> None:
        log.warning("parked_entry_put_off", consumer=self._consumer, key=entry.key, reason=reason_of(error))
        await self._db.execute(_PUT_OFF, self._consumer, entry.key, entry.position, self._first_wait(), reason_of(error))

    def _first_wait(self) -> int:
        """When what has just been parked or put off is tried again."""
        return self._clock.now() + round((self._retry.delay_after(1, self._ids.uniform) or 0.0) * SECOND)

    async def _die(self, connection: Connection | Database, entry: Entry, failure: Failure, error: BaseException) -> None:
        letter = self._ids.new("dl")
        trace = storable(mask_text("".join(traceback.format_exception(error))[-TRACE_MAX:]))
        told = announced_in(entry.payload)
        account, livemode = (None, None) if told is None else (storable(told.account), told.livemode)
        made = await connection.execute(
            _DIE, letter, self._consumer, entry.topic, entry.partition, entry.position, entry.key, entry.payload, failure.reason, trace,
            failure.tries, failure.at, account, livemode, _history([failure]),
        )  # fmt: skip
        if made == "INSERT 0 1":
            log.error("dead_letter", dead_letter=letter, consumer=self._consumer, key=entry.key, reason=failure.reason)


def announced_in(payload: bytes) -> Announced | None:
    """What an entry of the events' topic says; None for what cannot be read."""
    try:
        return announced_from(payload)
    except msgspec.MsgspecError:
        return None


def reason_of(error: BaseException) -> str:
    """An error in a line, masked."""
    return storable(mask_text(f"{type(error).__name__}: {error}"[:REASON_MAX]))


def failures_from(history: str) -> tuple[Failure, ...]:
    """The tries that stand in a row."""
    return tuple(Failure(*one) for one in json.loads(history))


def _history(failures: Collection[Failure]) -> str:
    return json.dumps([(one.tries, one.at, one.reason) for one in failures])


def _names(error: BaseException) -> list[Any]:
    return [kind.__name__ for kind in type(error).__mro__]
