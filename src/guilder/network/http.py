"""Just enough HTTP/1.1 for a control port: one request a connection, bodies with a length, long answers in chunks.

A framework would cost more memory than the whole bank world.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from guilder.core.clock import sleep

# A control port's requests are small and come from the same machine: larger or slower ones are mistakes.
HEAD_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 1024 * 1024
REQUEST_SECONDS_MAX: Final = 10.0


class Request(Struct, frozen=True):
    """A request: method, path without the query, query parameters (the last of a name wins), body."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes


class Response(Struct, frozen=True):
    """An answer. A body in pieces is sent in chunks, so its reader can tell a whole answer from a broken one."""

    body: bytes | Iterable[bytes]
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Route = Callable[[Request], Awaitable[Response]]


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, route: Route) -> None:
    """Answer the one request of a connection, then close it. A peer that goes away is no error."""
    try:
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                request = await _read(reader)
        except (ValueError, asyncio.LimitOverrunError):
            response = Response(b'{"error":"this is no HTTP request that the control port understands"}', 400)
        else:
            response = await route(request)
        await _write(writer, response)
    except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
        pass
    finally:
        writer.close()


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
    return Request(method, parts.path, dict(parse_qsl(parts.query)), body)


async def _write(writer: asyncio.StreamWriter, response: Response) -> None:
    phrase = HTTPStatus(response.status).phrase
    head = f"HTTP/1.1 {response.status} {phrase}\r\nContent-Type: {response.content_type}\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in response.headers)
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
