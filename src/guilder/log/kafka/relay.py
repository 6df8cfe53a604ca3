"""Relay: copies the outbox to Kafka. A reader of the outbox like others, whose effect is that the cluster has acknowledged.

Its positions are rows of log_consumer which nobody waits for. They move after the acknowledgement, so what dies in between
is published again; its position tells every consumer that it is the same entry.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from msgspec import Struct

from guilder.config import KafkaSettings
from guilder.core.clock import sleep
from guilder.core.crash import crash_point
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.ids import Ids
from guilder.db.errors import Again
from guilder.db.pool import KEPT, Database
from guilder.log.kafka.client import ensure_topics
from guilder.log.kafka.message import TOPICS
from guilder.log.kafka.publisher import Publisher
from guilder.log.model import PARTITIONS, TOPIC_ATTEMPTS, TOPIC_EVENTS
from guilder.log.partitions import hold_partitions

log = structlog.get_logger(__name__)

RELAY_ROLE: Final = "relay"
# Entries of one partition in one round; sixteen partitions make a round of some 20 ms at most.
EACH_MAX: Final = 128


class Pace(Struct, frozen=True):
    """How far the rounds of a topic are apart.

    A round is a request to every broker, whatever it holds, so under load fewer rounds are cheaper for all. A lone entry goes at once.

    Args:
        quiet_seconds: between two rounds, after one of less than CROWD entries.
        crowd_seconds: after any other.
        poll_seconds: how long beyond that a word is waited for that there is something.
    """

    quiet_seconds: float
    crowd_seconds: float
    poll_seconds: float


# Buyers wait for what attempts wake; nobody waits for events, and nobody tells us of them.
PACES: Final = {TOPIC_ATTEMPTS: Pace(0.005, 0.015, 0.25), TOPIC_EVENTS: Pace(0.05, 0.2, 0.0)}
# With fewer entries, a round saves too little to be waited for.
CROWD: Final = 8
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
# A failover gives positions that only this server has to other entries: nothing is published before the standby has it, too.
_NEXT: Final = f"""
SELECT c.partition, c.applied_to, e.position, e.key, e.payload,
       (SELECT id FROM log_stream) AS stream, (SELECT {KEPT}) AS kept
FROM log_consumer c CROSS JOIN LATERAL (
    SELECT l.position, l.key, l.payload FROM log_entry l
    WHERE l.topic = c.topic AND l.partition = c.partition AND l.position > c.applied_to ORDER BY l.position LIMIT $3) e
WHERE c.consumer = $1 AND c.sender = $2
"""
# What was published of another stream is nobody's: whoever begins one, locks its name first and these rows then, as this does.
_MOVE: Final = """
WITH stream AS (
    SELECT id FROM log_stream WHERE id = $6 FOR SHARE
), locked AS (
    SELECT partition FROM log_consumer
    WHERE (SELECT count(*) FROM stream) = 1 AND consumer = $1 AND sender = $2 AND partition = ANY ($3::smallint[])
    ORDER BY partition FOR UPDATE
)
UPDATE log_consumer c SET applied_to = m.after
FROM unnest($3::smallint[], $4::bigint[], $5::bigint[]) AS m(partition, before, after), locked k
WHERE c.consumer = $1 AND c.partition = m.partition AND k.partition = m.partition AND c.applied_to = m.before
"""


def relay_of(topic: int) -> str:
    """The consumer under whose name a topic's copying stands in log_consumer."""
    return f"relay.{TOPICS[topic]}"


RELAYS: Final = tuple(relay_of(topic) for topic in TOPICS)


class Lane:
    """The copying of one topic."""

    def __init__(self, db: Database, settings: KafkaSettings, topic: int, *, sender: Callable[[], str]) -> None:
        self._db = db
        self._sender = sender
        self._consumer = relay_of(topic)
        self._publisher = Publisher(settings, topic)
        self._pace = PACES[topic]
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is something to publish."""
        self._wake.set()

    async def copy_for_ever(self) -> None:
        """Round by round. Raises Unavailable when the cluster or the database does not go along."""
        while True:
            self._wake.clear()
            copied = await self.run_once()
            if copied >= EACH_MAX * PARTITIONS:
                continue
            await sleep(self._pace.crowd_seconds if copied >= CROWD else self._pace.quiet_seconds)
            try:
                async with asyncio.timeout(self._pace.poll_seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def run_once(self) -> int:
        """Publish what is new, and store how far the cluster has it; returns how much that was. Safe to repeat.

        Raises Unavailable when the cluster did not take all of it; what it took is stored.
        """
        rows = await self._db.fetch(_NEXT, self._consumer, self._sender(), EACH_MAX)
        if not rows:
            return 0
        crash_point("relay.publish")
        reached = await self._publisher.publish(rows)
        crash_point("relay.acknowledged")
        before = {row["partition"]: row["applied_to"] for row in rows}
        if reached:
            partitions = sorted(reached)
            await self._db.execute(
                _MOVE, self._consumer, self._sender(), partitions, [before[p] for p in partitions], [reached[p] for p in partitions],
                rows[0]["stream"],
            )  # fmt: skip
        if self._publisher.problem or len(reached) < len(before):
            raise Unavailable(f"Kafka does not take entries: {self._publisher.problem}")
        return len(rows)

    async def close(self) -> None:
        """Give up what is under way, which is published again by whoever comes next."""
        await self._publisher.close()


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
        self.lanes = {topic: Lane(db, settings, topic, sender=lambda: sender()[0]) for topic in TOPICS}

    async def run(self) -> None:
        """Copy for ever; survives a lost database and a lost cluster. Ends only by cancellation."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_holding())
            for lane in self.lanes.values():
                group.create_task(self._keep_copying(lane))

    async def close(self) -> None:
        """Give up what is under way."""
        for lane in self.lanes.values():
            await lane.close()

    async def _keep_copying(self, lane: Lane) -> None:
        while True:
            try:
                await begin_copying(self._db, self._ids)
                await ensure_topics(self._settings)
                await lane.copy_for_ever()
            except (Unavailable, ResultUnknown, Again) as error:
                log.warning("relay_waits", reason=str(error))
                await sleep(PAUSE_SECONDS)

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
