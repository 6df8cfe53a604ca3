"""The log's nouns: topics, partitions, entries, announcements."""

import zlib
from typing import Final

import msgspec
from msgspec import Struct

from guilder.shapes.facts import SHAPE, EventFacts, Facts, encode

# Sixteen: enough that four executors share the work evenly, few enough that one flush touches each counter row once.
PARTITIONS: Final = 16

TOPIC_ATTEMPTS: Final = 1
"""Wakes executors: the key is the payment, the payload the attempt's id."""
TOPIC_EVENTS: Final = 2
"""What happened: the key is the payment (or the object), the payload the ids and types of its events."""


def partition_of(key: str) -> int:
    """The partition that all entries of a key go to; stable for ever."""
    return zlib.crc32(key.encode()) % PARTITIONS


class NewEvent(Struct, frozen=True, kw_only=True):
    """An event to be announced. `previous` is the JSON of previous_attributes on *.updated events."""

    id: str
    account: str
    type: str
    object: Facts
    previous: bytes = b""
    request_id: str | None = None
    idempotency_key: str | None = None

    def facts(self) -> bytes:
        """What the event row stores."""
        return encode(EventFacts(SHAPE, self.object, self.previous))


class Announced(Struct, frozen=True, array_like=True):
    """The payload of an entry of TOPIC_EVENTS."""

    account: str
    livemode: bool
    events: tuple[tuple[str, str], ...]  # (event id, type)


announced_bytes = msgspec.msgpack.Encoder().encode
announced_from = msgspec.msgpack.Decoder(Announced).decode


class Entry(Struct, frozen=True):
    """One entry as a consumer sees it; (topic, partition, position) is its identity everywhere."""

    topic: int
    partition: int
    position: int
    key: str
    payload: bytes
