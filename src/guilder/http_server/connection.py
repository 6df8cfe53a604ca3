"""One connection: bytes in, requests in their order, answers out.

At most one request is being answered; at most a piece's worth wait behind it, and then reading stops. What was begun is
finished whoever hangs up: only its answer is dropped.
"""

import asyncio
from collections import deque
from enum import Enum
from typing import Final, Protocol

import httptools
import structlog

from guilder.core.errors import Refusal
from guilder.http_server import heads
from guilder.http_server.limits import (
    BODY_SECONDS,
    DRAIN_BYTES_MAX,
    HEAD_BYTES_MAX,
    HEAD_SECONDS,
    IDLE_SECONDS,
    LINGER_SECONDS,
    PIECE_BYTES,
    UNASKED_BYTES_MAX,
    WRITE_SECONDS,
)
from guilder.http_server.model import App, Header, HungUpError, Incoming, Outgoing

_log = structlog.get_logger()


class Phase(Enum):
    """What a connection waits for."""

    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    READER = "reader"
    IDLE = "idle"
    END = "end"


_SECONDS: Final = {
    Phase.HEAD: HEAD_SECONDS,
    Phase.BODY: BODY_SECONDS,
    # Handlers have limits of their own.
    Phase.ANSWER: float("inf"),
    Phase.READER: WRITE_SECONDS,
    Phase.IDLE: IDLE_SECONDS,
    Phase.END: LINGER_SECONDS,
}


class Host(Protocol):
    """The server, as its connections see it."""

    app: App
    loop: asyncio.AbstractEventLoop
    date: bytes
    stopping: bool

    def opened(self, connection: "Connection") -> bool:
        """Count it; False when there are too many."""
        ...

    def closed(self, connection: "Connection") -> None:
        """It is gone, and nothing is under way for it any more."""
        ...


class Connection(asyncio.Protocol):
    """A client's connection.

    Attributes:
        deadline: when `expire` is to be called, by the loop's time.
        task: what answers the request at hand.
    """

    __slots__ = (
        "_arriving", "_current", "_drained", "_fresh", "_gone", "_headers", "_held", "_host", "_in_head", "_last", "_parser", "_paused",
        "_peer", "_phase", "_raw", "_refusal", "_transport", "_unread", "_url", "_waiting", "deadline", "task",
    )  # fmt: skip

    _transport: asyncio.Transport

    def __init__(self, host: Host) -> None:
        self._host = host
        self._parser = httptools.HttpRequestParser(self)
        self.task: asyncio.Task[None] | None = None
        self._phase = Phase.HEAD
        self.deadline = host.loop.time() + HEAD_SECONDS
        # Of the message that is being parsed: its head so far, its request once the head is complete, its bytes in further
        # pieces since it began, or since the last part of its body.
        self._url = b""
        self._headers: list[Header] = []
        self._in_head = False
        self._arriving: Incoming | None = None
        self._fresh = False
        self._raw = 0
        # Answered now; waiting for that; not even parsed.
        self._current: Incoming | None = None
        self._waiting: deque[Incoming] = deque()
        self._held: memoryview | None = None
        # No request is read after those, and why where that is the client's fault.
        self._last = False
        self._refusal: Refusal | None = None
        self._paused = False
        self._unread = False
        self._gone = False
        self._drained = 0

    # --- the transport's events -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's
        self._peer = str((transport.get_extra_info("peername") or ("",))[0])
        if not self._host.opened(self) and not transport.is_closing():
            self._refuse(heads.too_many_connections())

    def data_received(self, data: bytes) -> None:
        if self._last and self._arriving is None:
            self._drain(len(data))
        elif self._held is not None:
            self._held = memoryview(bytes(self._held) + data)
        elif len(data) <= PIECE_BYTES:
            self._parse(data)
            self._settle()
        else:
            self._held = memoryview(data)
            self._parse_held()
            self._settle()

    def eof_received(self) -> bool:
        """A client may say that it is done and still wait for its answers; what is not complete by now never will be."""
        self._last = True
        self._give_up(HungUpError())
        return self._current is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._last = True
        self._waiting.clear()
        self._give_up(HungUpError())
        if self._current is None:
            self._host.closed(self)

    def pause_writing(self) -> None:
        self._unread = True
        self._settle()

    def resume_writing(self) -> None:
        self._unread = False
        if self._current is None:
            self._next()
        self._settle()

    # --- the parser's events --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._url = b""
        self._headers = []
        self._in_head = True
        self._fresh = True
        self._raw = 0

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; behind a chunked body a trailer, which nobody reads."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete: the request can begin. Raises Refusal."""
        if self._raw and heads.head_size(self._url, self._headers) > HEAD_BYTES_MAX:
            raise heads.head_too_large()
        parser = self._parser
        incoming = heads.read_head(parser.get_method().decode(), parser.get_http_version(), self._url, self._headers)
        incoming.peer = self._peer
        # What follows an upgrade would be another protocol's, which we do not take up.
        self._last = not parser.should_keep_alive() or parser.should_upgrade()
        self._in_head = False
        self._arriving = incoming
        if self._current is None and not self._unread:
            self._begin(incoming)
        else:
            self._waiting.append(incoming)

    def on_body(self, part: bytes) -> None:
        """A part of a body."""
        self._fresh = True
        self._raw = 0
        if self._arriving is not None:
            self._arriving.take(part)

    def on_message_complete(self) -> None:
        """A request's last byte."""
        if self._arriving is not None:
            self._arriving.finish()
            self._arriving = None

    # --- reading --------------------------------------------------------------------------------------------------

    def _parse(self, piece: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserCallbackError as error:
            self._fail(error.__context__ if isinstance(error.__context__, Refusal) else heads.failed())
            return
        except httptools.HttpParserError as error:
            # Behind a last request the parser refuses whatever comes.
            if not self._last or self._arriving is not None:
                self._fail(heads.malformed(str(error)))
            return
        if self._in_head or self._arriving is not None:
            self._count(len(piece))

    def _count(self, size: int) -> None:
        """Bound a head, and what stands between two parts of a body. The piece that it began in is free."""
        self._raw += 0 if self._fresh else size
        self._fresh = False
        if self._in_head and self._raw > HEAD_BYTES_MAX:
            self._fail(heads.head_too_large())
        elif self._raw > HEAD_BYTES_MAX:
            self._fail(heads.malformed("what is no body goes on for too long"))

    def _parse_held(self) -> None:
        """Parse what is held, piece by piece, until a request waits behind another."""
        while self._held is not None and not self._waiting:
            if self._last and self._arriving is None:
                self._held = None
                return
            piece, rest = self._held[:PIECE_BYTES], self._held[PIECE_BYTES:]
            self._held = rest if len(rest) else None
            self._parse(piece)

    def _fail(self, refusal: Refusal) -> None:
        """No more can be read: those before it are answered, then this is said."""
        self._last = True
        self._in_head = False
        self._held = None
        if self._arriving is not None:
            # Its own answer will say it.
            self._give_up(refusal)
        elif self._current is None and not self._waiting:
            self._refuse(refusal)
        else:
            self._refusal = refusal

    def _give_up(self, failure: Exception) -> None:
        """What has not arrived by now never will."""
        if self._arriving is not None:
            self._arriving.fail(failure)
            self._arriving = None

    def _drain(self, size: int) -> None:
        """Read on and forget, so that our last answer is not lost by a reset."""
        self._drained += size
        if self._drained > DRAIN_BYTES_MAX:
            self._transport.abort()

    # --- answering ------------------------------------------------------------------------------------------------

    def _begin(self, incoming: Incoming) -> None:
        self._current = incoming
        incoming.ask = self._asked
        self.task = self._host.loop.create_task(self._answer(incoming))

    def _asked(self) -> None:
        """Somebody waits for the rest of the body."""
        current = self._current
        if current is not None and not self._gone:
            if current.expects_continue:
                self._transport.write(heads.CONTINUE)
            self._settle()

    async def _answer(self, incoming: Incoming) -> None:
        host = self._host
        try:
            outgoing = await host.app.answer(incoming)
            self._write(incoming, outgoing)
        except HungUpError:
            self._end(unread=False)
        except Exception:
            _log.exception("request_failed", method=incoming.method, path=incoming.path)
            self._write(incoming, host.app.refuse(heads.failed()))
        finally:
            self._current = None
            self.task = None
            if self._gone:
                host.closed(self)
        self._next()
        self._settle()

    def _write(self, incoming: Incoming, outgoing: Outgoing) -> None:
        if self._gone or self._transport.is_closing():
            return
        over = not incoming.complete or self._host.stopping
        close = over or (self._last and not self._waiting and self._refusal is None)
        payload = heads.answer_bytes(outgoing, self._host.date, close=close, without_body=incoming.method == "HEAD")
        self._transport.write(payload)
        if close:
            self._end(unread=over and not incoming.complete)

    def _refuse(self, refusal: Refusal) -> None:
        """Say why no more is read, and end."""
        outgoing = self._host.app.refuse(refusal)
        self._transport.write(heads.answer_bytes(outgoing, self._host.date, close=True, without_body=False))
        self._end(unread=True)

    def _next(self) -> None:
        """Go on with what waits, now that nothing is being answered."""
        if self._gone or self._unread or self._ended:
            return
        if not self._waiting:
            self._parse_held()
        if self._current is not None or self._ended:
            return
        if self._waiting:
            self._begin(self._waiting.popleft())
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._last or self._host.stopping:
            self._end(unread=False)

    @property
    def _ended(self) -> bool:
        return self._phase is Phase.END

    def _end(self, *, unread: bool) -> None:
        """Close behind the last answer; where the client still writes, only once it has had time to read it."""
        self._last = True
        self._arriving = None
        self._waiting.clear()
        self._held = None
        self._enter(Phase.END)
        if unread and not self._transport.is_closing():
            self._regulate()
            self._transport.write_eof()
        else:
            self._transport.close()

    # --- what it waits for ----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Note what is waited for, and read or stop reading accordingly."""
        if self._gone or self._ended:
            return
        if self._current is not None:
            phase = Phase.BODY if self._current is self._arriving else Phase.ANSWER
        elif self._unread:
            phase = Phase.READER
        else:
            phase = Phase.HEAD if self._in_head else Phase.IDLE
        if phase is not self._phase:
            self._enter(phase)
        self._regulate()

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self.deadline = self._host.loop.time() + _SECONDS[phase]

    def _regulate(self) -> None:
        """Read only what there is room for."""
        full = bool(self._waiting) or self._held is not None
        if self._arriving is not None and self._arriving.unasked_bytes > UNASKED_BYTES_MAX:
            full = True
        if full is not self._paused and not self._transport.is_closing():
            self._paused = full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def expire(self) -> None:
        """Its deadline has passed."""
        if self._phase is Phase.HEAD:
            self._refuse(heads.head_late())
        elif self._phase is Phase.BODY:
            self._last = True
            self._give_up(heads.body_late())
            self._settle()
        elif self._phase is Phase.IDLE:
            self._end(unread=False)
        else:
            self._transport.abort()

    def let_go(self) -> None:
        """The server stops: end now unless a request is under way, and after its answer if one is."""
        if self._current is None and not self._ended:
            self._end(unread=False)

    def cut(self) -> None:
        """The server has waited long enough."""
        self._transport.abort()
        if self.task is not None:
            self.task.cancel()
