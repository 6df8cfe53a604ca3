"""One partition's messages, in the order of their positions however they come, and whether Kafka keeps pace. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from guilder.log.kafka.message import Message
from guilder.log.model import Entry

# How far beyond the applied position a message may be and is still kept: more than a feed has in hand. What is beyond comes
# from another life of the outbox, or after a loss; in both cases the outbox has what is right.
AHEAD_MAX = 20_000
# How far behind the outbox's head the newest message may be for Kafka to count as keeping pace.
BEHIND_MAX = 64


class Held(Struct, frozen=True):
    """What PostgreSQL says of a partition: how far it is applied, where the outbox ends, whose positions these are."""

    applied_to: int
    head: int
    stream: str
    through_kafka: bool


class Shelf:
    """Messages that are not applied yet.

    `late` says that the partition is to be read from the outbox: since it is new here, or since an entry did not come in
    time; until a message shows that Kafka keeps pace again.
    """

    def __init__(self) -> None:
        self.late = True
        # What the last look found; None before the first.
        self._held: Held | None = None
        self._waiting_since: float | None = None
        self._messages: dict[int, Message] = {}
        self._newest = 0
        self._unwritten: Sequence[int] = ()
        # The offset behind the last message that was applied, to be told to the cluster.
        self.behind: int | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> None:
        """Keep a message if it can be of use."""
        held = self._held
        if held is None or message.stream != held.stream:
            return
        position = message.entry.position
        if position > held.head - BEHIND_MAX:
            self.late = False
        if position <= held.applied_to:
            self.behind = message.offset + 1
        elif position <= held.applied_to + AHEAD_MAX:
            self._messages[position] = message
            self._newest = max(self._newest, position)

    def before_look(self) -> None:
        """PostgreSQL is about to be asked: what is here now was written before, or by nobody."""
        if self._held is not None and self._newest > self._held.head:
            self._unwritten = [position for position in self._messages if position > self._held.head]

    def look(self, held: Held, now: float, patience: float) -> bool:
        """Take up what PostgreSQL says now, and forget what has been applied; True when the partition has just become late.

        Args:
            patience: for how many seconds an entry may stand in the outbox that Kafka has not brought.
        """
        before = self._held
        if before is not None and before.stream != held.stream:
            self._messages.clear()
            self.late = True
        gone = range(before.applied_to + 1 if before is not None else 0, held.applied_to + 1)
        for position in gone if len(gone) < len(self._messages) else [one for one in self._messages if one in gone]:
            message = self._messages.pop(position, None)
            if message is not None:
                self.behind = message.offset + 1
        for position in self._unwritten:
            if position > held.head:
                self._messages.pop(position, None)
        self._unwritten = ()
        self._held = held
        if self.late or held.applied_to >= held.head or held.applied_to + 1 in self._messages:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        self.late = now - self._waiting_since >= patience
        return self.late

    def following(self, each: int) -> list[Entry]:
        """The entries that come next, without a gap; none beyond what the outbox is known to have."""
        found: list[Entry] = []
        if self._held is not None:
            position = self._held.applied_to + 1
            while position <= self._held.head and len(found) < each and (message := self._messages.get(position)) is not None:
                found.append(message.entry)
                position += 1
        return found

    @property
    def misses_something(self) -> bool:
        """Whether the next entry is in the outbox and has to be read there: the partition is late, or a later one has come."""
        held = self._held
        if held is None or held.applied_to >= held.head or held.applied_to + 1 in self._messages:
            return False
        return self.late or not held.through_kafka or any(position <= held.head for position in self._messages)
