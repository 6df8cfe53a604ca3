"""Consume the log: each entry handled once per consumer, in the order of its key.

Effects and position commit in one transaction, under `WHERE applied_to = <before my batch>`; so whoever handles an entry
twice finds the position moved and rolls back. An entry that fails is parked with its key: later entries of that key wait
behind it, others pass. It is tried again on the schedule, and then becomes a dead letter; its key stays closed until a
person replays or discards it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.core.retry import Retry
from guilder.db import Again, Connection, Database
from guilder.db.errors import translate
from guilder.log.model import PARTITIONS, Entry
from guilder.log.parking import Parking
from guilder.log.port import Read, Reader
from guilder.tuning import RETRIES

log = structlog.get_logger(__name__)

Handle = Callable[[Connection, Sequence[Entry]], Awaitable[None]]
"""Handles entries inside the transaction that it is given; it may do nothing outside of it. Raises to refuse them."""

# Entries of one transaction, over all partitions: a few milliseconds of work.
BATCH_MAX: Final = 512
# Parked keys tried again in one round.
PARKED_MAX: Final = 64

_MOVE: Final = """
WITH locked AS (
    SELECT partition FROM log_consumer WHERE consumer = $1 AND sender = $2 AND partition = ANY($3::smallint[]) ORDER BY partition FOR UPDATE
)
UPDATE log_consumer c SET applied_to = m.after
FROM unnest($3::smallint[], $4::bigint[], $5::bigint[]) AS m(partition, before, after), locked k
WHERE c.consumer = $1 AND c.partition = m.partition AND k.partition = m.partition AND c.applied_to = m.before
"""

class Moved(Exception):
    """Somebody else has applied these entries: nothing of ours is kept."""


class Consumer:
    """One consumer of one topic, run by a process that holds some of its partitions.

    Args:
        reader: brings the entries; its consumer's rows hold the positions, which belong to that name for ever.
        retry: the schedule of an entry that failed; after its last try it becomes a dead letter.
    """

    def __init__(
        self, db: Database, clock: Clock, ids: Ids, *, reader: Reader, handle: Handle, retry: Retry = RETRIES["consumer"],
    ) -> None:  # fmt: skip
        self._db = db
        self._reader = reader
        self._name = reader.consumer
        self._handle = handle
        self._parking = Parking(db, clock, ids, reader.consumer, retry)

    async def run_once(self, limit: int = BATCH_MAX) -> int:
        """Handle what is new and what is due again; returns how many entries were taken. Safe to repeat."""
        return await self._new_entries(limit) + await self._parked(PARKED_MAX)

    async def _new_entries(self, limit: int) -> int:
        read = await self._reader.read(max(1, limit // PARTITIONS))
        if not read.entries:
            return 0
        try:
            await self._apply(read, one_by_one=False)
        except (Moved, Again):
            return 0
        except Exception:
            # Something among them fails: find out which, keep the rest.
            log.warning("batch_failed_trying_one_by_one", consumer=self._name, exc_info=True)
            try:
                await self._apply(read, one_by_one=True)
            except (Moved, Again):
                return 0
        return len(read.entries)

    async def _apply(self, read: Read, *, one_by_one: bool) -> None:
        """Handle the entries and move the positions in one transaction. Entries of closed keys are parked behind them."""
        entries = read.entries
        after: dict[int, int] = {}
        for entry in entries:
            after[entry.partition] = max(after.get(entry.partition, 0), entry.position)
        async with self._db.transaction() as connection:
            closed = await self._parking.closed(connection, [entry.key for entry in entries])
            if one_by_one:
                await self._each(connection, entries, closed)
            else:
                await self._all(connection, entries, closed)
            partitions = sorted(after)
            moved = await connection.execute(
                _MOVE, self._name, self._reader.sender(), partitions, [read.before[p] for p in partitions], [after[p] for p in partitions],
            )
            if moved != f"UPDATE {len(partitions)}":
                raise Moved

    async def _all(self, connection: Connection, entries: Sequence[Entry], closed: set[str]) -> None:
        passing = [entry for entry in entries if entry.key not in closed]
        if passing:
            await self._handle(connection, passing)
        for entry in entries:
            if entry.key in closed:
                await self._parking.behind(connection, entry)

    async def _each(self, connection: Connection, entries: Sequence[Entry], closed: set[str]) -> None:
        for entry in entries:
            if entry.key in closed:
                await self._parking.behind(connection, entry)
                continue
            try:
                async with connection.transaction():
                    await self._handle(connection, [entry])
            except Exception as raised:
                error = translate(raised, committing=False)
                if isinstance(error, Again):
                    # A conflict with another transaction says nothing of the entry: all of it is run again.
                    raise
                closed.add(entry.key)
                await self._parking.failed(connection, entry, error)

    async def _parked(self, limit: int) -> int:
        """Try the first waiting entry of each key whose time has come."""
        due = await self._parking.due(limit)
        for entry, tries in due:
            try:
                async with self._db.transaction() as connection:
                    if await self._parking.take(connection, entry):
                        await self._handle(connection, [entry])
            except Again:
                continue
            except Exception as error:
                await self._parking.failed_again(entry, tries + 1, error)
        return len(due)
