"""DE 48: values under two-character tags, each with three digits of length: `OR012A1B2C3D4E5F6` and so on."""

from collections.abc import Mapping
from typing import Final

from guilder.iso8583.errors import FrameError

_TAG: Final = 2
_HEAD: Final = 5
# What DE 48 holds at most (LLLVAR).
TAGS_LENGTH_MAX: Final = 999


def pack_tags(values: Mapping[str, str]) -> str:
    """The text of DE 48, in the order given. Raises FrameError when it does not fit; at least one tag is needed."""
    text = "".join([f"{tag}{len(value):03d}{value}" for tag, value in values.items()])
    if not 0 < len(text) <= TAGS_LENGTH_MAX:
        raise FrameError("the tags of field 48 are none or too long")
    return text


def unpack_tags(text: str) -> dict[str, str]:
    """The tags of a DE 48 that was read by `decode`; an absent field is the empty text. Raises FrameError."""
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        tag, length = text[at : at + _TAG], text[at + _TAG : at + _HEAD]
        if not (len(length) == _HEAD - _TAG and length.isdigit() and tag.isalnum()):
            raise FrameError("field 48 is not a list of tags")
        start = at + _HEAD
        at = start + int(length)
        if at > len(text) or tag in values:
            raise FrameError("field 48 has a tag that is cut short, or one twice")
        values[tag] = text[start:at]
    return values
