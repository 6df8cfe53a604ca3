"""PostgreSQL as it is run where money must survive a node: a primary, a synchronous standby, and ways to them that are ours.

The harness plays the cluster manager: it kills the primary, promotes the standby, points the way at it, and only then would
the old primary be let in again, which it never is: it is fenced by the way, before anybody is told of the new one. A second way
leads to the standby, from which lists are read; after a failover it leads to the one that was promoted until there is a new standby.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
from tests.standby import Pair, kill, send

from chaos.proxy import ByteProxy
from guilder.db.embedded import DATABASE, EmbeddedServer

# A failover by the harness: detect, promote, point the way.
LOOK_SECONDS: Final = 0.02
PROMOTED_SECONDS: Final = 30.0

Look = Callable[[asyncpg.Connection], Awaitable[None]]


async def _nothing(_connection: asyncpg.Connection) -> None:
    """Nobody looks."""


class Cluster:
    """Two servers on this machine; `url` stays the same whoever is primary, and `replica_url` whoever is its standby."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.replica_url = ""
        self.way = ByteProxy("")
        self.reads = ByteProxy("")
        self._pair = Pair(folder)
        self._backup: EmbeddedServer | None = None

    async def start(self) -> None:
        """The primary, its standby, and the ways."""
        await self._pair.start()
        for way in (self.way, self.reads):
            await way.start()
        _point(self.way, self._pair.primary)
        _point(self.reads, self._pair.standby)
        self.url, self.replica_url = (_address(self._pair.primary, way) for way in (self.way, self.reads))

    async def add_standby(self) -> None:
        """After a failover: a new standby of the new primary."""
        await self._pair.another_standby()
        _point(self.reads, self._pair.standby)

    async def fail_over(self, *, lost: bool = True, look: Look = _nothing) -> None:
        """G2: the primary is lost; it is fenced first, then the standby promoted, then the way pointed at it.

        G4, with `lost` false: it is only cut off, and lives on until the new one serves; nobody reaches it meanwhile. `look` is
        shown the new one before anybody else is.
        """
        self.way.bar()
        send(self._pair.standby, signal.SIGCONT)
        await self._pair.promote(lost=lost)
        async with _connected(self._pair.standby) as connection:
            await look(connection)
        _point(self.way, self._pair.standby)
        kill(self._pair.primary)

    async def without_standby(self, seconds: float) -> None:
        """G3: the standby is lost and comes back; commits wait for it, they do not go on without."""
        send(self._pair.standby, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        send(self._pair.standby, signal.SIGCONT)

    async def lose_the_tail(self, seconds: float, look: Look = _nothing) -> int:
        """G5: nothing goes to the standby, whoever waits for it is canceled, and then the primary is lost with what only it had.

        PostgreSQL answers a canceled wait with success and a warning. Returns how many waits were canceled. It is the primary that stops
        sending: what has been sent to a standby that stands still is on its way, and is there when it goes on.
        """
        self._pair.hold()
        end, canceled = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            canceled += await self._pair.cancel()
            await asyncio.sleep(LOOK_SECONDS)
        await self.fail_over(look=look)
        return canceled

    async def hold_behind(self) -> None:
        """The standby keeps what comes, so that commits go on, and shows none of it."""
        await self._pair.ask("SELECT pg_wal_replay_pause()", self._pair.standby)

    async def catch_up(self) -> None:
        """It shows what it has kept."""
        await self._pair.ask("SELECT pg_wal_replay_resume()", self._pair.standby)

    async def back_up(self) -> None:
        """A base backup of the primary as it runs; whatever is committed when this begins is in it."""
        self._backup = await self._pair.back_up()

    async def restore(self) -> None:
        """Both servers are lost, and the backup takes their place, with a standby of its own."""
        if self._backup is None:
            raise RuntimeError("there is no backup")
        for way in (self.way, self.reads):
            way.bar()
        await self._pair.restore(self._backup)
        _point(self.way, self._pair.primary)
        _point(self.reads, self._pair.standby)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection to the primary of our own, past the way."""
        async with _connected(self._pair.primary) as connection:
            yield connection

    def close(self) -> None:
        """End both servers."""
        for way in (self.way, self.reads):
            way.close()
        self._pair.close()


@asynccontextmanager
async def _connected(server: EmbeddedServer) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.dsn())
    try:
        yield connection
    finally:
        connection.terminate()


def _point(way: ByteProxy, server: EmbeddedServer) -> None:
    """Whoever is on the way is hung up on, and whoever comes from now on reaches this server."""
    way.bar()
    query = parse_qs(urlsplit(server.dsn()).query)
    way.target = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
    way.let_in()


def _address(server: EmbeddedServer, way: ByteProxy) -> str:
    parts = urlsplit(server.dsn())
    return f"postgresql://{parts.username}:{quote(parts.password or '')}@127.0.0.1:{way.port}/{DATABASE}?sslmode=disable"
