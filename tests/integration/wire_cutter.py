"""A way to the database that loses what the test says: a request before it arrives, or an answer after the commit."""

import asyncio
import contextlib
import socket
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

CHUNK = 65_536
REQUEST, SENT, ANSWER, ROWS = "request", "sent", "answer", "rows"


class WireCutter:
    """Listens on a port and passes everything on to PostgreSQL's socket; one cut at a time can be ordered.

    REQUEST: the first bytes to the server that hold the marker are not passed on, and the connection is cut.
    SENT: they are passed on, and the connection is cut at once, while the server is at work on them.
    ANSWER: they are passed on, and the connection is cut when the server's answer is there, which nobody gets.
    ROWS: the same for the first bytes from the server that hold the marker.
    """

    def __init__(self) -> None:
        self._to = ""
        self._server: asyncio.Server | None = None
        self._wires: set[_Wire] = set()
        self._barred = False
        self._order: tuple[str, bytes] | None = None
        self._bar_after = False
        self.cuts = 0

    async def start(self, dsn: str) -> str:
        """Listen; returns the address of the same database by this way."""
        parts = urlsplit(dsn)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self._to = f"{query['host']}/.s.PGSQL.{query['port']}"
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, family=socket.AF_INET)
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(parts._replace(query=urlencode(query | {"host": "127.0.0.1", "port": str(port)})))

    def close(self) -> None:
        """Hang up on everybody, for good."""
        self.bar()
        if self._server is not None:
            self._server.close()

    def order(self, what: str, marker: str, *, bar: bool = False) -> None:
        """Cut once; with `bar` nobody gets to the database from that moment on."""
        self._order = (what, marker.encode())
        self._bar_after = bar

    def bar(self) -> None:
        """Hang up on everybody, and on whoever comes."""
        self._barred = True
        for wire in list(self._wires):
            wire.cut()

    def let_in(self) -> None:
        """Pass new connections on again."""
        self._barred = False

    def cut_made(self) -> None:
        """An ordered cut has been made."""
        if self._bar_after:
            self.bar()

    def taken(self, data: bytes, *kinds: str) -> str | None:
        """The cut that these bytes are to have, if any; it is ordered no more."""
        if self._order is None or self._order[0] not in kinds or self._order[1] not in data:
            return None
        kind, self._order = self._order[0], None
        self.cuts += 1
        return kind

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._barred:
            writer.transport.abort()
            return
        far = await asyncio.open_unix_connection(self._to)
        wire = _Wire(self, (reader, writer), far)
        if self._barred:
            wire.cut()
            return
        self._wires.add(wire)
        try:
            await asyncio.gather(wire.to_server(), wire.to_client())
        finally:
            self._wires.discard(wire)


class _Wire:
    """One connection."""

    def __init__(self, cutter: WireCutter, near: tuple, far: tuple) -> None:
        self._cutter = cutter
        self._near_reader, self._near_writer = near
        self._far_reader, self._far_writer = far
        self._lost = False

    async def to_server(self) -> None:
        """What the client says."""
        with contextlib.suppress(OSError):
            while data := await self._near_reader.read(CHUNK):
                kind = self._cutter.taken(data, REQUEST, SENT, ANSWER)
                if kind == REQUEST:
                    break
                self._lost = self._lost or kind == ANSWER
                self._far_writer.write(data)
                await self._far_writer.drain()
                if kind == SENT:
                    break
        if not self._lost:
            self.cut()

    async def to_client(self) -> None:
        """What the server says, until it is to be lost."""
        with contextlib.suppress(OSError):
            while data := await self._far_reader.read(CHUNK):
                if self._lost or self._cutter.taken(data, ROWS):
                    self._cutter.cut_made()
                    break
                self._near_writer.write(data)
                await self._near_writer.drain()
        self.cut()

    def cut(self) -> None:
        """Hang up on both sides."""
        self._near_writer.transport.abort()
        self._far_writer.transport.abort()
