"""Messages for people: card data masked. The only form in which a message may reach a log, a file or a screen."""

from collections.abc import Mapping
from typing import Final

from guilder.iso8583.codec import Message
from guilder.iso8583.errors import FrameError
from guilder.iso8583.tags import unpack_tags
from guilder.iso8583.words import Tag

_CARD_NUMBER: Final = 2
_EXPIRY: Final = 14
_ORIGINAL_AND_SECRETS: Final = 48
# Tags whose value is shown. All others are masked: a tag that somebody adds is secret until it is listed here.
_SHOWN_TAGS: Final = frozenset({
    Tag.PSP_KEY, Tag.ORIGINAL, Tag.TRANSACTION_ID, Tag.AVAILABLE, Tag.ADVICE, Tag.SOFT_DECLINE, Tag.CVC_CHECK,
    Tag.POSTAL_CODE_CHECK, Tag.ORIGINAL_CODE, Tag.STATE, Tag.KIND, Tag.FOLLOW_UP, Tag.AUTHENTICATION_RESULT,
    Tag.COMMERCE_INDICATOR, Tag.CHALLENGED, Tag.WANTS_CHALLENGE, Tag.MERCHANT_INITIATED,
})  # fmt: skip
# Bytes of an unreadable frame that are worth a look; the rest is only counted.
SILHOUETTE_LENGTH: Final = 64


def describe(message: Message) -> str:
    """One line: type and fields, with the card number as 424242******4242 and CVC, expiry, postcode and proofs as ***."""
    parts = [f"{number}={_shown(number, value)}" for number, value in sorted(message.fields.items())]
    return " ".join([message.mti, *parts])


def silhouette(raw: bytes) -> str:
    """The outline of bytes that are no message: digits as 9, letters as A, spaces kept, all else as "."; 64 at most.

    Shows where the structure breaks and cannot show a card number.
    """
    outline = "".join(map(_outline, raw[:SILHOUETTE_LENGTH]))
    return f"{outline} ({len(raw)} bytes)"


def _outline(byte: int) -> str:
    char = chr(byte)
    if not char.isascii():
        return "."
    if char.isdigit():
        return "9"
    if char.isalpha():
        return "A"
    return char if char == " " else "."


def _shown(number: int, value: str) -> str:
    if number == _CARD_NUMBER:
        return f"{value[:6]}******{value[-4:]}" if len(value) >= 12 else "***"
    if number == _EXPIRY:
        return "***"
    if number == _ORIGINAL_AND_SECRETS:
        return _shown_tags(value)
    return value


def _shown_tags(text: str) -> str:
    try:
        tags: Mapping[str, str] = unpack_tags(text)
    except FrameError:
        return "***"
    return ",".join(f"{tag}:{value if tag in _SHOWN_TAGS else '***'}" for tag, value in tags.items())
