"""A server with an application of the test's own, and clients that send bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from msgspec import Struct

from guilder.core.clock import ManualClock
from guilder.core.errors import Refusal
from guilder.http_server import HungUpError, Incoming, Outgoing
from guilder.http_server.connection import Connection
from guilder.http_server.server import Server

WAIT_SECONDS = 10.0
BODY_MAX = 100_000

Handler = Callable[[Incoming], Awaitable[Outgoing]]


async def echo(incoming: Incoming) -> Outgoing:
    """The request, as it was understood."""
    body = await incoming.body(BODY_MAX)
    return Outgoing(body=f"{incoming.method} {incoming.path}?{incoming.query.decode()} ".encode() + body)


class Echo:
    """The application: notes what was begun and what was done; refusals are their status and message."""

    def __init__(self, handler: Handler = echo) -> None:
        self.handler = handler
        self.begun: list[str] = []
        self.done: list[str] = []
        self.hung_up = 0

    async def answer(self, incoming: Incoming) -> Outgoing:
        self.begun.append(incoming.path)
        try:
            outgoing = await self.handler(incoming)
        except Refusal as refusal:
            return self.refuse(refusal)
        except HungUpError:
            self.hung_up += 1
            raise
        self.done.append(incoming.path)
        return outgoing

    def refuse(self, refusal: Refusal) -> Outgoing:
        return Outgoing(status=refusal.status, body=str(refusal).encode())


class Reply(Struct, frozen=True):
    """One answer off the wire; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A connection; `read_reply` reads one answer, `read_all` what comes until the server closes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), WAIT_SECONDS)

    async def read_reply(self, *, body: bool = True) -> Reply:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
        reply = parsed(head)
        if not body or reply.status == 100:
            return reply
        content = await asyncio.wait_for(self.reader.readexactly(int(reply.headers["content-length"])), WAIT_SECONDS)
        return Reply(reply.status, reply.headers, content)

    async def read_all(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), WAIT_SECONDS)

    def close(self) -> None:
        self.writer.close()

    async def gone(self) -> None:
        """Close, and wait until nothing is left of it."""
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Hang up as a process that dies does."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


def parsed(head: bytes) -> Reply:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = [line.partition(": ") for line in lines]
    assert len({name for name, _, _ in pairs}) == len(pairs), "no header stands there twice"
    return Reply(int(first.split()[1]), {name: value for name, _, value in pairs}, b"")


def replies(raw: bytes) -> list[Reply]:
    """Every answer in what came over a connection."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        reply = parsed(head)
        length = int(reply.headers.get("content-length", "0"))
        found.append(Reply(reply.status, reply.headers, raw[:length]))
        raw = raw[length:]
    return found


class HttpWorld:
    """The server under test."""

    def __init__(self, app: Echo, server: Server, port: int) -> None:
        self.app = app
        self.server = server
        self.port = port
        self.clients: list[Client] = []

    async def connect(self, data: bytes = b"") -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        await client.send(data)
        return client

    async def exchange(self, data: bytes) -> list[Reply]:
        """Everything that these bytes bring, until the server closes."""
        client = await self.connect(data)
        return replies(await client.read_all())

    def later(self, seconds: float) -> None:
        """What the sweep does so many seconds from now."""
        self.server.expire(self.server.loop.time() + seconds)

    @property
    def connections(self) -> list[Connection]:
        return list(self.server._connections)


@asynccontextmanager
async def http_world(app: Echo) -> AsyncIterator[HttpWorld]:
    """A server on a port of its own."""
    server = Server(app, ManualClock())
    accepting = await server.loop.create_server(lambda: Connection(server), "127.0.0.1", 0)
    world = HttpWorld(app, server, accepting.sockets[0].getsockname()[1])
    try:
        yield world
    finally:
        accepting.close()
        for client in world.clients:
            await client.gone()
        await server.stop()
