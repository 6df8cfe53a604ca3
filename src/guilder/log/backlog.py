"""The outbox's bound: how much stands in it that some consumer has not applied, and whether that is too much.

Whoever accepts asks `full`, which costs nothing; the look at the database is made once a second for all requests.
"""

import asyncio
from typing import Final

import structlog

from guilder.core.clock import sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.errors import Again
from guilder.db.pool import Database

log = structlog.get_logger(__name__)

# Between two looks a process accepts a few thousand payments at most, which is little beside any bound that makes sense.
LOOK_SECONDS: Final = 1.0

_BACKLOG: Final = """
SELECT coalesce(sum(h.head - c.applied_to), 0)::bigint FROM log_head h JOIN (
    SELECT topic, partition, min(applied_to) AS applied_to FROM log_consumer WHERE awaited GROUP BY topic, partition) c
    ON c.topic = h.topic AND c.partition = h.partition
"""


class Backlog:
    """What one process knows of it.

    Args:
        bound: more entries than that are too many.
    """

    def __init__(self, db: Database, bound: int) -> None:
        self._db = db
        self._bound = bound
        self._task: asyncio.Task[None] | None = None
        self.full = False

    async def start(self) -> None:
        """Look once, and go on each second."""
        await self.look()
        self._task = asyncio.get_running_loop().create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> bool:
        """Look now; returns whether it is too much."""
        count = await backlog(self._db)
        if self.full is not (count > self._bound):
            self.full = not self.full
            log.error("outbox_full_nothing_is_accepted" if self.full else "outbox_has_room_again", count=count, limit=self._bound)
        return self.full

    async def _keep_looking(self) -> None:
        while True:
            await sleep(LOOK_SECONDS)
            try:
                await self.look()
            except (Unavailable, ResultUnknown, Again):
                # A database that is away accepts nothing either.
                continue


async def backlog(db: Database) -> int:
    """Entries of all topics that some consumer has not applied."""
    return int(await db.fetchval(_BACKLOG))
