"""One TCP connection of the acquirer: bytes in, messages to the acquirer, answers out."""

import asyncio
from typing import Protocol

from guilder.core.clock import sleep
from guilder.iso8583 import FrameError, FrameReader, Message, decode, silhouette


class Receiver(Protocol):
    """What a connection delivers to."""

    def connected(self, connection: "Connection") -> bool:
        """A peer has connected; False sends it away."""
        ...

    def take(self, connection: "Connection", message: Message) -> None:
        """One request. Raises FrameError when its type is no request."""
        ...

    def unreadable(self, connection: "Connection", error: FrameError, outline: str) -> None:
        """The peer sent what is no message: answer what came before it, then close."""
        ...

    def disconnected(self, connection: "Connection") -> None:
        """The connection is gone."""
        ...


class Connection(asyncio.Protocol):
    """Reads frames, decodes them, and writes what it is told to, in one write for each call of `flush`.

    `waiting` holds the answers of the current batch. A peer that does not read its answers is not read from either.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._stops = 0  # reasons why nothing is read now
        self._dripping: list[bytes] | None = None  # what waits behind a frame that is written slowly
        self._drip: asyncio.Task[None] | None = None
        self.waiting: list[bytes] = []
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The event loop has accepted the peer."""
        self._transport = transport  # type: ignore[assignment] # a stream transport, because a stream server made it
        self.peer = str(transport.get_extra_info("peername"))
        if not self._receiver.connected(self):
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Hand on every request that is now whole."""
        for body in self._reader.feed(data):
            try:
                self._receiver.take(self, decode(body))
            except FrameError as error:
                self._give_up(error, body)
                return
        if self._reader.broken:
            self._give_up(self._reader.broken, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, for whatever reason."""
        self._transport = None
        if self._drip:
            self._drip.cancel()
        self._receiver.disconnected(self)

    def pause_writing(self) -> None:
        """The peer does not read its answers: do not read its requests."""
        self.stop_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self.read_again()

    def stop_reading(self) -> None:
        """Let the peer wait; each call needs its `read_again`."""
        self._stops += 1
        if self._stops == 1 and self._transport and not self._transport.is_closing():
            self._transport.pause_reading()

    def read_again(self) -> None:
        """Take back one `stop_reading`."""
        self._stops -= 1
        if self._stops == 0 and self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    def flush(self) -> None:
        """Write the answers that wait."""
        if self.waiting:
            frames = b"".join(self.waiting)
            self.waiting.clear()
            self.send(frames)

    def send(self, frames: bytes) -> None:
        """Write now, behind whatever is being written slowly. What comes after the end is dropped."""
        if self._dripping is not None:
            self._dripping.append(frames)
        elif self._transport and not self._transport.is_closing():
            self._transport.write(frames)

    def send_slowly(self, frame: bytes, pause_seconds: float) -> None:
        """Write a frame byte by byte; what follows waits behind it, as on a slow line."""
        if self._dripping is not None:
            self._dripping.append(frame)
            return
        self._dripping = []
        self._drip = asyncio.get_running_loop().create_task(self._write_slowly(frame, pause_seconds))

    def close(self) -> None:
        """Close, after what was written has left."""
        if self._transport:
            self._transport.close()

    def cut(self) -> None:
        """Close at once."""
        if self._transport:
            self._transport.abort()

    async def _write_slowly(self, frame: bytes, pause_seconds: float) -> None:
        for index in range(len(frame)):
            if self._transport is None or self._transport.is_closing():
                return
            self._transport.write(frame[index : index + 1])
            await sleep(pause_seconds)
        queued, self._dripping = self._dripping or [], None
        self.send(b"".join(queued))

    def _give_up(self, error: FrameError, raw: bytes) -> None:
        """Read no further: after a frame that is none there is no telling where the next begins."""
        self._reader = _Deaf()
        self._receiver.unreadable(self, error, silhouette(raw))


class _Deaf(FrameReader):
    """Takes bytes and gives nothing."""

    def feed(self, data: bytes) -> list[bytes]:
        return []
