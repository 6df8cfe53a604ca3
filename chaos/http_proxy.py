"""A proxy of ours between the executor and a PSP that speaks HTTP/1.1: it knows one request from the next."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from random import Random
from typing import Final

from msgspec import Struct

from chaos.proxy import OVERTAKEN_SECONDS, Sent, Way

CHUNK: Final = 65_536
HEAD_END: Final = b"\r\n\r\n"
PATH: Final = "/web/v1/"
# The first requests of attempts, by the last word of their path; questions, voids and reversals settle what these began.
FIRST_PATHS: Final = frozenset({"payments", "captures", "refunds"})
# Not done, and to come again: no request that counts.
TOO_MANY: Final = 429


class _Request(Struct, frozen=True):
    """One request, as its bytes are."""

    whole: bytes
    kind: str
    reference: str


class HttpProxy(Way):
    """One request after the other on each connection, each with the weather of its moment. `counted` by the path's last word."""

    def __init__(self, chance: Random) -> None:
        super().__init__(chance)
        self._number = 0
        self._again: set[asyncio.Task[bool]] = set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse or not self._target:
            writer.transport.abort()
            return
        self._number += 1
        number = self._number
        self._open.add(writer)
        try:
            while await self._carry(await _read(reader), reader, writer, number):
                continue
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # either side has gone, or says what is no HTTP: the connection ends with it
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _carry(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """One request there and its answer back; whether the connection can have another one."""
        weather = self.weather
        self.sent.append(Sent(time.monotonic(), request.kind, request.reference, number))
        self.counted[request.kind] += 1
        if weather.blocked_out or self._chance.random() < weather.lose_requests:
            return await _silent(reader)
        wait = weather.delay_seconds + weather.jitter_seconds * self._chance.random()
        overtaken = OVERTAKEN_SECONDS if self._chance.random() < weather.reorder else 0.0
        narrow = len(request.whole) / weather.bytes_per_second if weather.bytes_per_second else 0.0
        await asyncio.sleep(wait + overtaken + narrow)
        if self._chance.random() < weather.duplicate:
            again = asyncio.ensure_future(self._ask(request, None))
            self._again.add(again)
            again.add_done_callback(self._ended)
        if weather.blocked_back or self._chance.random() < weather.lose_answers:
            await self._ask(request, None)
            return await _silent(reader)
        return await self._ask(request, writer)

    def _ended(self, task: "asyncio.Task[bool]") -> None:
        self._again.discard(task)
        if not task.cancelled():
            task.exception()

    async def _ask(self, request: _Request, back: asyncio.StreamWriter | None) -> bool:
        """Have it answered, on a connection of its own; the answer goes back as it comes, or nowhere. True when it was whole."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._open.add(writer)
        try:
            writer.write(request.whole)
            head = await _head(reader, back)
            if head[0].split(b" ", 2)[1:2] == [b"%d" % TOO_MANY] and back is not None:
                self.counted[request.kind] -= 1
            left = int(_fields(head).get("content-length", "0"))
            while left:
                piece = await reader.read(min(left, CHUNK))
                if not piece:
                    return False
                left -= len(piece)
                _pass(back, piece)
            return back is not None and "close" not in _fields(head).get("connection", "")
        finally:
            self._open.discard(writer)
            writer.transport.abort()


def _pass(back: asyncio.StreamWriter | None, piece: bytes) -> None:
    if back is not None and not back.transport.is_closing():
        back.write(piece)


async def _head(reader: asyncio.StreamReader, back: asyncio.StreamWriter | None) -> list[bytes]:
    """An answer's head, passed on byte by byte as it comes: somebody may answer as slowly as that."""
    head = b""
    while not head.endswith(HEAD_END):
        piece = await reader.readexactly(1)
        head += piece
        _pass(back, piece)
    return head.split(b"\r\n")


async def _silent(reader: asyncio.StreamReader) -> bool:
    """Nothing more comes back on this connection; returns when the other side has given it up."""
    while await reader.read(CHUNK):
        continue
    return False


async def _read(reader: asyncio.StreamReader) -> _Request:
    head = await reader.readuntil(HEAD_END)
    lines = head.split(b"\r\n")
    body = await reader.readexactly(int(_fields(lines).get("content-length", "0")))
    path = lines[0].split(b" ")[1].decode("latin-1")
    kind = path.removeprefix(PATH).partition("/")[0]
    reference = path.rpartition("/")[2]
    if body:
        with contextlib.suppress(ValueError):
            reference = str(json.loads(body).get("reference", ""))
    return _Request(head + body, kind, reference)


def _fields(lines: list[bytes]) -> Mapping[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines[1:] if line)
    return {name.strip().lower(): value.strip().lower() for name, _, value in pairs}

