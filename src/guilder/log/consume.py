"""Consume the log: each entry handled once per consumer, in the order of its key.

Effects and position commit in one transaction, under `WHERE applied_to = <before my batch>`; so whoever handles an entry
twice finds the position moved and rolls back. An entry that fails is parked with its key: later entries of that key wait
behind it, others pass. It is tried again on the schedule, and then becomes a dead letter; its key stays closed until a
person replays or discards it.
"""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from guilder.core.clock import SECOND, Clock
from guilder.core.ids import Ids
from guilder.core.retry import Retry
from guilder.db import Again, Connection, Database
from guilder.db.errors import translate
from guilder.log.model import Entry
from guilder.tuning import RETRIES

log = structlog.get_logger(__name__)

Handle = Callable[[Connection, Sequence[Entry]], Awaitable[None]]
"""Handles entries inside the transaction that it is given; it may do nothing outside of it. Raises to refuse them."""

# Entries of one transaction, over all partitions: a few milliseconds of work.
BATCH_MAX: Final = 512
# Parked keys tried again in one round.
PARKED_MAX: Final = 64
TRACE_MAX: Final = 8_000
REASON_MAX: Final = 500

_READ: Final = """
SELECT c.partition, c.applied_to, e.position, e.key, e.payload
FROM log_consumer c CROSS JOIN LATERAL (
    SELECT l.position, l.key, l.payload FROM log_entry l
    WHERE l.topic = c.topic AND l.partition = c.partition AND l.position > c.applied_to ORDER BY l.position LIMIT $3) e
WHERE c.consumer = $1 AND c.sender = $2 AND c.topic = $4
"""
_MOVE: Final = """
WITH locked AS (
    SELECT partition FROM log_consumer WHERE consumer = $1 AND sender = $2 AND partition = ANY($3::smallint[]) ORDER BY partition FOR UPDATE
)
UPDATE log_consumer c SET applied_to = m.after
FROM unnest($3::smallint[], $4::bigint[], $5::bigint[]) AS m(partition, before, after), locked k
WHERE c.consumer = $1 AND c.partition = m.partition AND k.partition = m.partition AND c.applied_to = m.before
"""
_CLOSED: Final = "SELECT DISTINCT key FROM log_parked WHERE consumer = $1 AND key = ANY($2)"
_PARK: Final = """
INSERT INTO log_parked (consumer, key, topic, partition, position, tries, retry_at, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
"""
_DUE: Final = """
SELECT p.key, p.topic, p.partition, p.position, p.tries, l.payload FROM log_parked p
JOIN log_entry l ON l.topic = p.topic AND l.partition = p.partition AND l.position = p.position
WHERE p.consumer = $1 AND p.retry_at <= $2 AND p.dead_letter IS NULL
  AND NOT EXISTS (SELECT FROM log_parked b WHERE b.consumer = p.consumer AND b.key = p.key AND b.position < p.position)
ORDER BY p.retry_at LIMIT $3
"""
_UNPARK: Final = "DELETE FROM log_parked WHERE consumer = $1 AND key = $2 AND position = $3"
_NEXT_DUE: Final = """
UPDATE log_parked SET retry_at = least(retry_at, $3) WHERE consumer = $1 AND key = $2 AND dead_letter IS NULL
"""
_FAILED: Final = "UPDATE log_parked SET tries = $4, retry_at = $5, reason = $6 WHERE consumer = $1 AND key = $2 AND position = $3"
# Only while it is parked: a try whose commit lost its answer may have handled it.
_DIE: Final = """
WITH parked AS (
    UPDATE log_parked SET dead_letter = $1, tries = $10, reason = $8 WHERE consumer = $2 AND key = $6 AND position = $5 RETURNING 1
)
INSERT INTO dead_letter (id, consumer, topic, partition, position, key, payload, reason, trace, tries, created_at, state)
SELECT $1, $2, $3::smallint, $4::smallint, $5::bigint, $6, $7::bytea, $8, $9, $10::integer, $11::bigint, 'open' FROM parked
"""


class Moved(Exception):
    """Somebody else has applied these entries: nothing of ours is kept."""


class Consumer:
    """One consumer of one topic, run by a process that holds some of its partitions.

    Args:
        name: its row in log_consumer; positions belong to it for ever.
        sender: gives the id under which this process holds partitions now.
        retry: the schedule of an entry that failed; after its last try it becomes a dead letter.
    """

    def __init__(
        self, db: Database, clock: Clock, ids: Ids, *, name: str, topic: int, handle: Handle, sender: Callable[[], str],
        retry: Retry = RETRIES["consumer"],
    ) -> None:  # fmt: skip
        self._db = db
        self._clock = clock
        self._ids = ids
        self._name = name
        self._topic = topic
        self._handle = handle
        self._sender = sender
        self._retry = retry

    async def run_once(self, limit: int = BATCH_MAX) -> int:
        """Handle what is new and what is due again; returns how many entries were taken. Safe to repeat."""
        return await self._new_entries(limit) + await self._parked(PARKED_MAX)

    async def _new_entries(self, limit: int) -> int:
        rows = await self._db.fetch(_READ, self._name, self._sender(), max(1, limit // 16), self._topic)
        if not rows:
            return 0
        try:
            await self._apply(rows, one_by_one=False)
        except (Moved, Again):
            return 0
        except Exception:
            # Something among them fails: find out which, keep the rest.
            log.warning("batch_failed_trying_one_by_one", consumer=self._name, exc_info=True)
            try:
                await self._apply(rows, one_by_one=True)
            except (Moved, Again):
                return 0
        return len(rows)

    async def _apply(self, rows: Sequence[Any], *, one_by_one: bool) -> None:
        """Handle the entries and move the positions in one transaction. Entries of closed keys are parked behind them."""
        entries = [Entry(self._topic, row["partition"], row["position"], row["key"], row["payload"]) for row in rows]
        before = {row["partition"]: row["applied_to"] for row in rows}
        after: dict[int, int] = {}
        for entry in entries:
            after[entry.partition] = max(after.get(entry.partition, 0), entry.position)
        async with self._db.transaction() as connection:
            closed = {row["key"] for row in await connection.fetch(_CLOSED, self._name, [entry.key for entry in entries])}
            if one_by_one:
                await self._each(connection, entries, closed)
            else:
                await self._all(connection, entries, closed)
            partitions = sorted(after)
            moved = await connection.execute(
                _MOVE, self._name, self._sender(), partitions, [before[p] for p in partitions], [after[p] for p in partitions],
            )
            if moved != f"UPDATE {len(partitions)}":
                raise Moved

    async def _all(self, connection: Connection, entries: Sequence[Entry], closed: set[str]) -> None:
        passing = [entry for entry in entries if entry.key not in closed]
        if passing:
            await self._handle(connection, passing)
        for entry in entries:
            if entry.key in closed:
                await self._park(connection, entry, 0, "waits behind an earlier entry of its key")

    async def _each(self, connection: Connection, entries: Sequence[Entry], closed: set[str]) -> None:
        for entry in entries:
            if entry.key in closed:
                await self._park(connection, entry, 0, "waits behind an earlier entry of its key")
                continue
            try:
                async with connection.transaction():
                    await self._handle(connection, [entry])
            except Exception as error:
                if isinstance(translate(error, committing=False), Again):
                    # A conflict with another transaction says nothing of the entry: all of it is run again.
                    raise
                log.exception("entry_parked", consumer=self._name, key=entry.key, partition=entry.partition, position=entry.position)
                closed.add(entry.key)
                await self._park(connection, entry, 1, _reason(error))

    async def _park(self, connection: Connection, entry: Entry, tries: int, reason: str) -> None:
        wait = self._retry.delay_after(max(tries, 1), self._ids.uniform) or 0.0
        retry_at = self._clock.now() + round(wait * SECOND)
        await connection.execute(_PARK, self._name, entry.key, entry.topic, entry.partition, entry.position, tries, retry_at, reason)

    async def _parked(self, limit: int) -> int:
        """Try the first waiting entry of each key whose time has come."""
        rows = await self._db.fetch(_DUE, self._name, self._clock.now(), limit)
        for row in rows:
            entry = Entry(row["topic"], row["partition"], row["position"], row["key"], row["payload"])
            try:
                async with self._db.transaction() as connection:
                    if await connection.execute(_UNPARK, self._name, entry.key, entry.position) != "DELETE 1":
                        continue
                    await self._handle(connection, [entry])
                    await connection.execute(_NEXT_DUE, self._name, entry.key, self._clock.now())
            except Again:
                continue
            except Exception as error:
                await self._failed_again(entry, row["tries"] + 1, error)
        return len(rows)

    async def _failed_again(self, entry: Entry, tries: int, error: Exception) -> None:
        now = self._clock.now()
        wait = self._retry.delay_after(tries, self._ids.uniform, error=[kind.__name__ for kind in type(error).__mro__])
        if wait is not None:
            retry_at = now + round(wait * SECOND)
            await self._db.execute(_FAILED, self._name, entry.key, entry.position, tries, retry_at, _reason(error))
            return
        letter = self._ids.new("dl")
        trace = "".join(traceback.format_exception(error))[-TRACE_MAX:]
        await self._db.execute(
            _DIE, letter, self._name, entry.topic, entry.partition, entry.position, entry.key, entry.payload, _reason(error), trace, tries,
            now,
        )  # fmt: skip
        log.error("dead_letter", dead_letter=letter, consumer=self._name, key=entry.key, reason=_reason(error))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:REASON_MAX]
