"""G: PostgreSQL dies, is locked by an operator, gives no connections, and ends statements that it should not."""

import asyncio
import os
import signal
from contextlib import suppress

import asyncpg

from chaos.faults.base import Fault
from chaos.lab import Lab
from chaos.system import alive, until
from guilder.db.embedded import processes_in

CONNECTIONS_MAX = 60


class ServerKilled(Fault):
    """G1: SIGKILL of the postmaster and its recovery."""

    kind = "G1"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        pid = await lab.system.signal("postgres", signal.SIGKILL)
        lab.kills += 1
        await until(lambda: not alive(pid), "the database is dead")

    async def heal(self, lab: Lab) -> None:
        await lab.system.rows("SELECT 1")


class BackendsKilled(Fault):
    """G1: sessions are ended one after the other, whatever they are at."""

    kind = "G1"

    async def inject(self, lab: Lab) -> None:
        sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user"
        for _ in range(5):
            for row in await lab.system.rows(sql):
                if lab.chance.random() < 0.5:
                    await lab.system.rows("SELECT pg_terminate_backend($1)", row["pid"])
            await asyncio.sleep(lab.seconds("step") / 4)


class Deadlocks(Fault):
    """G7: a third of a role's most important statement ends as a deadlock."""

    kind = "G7"

    async def inject(self, lab: Lab) -> None:
        role, where = lab.chance.choice((("executor", "payments_flush"), ("api", "payments_flush"), ("executor", "payments_claim")))
        lab.system.order("storm", role, f"sql from {where} before")

    async def heal(self, lab: Lab) -> None:
        lab.system.countermand()


class NoConnections(Fault):
    """G10: somebody has taken every connection that the server gives, and a role has to come back."""

    kind = "G10"

    def __init__(self) -> None:
        self._taken: list[asyncpg.Connection] = []

    async def inject(self, lab: Lab) -> None:
        url = lab.system.running()["database_url"]
        with suppress(asyncpg.PostgresError, OSError):
            for _ in range(CONNECTIONS_MAX):
                self._taken.append(await asyncpg.connect(url, timeout=5))
        await lab.system.signal("worker", signal.SIGKILL)
        lab.kills += 1

    async def heal(self, lab: Lab) -> None:
        for connection in self._taken:
            connection.terminate()


class LongLock(Fault):
    """G11: an operator's session locks a table that every payment needs, and goes to lunch."""

    kind = "G11"
    lasts = "lock"

    def __init__(self) -> None:
        self._session: asyncpg.Connection | None = None

    async def inject(self, lab: Lab) -> None:
        self._session = await asyncpg.connect(lab.system.running()["database_url"])
        await self._session.execute("SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = 0; BEGIN")
        table = lab.chance.choice(("payment", "attempt_open", "log_head", "idempotency_key"))
        with suppress(asyncpg.LockNotAvailableError):
            await self._session.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")

    async def heal(self, lab: Lab) -> None:
        if self._session is not None:
            self._session.terminate()


class ServerAway(Fault):
    """I16: PostgreSQL stands still for longer than a lease: nothing is accepted, and nothing is sent."""

    kind = "I16"
    lasts = "lease"
    down = "database"

    def __init__(self) -> None:
        self._paused: list[int] = []

    async def inject(self, lab: Lab) -> None:
        self._paused = processes_in(lab.system.data / "postgres" / "pgdata")
        for pid in self._paused:
            os.kill(pid, signal.SIGSTOP)

    async def heal(self, lab: Lab) -> None:
        for pid in self._paused:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


DATABASE: tuple[type[Fault], ...] = (ServerKilled, BackendsKilled, Deadlocks, NoConnections, LongLock, ServerAway)
