"""The port: where a consumer's next entries come from. The outbox is one such log, Kafka the other; nobody else knows which it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from guilder.log.model import Entry


class Read(Struct, frozen=True):
    """What was read for a consumer.

    Each partition's entries follow its consumer's position without a gap, in order.

    Args:
        before: what the consumer had applied when it was read, for each partition that has entries here.
    """

    before: Mapping[int, int]
    entries: Sequence[Entry]


NOTHING = Read({}, ())


class Reader(Protocol):
    """One consumer's reading of one topic, in one process. It reads the partitions that the consumer's rows give to its sender."""

    consumer: str
    topic: int
    sender: Callable[[], str]

    async def read(self, each: int) -> Read:
        """What comes after the stored positions, at most so many entries of a partition. Changes nothing; safe to repeat.

        An entry is read again until its position is stored as applied. Raises what the database does.
        """
        ...

    async def close(self) -> None:
        """Let go of what the reading needs. The entries stay where they are."""
        ...


class Log(Protocol):
    """A log that consumers can read."""

    def reader(self, consumer: str, topic: int, sender: Callable[[], str], arrived: Callable[[], None] | None = None) -> Reader:
        """A reader for a consumer.

        Args:
            sender: gives the id under which this process holds partitions now.
            arrived: called when there may be something to read, by a log that knows; None to be told nothing.
        """
        ...
