"""The log's topics in Kafka, from outside: what is in them, and what somebody puts there who should not."""

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec import Struct

PREFIX: Final = "guilder"
TOPICS: Final = (f"{PREFIX}.attempts", f"{PREFIX}.events")
# The log's. A topic may have fewer, which they share: partition p is in p modulo their number.
PARTITIONS: Final = 16
SECONDS_MAX: Final = 20.0
QUIET: Final[dict[str, Any]] = {"log_level": 0, "error_cb": lambda _error: None}
PATIENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.5
Answer = TypeVar("Answer")
# Brokers of ours take messages of a megabyte.
MESSAGE_BYTES_MAX: Final = 1_000_000


def patiently(work: Callable[[], Answer]) -> Answer:
    """Do it until brokers that have just come back go along. Raises KafkaException when they do not in time."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return work()
        except KafkaException:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE_SECONDS)


def partition_of(key: bytes | None) -> int:
    """The partition of the log that a key goes to."""
    return zlib.crc32(key or b"") % PARTITIONS


def _places(client: Any, topic: str) -> int:  # noqa: ANN401 - the library has no types
    """How many partitions a topic has. Raises KafkaException when there is no such topic."""
    found = client.list_topics(topic, timeout=SECONDS_MAX).topics[topic]
    if not found.partitions:
        raise KafkaException(f"{topic} has no partitions")
    return len(found.partitions)


class Record(Struct, frozen=True):
    """One message. `partition` is the topic's; what is put there may name one of the log's."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Stream, topic, partition of the log and position; of what is no entry, the last is -1."""
        headers = dict(self.headers)
        stream, position = headers.get("stream", b""), headers.get("position", b"")
        return stream.decode(errors="replace"), self.topic, partition_of(self.key), int(position) if position.isdigit() else -1


class Topics:
    """Reads and writes; waits for the brokers. Nothing here is asynchronous."""

    def __init__(self, bootstrap: str) -> None:
        self._brokers: dict[str, Any] = {"bootstrap.servers": bootstrap, **QUIET}

    def led(self) -> bool:
        """Whether each partition has a leader, and its copies are in step again."""
        try:
            topics = AdminClient(self._brokers).list_topics(timeout=SECONDS_MAX).topics
        except KafkaException:
            return False
        found = [list(topics[name].partitions.values()) if name in topics else [] for name in TOPICS]
        led = all(one.leader >= 0 and len(one.isrs) == len(one.replicas) for partitions in found for one in partitions)
        return all(found) and led

    def all(self) -> list[Record]:
        """Everything that the topics hold now."""
        return [one for topic in TOPICS for one in patiently(lambda topic=topic: self._all_of(topic))]  # type: ignore[misc]

    def _all_of(self, topic: str) -> list[Record]:
        consumer = Consumer(self._brokers | {"group.id": "chaos", "enable.auto.commit": False})
        try:
            return list(self._read(consumer, topic))
        finally:
            consumer.close()

    def put(self, records: Sequence[Record]) -> None:
        """Put these in, in this order. Raises KafkaException when they are not all taken."""
        producer = Producer(self._brokers | {"message.max.bytes": 2 * MESSAGE_BYTES_MAX})
        places = {topic: _places(producer, topic) for topic in TOPICS}
        for one in records:
            producer.produce(
                one.topic, key=one.key, value=one.value, partition=one.partition % places[one.topic], headers=list(one.headers),
            )
        if producer.flush(SECONDS_MAX):
            raise KafkaException("not everything was taken")

    def set_offsets(self, consumer_name: str, topic: str, offset: int) -> None:
        """Say that a consumer of the product's is there, in every partition."""
        consumer = Consumer(self._brokers | {"group.id": f"{PREFIX}.{consumer_name}"})
        try:
            offsets = [TopicPartition(topic, one, offset) for one in range(_places(consumer, topic))]
            patiently(lambda: consumer.commit(offsets=offsets, asynchronous=False))
        finally:
            consumer.close()

    @staticmethod
    def _read(consumer: Any, topic: str) -> Iterator[Record]:  # noqa: ANN401 - the library has no types
        places = range(_places(consumer, topic))
        bounds = {one: consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=SECONDS_MAX) for one in places}
        wanted = {one: end for one, (begin, end) in bounds.items() if end > begin}
        consumer.assign([TopicPartition(topic, one, OFFSET_BEGINNING) for one in wanted])
        while wanted:
            raw = consumer.poll(SECONDS_MAX)
            if raw is None:
                raise KafkaException(f"{topic} cannot be read to its end")
            if raw.error() is not None:
                continue
            yield Record(topic, raw.partition(), raw.key(), raw.value(), tuple(raw.headers() or ()))
            if raw.offset() >= wanted.get(raw.partition(), 0) - 1:
                wanted.pop(raw.partition(), None)
