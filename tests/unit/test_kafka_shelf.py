"""One partition's messages: in the order of their positions however they come, and never one that the outbox does not have."""

import random

import pytest

from guilder.log.kafka.message import POSITION, STREAM, Message, headers_of, message_of
from guilder.log.kafka.shelf import AHEAD_MAX, BEHIND_MAX, Held, Shelf
from guilder.log.model import TOPIC_EVENTS, Entry, partition_of

PATIENCE = 2.0


def message(position: int, stream: str = "log_1", offset: int | None = None) -> Message:
    """A message of the partition."""
    return Message(Entry(TOPIC_EVENTS, 3, position, "key", b"%d" % position), stream, position if offset is None else offset)


def held(applied_to: int, head: int, *, stream: str = "log_1", through_kafka: bool = True) -> Held:
    """What PostgreSQL says."""
    return Held(applied_to, head, stream, through_kafka)


def looked(shelf: Shelf, said: Held, now: float = 0.0) -> bool:
    """A whole look."""
    shelf.before_look()
    return shelf.look(said, now, PATIENCE)


def positions(shelf: Shelf, each: int = 100) -> list[int]:
    """What comes next."""
    return [entry.position for entry in shelf.following(each)]


@pytest.fixture
def shelf() -> Shelf:
    """A partition that is applied up to 10, and for which Kafka keeps pace."""
    shelf = Shelf()
    looked(shelf, held(10, 10))
    shelf.put(message(10))
    assert not shelf.late
    return shelf


def test_messages_come_in_the_order_of_their_positions_and_once(shelf: Shelf) -> None:
    """However they were shuffled and doubled."""
    sent = [message(position) for position in range(5, 31)] * 2
    random.Random(7).shuffle(sent)
    for one in sent:
        shelf.put(one)
    looked(shelf, held(10, 30))
    assert positions(shelf) == list(range(11, 31))
    assert positions(shelf, each=4) == [11, 12, 13, 14]
    looked(shelf, held(20, 30))
    assert positions(shelf) == list(range(21, 31))
    looked(shelf, held(30, 30))
    assert (positions(shelf), len(shelf)) == ([], 0)


def test_a_gap_is_missed_at_once(shelf: Shelf) -> None:
    """What follows it waits until the outbox has filled it."""
    for position in (11, 13, 14):
        shelf.put(message(position))
    looked(shelf, held(10, 14))
    assert (positions(shelf), shelf.misses_something) == ([11], False)
    looked(shelf, held(11, 14))
    assert (positions(shelf), shelf.misses_something) == ([], True)
    looked(shelf, held(12, 14))
    assert (positions(shelf), shelf.misses_something) == ([13, 14], False)


def test_an_entry_that_does_not_come_is_missed_after_a_while(shelf: Shelf) -> None:
    """And until a message shows that Kafka keeps pace again."""
    assert not looked(shelf, held(10, 11), now=100.0)
    assert not looked(shelf, held(10, 11), now=100.0 + PATIENCE - 0.1)
    assert not shelf.misses_something
    assert looked(shelf, held(10, 11), now=100.0 + PATIENCE)
    assert shelf.misses_something
    assert not looked(shelf, held(11, 200), now=103.0), "it is told once"
    shelf.put(message(200 - BEHIND_MAX))
    assert shelf.late, "what it brings is old"
    shelf.put(message(199))
    assert not shelf.late


def test_a_new_partition_is_read_from_the_outbox_first() -> None:
    """Nobody knows yet whether Kafka brings anything."""
    shelf = Shelf()
    looked(shelf, held(0, 5))
    assert (shelf.late, shelf.misses_something) == (True, True)


def test_a_partition_that_is_read_from_postgres_is_missed_whatever_kafka_brings(shelf: Shelf) -> None:
    """But for what is here already."""
    looked(shelf, held(10, 12, through_kafka=False))
    assert shelf.misses_something


def test_positions_that_nobody_has_written_are_forgotten(shelf: Shelf) -> None:
    """A message that was here before PostgreSQL was asked, and of which PostgreSQL does not know, is nobody's."""
    for position in (11, 12, 10 + AHEAD_MAX, 11 + AHEAD_MAX):
        shelf.put(message(position))
    looked(shelf, held(10, 11))
    assert positions(shelf) == [11]
    assert len(shelf) == 1
    looked(shelf, held(11, 12))
    assert positions(shelf) == [], "the entry that is written there comes later"


def test_what_comes_while_postgresql_is_asked_is_kept(shelf: Shelf) -> None:
    """It may be newer than the answer."""
    shelf.before_look()
    shelf.put(message(11))
    shelf.look(held(10, 10), 0.0, PATIENCE)
    assert (positions(shelf), len(shelf)) == ([], 1)
    looked(shelf, held(10, 11))
    assert positions(shelf) == [11]


def test_another_stream_is_nobodys(shelf: Shelf) -> None:
    """Neither its messages nor what was here of the stream before."""
    shelf.put(message(11, "log_0"))
    shelf.put(message(11))
    looked(shelf, held(10, 11, stream="log_2"))
    assert (positions(shelf), shelf.late) == ([], True)
    shelf.put(message(11, "log_2"))
    looked(shelf, held(10, 11, stream="log_2"))
    assert positions(shelf) == [11]


def test_the_offset_behind_what_was_applied_is_known(shelf: Shelf) -> None:
    """Whatever the order was; it is what the cluster is told."""
    for position, offset in ((11, 107), (12, 108), (13, 109)):
        shelf.put(message(position, offset=offset))
    looked(shelf, held(12, 13))
    assert shelf.behind == 109


class Raw:
    """A message as the client library has it."""

    def __init__(self, *, key: bytes | None = b"pi_1", value: bytes | None = b"at_1", headers=()) -> None:
        self._of = {"offset": 9, "key": key, "value": value, "headers": headers}

    def __getattr__(self, name: str):
        return lambda: self._of[name]


def test_an_entry_survives_the_way_through_a_message() -> None:
    """Key, payload, position and stream; the partition is the key's, wherever Kafka has it."""
    found = message_of(Raw(headers=headers_of(2**62, "log_1")), TOPIC_EVENTS)
    assert found == Message(Entry(TOPIC_EVENTS, partition_of("pi_1"), 2**62, "pi_1", b"at_1"), "log_1", 9)


GOOD = {POSITION: b"7", STREAM: b"log_1"}


@pytest.mark.parametrize(
    "raw",
    [
        Raw(headers=None),
        Raw(headers=[(POSITION, b"7")]),
        Raw(headers=[(STREAM, b"log_1")]),
        *(Raw(headers=list({**GOOD, POSITION: wrong}.items())) for wrong in (b"", b"-7", b"7.0", b"seven", b"1" * 20, None)),
        *(Raw(headers=list({**GOOD, STREAM: wrong}.items())) for wrong in (b"\xff", None)),
        *(Raw(key=wrong, headers=list(GOOD.items())) for wrong in (None, b"\xff\xfe", b"pi\x00")),
        Raw(value=None, headers=list(GOOD.items())),
    ],
)
def test_whatever_is_no_entry_is_none(raw: Raw) -> None:
    """It is left out, and nothing raises."""
    assert message_of(raw, TOPIC_EVENTS) is None
