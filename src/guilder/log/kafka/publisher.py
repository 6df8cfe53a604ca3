"""Publishing a batch: every entry ends acknowledged or refused before the next batch begins."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from guilder.config import KafkaSettings
from guilder.db.connection import Record
from guilder.log.kafka.client import client_settings, count_places
from guilder.log.kafka.message import headers_of, place_of, topic_name

log = structlog.get_logger(__name__)

# After so long without an acknowledgement an entry counts as refused, and is published again. Kafka elects a new leader in
# a few seconds; what it had taken all the same is a duplicate.
MESSAGE_MILLISECONDS: Final = 10_000
# How often the waiting thread looks whether it is to give up.
SLICE_SECONDS: Final = 0.1
# Largest entry; some hundred bytes are usual.
MESSAGE_BYTES_MAX: Final = 8_000_000


class Publisher:
    """An idempotent producer of one topic that waits for all replicas in sync. `problem`: why the last batch was not taken whole."""

    def __init__(self, settings: KafkaSettings, topic: int) -> None:
        self._settings = settings
        self._name = topic_name(settings.prefix, topic)
        self._producer: Producer | None = None
        # How many partitions the topic has; None: to be asked.
        self._places: int | None = None
        # Those of its partitions that did not take all of the batch.
        self._refused: set[int] = set()
        self._closed = threading.Event()
        self.problem = ""

    async def publish(self, rows: Sequence[Record]) -> dict[int, int]:
        """Send entries, each partition's in order; returns up to which position the cluster has each partition.

        Runs until every entry is acknowledged or refused; on close it gives up, and nobody knows of the rest. What is not
        reached may have been taken all the same. Never raises for what the cluster does.
        """
        return await asyncio.to_thread(self._publish, rows)

    async def close(self) -> None:
        """Give up what is under way."""
        self._closed.set()

    def _publish(self, rows: Sequence[Record]) -> dict[int, int]:
        self.problem = ""
        self._refused.clear()
        try:
            producer = self._producer = self._producer or Producer(self._client())
            places = self._places = self._places or count_places(producer, self._name)
            if places is None:
                self.problem = "the topic is not known"
                return {}
            self._produce(producer, rows, places)
            while producer.flush(SLICE_SECONDS):
                if self._closed.is_set():
                    return {}
        except (KafkaException, BufferError) as error:
            self.problem = str(error)
            log.warning("kafka_producer_begun_anew", reason=self.problem)
            # A fatal error (a lost producer id) ends a producer for good.
            self._producer = None
            return {}
        if self._refused:
            # The topic may be another one by now.
            self._places = None
        return {row["partition"]: row["position"] for row in rows if place_of(row["partition"], places) not in self._refused}

    def _produce(self, producer: Producer, rows: Sequence[Record], places: int) -> None:
        for row in rows:
            producer.produce(
                self._name,
                key=row["key"].encode(),
                value=row["payload"],
                partition=place_of(row["partition"], places),
                headers=headers_of(row["position"], row["stream"]),
                # Dated by the client: a cluster refuses what is dated by a business time that is more than an hour ahead.
            )

    def _told(self, error: KafkaError | None, message: Any) -> None:
        """Called by flush for what was refused. What the cluster has taken of that partition is published again with it."""
        if error is not None:
            self._refused.add(message.partition())
            self.problem = error.name()

    def _client(self) -> dict[str, Any]:
        return {
            **client_settings(self._settings, "relay"),
            "acks": "all",
            "enable.idempotence": True,
            "on_delivery": self._told,
            "delivery.report.only.error": True,
            "message.timeout.ms": MESSAGE_MILLISECONDS,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            # A batch is handed over at once and flushed: waiting for more would only add to the time of each.
            "linger.ms": 0,
            "compression.type": "lz4",
        }
