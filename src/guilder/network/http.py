"""Just enough HTTP/1.1 for the bank world: bodies with a length, long answers in chunks, connections kept where asked for.

A framework would cost more memory than the whole bank world.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from guilder.core.clock import sleep

# A control port's requests are small and come from the same machine: larger or slower ones are mistakes.
HEAD_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 1024 * 1024
REQUEST_SECONDS_MAX: Final = 10.0
# How long a connection that is kept may be silent between two requests; clients keep theirs for less.
IDLE_SECONDS_MAX: Final = 60.0
# How long a connection on which nothing is ever answered is held: longer than anybody waits for an answer.
SILENT_SECONDS_MAX: Final = 600.0


class Request(Struct, frozen=True):
    """A request: method, path without the query, query parameters (the last of a name wins), body, headers in lower case."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    headers: Mapping[str, str] = {}


class Manner(Struct, frozen=True):
    """How an answer fails to arrive: never, cut off in place of it, or byte by byte with this pause."""

    silent: bool = False
    cut: bool = False
    drip_seconds: float | None = None


class Response(Struct, frozen=True):
    """An answer. A body in pieces is sent in chunks, so its reader can tell a whole answer from a broken one.

    `keep`: the connection stays for another request.
    """

    body: bytes | Iterable[bytes]
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    keep: bool = False
    manner: Manner | None = None


Route = Callable[[Request], Awaitable[Response]]


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, route: Route) -> None:
    """Answer the requests of a connection, until an answer does not keep it. A peer that goes away is no error."""
    seconds = REQUEST_SECONDS_MAX
    try:
        while await _exchange(reader, writer, route, seconds):
            seconds = IDLE_SECONDS_MAX
    except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
        pass
    finally:
        writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, route: Route, seconds: float) -> bool:
    """One request, which must have come within so many seconds, and its answer; whether the connection stays."""
    try:
        async with asyncio.timeout(seconds):
            request = await _read(reader)
    except (ValueError, asyncio.LimitOverrunError):
        response = Response(b'{"error":"this is no HTTP request that this port understands"}', 400)
    else:
        response = await route(request)
    manner = response.manner
    if manner is None:
        await _write(writer, response)
        return response.keep
    if manner.silent:
        async with asyncio.timeout(SILENT_SECONDS_MAX):
            await reader.read(1)
    elif manner.cut:
        writer.transport.abort()
    else:
        await _drip(writer, response, manner.drip_seconds or 0.0)
    return False


async def _read(reader: asyncio.StreamReader) -> Request:
    """Read a request. Raises ValueError for what is none, or is too large."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise ValueError("bodies need a Content-Length")
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= BODY_BYTES_MAX:
        raise ValueError("the body is too large")
    body = await reader.readexactly(length)
    parts = urlsplit(target)
    return Request(method, parts.path, dict(parse_qsl(parts.query)), body, headers)


def _head(response: Response) -> str:
    phrase = HTTPStatus(response.status).phrase
    connection = "keep-alive" if response.keep else "close"
    head = f"HTTP/1.1 {response.status} {phrase}\r\nContent-Type: {response.content_type}\r\nConnection: {connection}\r\n"
    return head + "".join(f"{name}: {value}\r\n" for name, value in response.headers)


async def _drip(writer: asyncio.StreamWriter, response: Response, pause_seconds: float) -> None:
    """Write an answer byte by byte, as on a slow line."""
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    whole = f"{_head(response)}Content-Length: {len(body)}\r\n\r\n".encode() + body
    for index in range(len(whole)):
        writer.write(whole[index : index + 1])
        await writer.drain()
        await sleep(pause_seconds)


async def _write(writer: asyncio.StreamWriter, response: Response) -> None:
    head = _head(response)
    if isinstance(response.body, bytes):
        writer.write(f"{head}Content-Length: {len(response.body)}\r\n\r\n".encode() + response.body)
        await writer.drain()
        return
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    for piece in response.body:
        if piece:
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        # Payments go first: between two pieces the loop serves whoever else waits.
        await sleep(0)
    writer.write(b"0\r\n\r\n")
    await writer.drain()
