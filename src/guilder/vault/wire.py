"""Frames of the vault's socket: four bytes of length, then msgpack. Requests carry ids, so that many are under way at once.

Hello        the first frame of a connection: which version, and whether this end may reveal
requests     Tokenize, RevealCards, Amend, DropCvc, Fingerprint
answers      Tokenized, Revealed, Done, Fingerprints, Failed
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from guilder.security import Pan, Secret
from guilder.shapes.facts import CardFacts
from guilder.vault.model import Amendment, Card, CardEntry, CardRefused, Reveal

VERSION: Final = 1
LENGTH_BYTES: Final = 4
# A list of 1,000 cards with long postal codes stays below it; whoever sends more is not one of ours.
FRAME_BYTES_MAX: Final = 1_048_576
# A socket's address has 108 bytes; a longer path is reached through its folder's descriptor.
ADDRESS_BYTES_MAX: Final = 100


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """The address of a socket file, whatever the length of its path."""
    if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class Hello(Struct, frozen=True, array_like=True, tag="hello"):
    """What an end says of itself first."""

    version: int
    may_reveal: bool


class Tokenize(Struct, frozen=True, array_like=True, tag="tokenize"):
    """Keep these cards."""

    id: int
    items: list[CardEntry]


class RevealCards(Struct, frozen=True, array_like=True, tag="reveal"):
    """Show these cards."""

    id: int
    items: list[Reveal]


class Amend(Struct, frozen=True, array_like=True, tag="amend"):
    """Change these cards."""

    id: int
    items: list[Amendment]


class DropCvc(Struct, frozen=True, array_like=True, tag="drop_cvc"):
    """Forget the CVCs of these PaymentMethods."""

    id: int
    items: list[str]


class Fingerprint(Struct, frozen=True, array_like=True, tag="fingerprint"):
    """Fingerprint these numbers."""

    id: int
    items: list[Pan]


Request = Tokenize | RevealCards | Amend | DropCvc | Fingerprint


class Tokenized(Struct, frozen=True, array_like=True, tag="tokenized"):
    """Facts and refusals side by side: of each pair one is None."""

    id: int
    facts: list[CardFacts | None]
    refused: list[CardRefused | None]


class Revealed(Struct, frozen=True, array_like=True, tag="revealed"):
    """The cards in the order asked."""

    id: int
    cards: list[Card | None]


class Done(Struct, frozen=True, array_like=True, tag="done"):
    """Which of the items exist."""

    id: int
    found: list[bool]


class Fingerprints(Struct, frozen=True, array_like=True, tag="fingerprints"):
    """The fingerprints in the order asked."""

    id: int
    prints: list[str]


class Problem(Enum):
    """Why a request has no answer."""

    UNAVAILABLE = "unavailable"
    NOT_ALLOWED = "not_allowed"
    TOO_LONG = "too_long"
    BROKEN = "broken"


class Failed(Struct, frozen=True, array_like=True, tag="failed"):
    """No answer to this request, and why."""

    id: int
    problem: Problem


Answer = Tokenized | Revealed | Done | Fingerprints | Failed


def _plain(value: Any) -> Any:  # noqa: ANN401 - msgspec's signature
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError


def _typed(wanted: type, value: Any) -> Any:  # noqa: ANN401 - msgspec's signature
    if issubclass(wanted, Secret) and isinstance(value, str):
        return wanted(value)
    raise NotImplementedError


class Codec:
    """Encodes and decodes frames; one per end of a connection."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
        self._requests: msgspec.msgpack.Decoder[Hello | Request] = msgspec.msgpack.Decoder(Hello | Request, dec_hook=_typed)
        self._answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer, dec_hook=_typed)

    def frame(self, message: Hello | Request | Answer) -> bytes:
        """A message with its length before it."""
        body = self._encoder.encode(message)
        return len(body).to_bytes(LENGTH_BYTES, "big") + body

    def request(self, body: bytes) -> Hello | Request:
        """What a client sent. Raises msgspec.MsgspecError for anything else."""
        return self._requests.decode(body)

    def answer(self, body: bytes) -> Answer:
        """What the vault answered. Raises msgspec.MsgspecError for anything else."""
        return self._answers.decode(body)


class Frames(asyncio.Protocol):
    """One end of a connection: cuts the stream into frames, and sends the frames of one loop turn in one write."""

    def __init__(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self._buffer = bytearray()
        self._outgoing: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is a Transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= LENGTH_BYTES:
            length = int.from_bytes(buffer[start : start + LENGTH_BYTES], "big")
            if length > FRAME_BYTES_MAX:
                self.close()
                return
            end = start + LENGTH_BYTES + length
            if len(buffer) < end:
                break
            body = bytes(buffer[start + LENGTH_BYTES : end])
            start = end
            self._received(body)
        del buffer[:start]

    def send(self, frame: bytes) -> None:
        """Send a frame; on a connection that is lost it goes nowhere, and `lost` has been told."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(frame)

    def _flush(self) -> None:
        frames, self._outgoing = self._outgoing, []
        if self._transport is not None and frames:
            self._transport.write(b"".join(frames))

    def pause(self) -> None:
        """Read nothing more until `resume`."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def finish(self) -> None:
        """Send what is still to be sent, then hang up."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()
