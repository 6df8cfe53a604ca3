"""Values that several messages build in the same way: padded text, and DE 90."""

from msgspec import Struct

from guilder.iso8583.errors import FrameError


class OriginalData(Struct, frozen=True):
    """What DE 90 says of the message that this one acts on: its type, DE 11, DE 7 and DE 32."""

    mti: str
    stan: str
    transmitted: str
    acquirer: str


def fit(text: str, width: int) -> str:
    """Text for a fixed `ans` field: what is not printable ASCII becomes "?", cut or padded with spaces to the width."""
    return "".join([c if " " <= c <= "~" else "?" for c in text[:width]]).ljust(width)


def pack_original(original: OriginalData) -> str:
    """The 42 digits of DE 90; the forwarding institution is always zero."""
    return f"{original.mti}{original.stan}{original.transmitted}{original.acquirer:0>11}{'':0>11}"


def unpack_original(text: str) -> OriginalData:
    """What a DE 90 says. The acquirer comes without leading zeros."""
    if len(text) != 42 or not text.isdigit():
        raise FrameError("field 90 is not 42 digits")
    return OriginalData(mti=text[:4], stan=text[4:10], transmitted=text[10:20], acquirer=text[20:31].lstrip("0"))
