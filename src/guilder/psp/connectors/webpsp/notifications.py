"""Notifications of the web PSP: proved to be its own and of now, then read. Pure. What they say of money is not even read."""

import hmac
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from guilder.core.clock import SECOND
from guilder.psp.errors import NotificationRefused
from guilder.psp.model import Notification, ReadNotification
from guilder.security import Secret

HEADER: Final = "webpsp-signature"
# How far the signature's time may be from ours, either way: clocks differ by seconds, and each sending is signed anew.
WINDOW_SECONDS: Final = 300
SIGNATURES_MAX: Final = 4


class _Told(Struct, frozen=True):
    id: Annotated[str, Meta(min_length=1, max_length=100)]
    reference: Annotated[str, Meta(pattern="^[0-9A-Z]{12}$")]
    metadata: dict[str, str] = {}


_decoder: Final = msgspec.json.Decoder(_Told)


def notification_reader(secret: Secret) -> ReadNotification:
    """Reads the notifications that are signed with this secret."""
    key = secret.reveal().encode()

    def read(headers: Mapping[str, str], body: bytes, now: int) -> Notification:
        _check(key, headers.get(HEADER, ""), body, now)
        try:
            told = _decoder.decode(body)
        except msgspec.MsgspecError:
            raise NotificationRefused("the notification cannot be read") from None
        return Notification(id=told.id, reference=told.reference, attempt=told.metadata.get("attempt"))

    return read


def _check(key: bytes, header: str, body: bytes, now: int) -> None:
    """Raises NotificationRefused unless one of the header's signatures is the PSP's, over this body and a time of now."""
    parts = [part.partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"][:SIGNATURES_MAX]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12) or not given:
        raise NotificationRefused(f"`{HEADER}` must be t=SECONDS,v1=HEX")
    expected = hmac.digest(key, times[0].encode() + b"." + body, "sha256").hex()
    # All are compared, each in constant time.
    matches = [hmac.compare_digest(signature.encode(), expected.encode()) for signature in given]
    if not any(matches):
        raise NotificationRefused("the signature is not the PSP's")
    if abs(now // SECOND - int(times[0])) > WINDOW_SECONDS:
        raise NotificationRefused("the notification was signed too long ago, or one of the clocks is wrong")
