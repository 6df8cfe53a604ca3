"""The outbox's bound: how much stands in it that some consumer has not applied, and whether that is too much.

Whoever accepts asks `full`, which costs nothing; the look at the database is made once a second for all requests.
"""

from typing import Final

import structlog

from guilder.db.guard import Guard
from guilder.db.pool import Database

log = structlog.get_logger(__name__)

# Between two looks a process accepts a few thousand payments at most, which is little beside any bound that makes sense.
LOOK_SECONDS: Final = 1.0

_BACKLOG: Final = """
SELECT coalesce(sum(h.head - c.applied_to), 0)::bigint FROM log_head h JOIN (
    SELECT topic, partition, min(applied_to) AS applied_to FROM log_consumer WHERE awaited GROUP BY topic, partition) c
    ON c.topic = h.topic AND c.partition = h.partition
"""


class Backlog(Guard):
    """What one process knows of it.

    Args:
        bound: more entries than that are too many.
    """

    def __init__(self, db: Database, bound: int) -> None:
        super().__init__(LOOK_SECONDS)
        self._db = db
        self._bound = bound

    @property
    def full(self) -> bool:
        """Nothing more is to be accepted."""
        return not self.sound

    async def look(self) -> bool:
        """Look now; returns whether there is room."""
        count = await backlog(self._db)
        room = count <= self._bound
        if self.sound is not room:
            log.error("outbox_has_room_again" if room else "outbox_full_nothing_is_accepted", count=count, limit=self._bound)
        return self.found(sound=room)


async def backlog(db: Database) -> int:
    """Entries of all topics that some consumer has not applied."""
    return int(await db.fetchval(_BACKLOG))
