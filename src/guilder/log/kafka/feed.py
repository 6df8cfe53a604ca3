"""Feed: what Kafka brings of some partitions, as it comes, in a thread of its own; never a group's `subscribe`.

Nothing here is believed: the reader holds every message against the positions that PostgreSQL has.
"""

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final

import structlog
from confluent_kafka import OFFSET_STORED, Consumer, KafkaException, TopicPartition

from guilder.config import KafkaSettings
from guilder.core.crash import crash_point
from guilder.log.kafka.client import client_settings, count_places
from guilder.log.kafka.message import Message, message_of, place_of, topic_name
from guilder.log.kafka.shelf import Shelf
from guilder.log.model import TOPIC_ATTEMPTS, TOPIC_EVENTS

log = structlog.get_logger(__name__)

# Messages handed over from the client's thread at once.
HANDED_MAX: Final = 1_000
# With so many in hand the thread waits until some have been applied: what a consumer does in a second.
IN_HAND_MAX: Final = 10_000
# How long the thread waits for a message before it looks at what it is told.
WAIT_SECONDS: Final = 0.1
# How soon the cluster is asked again how many partitions the topic has: while nobody knows, and after that.
COUNT_SECONDS: Final = 1.0
COUNT_AGAIN_SECONDS: Final = 30.0
# The client's own store for one partition, and how soon it asks again when that was full.
PREFETCHED_KILOBYTES: Final = 1_024
PREFETCH_AGAIN_MILLISECONDS: Final = 20
# The cluster answers as soon as so much is there, or after so long. Attempts are waited for; of events, which are looked at every
# 50 ms at most, many small answers would cost more than all that is in them.
FETCHED_BYTES: Final = {TOPIC_ATTEMPTS: 1, TOPIC_EVENTS: 65_536}
FETCH_MILLISECONDS: Final = {TOPIC_ATTEMPTS: 500, TOPIC_EVENTS: 100}

class Feed:
    """Brings messages of the partitions that it is told to follow, and puts each on its partition's shelf.

    Args:
        group: under which name the cluster keeps how far we are. That is a hint for the next start, and nothing more.
        arrived: called in the event loop when there are new messages.
    """

    def __init__(self, settings: KafkaSettings, group: str, topic: int, arrived: Callable[[], None]) -> None:
        self._name = topic_name(settings.prefix, topic)
        self._topic = topic
        self._arrived = arrived
        # Which partitions of the topic in Kafka are to be followed follows from which of ours are: both are the thread's.
        self._places: int | None = None
        self._counted = float("-inf")
        self._followed: frozenset[int] = frozenset()
        self._loop = asyncio.get_running_loop()
        self._consumer = Consumer({
            **client_settings(settings, group),
            "group.id": f"{settings.prefix}.{group}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Where the cluster knows no offset of ours the outbox has what came before; so does it after a loss.
            "auto.offset.reset": "latest",
            "queued.max.messages.kbytes": PREFETCHED_KILOBYTES,
            "fetch.queue.backoff.ms": PREFETCH_AGAIN_MILLISECONDS,
            "allow.auto.create.topics": False,
            "fetch.min.bytes": FETCHED_BYTES[topic],
            "fetch.wait.max.ms": FETCH_MILLISECONDS[topic],
        })  # fmt: skip
        self.shelves: dict[int, Shelf] = {}
        self._wanted: frozenset[int] = frozenset()
        self._reached: SimpleQueue[Mapping[int, int]] = SimpleQueue()
        self._room = threading.Event()
        self._room.set()
        self._ended = False
        self._thread = threading.Thread(target=self._follow, name=f"kafka {group}", daemon=True)
        self._thread.start()

    def follow(self, partitions: Collection[int]) -> None:
        """Follow these and no others. New ones begin where the cluster knows that we were."""
        for partition in self.shelves.keys() - partitions:
            del self.shelves[partition]
        self.shelves.update((partition, Shelf()) for partition in partitions if partition not in self.shelves)
        self._wanted = frozenset(partitions)

    def make_room(self) -> None:
        """Let the thread go on, if enough has been applied."""
        if sum(map(len, self.shelves.values())) < IN_HAND_MAX:
            self._room.set()

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the cluster at which offset to go on with each partition of ours, without waiting for it.

        A hint: whatever becomes of it, nothing is lost or doubled.
        """
        crash_point("offset.commit")
        self._reached.put(offsets)

    async def close(self) -> None:
        """End the thread and leave the cluster."""
        self._ended = True
        self._room.set()
        await asyncio.to_thread(self._thread.join)

    def _follow(self) -> None:
        """The thread's work. Nobody else calls the client: some of its calls wait for each other."""
        while not self._ended:
            self._follow_wanted()
            self._commit()
            self._room.wait()
            try:
                # Not a batch at once: that waits until it is full.
                first = self._consumer.poll(WAIT_SECONDS)
                raw = [] if first is None else [first, *self._consumer.consume(num_messages=HANDED_MAX, timeout=0)]
            except KafkaException:
                # Broken for good: the reader lives on the outbox.
                log.exception("kafka_feed_ended", topic=self._topic)
                break
            if raw and not self._ended:
                self._hand_over([one for message in raw if (one := self._read(message)) is not None])

        self._consumer.close()

    def _follow_wanted(self) -> None:
        """Follow what is wanted now, as far as the cluster can be asked how its topic is cut."""
        now = monotonic()
        if now - self._counted >= (COUNT_SECONDS if self._places is None else COUNT_AGAIN_SECONDS):
            self._counted = now
            self._places = count_places(self._consumer, self._name) or self._places
        if self._places is None:
            return
        wanted = frozenset(place_of(partition, self._places) for partition in self._wanted)
        if gone := self._followed - wanted:
            self._tell(self._consumer.incremental_unassign, [TopicPartition(self._name, place) for place in gone])
        if new := wanted - self._followed:
            self._tell(self._consumer.incremental_assign, [TopicPartition(self._name, place, OFFSET_STORED) for place in new])
        self._followed = wanted

    def _commit(self) -> None:
        """Of ours that share a partition in Kafka the furthest counts: what another has not applied by then comes from the outbox."""
        while self._places is not None and not self._reached.empty():
            furthest: dict[int, int] = {}
            for partition, offset in self._reached.get().items():
                place = place_of(partition, self._places)
                furthest[place] = max(offset, furthest.get(place, 0))
            places = [TopicPartition(self._name, place, offset) for place, offset in furthest.items() if place in self._followed]
            if places:
                self._tell(lambda reached: self._consumer.commit(offsets=reached, asynchronous=True), places)

    def _tell(self, order: Callable[[list[TopicPartition]], Any], places: list[TopicPartition]) -> None:
        try:
            order(places)
        except KafkaException as error:
            # An offset that is not stored costs duplicates; a partition that is not followed is read from the outbox.
            log.warning("kafka_error", code=error.args[0].name(), topic=self._topic)

    def _hand_over(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        try:
            self._loop.call_soon_threadsafe(self._take, messages)
        except RuntimeError:
            # The loop has ended before us.
            self._ended = True

    def _read(self, raw: Any) -> Message | None:
        if (error := raw.error()) is not None:
            log.warning("kafka_error", code=error.name(), topic=self._topic, partition=raw.partition())
            return None
        message = message_of(raw, self._topic)
        if message is None:
            log.error("message_unreadable", topic=self._topic, partition=raw.partition(), position=raw.offset())
        return message

    def _take(self, messages: Sequence[Message]) -> None:
        for message in messages:
            shelf = self.shelves.get(message.entry.partition)
            if shelf is not None:
                shelf.put(message)
        if sum(map(len, self.shelves.values())) >= IN_HAND_MAX:
            self._room.clear()
        self._arrived()
