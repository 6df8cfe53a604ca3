"""A connection to the acquirer that is kept up for ever: connect, sign on, echo when it is quiet, connect again.

The queue of frames outlives a connection: what was not written on one is written on the next, or given back when the
attempt to connect fails.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from msgspec import Struct

from guilder.core.clock import SECOND, Clock, sleep
from guilder.iso8583 import Code, Message, Mti, Network, encode
from guilder.psp.connectors.cardnet.connection import Connection, Parcel
from guilder.psp.connectors.cardnet.settings import CardnetSettings, Limits
from guilder.psp.model import STAN_MAX, Reason, transmission_time

# Bytes that a dead peer may leave unacknowledged: the kernel ends the connection after so many milliseconds.
UNACKNOWLEDGED_MILLISECONDS: Final = 10_000


Uniform = Callable[[], float]
"""Draws from [0, 1)."""


class SignOnRefused(ConnectionError):
    """The acquirer is there and does not want us."""


class LinkOwner(Struct, frozen=True):
    """Whom the link tells.

    `connected` how many seconds it took to connect and sign on, `up` when frames can flow, `refused` when an attempt to connect
    failed, `lost` when a connection ended, `received` for each message that is not about the connection itself.
    """

    connected: Callable[[float], None]
    up: Callable[[], None]
    refused: Callable[[], None]
    lost: Callable[[Reason], None]
    received: Callable[[Message], None]


class _Notice:
    """A message about the connection, as a parcel: nobody needs to permit it."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    def leave(self) -> bytes | None:
        return self._frame

    def left(self) -> None:
        pass


class Link:
    """One kept connection. Used from one event loop."""

    def __init__(self, name: str, settings: CardnetSettings, limits: Limits, clock: Clock, owner: LinkOwner, uniform: Uniform) -> None:
        self._settings = settings
        self._limits = limits
        self._clock = clock
        self._owner = owner
        self._log = structlog.get_logger("guilder.psp.cardnet").bind(link=name)
        self._reconnect = limits.reconnect
        self._uniform = uniform
        self._queue: deque[Parcel] = deque()
        self._connection: Connection | None = None
        self._ready = False
        self._flush_due = False
        self._stan = 0
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect, in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._keep_up())

    @property
    def is_up(self) -> bool:
        """Whether frames can flow."""
        return self._ready

    def send(self, parcels: Iterable[Parcel]) -> None:
        """Queue parcels; all that is queued in one turn of the loop leaves in one write."""
        self._queue.extend(parcels)
        if self._ready and not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def drain(self) -> list[Parcel]:
        """Take back everything that has not been written."""
        parcels = list(self._queue)
        self._queue.clear()
        return parcels

    async def close(self) -> None:
        """End the connection and stop connecting. Nothing is told to the owner any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._drop()

    def _flush(self) -> None:
        self._flush_due = False
        if self._ready and self._connection is not None:
            self._connection.flush(self._queue)

    async def _keep_up(self) -> None:
        failures, waited = 0, 0.0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._connect()
            except (OSError, UnicodeError) as error:  # TimeoutError is an OSError, a name that can be none a UnicodeError
                self._drop()
                self._log.warning("psp_connect_failed", why=str(error) or type(error).__name__, failures=failures)
                self._owner.refused()
            else:
                self._log.info("psp_connected")
                self._owner.connected(asyncio.get_running_loop().time() - began)
                self._ready = True
                self._owner.up()
                self._flush()
                await self._listen()
            # An acquirer that takes the connection and drops it at once is no better than one that refuses it.
            lasted = asyncio.get_running_loop().time() - began > self._limits.connect_seconds
            failures = 1 if lasted else failures + 1
            waited = self._reconnect.delay_after(failures, self._uniform, previous_seconds=waited if failures > 1 else None) or 0.0
            await sleep(waited)

    async def _connect(self) -> None:
        """Connect and sign on. Raises OSError."""
        self._ended.clear()
        async with asyncio.timeout(self._limits.connect_seconds):
            sock = await _connected_socket(self._settings.host, self._settings.port)
        self._connection = Connection(sock, received=self._on_message, writable=self._flush, lost=self._on_lost)
        async with asyncio.timeout(self._limits.connect_seconds):
            answer = await self._ask(Network.SIGN_ON)
        if self._connection is None:
            raise ConnectionResetError("the connection ended during sign-on")
        if answer.fields.get(39) != Code.APPROVED:
            raise SignOnRefused(f"sign-on was answered with {answer.fields.get(39)}")

    async def _listen(self) -> None:
        """Stay until the connection has ended; ask for an echo whenever nothing was heard for a while."""
        while (connection := self._connection) is not None:
            heard = connection.heard
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.echo_every_seconds):
                    await self._ended.wait()
            if self._ended.is_set():
                return
            if connection.heard == heard:
                try:
                    async with asyncio.timeout(self._limits.echo_answer_seconds):
                        await self._ask(Network.ECHO)
                except OSError:
                    self._on_lost(Reason.RESET)
                    return

    async def _ask(self, code: str) -> Message:
        """Send a message about the connection and wait for its answer. Raises ConnectionError when the connection ends."""
        connection = self._connection
        if connection is None:
            raise ConnectionResetError("the connection has ended")
        self._stan = self._stan % STAN_MAX + 1
        stan = f"{self._stan:06d}"
        fields = {7: transmission_time(self._clock.now() // SECOND), 11: stan, 32: self._settings.acquirer, 70: code}
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[stan] = answered
        try:
            connection.flush(deque([_Notice(encode(Mti.NETWORK, fields))]))
            return await answered
        finally:
            del self._waiting[stan]

    def _on_message(self, message: Message) -> None:
        if message.mti == Mti.ANSWERS[Mti.NETWORK]:
            answered = self._waiting.get(message.fields.get(11, ""))
            if answered is not None and not answered.done():
                answered.set_result(message)
            return
        self._owner.received(message)

    def _on_lost(self, reason: Reason) -> None:
        """The connection has ended by itself."""
        was_ready = self._ready
        self._drop()
        if was_ready:
            self._log.warning("psp_connection_lost", why=reason.value)
            self._owner.lost(reason)

    def _drop(self) -> None:
        """Forget the connection, if there is one, and wake who waits for it."""
        self._ready = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(ConnectionResetError("the connection has ended"))
        self._ended.set()


async def _connected_socket(host: str, port: int) -> socket.socket:
    """A connected socket, non-blocking, that sends at once and notices a dead peer. Tries every address. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
