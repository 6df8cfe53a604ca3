"""The log through Kafka with every part in the test's own hand: when the relay copies, and what else is in the topics."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from guilder.core.clock import sleep
from guilder.core.errors import Unavailable
from guilder.db import Database
from guilder.log.kafka.client import ensure_topics
from guilder.log.kafka.message import message_of, topic_name
from guilder.log.kafka.relay import RELAYS, Relay, begin_copying
from guilder.log.model import PARTITIONS, TOPIC_EVENTS, partition_of
from log_world import CONSUMER, RELAY, LogWorld, log_world, settings_for

QUIET = {"log_level": 0, "error_cb": lambda _error: None}
TOPIC_SECONDS = 20.0
COPIED_SECONDS_MAX = 100.0


class KafkaWorld:
    """A consumer on Kafka, a relay that copies when told to, and an owner who may do anything to the outbox."""

    def __init__(self, log: LogWorld, owner: asyncpg.Connection) -> None:
        assert log.kafka is not None
        self.log = log
        self.owner = owner
        self.settings = log.kafka
        self.topic = topic_name(log.kafka.prefix, TOPIC_EVENTS)
        self.relay = Relay(log.db, log.ids, log.kafka, sender=lambda: (RELAY, 1))

    async def start(self) -> None:
        """Make the topics and the relay's rows, and have the consumer follow its partitions."""
        await ensure_topics(self.settings)
        await begin_copying(self.log.db, self.log.ids)
        await self.owner.execute("UPDATE log_consumer SET sender = $1, epoch = 1 WHERE NOT awaited", RELAY)
        await self.follow()

    async def follow(self) -> None:
        """Let the consumer take what comes from here on, and no older entry, through Kafka; returns when it does."""
        while not await self._keeps_pace():
            await self.log.append(*((f"pace{number}", b"pace") for number in range(64)))
            await self.copied()
            await self.log.drain()
        await self.owner.execute("TRUNCATE handled")

    async def _keeps_pace(self) -> bool:
        reader = self.log.readers[0]
        await sleep(0.05)
        shelves = reader._feed.shelves.values()  # type: ignore[attr-defined]
        return len(shelves) == PARTITIONS and not any(shelf.late for shelf in shelves)

    async def copy(self) -> None:
        """Have the relay publish all that there is."""
        for lane in self.relay.lanes.values():
            while await lane.run_once():
                pass

    async def copied(self) -> None:
        """Publish until Kafka has taken all that there is: a topic that was just made, or lost, is not known to every broker at once."""
        async with asyncio.timeout(COPIED_SECONDS_MAX):
            while True:
                try:
                    await ensure_topics(self.settings)
                    return await self.copy()
                except Unavailable:
                    await sleep(0.1)

    async def forget_copying(self) -> None:
        """The relay's positions as they are when it dies after the acknowledgement, before anything is stored of it."""
        await self.owner.execute("UPDATE log_consumer SET applied_to = 0 WHERE consumer = ANY ($1)", list(RELAYS))

    async def pretend_copied(self) -> None:
        """The relay's positions as they are when Kafka has acknowledged everything, and lost it."""
        await self.owner.execute(
            "UPDATE log_consumer c SET applied_to = h.head FROM log_head h "
            "WHERE c.consumer = ANY ($1) AND h.topic = c.topic AND h.partition = c.partition", list(RELAYS),
        )  # fmt: skip

    async def stream(self) -> str:
        """The name of the stream."""
        return str(await self.log.db.fetchval("SELECT id FROM log_stream"))

    def produce(self, key: str, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        """Put any message into the topic, where entries of this key are."""
        producer = Producer({"bootstrap.servers": self.settings.bootstrap, **QUIET})
        producer.produce(self.topic, key=key.encode(), value=value, partition=partition_of(key) % self.places(), headers=list(headers))
        assert producer.flush(TOPIC_SECONDS) == 0

    def set_offsets(self, offset: int) -> None:
        """Set the offsets that the cluster keeps for the consumer."""
        consumer = Consumer({"bootstrap.servers": self.settings.bootstrap, "group.id": f"{self.settings.prefix}.{CONSUMER}", **QUIET})
        consumer.commit(offsets=[TopicPartition(self.topic, place, offset) for place in range(self.places())], asynchronous=False)
        consumer.close()

    async def positions(self) -> dict[int, list[int]]:
        """The positions of this stream that the topic holds, by partition of ours, in the order of their offsets."""
        stream, found = await self.stream(), {partition: [] for partition in range(PARTITIONS)}
        consumer = Consumer({"bootstrap.servers": self.settings.bootstrap, "group.id": "looks", **QUIET})
        ends = {p: consumer.get_watermark_offsets(TopicPartition(self.topic, p), timeout=10)[1] for p in range(self.places())}
        consumer.assign([TopicPartition(self.topic, p, OFFSET_BEGINNING) for p, end in ends.items() if end])
        waited = {p for p, end in ends.items() if end}
        while waited:
            raw = consumer.poll(TOPIC_SECONDS)
            assert raw is not None and raw.error() is None
            message = message_of(raw, TOPIC_EVENTS)
            if message is not None and message.stream == stream:
                found[message.entry.partition].append(message.entry.position)
            if raw.offset() >= ends[raw.partition()] - 1:
                waited.discard(raw.partition())
        consumer.close()
        return found

    def places(self) -> int:
        """How many partitions the topic has in Kafka."""
        return len(AdminClient({"bootstrap.servers": self.settings.bootstrap, **QUIET}).list_topics(timeout=10).topics[self.topic].partitions)

    def delete_topics(self) -> None:
        """Delete the topics with all that they hold."""
        admin = AdminClient({"bootstrap.servers": self.settings.bootstrap, **QUIET})
        names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(f"{self.settings.prefix}.")]
        for future in admin.delete_topics(names, operation_timeout=TOPIC_SECONDS).values():
            future.result()


@asynccontextmanager
async def kafka_world(dsn: str, db: Database, bootstrap: str, *, topics: str = "test") -> AsyncIterator[KafkaWorld]:
    """A world on topics that all tests may share, or on some of its own."""
    settings = settings_for(bootstrap, topics)
    async with log_world(dsn, db, settings, relayed=False) as log:
        owner = await asyncpg.connect(dsn)
        world = KafkaWorld(log, owner)
        try:
            await world.start()
            yield world
        finally:
            await world.relay.close()
            owner.terminate()
