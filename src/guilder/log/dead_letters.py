"""Dead letters: list, show, replay, discard. A replay opens the key again; doing it twice has one effect."""

from typing import Any, Final

from msgspec import Struct

from guilder.core.clock import Clock
from guilder.db.pool import Database

_COLUMNS: Final = "id, consumer, topic, partition, position, key, reason, trace, tries, created_at, state, closed_at"
_LIST: Final = f"SELECT {_COLUMNS} FROM dead_letter WHERE state = 'open' OR $1 ORDER BY created_at DESC LIMIT $2"  # noqa: S608 - constants
_SHOW: Final = f"SELECT {_COLUMNS} FROM dead_letter WHERE id = $1"  # noqa: S608
_REPLAY: Final = """
WITH closed AS (UPDATE dead_letter SET state = 'replayed', closed_at = $2 WHERE id = $1 AND state = 'open' RETURNING id)
UPDATE log_parked p SET dead_letter = NULL, tries = 0, retry_at = $2 FROM closed WHERE p.dead_letter = closed.id
"""
_DISCARD: Final = """
WITH closed AS (UPDATE dead_letter SET state = 'discarded', closed_at = $2 WHERE id = $1 AND state = 'open' RETURNING id),
     gone AS (DELETE FROM log_parked p USING closed WHERE p.dead_letter = closed.id RETURNING p.consumer, p.key, p.position)
UPDATE log_parked p SET retry_at = least(p.retry_at, $2) FROM gone WHERE p.consumer = gone.consumer AND p.key = gone.key
"""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An entry that failed on its whole schedule, and why. `state` is open, replayed or discarded."""

    id: str
    consumer: str
    topic: int
    partition: int
    position: int
    key: str
    reason: str
    trace: str
    tries: int
    created_at: int
    state: str
    closed_at: int | None


async def dead_letters(db: Database, *, closed: bool = False, limit: int = 100) -> list[DeadLetter]:
    """Newest first; with `closed` those too that were replayed or discarded."""
    return [_letter(row) for row in await db.fetch(_LIST, closed, limit)]


async def dead_letter(db: Database, id_: str) -> DeadLetter | None:
    """One dead letter, None when there is none of this id."""
    row = await db.fetchrow(_SHOW, id_)
    return None if row is None else _letter(row)


async def replay(db: Database, clock: Clock, id_: str) -> bool:
    """Let the consumer try the entry again, at once, with a fresh schedule. False when it is not open (any more)."""
    return await _close(db, _REPLAY, id_, clock.now())


async def discard(db: Database, clock: Clock, id_: str) -> bool:
    """Give the entry up: it is never handled, and its key is open again. False when it is not open (any more)."""
    return await _close(db, _DISCARD, id_, clock.now())


async def _close(db: Database, sql: str, id_: str, now: int) -> bool:
    before = await dead_letter(db, id_)
    if before is None or before.state != "open":
        return False
    await db.execute(sql, id_, now)
    after = await dead_letter(db, id_)
    return after is not None and after.closed_at == now


def _letter(row: Any) -> DeadLetter:  # noqa: ANN401 - a row of _COLUMNS
    return DeadLetter(**dict(row))
