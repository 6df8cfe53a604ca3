"""PostgreSQL as it is run where money must survive a node: a primary, a synchronous standby, and a way to them that is ours.

The harness plays the cluster manager: it kills the primary, promotes the standby, points the way at it, and only then would
the old primary be let in again, which it never is: it is fenced by the way, before anybody is told of the new one.
"""

import asyncio
import signal
import time
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from tests.standby import Pair, kill, send

from chaos.proxy import ByteProxy
from guilder.db.embedded import DATABASE, EmbeddedServer

# A failover by the harness: detect, promote, point the way.
LOOK_SECONDS: Final = 0.02
PROMOTED_SECONDS: Final = 30.0


class Cluster:
    """Two servers on this machine; `url` stays the same whoever is primary."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.way = ByteProxy("")
        self._pair = Pair(folder)

    async def start(self) -> None:
        """The primary, its standby, and the way."""
        await self._pair.start()
        await self.way.start()
        self._point(self._pair.primary)
        parts = urlsplit(self._pair.primary.dsn())
        self.url = f"postgresql://{parts.username}:{quote(parts.password or '')}@127.0.0.1:{self.way.port}/{DATABASE}?sslmode=disable"

    async def add_standby(self) -> None:
        """After a failover: a new standby of the new primary."""
        await self._pair.another_standby()

    def _point(self, server: EmbeddedServer) -> None:
        query = parse_qs(urlsplit(server.dsn()).query)
        self.way.target = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self.way.let_in()

    async def fail_over(self, *, lost: bool = True) -> None:
        """G2: the primary is lost; it is fenced first, then the standby promoted, then the way pointed at it.

        G4, with `lost` false: it is only cut off, and lives on until the new one serves; nobody reaches it meanwhile.
        """
        self.way.bar()
        send(self._pair.standby, signal.SIGCONT)
        await self._pair.promote(lost=lost)
        self._point(self._pair.standby)
        kill(self._pair.primary)

    async def without_standby(self, seconds: float) -> None:
        """G3: the standby is lost and comes back; commits wait for it, they do not go on without."""
        send(self._pair.standby, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        send(self._pair.standby, signal.SIGCONT)

    async def lose_the_tail(self, seconds: float) -> int:
        """G5: the standby stands still, whoever waits for it is canceled, and then the primary is lost with what only it had.

        PostgreSQL answers a canceled wait with success and a warning. Returns how many waits were canceled.
        """
        send(self._pair.standby, signal.SIGSTOP)
        end, canceled = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            canceled += await self._pair.cancel()
            await asyncio.sleep(LOOK_SECONDS)
        await self.fail_over()
        return canceled

    def close(self) -> None:
        """End both servers."""
        self.way.close()
        self._pair.close()
