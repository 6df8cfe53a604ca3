"""The vault's end of its socket: a file that only its user may open, every call a list, many calls under way at once."""

import asyncio
import os
import resource
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, assert_never

import msgspec
import structlog

from guilder.core.clock import sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.shapes.facts import CardFacts
from guilder.vault import wire
from guilder.vault.model import LIST_ITEMS_MAX, CardRefused
from guilder.vault.service import Vault

SOCKET_MODE_MASK: Final = 0o177
# Connections that wait while the vault restarts; there are fewer processes than this.
BACKLOG: Final = 128
# Calls of one connection under way at once. Past it nothing more is read, and the caller's frames wait in its socket.
CALLS_MAX: Final = 256
# After an accept that failed, so that a lack that lasts does not turn into a busy loop.
ACCEPT_AGAIN_SECONDS: Final = 0.1
# How often CVCs whose time is over are looked for; a read never returns one anyway.
SWEEP_SECONDS: Final = 30.0
PEER_CREDENTIALS: Final = struct.Struct("3i")


def listen(path: Path) -> socket.socket:
    """A listening socket at this path, open to its user alone (0600). A file that a dead vault left there is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    before = os.umask(SOCKET_MODE_MASK)
    try:
        with wire.socket_address(path) as address:
            listener.bind(address)
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def may_connect(connection: socket.socket) -> bool:
    """Whether the process at the other end runs as our user or as root."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
    _pid, user, _group = PEER_CREDENTIALS.unpack(credentials)
    return user in {os.getuid(), 0}


class VaultServer:
    """Serves one vault on a listening socket."""

    def __init__(self, vault: Vault, listener: socket.socket) -> None:
        self._vault = vault
        self._listener = listener
        self._connections: set[_Connection] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to serve; returns when callers are being answered. Raises KeyFileError for a wrong master key."""
        await self._vault.check()
        # What is in this process's memory must not be written to a file when it crashes.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        self._listener.setblocking(False)
        self._tasks = [asyncio.create_task(self._accept()), asyncio.create_task(self._sweep())]

    async def close(self) -> None:
        """Stop serving, finish what is under way, and close the vault."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._listener.close()
        for connection in list(self._connections):
            await connection.finish()
        await self._vault.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _address = await loop.sock_accept(self._listener)
                await self._admit(accepted)
            except OSError as error:
                # Out of descriptors, or a caller that has gone already: the next one is served again.
                structlog.get_logger().error("the vault could not accept a caller", error=str(error))
                await sleep(ACCEPT_AGAIN_SECONDS)

    async def _admit(self, accepted: socket.socket) -> None:
        if not may_connect(accepted):
            structlog.get_logger().warning("a stranger knocked at the vault")
            accepted.close()
            return
        connection = _Connection(self._vault, self._connections.discard)
        self._connections.add(connection)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: connection.frames, accepted)

    async def _sweep(self) -> None:
        while True:
            await sleep(SWEEP_SECONDS)
            self._vault.sweep()


class _Connection:
    """One caller's connection and the calls that it has under way."""

    def __init__(self, vault: Vault, gone: Callable[["_Connection"], None]) -> None:
        self._vault = vault
        self._gone = gone
        self._codec = wire.Codec()
        self._hello: wire.Hello | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self.frames = wire.Frames(self._received, self._lost)

    async def finish(self) -> None:
        """Let the calls that are under way end, then hang up."""
        self.frames.pause()
        if self._calls:
            await asyncio.wait(self._calls)
        self.frames.finish()

    def _lost(self) -> None:
        self._gone(self)

    def _received(self, body: bytes) -> None:
        try:
            message = self._codec.request(body)
        except msgspec.MsgspecError:
            structlog.get_logger().error("an unreadable frame reached the vault", bytes=len(body))
            self.frames.close()
            return
        if isinstance(message, wire.Hello):
            self._hello = message
        elif self._hello is None or self._hello.version != wire.VERSION:
            self.frames.close()
        else:
            self._start(message)

    def _start(self, request: wire.Request) -> None:
        call = asyncio.get_running_loop().create_task(self._call(request))
        self._calls.add(call)
        call.add_done_callback(self._ended)
        if len(self._calls) >= CALLS_MAX:
            self.frames.pause()

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if len(self._calls) == CALLS_MAX // 2:
            self.frames.resume()

    async def _call(self, request: wire.Request) -> None:
        try:
            answer = await self._answer(request)
        except (Unavailable, ResultUnknown):
            answer = wire.Failed(request.id, wire.Problem.UNAVAILABLE)
        except Exception:  # noqa: BLE001 - logged; the caller is told, and the other calls go on
            structlog.get_logger().exception("the vault failed", operation=type(request).__name__)
            answer = wire.Failed(request.id, wire.Problem.BROKEN)
        self.frames.send(self._codec.frame(answer))

    async def _answer(self, request: wire.Request) -> wire.Answer:
        if len(request.items) > LIST_ITEMS_MAX:
            return wire.Failed(request.id, wire.Problem.TOO_LONG)
        match request:
            case wire.Tokenize():
                results = await self._vault.tokenize(request.items)
                return wire.Tokenized(
                    request.id,
                    [result if isinstance(result, CardFacts) else None for result in results],
                    [result if isinstance(result, CardRefused) else None for result in results],
                )
            case wire.RevealCards():
                if self._hello is None or not self._hello.may_reveal:
                    return wire.Failed(request.id, wire.Problem.NOT_ALLOWED)
                return wire.Revealed(request.id, await self._vault.reveal(request.items))
            case wire.Amend():
                return wire.Done(request.id, await self._vault.amend(request.items))
            case wire.DropCvc():
                self._vault.drop_cvc(request.items)
                return wire.Done(request.id, [True] * len(request.items))
            case wire.Fingerprint():
                return wire.Fingerprints(request.id, await self._vault.fingerprint(request.items))
            case _:
                assert_never(request)
