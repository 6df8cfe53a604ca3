"""The connections of one listening socket, from the first to the last."""

import asyncio
import resource
import socket
import sys
from collections.abc import Callable

import structlog

from guilder.core.clock import SECOND, Clock, sleep
from guilder.http_server.connection import Connection
from guilder.http_server.heads import date_line
from guilder.http_server.limits import BACKLOG, CONNECTIONS_MAX, FILES_KEPT, GRACE_SECONDS, REFUSED_MAX, SWEEP_SECONDS
from guilder.http_server.model import App

_log = structlog.get_logger()


class Server:
    """What its connections share. One per process; several processes may share the listening socket."""

    def __init__(self, app: App, clock: Clock) -> None:
        self.app = app
        self.loop = asyncio.get_running_loop()
        self.date = b""
        self.stopping = False
        self._clock = clock
        self._connections: set[Connection] = set()
        self._sockets = _open_files() - FILES_KEPT
        self._empty = asyncio.Event()
        self._empty.set()
        self.look_at_clock()

    def look_at_clock(self) -> None:
        """Take up the second that it is. Real time: whoever caches or signs by it knows of no moved clock."""
        self.date = date_line(self._clock.real() // SECOND)

    # --- what connections say -------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> bool:
        """Count it; False when there are too many."""
        self._connections.add(connection)
        self._empty.clear()
        most = min(CONNECTIONS_MAX, self._sockets)
        if len(self._connections) > most + REFUSED_MAX:
            connection.cut()
        return len(self._connections) <= most

    def closed(self, connection: Connection) -> None:
        """It is gone, and nothing is under way for it any more."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    # --- time -----------------------------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Look at all connections again and again: one timer for all costs nothing, one for each request does."""
        while True:
            await sleep(SWEEP_SECONDS)
            self.look_at_clock()
            self.expire(self.loop.time())

    def expire(self, now: float) -> None:
        """End what has waited too long, as each phase of a connection says."""
        for connection in [one for one in self._connections if one.deadline <= now]:
            try:
                connection.expire()
            except Exception:
                # One connection must not keep the others from being looked at.
                _log.exception("connection_not_expired")
                connection.cut()

    async def stop(self) -> None:
        """Close what is idle, and wait for what is under way; what takes too long is cut off."""
        self.stopping = True
        for connection in list(self._connections):
            connection.let_go()
        try:
            await asyncio.wait_for(self._empty.wait(), GRACE_SECONDS)
        except TimeoutError:
            left = list(self._connections)
            tasks = [one.task for one in left if one.task is not None]
            for connection in left:
                connection.cut()
            await asyncio.gather(*tasks, return_exceptions=True)


async def serve_http(
    app: App, listener: socket.socket, *, clock: Clock, ready: Callable[[], None], stop: asyncio.Event,
) -> None:  # fmt: skip
    """Serve until told to stop; then answer what is under way and close."""
    server = Server(app, clock)
    accepting = await server.loop.create_server(lambda: Connection(server), sock=listener, backlog=BACKLOG)
    sweeping = server.loop.create_task(server.sweep())
    try:
        ready()
        await stop.wait()
    finally:
        accepting.close()
        sweeping.cancel()
        await server.stop()


def _open_files() -> int:
    """How many files this process may have open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
