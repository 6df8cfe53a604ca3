"""Messages to frames and bodies to messages, by layouts that are worked out once for each set of fields.

A frame is two bytes of length, most significant first, then the body in ASCII: message type (4 digits), bitmap (16
hexadecimal characters, 32 when a field above 64 is present, upper case), then the fields in ascending order.

Encoding is strict and decoding accepts exactly what encoding can produce, so there is one way to write a message.
Both are on the hot path of every payment: writing checks all values by one compiled pattern, and reading walks over
steps that are worked out once a bitmap.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Final

from msgspec import Struct

from guilder.iso8583 import lengths
from guilder.iso8583.errors import FrameError
from guilder.iso8583.fields import BODY_MAX, BODY_MIN, FIELDS, PRIMARY_FIELDS, Content, Field

# Layouts are kept for so many sets of fields. Each message of the dialect has one or two; a peer that sends ever new
# bitmaps is served without being remembered.
LAYOUTS_MAX: Final = 128

_CHARACTERS: Final[Mapping[Content, str]] = {
    Content.DIGITS: "[0-9]",
    Content.ALPHANUMERIC: "[0-9A-Za-z]",
    Content.PRINTABLE: "[ -~]",
}
# The same for text that is known to be ASCII; the empty text passes only where `decode` finds it by its length.
_TESTS: Final[Mapping[Content, Callable[[str], bool]]] = {
    Content.DIGITS: str.isdigit,
    Content.ALPHANUMERIC: str.isalnum,
    Content.PRINTABLE: str.isprintable,
}
# Stands between values while they are checked; no field may hold it.
_SEPARATOR: Final = "\x1f"
_PRIMARY_END: Final = 20
_SECONDARY_END: Final = 36


class Message(Struct, frozen=True):
    """A message: its type, such as "0200", and its fields by number. Values are text, exactly as on the wire."""

    mti: str
    fields: dict[int, str]


class _Writing(Struct, frozen=True):
    """How to write one set of fields."""

    bitmap: str
    pick: Callable[[Mapping[int, str]], tuple[str, ...]]  # the values in ascending order of their fields
    check: Callable[[str], re.Match[str] | None]  # of all values, separated
    variable: tuple[tuple[int, tuple[str, ...]], ...]  # where a length goes before a value: index, prefix texts


_Step = tuple[int, int, int, Callable[[str], bool]]
"""One field to read: number, digits of the length prefix (0 for a fixed one), (longest) length, test of its characters."""

_writings: Final[dict[tuple[int, ...], _Writing]] = {}
_readings: Final[dict[str, tuple[_Step, ...]]] = {}
_is_mti: Final = re.compile("[0-9]{4}").fullmatch


def encode(mti: str, fields: Mapping[int, str]) -> bytes:
    """The frame of a message, length included.

    Fixed fields must have exactly their length (`fit` pads text), variable ones one character to their most. Raises
    FrameError for what the dialect cannot express.
    """
    numbers = tuple(fields)
    layout = _writings.get(numbers) or _learn_writing(numbers)
    values = layout.pick(fields)
    if not (layout.check(_SEPARATOR.join(values)) and _is_mti(mti)):
        raise _complaint(mti, fields)
    if layout.variable:
        texts = list(values)
        for index, prefixes in layout.variable:
            value = texts[index]
            texts[index] = prefixes[len(value)] + value
        body = f"{mti}{layout.bitmap}{''.join(texts)}"
    else:
        body = f"{mti}{layout.bitmap}{''.join(values)}"
    return len(body).to_bytes(2, "big") + body.encode("ascii")


def decode(body: bytes) -> Message:
    """The message that a frame's body holds. Raises FrameError, and nothing else, for anything that is not one."""
    if not BODY_MIN <= len(body) <= BODY_MAX:
        raise FrameError("the body is too short or too long")
    try:
        text = str(body, "ascii")
    except UnicodeDecodeError:
        raise FrameError("the body is not ASCII") from None
    mti = text[:4]
    if not mti.isdigit():
        raise FrameError("the message type is not four digits")
    at = _SECONDARY_END if text[4] >= "8" else _PRIMARY_END
    bitmap = text[4:at]
    fields = {}
    for number, prefix, length, test in _readings.get(bitmap) or _learn_reading(bitmap):
        if prefix:
            start = at + prefix
            at = start + lengths.VALUES.get(text[at:start], length + 1)
            if not start < at <= start + length:
                raise FrameError(f"field {number} has a bad length")
        else:
            start = at
            at += length
        value = text[start:at]
        if not test(value):
            raise FrameError(f"field {number} is missing or has characters that it must not have")
        fields[number] = value
    # A field cut short leaves `at` beyond the end, so this one comparison finds it too.
    if at != len(text):
        raise FrameError("the body ends before its last field, or goes on behind it")
    return Message(mti, fields)


def _known(numbers: Sequence[int]) -> list[Field]:
    """The fields of these numbers in ascending order. Raises FrameError when there are none or one is unknown."""
    unknown = [number for number in numbers if number not in FIELDS]
    if unknown or not numbers:
        raise FrameError(f"there is no field {unknown[0]} in this dialect" if unknown else "the message has no field")
    return [FIELDS[number] for number in sorted(numbers)]


def _learn_writing(numbers: tuple[int, ...]) -> _Writing:
    """Work out how to write this set of fields, and remember it."""
    ordered = _known(numbers)
    layout = _Writing(
        bitmap=_bitmap(numbers),
        pick=_picker([field.number for field in ordered]),
        check=re.compile(_SEPARATOR.join(_pattern(field) for field in ordered)).fullmatch,
        variable=tuple((index, lengths.TEXTS[field.prefix]) for index, field in enumerate(ordered) if field.prefix),
    )
    if len(_writings) < LAYOUTS_MAX:
        _writings[numbers] = layout
    return layout


def _picker(wanted: Sequence[int]) -> Callable[[Mapping[int, str]], tuple[str, ...]]:
    """A function that takes these fields' values out of a message, always as a tuple."""
    if len(wanted) > 1:
        return itemgetter(*wanted)
    return lambda fields: (fields[wanted[0]],)


def _pattern(field: Field) -> str:
    """The pattern of a field's value."""
    return f"{_CHARACTERS[field.content]}{{{1 if field.prefix else field.length},{field.length}}}"


def _bitmap(numbers: Sequence[int]) -> str:
    """The bitmap of these fields, in hexadecimal."""
    bits = sum(1 << (128 - number) for number in numbers)
    if max(numbers) > PRIMARY_FIELDS:
        return f"{bits | 1 << 127:032X}"
    return f"{bits >> PRIMARY_FIELDS:016X}"


def _learn_reading(bitmap: str) -> tuple[_Step, ...]:
    """Work out how to read the fields that a bitmap announces, and remember it."""
    try:
        bits = int(bitmap, 16) << (4 * (32 - len(bitmap)))
    except ValueError:
        raise FrameError("the bitmap is not hexadecimal") from None
    ordered = _known([number for number in range(2, 129) if bits >> (128 - number) & 1])
    # int() takes signs, spaces, underscores and lower case too; what we would write ourselves is the only right form.
    if _bitmap([field.number for field in ordered]) != bitmap:
        raise FrameError("the bitmap is not in its one proper form")
    steps = tuple((field.number, field.prefix, field.length, _TESTS[field.content]) for field in ordered)
    if len(_readings) < LAYOUTS_MAX:
        _readings[bitmap] = steps
    return steps


def _complaint(mti: str, fields: Mapping[int, str]) -> FrameError:
    """The error for a message that cannot be written: names the first field at fault."""
    for number in sorted(fields):
        if not re.fullmatch(_pattern(FIELDS[number]), fields[number]):
            return FrameError(f"field {number} ({FIELDS[number].name}) has a bad length or characters that it must not have")
    return FrameError("the message type is not four digits")
