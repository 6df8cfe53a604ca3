"""A connection to a receiver: one POST at a time, and the beginning of its answer. httptools decides what an answer is."""

import asyncio
from typing import Final

import httptools
from msgspec import Struct

from guilder.webhooks.rules import ANSWER_CHARACTERS_MAX

# What is read of an answer's body; the rest is not waited for, and the connection is closed.
ANSWER_BYTES_MAX: Final = 4 * ANSWER_CHARACTERS_MAX
# Of an answer's head, and of what else surrounds its body. Servers send some hundred bytes, frameworks with much to say 8 kB.
HEAD_BYTES_MAX: Final = 65_536
# Below this a status only announces another (RFC 9110 section 15.2), but for the one that ends HTTP.
FIRST_FINAL: Final = 200
SWITCHING: Final = 101


class Answered(Struct, frozen=True):
    """What a receiver answered; `body` is the beginning of it, `retry_after` the header as it came."""

    status: int
    body: bytes
    retry_after: str | None = None


class ClosedError(ConnectionResetError):
    """The connection ended before an answer began."""


class Connection(asyncio.Protocol):
    """Made by `loop.create_connection`.

    Attributes:
        usable: whether another request may be sent after the last one's answer.
        idle_since: when it was put back, by the loop's time.
    """

    __slots__ = ("_body", "_parser", "_retry_after", "_size", "_status", "_transport", "_waiting", "idle_since", "usable")

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answered] | None = None
        self._status = 0
        self._retry_after: str | None = None
        self._body = b""
        self._size = 0
        self.usable = True
        self.idle_since = 0.0

    async def post(self, request: bytes, seconds: float) -> Answered:
        """Write a request and read its answer's beginning. Once the status is there, it alone counts, however the body goes on.

        Raises ClosedError when nothing was answered, TimeoutError after so many seconds, ValueError for an answer that is
        none. After any of them, and after a cancellation, the connection is gone.
        """
        loop = asyncio.get_running_loop()
        self._status = self._size = 0
        self._retry_after = None
        self._body = b""
        waiting: asyncio.Future[Answered] = loop.create_future()
        self._waiting = waiting
        timer = loop.call_later(seconds, self._late)
        self._transport.write(request)
        try:
            return await waiting
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """End it, whatever is under way."""
        self.usable = False
        self._transport.abort()

    # --- the transport's events -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:
            # Nobody has asked: what it says next would be taken for an answer.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end(usable=False)
        except httptools.HttpParserError:
            self._fail(ValueError("the answer is not HTTP"))
        else:
            self._count(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._status:
            # Without a length, the end of the connection is that of the body; with one, the status counts all the same.
            self._end(usable=False)
        elif self._size:
            self._fail(ValueError("the connection was closed within the answer's head"))
        else:
            self._fail(ClosedError("the connection was closed without an answer"))

    # --- the parser's events --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins, or what announces one; or something that nobody has asked for."""
        self.usable = self.usable and self._waiting is not None

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        if len(name) == len(b"retry-after") and name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The status is known, unless it only announces another."""
        status = self._parser.get_status_code()
        if status >= FIRST_FINAL or status == SWITCHING:
            self._status = status
            self._size = 0

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        if len(self._body) < ANSWER_BYTES_MAX:
            self._body += part[: ANSWER_BYTES_MAX - len(self._body)]

    def on_message_complete(self) -> None:
        """The last byte of an answer, or of what announces one."""
        if self._status:
            self._end(usable=self._parser.should_keep_alive())

    # --- the end of an exchange -----------------------------------------------------------------------------------

    def _count(self, size: int) -> None:
        """Bound what is read of one answer."""
        self._size += size
        if self._status and (len(self._body) >= ANSWER_BYTES_MAX or self._size > HEAD_BYTES_MAX):
            self._end(usable=False)
        elif self._size > HEAD_BYTES_MAX:
            self._fail(ValueError("the answer's head is too long"))

    def _late(self) -> None:
        if self._status:
            self._end(usable=False)
        else:
            self._fail(TimeoutError())

    def _end(self, *, usable: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        if not waiting.done():
            waiting.set_result(Answered(self._status, self._body, self._retry_after))
        if not usable:
            self.close()

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
