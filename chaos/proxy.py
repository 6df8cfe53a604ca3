"""Proxies of our own in user space: one that knows the acquirer's frames, and one for any bytes (the database's).

They listen on 127.0.0.1 and pass on until told otherwise; what is told counts for every connection, and until it is taken back.
"""

import asyncio
import contextlib
import time
from collections import Counter
from random import Random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from guilder.iso8583 import FrameReader, decode

CHUNK: Final = 65_536
# The first requests of attempts, by message type; what the PSP is asked beyond them is queries and reversals.
FIRST: Final = frozenset({"0100", "0200", "0220"})


class Weather(Struct, frozen=True, kw_only=True):
    """What happens to frames on their way.

    Args:
        delay_seconds, jitter_seconds: latency each way.
        lose_requests, lose_answers, duplicate, reorder: probabilities per frame.
        blocked_out, blocked_back: nothing passes in this direction (the connection stays open: half-open).
        bytes_per_second: bandwidth each way; 0 for all there is.
    """

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    lose_requests: float = 0.0
    lose_answers: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    blocked_out: bool = False
    blocked_back: bool = False
    bytes_per_second: int = 0


CLEAR: Final = Weather()
# How long a frame is held back that others are to overtake.
OVERTAKEN_SECONDS: Final = 0.05


class Sent(Struct, frozen=True):
    """A request that passed: when (CLOCK_MONOTONIC), its type, its reference, the connection."""

    at: float
    mti: str
    reference: str
    connection: int


class Way:
    """A way from the executor to a PSP: a port, what it leads to, and the weather on it.

    Remembers each request that passed (`sent`) and counts them by type, so that what was sent is known from the wire itself.
    """

    def __init__(self, chance: Random) -> None:
        self.weather = CLEAR
        self.refuse = False
        self.port = 0
        self.sent: list[Sent] = []
        self.counted: Counter[str] = Counter()
        self._chance = chance
        self._target = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; `aim` says where to."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def aim(self, port: int) -> None:
        """Where the PSP is."""
        self._target = port

    def change(self, **weather: float) -> None:
        """Other weather."""
        self.weather = replace(self.weather, **weather)

    def clear(self) -> None:
        """All is well again."""
        self.weather, self.refuse = CLEAR, False

    def reset(self) -> None:
        """Hang up on everybody, in the middle of whatever is under way."""
        for writer in list(self._open):
            writer.transport.abort()

    async def close(self) -> None:
        """No more connections."""
        self.reset()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await asyncio.sleep(0)


class FrameProxy(Way):
    """Between executor and acquirer: ISO 8583 frames."""

    def __init__(self, chance: Random) -> None:
        super().__init__(chance)
        self._connections = 0

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse or not self._target:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._connections += 1
        number = self._connections
        self._open |= {writer, far_writer}
        try:
            await asyncio.gather(self._pass(reader, far_writer, number, out=True), self._pass(far_reader, writer, number, out=False))
        finally:
            self._open -= {writer, far_writer}

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int, *, out: bool) -> None:
        frames, lane = FrameReader(), _Lane(sink)
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                for body in frames.feed(data):
                    self._carry(body, lane, number, out=out)
                if frames.broken is not None:
                    # Not ours to judge: passed on as it is, from now on without a look at it.
                    sink.write(data)
        sink.transport.abort()

    def _carry(self, body: bytes, lane: "_Lane", number: int, *, out: bool) -> None:
        weather, mti = self.weather, body[:4].decode("ascii", "replace")
        network = mti.startswith("08")
        if weather.blocked_out if out else weather.blocked_back:
            return
        if out:
            self._note(body, mti, number)
        if not network and self._chance.random() < (weather.lose_requests if out else weather.lose_answers):
            return
        copies = 2 if out and not network and self._chance.random() < weather.duplicate else 1
        for _ in range(copies):
            wait = weather.delay_seconds + weather.jitter_seconds * self._chance.random()
            overtaken = not network and self._chance.random() < weather.reorder
            lane.pass_on(len(body).to_bytes(2, "big") + body, wait, weather.bytes_per_second, overtaken=overtaken)

    def _note(self, body: bytes, mti: str, number: int) -> None:
        self.counted[mti] += 1
        if mti in FIRST or mti.startswith("04"):
            self.sent.append(Sent(time.monotonic(), mti, decode(body).fields.get(37, ""), number))


class _Lane:
    """One direction of one connection: frames arrive in order, but for those that are overtaken."""

    def __init__(self, sink: asyncio.StreamWriter) -> None:
        self._sink = sink
        self._last = 0.0

    def pass_on(self, frame: bytes, wait: float, bytes_per_second: int, *, overtaken: bool) -> None:
        """Write it at once, or when it is due."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = now + wait + (OVERTAKEN_SECONDS if overtaken else 0.0)
        if not overtaken:
            due = self._last = max(self._last, due) + (len(frame) / bytes_per_second if bytes_per_second else 0.0)
        if due <= now:
            self._write(frame)
        else:
            loop.call_at(due, self._write, frame)

    def _write(self, frame: bytes) -> None:
        if not self._sink.transport.is_closing():
            self._sink.write(frame)


class ByteProxy:
    """Between the product and PostgreSQL: can cut every connection when a statement that is at work has been answered."""

    def __init__(self, target: tuple[str, int] | str) -> None:
        self.target = target
        self.port = 0
        self.barred = False
        self.cuts = 0
        self._marker: bytes | None = None
        self._left = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def lose_answers(self, marker: str, count: int) -> None:
        """Of the next so many statements that hold these words the answer is lost, and the connection with it."""
        self._marker, self._left = marker.encode(), count

    def hold(self) -> None:
        """From now on nothing passes, and nobody is hung up on: who is asked is silent."""
        self._passing.clear()

    def go_on(self) -> None:
        """What was held passes."""
        self._passing.set()

    def bar(self) -> None:
        """Hang up on everybody, and on whoever comes."""
        self.barred = True
        for writer in list(self._open):
            writer.transport.abort()

    def let_in(self) -> None:
        """Pass new connections on again."""
        self.barred = False

    def close(self) -> None:
        """Hang up, for good."""
        self.bar()
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.barred:
            writer.transport.abort()
            return
        try:
            if isinstance(self.target, str):
                far = await asyncio.open_unix_connection(self.target)
            else:
                far = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far[1]}
        lost = asyncio.Event()
        try:
            await asyncio.gather(self._out(reader, far[1], lost), self._back(far[0], writer, lost))
        finally:
            self._open -= {writer, far[1]}
            writer.transport.abort()
            far[1].transport.abort()

    async def _out(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if self._left and self._marker and self._marker in data:
                    self._left -= 1
                    lost.set()
                await self._passing.wait()
                sink.write(data)
                await sink.drain()
        sink.transport.abort()

    async def _back(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if lost.is_set():
                    self.cuts += 1
                    break
                await self._passing.wait()
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
