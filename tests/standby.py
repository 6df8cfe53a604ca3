"""PostgreSQL as it is run where money must survive a node: a primary, and a synchronous standby that may be held up or promoted."""

import asyncio
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from guilder.db.embedded import SUPERUSER, EmbeddedServer, processes_in
from guilder.db.launcher import choose

NAME = "standby"
SETTINGS = {"wal_level": "replica", "max_wal_senders": "3", "hot_standby": "on", "shared_buffers": "32MB"}
ACCESS = "local replication all scram-sha-256\n"
_WAITS = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
LOOKS, LOOK_SECONDS = 3_000, 0.01


class Pair:
    """Two servers on this machine; `close` ends both and removes what they stored.

    Args:
        folder: where all of it is kept; a new one for None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
        self._made = 0
        self.primary = self._server()
        self.standby = self._server()

    def _server(self) -> EmbeddedServer:
        self._made += 1
        place = self.folder / f"node{self._made}"
        place.mkdir(parents=True, mode=0o700)
        return EmbeddedServer(
            place, socket_folder=place.with_suffix(".s"), password_file=self.folder / "passwords.json",
            log=place.with_suffix(".log"), settings=SETTINGS, passage=(self.folder,),
        )  # fmt: skip

    async def start(self) -> None:
        """The primary, and its copy."""
        await asyncio.to_thread(self.primary.create)
        access = self.primary.pgdata / "pg_hba.conf"
        access.write_text(access.read_text() + ACCESS)
        await _up(self.primary)
        await self._follow()

    async def _follow(self) -> None:
        """The standby becomes the primary's copy: from now on each commit waits for its disk."""
        await self._copy(self.standby, "-R")
        await _up(self.standby)
        await self.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        await self.ask("SELECT pg_reload_conf()")
        await self.until("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")

    async def _copy(self, server: EmbeddedServer, *flags: str) -> None:
        place = server.pgdata.parent
        launcher = choose(place, (self.folder,))
        launcher.give(place)
        source = f"{self.primary.dsn(user=SUPERUSER, database=SUPERUSER)}&application_name={NAME}"
        await asyncio.to_thread(
            launcher.run, "pg_basebackup", "-D", str(server.pgdata), "-d", source, *flags, "-X", "stream", "--checkpoint=fast", "--no-sync",
        )  # fmt: skip

    async def back_up(self) -> EmbeddedServer:
        """A base backup of the primary as it runs: a server that nobody has started yet."""
        backup = self._server()
        await self._copy(backup)
        return backup

    async def restore(self, backup: EmbeddedServer) -> None:
        """Both are lost, and a backup takes their place, with a standby of its own."""
        for server in (self.primary, self.standby):
            kill(server)
        self.primary, self.standby = backup, self._server()
        await _up(self.primary)
        await self._follow()

    async def another_standby(self) -> None:
        """The standby that was promoted is the primary from now on, and has a new standby."""
        self.primary, self.standby = self.standby, self._server()
        await self._follow()

    async def ask(self, sql: str, server: EmbeddedServer | None = None) -> Any:
        """One value, as the superuser; of the primary unless told otherwise."""
        connection = await asyncpg.connect((server or self.primary).dsn(user=SUPERUSER, database=SUPERUSER))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    async def until(self, sql: str, server: EmbeddedServer | None = None) -> None:
        """Wait until a question's answer is neither nothing nor zero."""
        for _ in range(LOOKS):
            if await self.ask(sql, server):
                return
            await asyncio.sleep(LOOK_SECONDS)
        raise TimeoutError(sql)

    def hold(self) -> None:
        """Nothing goes to the standby any more: commits wait for it."""
        send(self.primary, signal.SIGSTOP, "walsender")

    def let_go(self) -> None:
        """It gets what it has missed."""
        send(self.primary, signal.SIGCONT, "walsender")

    async def waiting(self, statement: str) -> None:
        """Return when the commit of such a statement waits for the standby."""
        await self.until(f"SELECT count(*) {_WAITS} AND query LIKE '%{statement}%'")

    async def cancel(self, statement: str = "", but: str = "nothing") -> int:
        """Cancel such waits, or all, but not those of `but`, as an impatient administrator does; PostgreSQL answers with success and a warning."""
        sql = f"SELECT count(pg_cancel_backend(pid)) {_WAITS} AND query LIKE '%{statement}%' AND query NOT LIKE '%{but}%'"
        return int(await self.ask(sql))

    async def promote(self, *, lost: bool = True) -> None:
        """The standby takes the primary's place, which is lost with all that only it had, or by `lost` goes on and thinks that it is one."""
        if lost:
            kill(self.primary)
        await self.ask("SELECT pg_promote(true, 30)", self.standby)

    def close(self) -> None:
        """End both, and remove what they stored."""
        for server in (self.primary, self.standby):
            kill(server)
        shutil.rmtree(self.folder, ignore_errors=True)


def kill(server: EmbeddedServer) -> None:
    """SIGKILL of a server and all of its processes: a machine that is gone."""
    send(server, signal.SIGKILL)
    server.stop(seconds=0)


def send(server: EmbeddedServer, number: int, kind: str = "") -> None:
    """A signal to a server's processes of a kind, or to all."""
    for pid in processes_in(server.pgdata):
        # Some of them end by themselves while others are being told.
        with suppress(ProcessLookupError, FileNotFoundError):
            if kind in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, number)


async def _up(server: EmbeddedServer) -> None:
    server.start()
    await asyncio.to_thread(server.wait_until_ready)
