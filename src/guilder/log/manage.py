"""What an operator may see of the log and do with it, on a running system too: where each consumer stands, and from where it reads."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from guilder.core.ids import Ids
from guilder.db.pool import Database

LOGS: Final = ("kafka", "postgres")

_STATUS: Final = """
SELECT c.consumer, c.topic, bool_and(c.awaited) AS awaited, sum(c.applied_to)::bigint AS applied, sum(h.head)::bigint AS head,
       max(h.head - c.applied_to)::bigint AS behind_most, array_agg(DISTINCT c.log) AS logs,
       count(DISTINCT c.sender) AS senders, count(*) FILTER (WHERE c.sender IS NULL) AS unread
FROM log_consumer c JOIN log_head h ON h.topic = c.topic AND h.partition = c.partition
GROUP BY c.consumer, c.topic ORDER BY c.topic, c.consumer
"""
_MOVE: Final = """
WITH locked AS (
    SELECT consumer, partition FROM log_consumer WHERE awaited ORDER BY consumer, partition FOR UPDATE
)
UPDATE log_consumer c SET log = $1 FROM locked k
WHERE c.consumer = k.consumer AND c.partition = k.partition AND c.log <> $1
"""
_NEW_STREAM: Final = "INSERT INTO log_stream (id) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET id = excluded.id"
# One statement, so that nobody sees the new stream without the relay's new positions. Each partition is copied from the first
# entry that the outbox still has.
_COPY_AGAIN: Final = """
WITH stream AS (
    INSERT INTO log_stream (id) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET id = excluded.id
), locked AS (
    SELECT consumer, partition FROM log_consumer WHERE NOT awaited ORDER BY consumer, partition FOR UPDATE
), kept AS (
    SELECT c.consumer, c.partition, coalesce(e.position - 1, h.head) AS before, h.head
    FROM log_consumer c JOIN log_head h ON h.topic = c.topic AND h.partition = c.partition
    LEFT JOIN LATERAL (
        SELECT l.position FROM log_entry l WHERE l.topic = c.topic AND l.partition = c.partition ORDER BY l.position LIMIT 1) e ON true
    WHERE NOT c.awaited
), moved AS (
    UPDATE log_consumer c SET applied_to = k.before FROM kept k, locked o
    WHERE c.consumer = k.consumer AND c.partition = k.partition AND o.consumer = c.consumer AND o.partition = c.partition
    RETURNING k.head - k.before AS entries
)
SELECT coalesce(sum(entries), 0)::bigint FROM moved
"""


class Standing(Struct, frozen=True, kw_only=True):
    """Where one reader of a topic stands, over all of its partitions.

    Args:
        behind: entries that it has not applied (the relay: not published).
        logs: from where it is to read; two of them while that differs between partitions.
        processes: how many hold its partitions.
        unread: partitions that nobody holds.
    """

    consumer: str
    topic: int
    applied: int
    behind: int
    behind_most: int
    logs: Sequence[str]
    processes: int
    unread: int
    is_relay: bool


async def standings(db: Database) -> list[Standing]:
    """Every consumer's, and the relay's where there has been one."""
    return [
        Standing(
            consumer=row["consumer"], topic=row["topic"], applied=row["applied"], behind=row["head"] - row["applied"],
            behind_most=row["behind_most"], logs=tuple(sorted(row["logs"])), processes=row["senders"], unread=row["unread"],
            is_relay=not row["awaited"],
        )
        for row in await db.fetch(_STATUS)
    ]  # fmt: skip


async def move_to(db: Database, log: str) -> int:
    """Have every consumer read from another log, from where it stands; returns how many of its partitions moved.

    They follow with their next look, half a second later at most. Positions stay, so nothing is handled twice or left out.
    Safe to repeat.
    """
    moved = await db.execute(_MOVE, log)
    return int(moved.split()[1])


async def begin_stream(db: Database, ids: Ids) -> None:
    """Make whatever a topic holds nobody's: the positions of this database mean something else now, as after a restore."""
    await db.execute(_NEW_STREAM, ids.new("log"))


async def copy_again(db: Database, ids: Ids) -> int:
    """Have the relay publish all that the outbox keeps, as a new stream; returns how many entries that is.

    What a topic has of the old one is nobody's from here on. Consumers read the outbox until Kafka keeps pace again. Safe to repeat.
    """
    return int(await db.fetchval(_COPY_AGAIN, ids.new("log")))
