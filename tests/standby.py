"""PostgreSQL as it is run where money must survive a node: a primary, and a synchronous standby that a test may hold up or promote."""

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path

import asyncpg

from guilder.db.embedded import SUPERUSER, EmbeddedServer, processes_in
from guilder.db.launcher import choose

NAME = "standby"
SETTINGS = {"wal_level": "replica", "max_wal_senders": "3", "hot_standby": "on", "shared_buffers": "32MB"}
ACCESS = "local replication all scram-sha-256\n"
_WAITS = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
LOOKS, LOOK_SECONDS = 500, 0.01


class Pair:
    """Two servers on this machine; `close` ends both."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
        self.primary = self._server("a")
        self.standby = self._server("b")

    def _server(self, name: str) -> EmbeddedServer:
        return EmbeddedServer(
            self.folder / name, socket_folder=self.folder / f"{name}s", password_file=self.folder / "passwords.json",
            log=self.folder / f"{name}.log", settings=SETTINGS, passage=(self.folder,),
        )  # fmt: skip

    async def start(self) -> None:
        """The primary, and its copy: from now on each commit waits for the standby's disk."""
        await asyncio.to_thread(self.primary.create)
        access = self.primary.pgdata / "pg_hba.conf"
        access.write_text(access.read_text() + ACCESS)
        await _up(self.primary)
        (self.folder / "b").mkdir(mode=0o700)
        launcher = choose(self.folder / "b", (self.folder,))
        launcher.give(self.folder / "b")
        source = f"{self.primary.dsn(user=SUPERUSER, database=SUPERUSER)}&application_name={NAME}"
        await asyncio.to_thread(
            launcher.run, "pg_basebackup", "-D", str(self.standby.pgdata), "-d", source, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync",
        )  # fmt: skip
        await _up(self.standby)
        await self.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        await self.ask("SELECT pg_reload_conf()")
        await self.until("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")

    async def ask(self, sql: str, server: EmbeddedServer | None = None):
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
        self._signal(signal.SIGSTOP, "walsender")

    def let_go(self) -> None:
        """It gets what it has missed."""
        self._signal(signal.SIGCONT, "walsender")

    async def waiting(self, statement: str) -> None:
        """Return when the commit of such a statement waits for the standby."""
        await self.until(f"SELECT count(*) {_WAITS} AND query LIKE '%{statement}%'")

    async def cancel(self, statement: str) -> int:
        """Cancel such waits, as an impatient administrator does; PostgreSQL answers with success and a warning."""
        return int(await self.ask(f"SELECT count(pg_cancel_backend(pid)) {_WAITS} AND query LIKE '%{statement}%'"))

    async def promote(self) -> None:
        """The primary is lost with all that only it had; the standby takes its place."""
        self._signal(signal.SIGKILL, "")
        self.primary.stop(seconds=0)
        await self.ask("SELECT pg_promote(true, 30)", self.standby)

    def close(self) -> None:
        """End both, and remove what they stored."""
        self.let_go()
        for server in (self.primary, self.standby):
            server.stop(seconds=0)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int, kind: str) -> None:
        """To the primary's processes of a kind; all by an empty one."""
        for pid in processes_in(self.primary.pgdata):
            if kind in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, number)


async def _up(server: EmbeddedServer) -> None:
    server.start()
    await asyncio.to_thread(server.wait_until_ready)
