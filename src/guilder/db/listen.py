"""One connection that hears NOTIFY, and comes back by itself when the database has been away."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import asyncpg

from guilder.core.clock import sleep
from guilder.core.retry import Kind, Retry
from guilder.db.connection import Connection
from guilder.db.pool import CONNECT_TIMEOUT_SECONDS, session_settings

# Whoever listens also polls every 250 ms (DESIGN section 5), so a slow return costs only latency.
RECONNECT: Final = Retry(kind=Kind.EXPONENTIAL, base_seconds=0.05, cap_seconds=1.0)

# A wrong address or role is told by the pool that every process with a listener opens before it.
LOSSES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Listener:
    """Calls `heard(channel, payload)` in the event loop for every notification on the channels.

    Notifications sent while the connection is away are lost, therefore `heard(channel, "")` is called for every channel
    after each return: "look for yourself".
    """

    def __init__(
        self,
        dsn: str,
        channels: Sequence[str],
        heard: Callable[[str, str], None],
        *,
        role: str,
        name: str,
    ) -> None:
        self._dsn = dsn
        self._channels = tuple(channels)
        self._heard = heard
        self._settings = session_settings(role=role, name=f"{name} listener")
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Listen; returns when the first connection hears, and at once while there is none, which is then like any loss of it."""
        connection = None
        with suppress(*LOSSES):
            connection = await self._connect()
        self._task = asyncio.get_running_loop().create_task(self._keep(connection))

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _connect(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(self._dsn, timeout=CONNECT_TIMEOUT_SECONDS, server_settings=self._settings)
        self._ended = ended = asyncio.Event()
        connection.add_termination_listener(lambda _connection: ended.set())
        try:
            for channel in self._channels:
                await connection.add_listener(channel, self._notified)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _notified(self, _connection: Connection, _pid: int, channel: str, payload: object) -> None:
        self._heard(channel, str(payload))

    async def _keep(self, connection: asyncpg.Connection | None) -> None:
        try:
            while True:
                if connection is not None:
                    await self._ended.wait()
                connection = await self._reconnect()
                for channel in self._channels:
                    self._heard(channel, "")
        finally:
            if connection is not None:
                connection.terminate()

    async def _reconnect(self) -> asyncpg.Connection:
        tries = 0
        while True:
            tries += 1
            try:
                return await self._connect()
            except LOSSES:
                await sleep(RECONNECT.delay_after(tries, lambda: 1.0) or 0.0)
