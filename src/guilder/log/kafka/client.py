"""What every client of ours tells librdkafka, and the topics as they have to be."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from guilder.config import KafkaSettings, WrongSetting
from guilder.core.clock import DAY
from guilder.core.errors import Unavailable
from guilder.log.kafka.message import TOPICS, topic_name
from guilder.log.model import PARTITIONS

log = structlog.get_logger(__name__)

# Longest wait for a cluster's answer to a question about its topics.
ADMIN_SECONDS: Final = 10.0
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
    """Make the topics that are missing, and give those with too few partitions the rest. Safe to repeat.

    A topic that is there keeps its replication and retention. Raises Unavailable.
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
        _settled(admin.create_topics(
            [NewTopic(name, num_partitions=PARTITIONS, replication_factor=replicas, config=config) for name in missing],
            operation_timeout=ADMIN_SECONDS,
        ) if missing else {}, fine=KafkaError.TOPIC_ALREADY_EXISTS)
        narrow = [name for name in names if name in cluster.topics and len(cluster.topics[name].partitions) < PARTITIONS]
        _settled(admin.create_partitions([NewPartitions(name, PARTITIONS) for name in narrow]) if narrow else {}, fine=None)
    except KafkaException as error:
        raise Unavailable(f"Kafka: {error.args[0]}") from error


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
