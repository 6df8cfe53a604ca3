"""A webhook receiver for tests and benchmarks: HTTP/1.1 on 127.0.0.1 that keeps what it gets, and behaves as it is told."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import httptools


class Request(NamedTuple):
    """One request as it came; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> str:
        return self.headers["webhook-id"]

    @property
    def number(self) -> int:
        return int(self.headers["guilder-sequence"])


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HANG = b"hang"
RESET = b"reset"
CLOSE = b"close"

Behave = Callable[[Request], bytes]
"""What goes out for a request: bytes as they are, or HANG, RESET, CLOSE."""


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An answer with this status."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


class Receiver:
    """Listens until closed; `behave` may be replaced at any time."""

    def __init__(self, *, keep: bool = True) -> None:
        self.requests: list[Request] = []
        self.count = 0
        self.keep = keep
        self.connections = 0
        self.flying = 0
        self.flying_most = 0
        self.behave: Behave = lambda _request: OK
        self.delay = 0.0
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, port: int = 0, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> "Receiver":
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhooks"

    @property
    def events(self) -> Counter[str]:
        """How often each event came."""
        return Counter(request.event for request in self.requests)

    async def close(self) -> None:
        """Close the port and all connections."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._open):
            connection.transport.abort()
        await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    transport: Any

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.parser = httptools.HttpRequestParser(self)
        self.path, self.headers, self.parts = "", {}, []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.receiver.connections += 1
        self.receiver._open.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.receiver._open.discard(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.path, self.headers, self.parts = "", {}, []

    def on_url(self, url: bytes) -> None:
        self.path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        receiver, request = self.receiver, Request(self.path, self.headers, b"".join(self.parts))
        receiver.count += 1
        if receiver.keep:
            receiver.requests.append(request)
        receiver.flying += 1
        receiver.flying_most = max(receiver.flying_most, receiver.flying)
        out = receiver.behave(request)
        if receiver.delay:
            asyncio.get_running_loop().call_later(receiver.delay, self._answer, out)
        else:
            self._answer(out)

    def _answer(self, out: bytes) -> None:
        if out == HANG:
            return
        self.receiver.flying -= 1
        if out == RESET:
            self.transport.abort()
        elif out == CLOSE:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write(out)
