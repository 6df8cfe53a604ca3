"""PostgreSQL as it is run where money must survive a node: a primary, a synchronous standby, and a way to them that is ours.

The harness plays the cluster manager: it kills the primary, promotes the standby, points the way at it, and only then would
the old primary be let in again, which it never is: it is fenced by the way, before anybody is told of the new one.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg

from chaos.proxy import ByteProxy
from chaos.system import until
from guilder.db.embedded import SUPERUSER, EmbeddedServer, processes_in
from guilder.db.launcher import choose

STANDBY: Final = "standby"
DATABASE: Final = "guilder"
# A failover by the harness: detect, promote, point the way.
LOOK_SECONDS: Final = 0.02
PROMOTED_SECONDS: Final = 30.0
REPLICATION: Final = "local replication all scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"


class Cluster:
    """Two servers on this machine; `url` stays the same whoever is primary."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.way = ByteProxy("")
        self._number = 0
        self._primary = self._server("node0")
        self._standby: EmbeddedServer | None = None

    def _server(self, name: str, settings: dict[str, str] | None = None) -> EmbeddedServer:
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        return EmbeddedServer(
            place, socket_folder=self.folder / f"{name}.s", password_file=self.folder / "passwords.json", log=place / "log",
            settings={"wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on"} | (settings or {}), passage=(self.folder,),
        )  # fmt: skip

    async def start(self) -> None:
        """The primary, its standby, and the way."""
        self._primary.create()
        access = self._primary.pgdata / "pg_hba.conf"
        access.write_text(access.read_text() + REPLICATION)
        await self._up(self._primary)
        await self.add_standby()
        await self.way.start()
        self._point(self._primary)
        parts = urlsplit(self._primary.dsn())
        self.url = f"postgresql://{parts.username}:{quote(parts.password or '')}@127.0.0.1:{self.way.port}/{DATABASE}?sslmode=disable"

    async def add_standby(self) -> None:
        """A new standby of the primary, copied from it; from now on each commit waits for its disk."""
        self._number += 1
        server = self._server(f"node{self._number}")
        launcher = choose(server.pgdata.parent)
        copied = f"{self._primary.dsn(user=SUPERUSER, database=SUPERUSER)}&application_name={STANDBY}"
        await asyncio.to_thread(
            launcher.run, "pg_basebackup", "-D", str(server.pgdata), "-d", copied, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync",
        )  # fmt: skip
        await self._up(server)
        self._standby = server
        await self._synchronous(STANDBY)

    async def _up(self, server: EmbeddedServer) -> None:
        server.start(die_with_parent=False)
        await until(server.ready, "the database answers")

    async def _synchronous(self, names: str) -> None:
        """Whom each commit waits for; nobody by an empty name."""
        connection = await self._superuser(self._primary)
        try:
            await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            await connection.execute("SELECT pg_reload_conf()")
            sql = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            if names:
                await until(lambda: connection.fetchval(sql), "the standby is synchronous")
        finally:
            await connection.close()

    async def _superuser(self, server: EmbeddedServer) -> asyncpg.Connection:
        return await asyncpg.connect(server.dsn(user=SUPERUSER, database=SUPERUSER))

    def _point(self, server: EmbeddedServer) -> None:
        query = parse_qs(urlsplit(server.dsn()).query)
        self.way.target = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self.way.let_in()

    async def fail_over(self, *, lost: bool = True) -> None:
        """G2: the primary is lost; it is fenced first, then the standby promoted, then the way pointed at it.

        G4, with `lost` false: it is only cut off, and lives on until the new one serves; nobody reaches it meanwhile.
        """
        standby = self._standby
        if standby is None:
            raise RuntimeError("there is no standby to fail over to")
        self.way.bar()
        old = self._primary
        if lost:
            _kill(old)
        _signal(standby, signal.SIGCONT)
        connection = await self._superuser(standby)
        try:
            await connection.execute("SELECT pg_promote(true, 30)")
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()
        self._primary, self._standby = standby, None
        self._point(self._primary)
        _kill(old)

    async def without_standby(self, seconds: float) -> None:
        """G3: the standby is lost and comes back; commits wait for it, they do not go on without."""
        standby = self._standby
        if standby is not None:
            _signal(standby, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            _signal(standby, signal.SIGCONT)

    async def lose_the_tail(self, seconds: float) -> int:
        """G5: the standby stands still, whoever waits for it is canceled, and then the primary is lost with what only it had.

        PostgreSQL answers a canceled wait with success and a warning. Returns how many waits were canceled.
        """
        if self._standby is None:
            return 0
        _signal(self._standby, signal.SIGSTOP)
        end, canceled = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            canceled += await self.cancel_waits()
            await asyncio.sleep(LOOK_SECONDS)
        await self.fail_over()
        return canceled

    async def cancel_waits(self) -> int:
        """G5: whoever waits for the standby is canceled, which PostgreSQL answers with success and a warning."""
        connection = await self._superuser(self._primary)
        try:
            sql = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            return int(await connection.fetchval(sql))
        finally:
            await connection.close()

    def close(self) -> None:
        """End both servers."""
        self.way.close()
        for server in (self._primary, self._standby):
            if server is not None:
                server.stop(seconds=0)
        shutil.rmtree(self.folder, ignore_errors=True)


def _kill(server: EmbeddedServer) -> None:
    """SIGKILL of a server and all of its processes: a machine that is gone."""
    _signal(server, signal.SIGKILL)
    server.stop(seconds=0)


def _signal(server: EmbeddedServer, number: int) -> None:
    for pid in processes_in(server.pgdata):
        # Some of them end by themselves while others are being told.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
