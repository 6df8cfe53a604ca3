"""The outbox as the log: entries are read from the table that the commits of their facts wrote them to.

Positions become visible in commit order, so `position > mine` can skip nothing (DESIGN section 5).
"""

from collections.abc import Callable, Mapping
from typing import Final

from guilder.db.pool import Database
from guilder.log.model import Entry
from guilder.log.port import Read

_NEXT: Final = """
SELECT c.partition, c.applied_to, e.position, e.key, e.payload
FROM log_consumer c CROSS JOIN LATERAL (
    SELECT l.position, l.key, l.payload FROM log_entry l
    WHERE l.topic = c.topic AND l.partition = c.partition AND l.position > c.applied_to ORDER BY l.position LIMIT $3) e
WHERE c.consumer = $1 AND c.sender = $2 AND c.topic = $4
"""
_AFTER: Final = """
SELECT w.partition, e.position, e.key, e.payload
FROM unnest($2::smallint[], $3::bigint[]) AS w(partition, position) CROSS JOIN LATERAL (
    SELECT l.position, l.key, l.payload FROM log_entry l
    WHERE l.topic = $1 AND l.partition = w.partition AND l.position > w.position ORDER BY l.position LIMIT $4) e
"""


class OutboxReader:
    """Reads a consumer's positions and what follows them in one statement."""

    def __init__(self, db: Database, consumer: str, topic: int, sender: Callable[[], str]) -> None:
        self._db = db
        self.consumer = consumer
        self.topic = topic
        self.sender = sender

    async def read(self, each: int) -> Read:
        rows = await self._db.fetch(_NEXT, self.consumer, self.sender(), each, self.topic)
        entries = [Entry(self.topic, row["partition"], row["position"], row["key"], row["payload"]) for row in rows]
        return Read({row["partition"]: row["applied_to"] for row in rows}, entries)

    async def close(self) -> None:
        """There is nothing to let go of."""


class Outbox:
    """The default log."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def reader(
        self, consumer: str, topic: int, sender: Callable[[], str], arrived: Callable[[], None] | None = None,
    ) -> OutboxReader:
        return OutboxReader(self._db, consumer, topic, sender)


async def entries_after(db: Database, topic: int, positions: Mapping[int, int], each: int) -> list[Entry]:
    """What the outbox holds after a position of each partition, at most so many entries of each, in order."""
    if not positions:
        return []
    rows = await db.fetch(_AFTER, topic, list(positions), list(positions.values()), each)
    return [Entry(topic, row["partition"], row["position"], row["key"], row["payload"]) for row in rows]
