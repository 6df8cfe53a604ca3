"""One established connection to the acquirer: whole frames out in one write per turn, whole messages in.

It writes to the socket itself instead of through a transport, for one reason: a transport keeps what the kernel did not
take and sends it later, when the permission to send may have passed. Here a frame of which no byte was taken goes back
to the queue, is asked about again, and is known not to have left. Of a frame that was begun the rest follows in any case.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from guilder.iso8583 import FrameError, FrameReader, Message, decode, silhouette
from guilder.psp.model import Reason

# Read at most so much at a time: a few hundred answers, so that one busy connection does not hold up the loop.
READ_BYTES: Final = 128 * 1024


class Parcel(Protocol):
    """A frame that wants to leave."""

    def leave(self) -> bytes | None:
        """Asked right before the write, and again after a write that took nothing of it: the frame, or None to drop it."""
        ...

    def left(self) -> None:
        """Its first byte has been written. Called once."""
        ...


class Connection:
    """A connected, non-blocking socket.

    Calls `received` for each message, `writable` when a flush that had to stop can go on, and `lost` once with the
    reason when the connection has ended for any reason but `close`.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        received: Callable[[Message], None],
        writable: Callable[[], None],
        lost: Callable[[Reason], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._received = received
        self._writable = writable
        self._lost = lost
        self._reader = FrameReader()
        self._rest = b""
        self._blocked = False
        self._open = True
        self.heard = 0
        self._loop.add_reader(sock, self._on_readable)

    def flush(self, queue: deque[Parcel]) -> None:
        """Write what stands in the queue; what the kernel does not take stays in it, in order."""
        if self._blocked or not self._open:
            return
        leaving = []
        while queue:
            parcel = queue.popleft()
            frame = parcel.leave()
            if frame is not None:
                leaving.append((parcel, frame))
        if not leaving:
            return
        data = b"".join([frame for _, frame in leaving])
        try:
            written = self._socket.send(data)
        except BlockingIOError:
            written = 0
        except OSError:
            queue.extendleft(parcel for parcel, _ in reversed(leaving))
            self._end(Reason.RESET)
            return
        begun_end = 0
        for place, (parcel, frame) in enumerate(leaving):
            if begun_end >= written:
                queue.extendleft(parcel for parcel, _ in reversed(leaving[place:]))
                break
            begun_end += len(frame)
            parcel.left()
        if written < len(data):
            self._rest = data[written:begun_end]
            self._blocked = True
            self._loop.add_writer(self._socket, self._on_writable)

    def close(self) -> None:
        """End it without a word to `lost`."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket)
            if self._blocked:
                self._loop.remove_writer(self._socket)
            self._socket.close()

    def _end(self, reason: Reason) -> None:
        if self._open:
            self.close()
            self._lost(reason)

    def _on_writable(self) -> None:
        try:
            if self._rest:
                self._rest = self._rest[self._socket.send(self._rest) :]
        except BlockingIOError:
            return
        except OSError:
            self._end(Reason.RESET)
            return
        if not self._rest:
            self._blocked = False
            self._loop.remove_writer(self._socket)
            self._writable()

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(Reason.RESET)
            return
        self.heard += 1
        for body in self._reader.feed(data):
            try:
                message = decode(body)
            except FrameError as error:
                self._refuse(error, body)
                return
            self._received(message)
            if not self._open:
                return
        if self._reader.broken:
            self._refuse(self._reader.broken, data[:0])

    def _refuse(self, error: FrameError, body: bytes) -> None:
        structlog.get_logger("guilder.psp.cardnet").error("psp_frame_unreadable", why=str(error), frame=silhouette(body))
        self._end(Reason.UNREADABLE)
