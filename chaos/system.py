"""The system under test: `guilder up` on fresh data, its processes by role, and the ways in which they are hurt."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from chaos import entry
from guilder import bootstrap
from guilder.config import Settings

ROOT: Final = Path(__file__).parent.parent
# A start with a new database takes some seconds; on a machine that is loaded, many.
START_SECONDS_MAX: Final = 90.0
# What waits for a process or a database to be back: restarts take parts of a second, recovery of a database more.
PATIENCE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.02
ROLES: Final = ("api", "executor", "worker", "vault", "network", "checkout")
ARMED: Final = "crash"


class Broken(Exception):
    """The system does not do what it has to do for the experiment to go on: not a finding about a payment, and red all the same."""


class System:
    """One data folder, and the `guilder up` that runs on it now, if any.

    Args:
        folder: where everything of this run is kept: data, histories, points.
        variables: settings of the system beyond those of a fresh start.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.points = folder / "points"
        self.crash_file = folder / ARMED
        self.ready: dict[str, Any] = {}
        self.starts = 0
        self._variables = dict(variables or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._others: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.points.mkdir(exist_ok=True)

    async def up(self) -> None:
        """Start, and return when it serves. Raises Broken."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GUILDER_")}
        own = {
            "GUILDER_CRASH_FILE": str(self.crash_file), entry.POINTS: str(self.points),
            # Ours is the package beside the installed one.
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        command = [sys.executable, "-m", "chaos.entry", "up", "--json", "--data", str(self.data), "--port", "0"]
        with (self.folder / "up.log").open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env=inherited | own | self._variables, cwd=ROOT,
            )  # fmt: skip
        stdout = self._process.stdout
        if stdout is None:
            raise Broken("guilder up has no output")
        line = await asyncio.wait_for(asyncio.to_thread(stdout.readline), START_SECONDS_MAX)
        if not line.startswith(b"{"):
            raise Broken(f"guilder up does not start: {(self.folder / 'up.log').read_text()[-2_000:]}")
        self.ready = json.loads(line)
        self.starts += 1

    async def down(self, number: int = signal.SIGTERM) -> None:
        """End it, in order or not, and wait until every process of it is gone."""
        if self._process is None:
            return
        pids = self.pids()
        self._process.send_signal(number)
        await asyncio.to_thread(self._process.wait)
        self._process = None
        await until(lambda: not any(alive(pid) for pid in pids), "every process has ended")

    def kill_what_is_left(self) -> None:
        """At the end of a run that was broken off."""
        for process in (*self._others.values(), self._process):
            if process is not None:
                process.kill()
                process.wait()

    @property
    def is_up(self) -> bool:
        """Whether the supervisor runs."""
        return self._process is not None and self._process.poll() is None

    def running(self) -> dict[str, Any]:
        """What run.json says now; empty while it is not there."""
        with suppress(FileNotFoundError, json.JSONDecodeError):
            found: dict[str, Any] = json.loads((self.data / "run.json").read_text())
            return found
        return {}

    def pids(self) -> list[int]:
        """Every process but the supervisor."""
        running = self.running()
        found = [pid for pids in running.get("roles", {}).values() for pid in pids]
        return [*found, running["postgres"]] if running.get("postgres") else found

    async def pid(self, role: str) -> int:
        """The process of a role, or of `postgres`, as soon as one runs."""

        def found() -> int:
            running = self.running()
            pids = [running.get("postgres") or 0] if role == "postgres" else running.get("roles", {}).get(role, [])
            return next((pid for pid in pids if pid and alive(pid)), 0)

        return int(await until(found, f"{role} runs"))

    async def signal(self, role: str, number: int) -> int:
        """Send the process of a role a signal; returns its id."""
        pid = await self.pid(role)
        os.kill(pid, number)
        return pid

    def order(self, verb: str, role: str, point: str) -> None:
        """The first process of the role that passes the point is to die or stop there."""
        new = self.crash_file.with_suffix(".new")
        new.write_text(f"{verb} {role} {point}")
        new.rename(self.crash_file)

    def carried_out(self) -> bool:
        """Whether the last order was."""
        return not self.crash_file.exists()

    def countermand(self) -> None:
        """The last order is void, if nobody has carried it out yet."""
        self.crash_file.unlink(missing_ok=True)

    def passed(self) -> dict[str, set[str]]:
        """The points that processes of each role have passed since the start."""
        found: dict[str, set[str]] = {}
        for file in self.points.iterdir():
            found.setdefault(file.name.partition(".")[0], set()).update(file.read_text().splitlines())
        return found

    async def command(self, *words: str, seconds: float = 120.0) -> tuple[int, str]:
        """Run a command of `guilder` on this data; exit status and what it said."""
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("guilder")), *words, "--data", str(self.data),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("GUILDER_")} | self._variables,
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            process.kill()
            raise Broken(f"guilder {words[0]} does not end") from None
        return process.returncode or 0, said.decode(errors="replace")

    async def another(self, role: str, acquirer: int) -> None:
        """Start one more process of a role beside the system's own; it may find the acquirer elsewhere than at its port."""
        running = self.running()
        first = str(running["ports"]["network_iso"] - 4)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GUILDER_")}
        own = {"GUILDER_DATABASE_URL": running["database_url"], entry.ACQUIRER: str(acquirer), "PYTHONPATH": str(ROOT)}
        with (self.folder / "another.log").open("ab") as log:
            self._others[role] = subprocess.Popen(
                [sys.executable, "-m", "chaos.entry", "run", role, "--json", "--data", str(self.data), "--port", first],
                stdout=subprocess.PIPE, stderr=log, env=environment | self._variables | own, cwd=ROOT,
            )  # fmt: skip
        stdout = self._others[role].stdout
        if stdout is None or not await asyncio.to_thread(stdout.readline):
            raise Broken(f"guilder run {role} does not start: {(self.folder / 'another.log').read_text()[-1_000:]}")

    async def without(self, role: str) -> None:
        """End the process that `another` started."""
        process = self._others.pop(role)
        process.terminate()
        await asyncio.to_thread(process.wait)

    @staticmethod
    def memory(pid: int) -> int:
        """Bytes of memory that are a process's own (anonymous and resident)."""
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
        return 0

    # --- the bank world --------------------------------------------------------------------------------------------------

    async def bank(self, method: str, path: str, document: object = None) -> bytes:
        """Ask the bank world's control port; repeated while it is away."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                async with (
                    aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS)) as session,
                    session.request(method, self.running()["network_control"] + path, json=document) as answer,
                ):
                    return await answer.read()
            except (aiohttp.ClientError, KeyError, TimeoutError):
                if time.monotonic() > end:
                    raise Broken("the bank world does not answer") from None
                await asyncio.sleep(LOOK_SECONDS)

    async def business_now(self) -> int:
        """Business time in microseconds, as the bank world's process has it."""
        ahead = json.loads(await self.bank("GET", "/health"))["clock_offset"]
        return int(ahead) + time.time_ns() // 1_000

    async def truth(self) -> list[dict[str, Any]]:
        """Every effect that the bank world remembers."""
        return [json.loads(line) for line in (await self.bank("GET", "/truth")).splitlines()]

    # --- the database ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of our own, past the product; waits for a database that is being started."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                connection = await asyncpg.connect(self.running()["database_url"], timeout=PATIENCE_SECONDS)
                break
            except (OSError, KeyError, asyncpg.PostgresError):
                if time.monotonic() > end:
                    raise Broken("the database does not answer") from None
                await asyncio.sleep(LOOK_SECONDS)
        try:
            yield connection
        finally:
            connection.terminate()

    async def rows(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """What the database says; repeated when it goes away meanwhile."""
        while True:
            try:
                async with self.database() as connection:
                    found: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
                    return found
            except (asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError, OSError):
                await asyncio.sleep(LOOK_SECONDS)

    async def merchants(self, count: int) -> list[str]:
        """Make so many more merchants; returns their secret test keys."""
        settings = Settings.load(self._variables, {"data_dir": self.data, "database_url": self.running()["database_url"]})
        made = []
        async with bootstrap.merchants(settings) as known:
            for number in range(count):
                merchant = await known.create(name=f"Merchant {number}")
                _, secret = await known.create_key(merchant.id, livemode=False, kind="secret")
                made.append(secret.reveal())
        return made


async def until(condition: Any, what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until something holds (a function, or one whose result is awaited), and return it. Raises Broken."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if time.monotonic() > end:
            raise Broken(f"waited {seconds:.0f} s until {what}")
        await asyncio.sleep(LOOK_SECONDS)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
