"""The acquirer: takes requests off TCP, has them carried out, syncs the truth once a turn, and answers.

All requests that one turn of the event loop brings form a batch: they are carried out in memory as they come, then
their lines are written and synced by one fdatasync, and only then their answers leave, one write a connection.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from guilder.iso8583 import FrameError, Message, Mti, encode
from guilder.network.connection import Connection
from guilder.network.errors import TruthNotDurable
from guilder.network.faults import Faults, original_of
from guilder.network.mishaps import suffer
from guilder.network.world import Answer, World

# A connector uses a handful; beyond this somebody leaks them.
CONNECTIONS_MAX: Final = 256
# How long to wait before a full disk is tried again.
FULL_DISK_RETRY_SECONDS: Final = 0.25
# Requests held back by the fault "after not found"; each holds a message of about 1 kB.
PARKED_MAX: Final = 10_000

_log = structlog.get_logger("guilder.network")


class Acquirer:
    """Serves ISO 8583 over TCP. `failed` is done with an exception when the truth can no longer be kept."""

    def __init__(self, world: World, faults: Faults) -> None:
        self.world = world
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._parked: dict[str, tuple[Connection, Message, int]] = {}
        # When the last request in line will have been carried out.
        self._line_ends = float("-inf")
        self._answered: list[Connection] = []  # connections with answers in this batch
        self._after: list[Callable[[], object]] = []  # what else is to happen once the batch is durable
        self._flush_planned = False
        self._disk_full = False
        self.failed: asyncio.Future[None] = self._loop.create_future()

    async def listen(self, host: str, port: int, listener: socket.socket | None = None) -> int:
        """Start to listen, on the socket if one is given; returns the port."""
        make = partial(Connection, self)
        if listener is not None:
            self._server = await self._loop.create_server(make, sock=listener, backlog=CONNECTIONS_MAX)
        else:
            self._server = await self._loop.create_server(make, host, port, backlog=CONNECTIONS_MAX)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def close(self) -> None:
        """Stop listening, finish the batch if the truth can still be kept, close the connections."""
        if self._server:
            self._server.close()
        self._flush()
        for connection in list(self._connections):
            connection.close()

    def connected(self, connection: Connection) -> bool:
        """A peer has connected; False sends it away."""
        if len(self._connections) >= CONNECTIONS_MAX:
            _log.warning("network.too_many_connections", peer=connection.peer)
            return False
        self._connections.add(connection)
        if self._disk_full:
            connection.stop_reading()
        return True

    def disconnected(self, connection: Connection) -> None:
        """A connection is gone; what was asked on it is carried out all the same."""
        self._connections.discard(connection)

    def unreadable(self, connection: Connection, error: FrameError, outline: str) -> None:
        """A peer sent what is no message: answer what came before it, then close."""
        _log.warning("network.frame_unreadable", peer=connection.peer, reason=str(error), outline=outline)
        self.then(connection.close)

    def take(self, connection: Connection, message: Message) -> None:
        """Carry out one request, or let it have its fault. Raises FrameError when its type is no request."""
        rule = self._faults.draw(message) if self._faults and message.mti in Mti.ANSWERS else None
        if rule is None:
            self.answer(connection, self.world.carry_out(message))
        else:
            suffer(rule, self, connection, message)
        if self._parked:
            self._release(message)

    def plan_flush(self) -> None:
        """Sync and answer at the end of this turn of the loop."""
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def answer(self, connection: Connection, answer: Answer) -> None:
        """Send an answer with this batch."""
        if not connection.waiting:
            self._answered.append(connection)
        connection.waiting.append(encode(*answer))
        self.plan_flush()

    def give(self, connection: Connection, frame: bytes) -> None:
        """Send bytes with this batch that need not be an answer."""
        self.then(partial(connection.send, frame))

    def then(self, action: Callable[[], object]) -> None:
        """Do this once everything until now is durable and answered."""
        self._after.append(action)
        self.plan_flush()

    def later(self, delay_ms: int, action: Callable[..., object], *arguments: object) -> None:
        """The same, so many milliseconds later."""
        self.then(partial(self._loop.call_later, delay_ms / 1000, action, *arguments))

    def arrive(self, connection: Connection, message: Message) -> None:
        """A request comes out of the network, late or once more: no fault hits it again."""
        self.answer(connection, self.world.carry_out(message))

    def in_line(self, delay_ms: int, connection: Connection, message: Message) -> None:
        """Carry a request out behind all others in line, each of which takes so many milliseconds."""
        self._line_ends = max(self._line_ends, self._loop.time()) + delay_ms / 1000
        self._loop.call_at(self._line_ends, self.arrive, connection, message)

    def park(self, connection: Connection, message: Message, delay_ms: int) -> None:
        """Hold a request back until an inquiry or a reversal has missed it."""
        if len(self._parked) < PARKED_MAX:
            self._parked[message.fields.get(37, "")] = (connection, message, delay_ms)

    def _flush(self) -> None:
        self._flush_planned = False
        try:
            durable = self.world.truth.sync()
        except TruthNotDurable as error:
            if not self.failed.done():
                self.failed.set_exception(error)
            return
        if durable == self._disk_full:
            self._notice_disk(full=not durable)
        if not durable:
            self._flush_planned = True
            self._loop.call_later(FULL_DISK_RETRY_SECONDS, self._flush)
            return
        answered, self._answered = self._answered, []
        after, self._after = self._after, []
        for connection in answered:
            connection.flush()
        for action in after:
            action()

    def _notice_disk(self, *, full: bool) -> None:
        """Nothing can be promised while the disk is full, so nothing more is read; peers wait and ask again."""
        self._disk_full = full
        _log.error("network.disk_full") if full else _log.info("network.disk_writable")
        for connection in self._connections:
            connection.stop_reading() if full else connection.read_again()

    def _release(self, message: Message) -> None:
        """After an inquiry or a reversal that missed it, a request that was held back arrives."""
        if message.mti == Mti.INQUIRY:
            missed = message.fields.get(37, "")
        elif message.mti in (Mti.REVERSAL, Mti.REVERSAL_REPEAT):
            missed = original_of(message)
        else:
            return
        parked = self._parked.pop(missed, None)
        if parked is not None:
            connection, request, delay_ms = parked
            self.later(delay_ms, self.arrive, connection, request)
