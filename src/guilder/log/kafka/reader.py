"""Reading through Kafka: the feed's messages held against the positions in PostgreSQL, and the outbox for whatever is not among them.

A message counts when it bears the outbox's stream and the position that comes next. What was applied before is a duplicate
and forgotten. A jump is a loss: the outbox has what is missing. So has it what Kafka does not bring in time, whatever the
reason: a tail that was acknowledged and lost, a topic that is gone, a relay or a cluster that is down.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from guilder.config import KafkaSettings
from guilder.core.clock import Clock
from guilder.db.pool import Database
from guilder.log.kafka.feed import Feed
from guilder.log.kafka.shelf import Held
from guilder.log.model import Entry
from guilder.log.outbox import entries_after
from guilder.log.port import NOTHING, Read

log = structlog.get_logger(__name__)

# How long an entry may stand in the outbox before it is read there. Kafka's own way takes some 10 ms; an executor that
# finds it neither here nor there would come upon its row after 5 s.
STALL_SECONDS: Final = 2.0
# How often we look for what nobody has told us about: new partitions, moved positions, entries that do not come.
LOOK_SECONDS: Final = 0.5
# How long what arrives is gathered before the consumer is told: partitions come one after the other, and a claim or a transaction
# for each would cost more than all that is in them.
GATHER_SECONDS: Final = 0.001
# How often the cluster is told how far we are. What that costs at most is duplicates, at the next start.
COMMIT_SECONDS: Final = 5.0

_HELD: Final = """
SELECT c.partition, c.applied_to, c.log, h.head, (SELECT id FROM log_stream) AS stream
FROM log_consumer c JOIN log_head h ON h.topic = c.topic AND h.partition = c.partition
WHERE c.consumer = $1 AND c.sender = $2 AND c.topic = $3
"""


class KafkaReader:
    """One consumer's reading of one topic through Kafka."""

    def __init__(
        self, db: Database, clock: Clock, settings: KafkaSettings, *,
        consumer: str, topic: int, sender: Callable[[], str], arrived: Callable[[], None] | None,
    ) -> None:  # fmt: skip
        self._db = db
        self._clock = clock
        self._told = arrived
        self.consumer = consumer
        self.topic = topic
        self.sender = sender
        self._feed = Feed(settings, consumer, topic, self._arrived)
        self._news = True
        self._gathering = False
        self._looked = float("-inf")
        self._committed = float("-inf")

    async def read(self, each: int) -> Read:
        now = self._clock.boot()
        if not self._news and now - self._looked < LOOK_SECONDS:
            return NOTHING
        self._news, self._looked = False, now
        for shelf in self._feed.shelves.values():
            shelf.before_look()
        rows = await self._db.fetch(_HELD, self.consumer, self.sender(), self.topic)
        held = {row["partition"]: Held(row["applied_to"], row["head"], row["stream"] or "", row["log"] == "kafka") for row in rows}
        self._feed.follow(held)
        self._take_up(held, now)
        missing: dict[int, int] = {}
        entries: list[Entry] = []
        for partition, shelf in self._feed.shelves.items():
            if shelf.misses_something:
                missing[partition] = held[partition].applied_to
            else:
                entries += shelf.following(each)
        self._feed.make_room()
        self._commit(now)
        entries += await entries_after(self._db, self.topic, missing, each)
        counts = Counter(entry.partition for entry in entries)
        # Where the outbox is read nobody tells us when there is more; and what was read of a partition may not have been all.
        outside = any(shelf.late or not held[partition].through_kafka for partition, shelf in self._feed.shelves.items())
        self._news |= outside or any(count == each for count in counts.values())
        return Read({partition: held[partition].applied_to for partition in counts}, entries)

    async def close(self) -> None:
        await self._feed.close()

    def _arrived(self) -> None:
        if not self._gathering:
            self._gathering = True
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._tell)

    def _tell(self) -> None:
        self._gathering = False
        self._news = True
        if self._told is not None:
            self._told()

    def _take_up(self, held: Mapping[int, Held], now: float) -> None:
        """What PostgreSQL says now. One partition for which Kafka is late makes all of them so: each need not wait as long again."""
        shelves = self._feed.shelves
        late = [partition for partition, shelf in shelves.items() if shelf.look(held[partition], now, STALL_SECONDS)]
        if late:
            log.warning("kafka_is_late_so_the_outbox_is_read", consumer=self.consumer, topic=self.topic, partition=late[0])
            for shelf in shelves.values():
                shelf.late = True

    def _commit(self, now: float) -> None:
        if now - self._committed < COMMIT_SECONDS:
            return
        self._committed = now
        behind = {partition: shelf.behind for partition, shelf in self._feed.shelves.items() if shelf.behind is not None}
        if behind:
            self._feed.commit(behind)
            for partition in behind:
                self._feed.shelves[partition].behind = None


class KafkaLog:
    """The log read through Kafka. Each reader is a client of its own, so that none waits for another's effects."""

    def __init__(self, db: Database, clock: Clock, settings: KafkaSettings) -> None:
        self._db = db
        self._clock = clock
        self._settings = settings

    def reader(self, consumer: str, topic: int, sender: Callable[[], str], arrived: Callable[[], None] | None = None) -> KafkaReader:
        return KafkaReader(self._db, self._clock, self._settings, consumer=consumer, topic=topic, sender=sender, arrived=arrived)
