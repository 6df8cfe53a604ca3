"""DE 48: values under two-character tags, each with three digits of length: `OR012A1B2C3D4E5F6` and so on."""

from collections.abc import Mapping
from typing import Final

from guilder.iso8583.errors import FrameError
from guilder.iso8583.lengths import TEXTS, VALUES

_TAG: Final = 2
_HEAD: Final = 5
# What DE 48 holds at most (LLLVAR).
TAGS_LENGTH_MAX: Final = 999
_LENGTHS: Final = TEXTS[3]


def pack_tags(values: Mapping[str, str]) -> str:
    """The text of DE 48, in the order given. Raises FrameError when it does not fit; at least one tag is needed."""
    try:
        text = "".join([tag + _LENGTHS[len(value)] + value for tag, value in values.items()])
    except IndexError:
        raise FrameError("a tag of field 48 is too long") from None
    if not 0 < len(text) <= TAGS_LENGTH_MAX:
        raise FrameError("the tags of field 48 are none or too long")
    return text


def unpack_tags(text: str) -> dict[str, str]:
    """The tags of a DE 48 that was read by `decode`; an absent field is the empty text. Raises FrameError."""
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        tag, start = text[at : at + _TAG], at + _HEAD
        # A length that is none, or cut short, ends behind the text and is refused with it.
        at = start + VALUES.get(text[at + _TAG : start], len(text))
        if at > len(text) or tag in values or not tag.isalnum():
            raise FrameError("field 48 is not a list of tags, or has one twice")
        values[tag] = text[start:at]
    return values
