"""The codec: one way to write each message, and nothing but FrameError for all other bytes."""

import iso8583
import iso8583.specs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guilder.iso8583 import FrameError, FrameReader, Message, decode, encode
from guilder.iso8583.fields import BODY_MAX, BODY_MIN, FIELDS, Content, Field

CHARACTERS = {
    Content.DIGITS: "0123456789",
    Content.ALPHANUMERIC: "0123456789ABCXYZabcxyz",
    Content.PRINTABLE: " !0AZaz~",
}
ECHO = {7: "0102030405", 11: "000001", 70: "001"}


def values(field: Field) -> st.SearchStrategy[str]:
    """Every value that a field may hold."""
    return st.text(CHARACTERS[field.content], min_size=1 if field.prefix else field.length, max_size=field.length)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Every message of the dialect, its fields in any order."""
    numbers = draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, unique=True))
    return Message(draw(st.from_regex("[0-9]{4}", fullmatch=True)), {number: draw(values(FIELDS[number])) for number in numbers})


ORACLE = {name: dict(description) for name, description in iso8583.specs.default_ascii.items()}
for _field in FIELDS.values():
    ORACLE[str(_field.number)] = {
        "data_enc": "ascii", "len_enc": "ascii", "len_type": _field.prefix, "max_len": _field.length, "desc": _field.name,
    }  # fmt: skip


@given(messages())
def test_what_is_written_is_read_back_the_same(message: Message) -> None:
    """Decoding undoes encoding."""
    assert decode(encode(message.mti, message.fields)[2:]) == message


@given(messages())
def test_an_independent_implementation_writes_the_same_bytes(message: Message) -> None:
    """pyiso8583 with our field table agrees on every byte."""
    document = {"t": message.mti, **{str(number): value for number, value in message.fields.items()}}
    assert bytes(iso8583.encode(document, ORACLE)[0]) == encode(message.mti, message.fields)[2:]


@given(st.binary(max_size=200) | st.text("0123456789ABCDEF ~z\n", max_size=200).map(str.encode))
def test_arbitrary_bytes_are_a_message_or_a_frame_error(raw: bytes) -> None:
    """Nothing else is ever raised, and what is read would be written in the same way."""
    try:
        message = decode(raw)
    except FrameError:
        return
    assert encode(message.mti, message.fields)[2:] == raw


@given(messages(), st.data())
def test_a_damaged_message_is_a_message_or_a_frame_error(message: Message, data: st.DataObject) -> None:
    """Bytes changed, cut or added: the same holds next to real messages, where it is likelier to break."""
    raw = bytearray(encode(message.mti, message.fields)[2:])
    at = data.draw(st.integers(0, len(raw) - 1))
    damage = data.draw(st.sampled_from(["change", "cut", "add"]))
    if damage == "change":
        raw[at] = data.draw(st.integers(0, 255))
    elif damage == "cut":
        del raw[at:]
    else:
        raw[at:at] = data.draw(st.binary(min_size=1, max_size=5))
    try:
        read = decode(bytes(raw))
    except FrameError:
        return
    assert encode(read.mti, read.fields)[2:] == raw


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "too short"),
        (b"0800" + b"0" * BODY_MAX, "too long"),
        (b"08X0822000000000000004000000000000000102030405000001001", "message type"),
        (b"0800\xff22000000000000004000000000000000102030405000001001", "ASCII"),
        (b"0800Z220000000000000", "hexadecimal"),
        (b"0800+220000000000000", "one proper form"),
        (b"08000000000000000000", "no field"),
        (b"08004000000000000000", "field 2 "),
        (b"08000220000000000000010203040500000", "field 11|ends before"),
        (b"080002200000000000000102030405000001X", "goes on behind"),
        (b"0800022000000000000001020304050000AB", "field 11"),
        (b"08002020000000000000" + b"000000000", "ends before"),
        (b"0800010000000000000000", "no field 8"),
        (b"0800022000000000000a0102030405000001", "one proper form|no field"),
        (b"08008220000000000000000000000000000001020304050000 1", "one proper form"),
    ],
)
def test_each_kind_of_damage_has_its_reason(body: bytes, reason: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(FrameError, match=reason):
        decode(body)


@pytest.mark.parametrize(
    ("mti", "fields", "reason"),
    [
        ("080", ECHO, "message type"),
        ("08A0", ECHO, "message type"),
        ("0800", {}, "no field"),
        ("0800", {**ECHO, 5: "1"}, "no field 5"),
        ("0800", {**ECHO, 11: "1"}, r"field 11 \("),
        ("0800", {**ECHO, 11: "00000A"}, r"field 11 \("),
        ("0800", {**ECHO, 11: "00000\u0661"}, r"field 11 \("),
        ("0200", {**ECHO, 2: ""}, r"field 2 \("),
        ("0200", {**ECHO, 2: "4" * 20}, r"field 2 \("),
        ("0200", {**ECHO, 43: "Caf\u00e9".ljust(40)}, r"field 43 \("),
        ("0200", {**ECHO, 48: "x" * 1000}, r"field 48 \("),
        ("0200", {**ECHO, 48: "a\x1fb"}, r"field 48 \("),
    ],
)
def test_what_the_dialect_cannot_express_is_not_written(mti: str, fields: dict[int, str], reason: str) -> None:
    """The error names the field, and never its value."""
    with pytest.raises(FrameError, match=reason) as raised:
        encode(mti, fields)
    assert "4444" not in str(raised.value)


def test_the_longest_message_of_the_table_fits_the_limit() -> None:
    """Every field at its full length is still a frame that the reader takes."""
    fields = {field.number: CHARACTERS[field.content][0] * field.length for field in FIELDS.values()}
    frame = encode("0200", fields)
    assert FrameReader().feed(frame) == [frame[2:]]


@given(st.lists(messages(), max_size=5), st.lists(st.integers(1, 300), max_size=20))
def test_frames_come_out_whole_however_the_bytes_were_cut(sent: list[Message], cuts: list[int]) -> None:
    """TCP keeps order, not borders."""
    stream = b"".join(encode(message.mti, message.fields) for message in sent)
    reader, got = FrameReader(), []
    for size in [*cuts, len(stream) + 1]:
        got += reader.feed(stream[:size])
        stream = stream[size:]
    assert [decode(body) for body in got] == sent
    assert reader.pending == 0
    assert reader.broken is None


@pytest.mark.parametrize("length", [0, BODY_MIN - 1, BODY_MAX + 1, 0xFFFF])
def test_an_impossible_length_ends_the_stream_after_the_frames_before_it(length: int) -> None:
    """Whole frames are not lost; what follows cannot be told apart any more."""
    frame = encode("0800", ECHO)
    reader = FrameReader()
    assert reader.feed(frame + length.to_bytes(2, "big") + frame) == [frame[2:]]
    assert isinstance(reader.broken, FrameError)
    assert reader.feed(frame) == []
