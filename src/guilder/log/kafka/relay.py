"""Relay: copies the outbox to Kafka. A reader of the outbox like others, whose effect is that the cluster has acknowledged.

Its positions are rows of log_consumer which nobody waits for. They move after the acknowledgement, so what dies in between
is published again; its position tells every consumer that it is the same entry.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from guilder.config import KafkaSettings
from guilder.core.clock import sleep
from guilder.core.crash import crash_point
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.ids import Ids
from guilder.db.connection import Record
from guilder.db.errors import Again
from guilder.db.pool import Database
from guilder.log.kafka.client import ensure_topics
from guilder.log.kafka.message import TOPICS
from guilder.log.kafka.publisher import Publisher
from guilder.log.partitions import hold_partitions

log = structlog.get_logger(__name__)

RELAY_ROLE: Final = "relay"
# Entries of one partition in one round; sixteen partitions of two topics make a round of some 20 ms at most.
EACH_MAX: Final = 128
# Behind the notification; what is not announced by one (events of outcomes) waits so long at most.
POLL_SECONDS: Final = 0.05
# How often partitions are shared out anew.
HOLD_SECONDS: Final = 1.0
# After a round that the cluster did not take.
PAUSE_SECONDS: Final = 1.0

# Who begins to copy begins with what somebody still has to apply.
_BEGIN: Final = """
INSERT INTO log_consumer (consumer, topic, partition, applied_to, awaited)
SELECT $1, topic, partition, min(applied_to), false FROM log_consumer WHERE topic = $2 AND awaited GROUP BY topic, partition
ON CONFLICT DO NOTHING
"""
_STREAM: Final = "INSERT INTO log_stream (id) VALUES ($1) ON CONFLICT DO NOTHING"
_NEXT: Final = """
SELECT c.consumer, c.topic, c.partition, c.applied_to, e.position, e.key, e.payload, e.created_at,
       (SELECT id FROM log_stream) AS stream
FROM log_consumer c CROSS JOIN LATERAL (
    SELECT l.position, l.key, l.payload, l.created_at FROM log_entry l
    WHERE l.topic = c.topic AND l.partition = c.partition AND l.position > c.applied_to ORDER BY l.position LIMIT $3) e
WHERE c.consumer = ANY ($1) AND c.sender = $2
"""
_MOVE: Final = """
WITH locked AS (
    SELECT c.consumer, c.partition FROM log_consumer c WHERE c.sender = $1 AND c.consumer = ANY ($2) ORDER BY consumer, partition FOR UPDATE
)
UPDATE log_consumer c SET applied_to = m.after
FROM unnest($2::text[], $3::smallint[], $4::bigint[], $5::bigint[]) AS m(consumer, partition, before, after), locked k
WHERE c.consumer = m.consumer AND c.partition = m.partition AND k.consumer = m.consumer AND k.partition = m.partition
  AND c.applied_to = m.before
"""


def relay_of(topic: int) -> str:
    """The consumer under whose name a topic's copying stands in log_consumer."""
    return f"relay.{TOPICS[topic]}"


RELAYS: Final = tuple(relay_of(topic) for topic in TOPICS)


class Relay:
    """The work of the role `relay`. Several share the partitions.

    Args:
        sender: gives the (id, epoch) under which this process holds partitions now.
    """

    def __init__(self, db: Database, ids: Ids, settings: KafkaSettings, *, sender: Callable[[], tuple[str, int]]) -> None:
        self._db = db
        self._ids = ids
        self._settings = settings
        self._sender = sender
        self._publisher = Publisher(settings)
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is something to publish."""
        self._wake.set()

    async def run(self) -> None:
        """Copy for ever; survives a lost database and a lost cluster. Ends only by cancellation."""
        holding = asyncio.create_task(self._keep_holding())
        try:
            while True:
                try:
                    await begin_copying(self._db, self._ids)
                    await ensure_topics(self._settings)
                    while True:
                        await self._round()
                except (Unavailable, ResultUnknown, Again) as error:
                    log.warning("relay_waits", reason=str(error))
                    await sleep(PAUSE_SECONDS)
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)

    async def close(self) -> None:
        """Give up what is under way, which is published again by whoever comes next."""
        await self._publisher.close()

    async def run_once(self) -> int:
        """Publish what is new, and store how far the cluster has it; returns how much that was. Safe to repeat.

        Raises Unavailable when the cluster did not take all of it; what it took is stored.
        """
        rows = await self._db.fetch(_NEXT, RELAYS, self._sender()[0], EACH_MAX)
        if not rows:
            return 0
        crash_point("relay.publish")
        reached = await self._publisher.publish(rows)
        crash_point("relay.acknowledged")
        await self._move(rows, reached)
        if len(reached) < len({(row["topic"], row["partition"]) for row in rows}) or self._publisher.problem:
            raise Unavailable(f"Kafka does not take entries: {self._publisher.problem}")
        return len(rows)

    async def _round(self) -> None:
        self._wake.clear()
        if await self.run_once():
            return
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _move(self, rows: Sequence[Record], reached: Mapping[tuple[int, int], int]) -> None:
        before = {(row["topic"], row["partition"]): (row["consumer"], row["applied_to"]) for row in rows}
        moves = [(*before[place], place[1], position) for place, position in sorted(reached.items())]
        if moves:
            await self._db.execute(
                _MOVE, self._sender()[0], [one[0] for one in moves], [one[2] for one in moves], [one[1] for one in moves],
                [one[3] for one in moves],
            )

    async def _keep_holding(self) -> None:
        while True:
            try:
                for name in RELAYS:
                    await hold_partitions(self._db, name, *self._sender(), role=RELAY_ROLE)
            except (Unavailable, ResultUnknown, Again) as error:
                log.warning("relay_waits", reason=str(error))
            await sleep(HOLD_SECONDS)


async def begin_copying(db: Database, ids: Ids) -> None:
    """Make what a first copy needs: a name for the stream, unless it has one, and the relay's positions. Safe to repeat."""
    await db.execute(_STREAM, ids.new("log"))
    for topic in TOPICS:
        await db.execute(_BEGIN, relay_of(topic), topic)
