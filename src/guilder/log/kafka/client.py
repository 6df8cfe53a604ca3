"""What every client of ours tells librdkafka, and the topics as they have to be."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from guilder.config import KafkaSettings, WrongSetting
from guilder.core.clock import DAY
from guilder.core.errors import Unavailable
from guilder.log.kafka.message import TOPICS, topic_name
from guilder.log.model import PARTITIONS

log = structlog.get_logger(__name__)

# Longest wait for a cluster's answer to a question about its topics.
ADMIN_SECONDS: Final = 10.0
# The same for clients at work, which go on meanwhile without an answer.
COUNT_SECONDS: Final = 2.0
# With three copies one broker may be lost and acknowledged messages are still on two; a single broker has only itself.
REPLICAS_WANTED: Final = 3
# As long as the outbox keeps what everybody has applied.
RETENTION: Final = 7 * DAY // 1000


def client_settings(settings: KafkaSettings, name: str) -> dict[str, Any]:
    """What all clients have in common. librdkafka's own log lines are not ours: it tells its errors to the callback."""
    return {
        **dict(settings.passed_on),
        "bootstrap.servers": settings.bootstrap,
        "client.id": f"guilder-{name}",
        # A broker that has gone is asked for again soon; its absence costs latency, never an entry.
        "reconnect.backoff.max.ms": 1_000,
        "socket.keepalive.enable": True,
        "log_level": 0,
        "error_cb": _noticed,
    }


def check_settings(settings: KafkaSettings) -> None:
    """Whether librdkafka takes these settings; nothing is connected. Raises WrongSetting."""
    try:
        admin_client(settings)
    except KafkaException as error:
        raise WrongSetting(f"what is set for Kafka's client beside GUILDER_KAFKA_BOOTSTRAP: {error.args[0].str()}") from error


def _noticed(error: KafkaError) -> None:
    # Called by a thread of the client's; says what it tries to mend by itself.
    log.warning("kafka_error", code=error.name())


async def ensure_topics(settings: KafkaSettings) -> None:
    """Make the topics that are missing. Safe to repeat. One that is there stays as it is. Raises Unavailable.

    A new topic has a partition for each broker, so that all of them share the work: the client sends each partition's entries in a
    request of its own, and what that costs depends little on what is in it.
    """
    await asyncio.to_thread(_ensure_topics, settings)


async def describe_topics(settings: KafkaSettings) -> str:
    """The cluster in a few words, for people. Raises Unavailable."""
    return await asyncio.to_thread(_describe_topics, settings)


def admin_client(settings: KafkaSettings) -> AdminClient:
    """A client that asks about the cluster."""
    return AdminClient(client_settings(settings, "admin"))


def _ensure_topics(settings: KafkaSettings) -> None:
    admin = admin_client(settings)
    try:
        cluster = admin.list_topics(timeout=ADMIN_SECONDS)
        replicas = min(REPLICAS_WANTED, len(cluster.brokers))
        config = {"retention.ms": str(RETENTION), "min.insync.replicas": str(max(1, replicas - 1))}
        names = [topic_name(settings.prefix, topic) for topic in TOPICS]
        missing = [name for name in names if name not in cluster.topics]
        partitions = min(PARTITIONS, len(cluster.brokers))
        new = [NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=config) for name in missing]
        _settled(admin.create_topics(new, operation_timeout=ADMIN_SECONDS) if new else {}, fine=KafkaError.TOPIC_ALREADY_EXISTS)
    except KafkaException as error:
        raise Unavailable(f"Kafka: {error.args[0]}") from error
    except TimeoutError as error:
        raise Unavailable(f"Kafka made no topic within {ADMIN_SECONDS} s") from error


def count_places(client: Consumer | Producer, name: str) -> int | None:
    """How many partitions a topic has in Kafka; None while nobody can say. Waits for the cluster."""
    try:
        found = client.list_topics(name, timeout=COUNT_SECONDS).topics[name]
    except KafkaException as error:
        log.warning("kafka_error", code=error.args[0].name())
        return None
    return len(found.partitions) or None


def _describe_topics(settings: KafkaSettings) -> str:
    try:
        cluster = admin_client(settings).list_topics(timeout=ADMIN_SECONDS)
    except KafkaException as error:
        raise Unavailable(f"Kafka: {error.args[0]}") from error
    words = [f"{len(cluster.brokers)} brokers"]
    for name in (topic_name(settings.prefix, topic) for topic in TOPICS):
        found = cluster.topics.get(name)
        if found is None:
            words.append(f"{name} is missing")
            continue
        led = sum(one.leader >= 0 for one in found.partitions.values())
        copies = min((len(one.isrs) for one in found.partitions.values()), default=0)
        words.append(f"{name}: {led} of {len(found.partitions)} partitions are led, {copies} or more copies in sync")
    return "; ".join(words)


def _settled(futures: Mapping[str, Any], *, fine: int | None) -> None:
    """Wait for all of them; an error that says what was wanted anyway is none."""
    for future in futures.values():
        try:
            future.result(ADMIN_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != fine:
                raise
