"""The open connections of one process: taken, given back, made anew after a loss.

asyncpg's own pool does the same in 50 us a statement, most of it a task to guard the return and a statement to reset the
session; handing a connection over takes one. Nothing of ours leaves session state behind, and a connection whose user was
cancelled in the middle of a statement is closed instead of cleaned.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from guilder.core.errors import Unavailable

# Longest wait for a free connection. A pool is sized for its process, so a longer wait means that the database stands
# still; the caller then answers 503 while the client still listens.
ACQUIRE_TIMEOUT_SECONDS: Final = 5.0
# How long the end of a process waits for statements that are still running.
CLOSE_SECONDS: Final = 3.0


class Sessions:
    """At most `max_size` connections, made by `connect` when they are first needed."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], max_size: int) -> None:
        self._connect = connect
        self._max_size = max_size
        # The last one given back is taken first: its plans and the server's caches are warm.
        self._idle: list[Any] = []
        self._open = 0
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._closed = False
        self._all_back = asyncio.Event()

    @property
    def size(self) -> int:
        """Connections that are open or being opened."""
        return self._open

    async def take(self) -> Any:
        """A connection for the caller alone. Raises Unavailable when none becomes free in time, or what `connect` raises."""
        while True:
            if self._closed:
                raise Unavailable("the database pool is closed")
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
                self._open -= 1
            if self._open < self._max_size:
                return await self._make()
            connection = await self._next()
            if connection is not None:
                return connection

    def give(self, connection: Any) -> None:
        """Give a connection back; one that was closed makes room for another."""
        if connection.is_closed() or self._closed:
            connection.terminate()
            self._forget()
        elif not self._hand_on(connection):
            self._idle.append(connection)

    async def close(self) -> None:
        """Wait a little for those that are in use, then close every connection."""
        self._closed = True
        while self._waiting:
            self._hand_on(None)
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close(timeout=CLOSE_SECONDS)
            self._open -= 1
        if self._open:
            self._all_back.clear()
            try:
                await asyncio.wait_for(self._all_back.wait(), CLOSE_SECONDS)
            except TimeoutError:
                return

    async def _make(self) -> Any:
        self._open += 1
        try:
            return await self._connect()
        except BaseException:
            self._forget()
            raise

    async def _next(self) -> Any:
        """Wait for a connection that is given back; None when there may now be room for a new one."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(waiter)
        alarm = loop.call_later(ACQUIRE_TIMEOUT_SECONDS, _too_late, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # It was handed to us in the moment in which we went away.
                self._pass_on(waiter.result())
            raise
        finally:
            alarm.cancel()

    def _pass_on(self, connection: Any) -> None:
        if connection is None:
            self._hand_on(None)
        else:
            self.give(connection)

    def _hand_on(self, connection: Any) -> bool:
        """Give the longest waiting caller a connection, or the news (None) that there is room; False when nobody waits."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def _forget(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._all_back.set()
        self._hand_on(None)


def _too_late(waiter: "asyncio.Future[Any]") -> None:
    if not waiter.done():
        waiter.set_exception(Unavailable(f"no database connection became free within {ACQUIRE_TIMEOUT_SECONDS:g} s"))
