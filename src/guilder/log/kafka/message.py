"""An entry as a message of Kafka's: key and payload as they are, its position and its stream in headers. Pure.

Its partition follows from the key. A topic may have fewer partitions than the log: several of ours then share one of Kafka's.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from guilder.log.model import TOPIC_ATTEMPTS, TOPIC_EVENTS, Entry, partition_of

TOPICS: Final = {TOPIC_ATTEMPTS: "attempts", TOPIC_EVENTS: "events"}
POSITION: Final = "position"
STREAM: Final = "stream"
# A bigint has nineteen digits.
DIGITS_MAX: Final = 19


class Raw(Protocol):
    """A message as the client library has it."""

    def offset(self) -> int | None: ...

    def key(self) -> bytes | None: ...

    def value(self) -> bytes | None: ...

    def headers(self) -> Sequence[tuple[str, bytes | None]] | None: ...


class Message(Struct, frozen=True):
    """A message that is an entry of some stream."""

    entry: Entry
    stream: str
    offset: int


def topic_name(prefix: str, topic: int) -> str:
    """What a topic is called in Kafka."""
    return f"{prefix}.{TOPICS[topic]}"


def place_of(partition: int, places: int) -> int:
    """In which of a topic's partitions the entries of one of ours are."""
    return partition % places


def headers_of(position: int, stream: str) -> list[tuple[str, str | bytes | None]]:
    """The headers of an entry's message."""
    return [(POSITION, b"%d" % position), (STREAM, stream.encode())]


def message_of(raw: Raw, topic: int) -> Message | None:
    """What a message says; None when it is none of ours, whatever it holds."""
    headers = dict(raw.headers() or ())
    position, stream = headers.get(POSITION), headers.get(STREAM)
    offset, key, payload = raw.offset(), raw.key(), raw.value()
    if position is None or stream is None or offset is None or key is None or payload is None:
        return None
    if not position.isdigit() or len(position) > DIGITS_MAX or b"\0" in key:
        return None
    try:
        name = key.decode()
        return Message(Entry(topic, partition_of(name), int(position), name, payload), stream.decode(), offset)
    except UnicodeDecodeError:
        return None
