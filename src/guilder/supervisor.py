"""The supervisor: starts the database and the roles, starts again what died, and ends everything in order.

For its whole life it has no thread, no event loop, no database connection and no progress bar: it waits for signals
and for lines in its children's pipes. Whatever needs more runs in a short-lived child. It imports everything once and
forks, so that the roles share that memory and a restart costs milliseconds (DESIGN section 11).
"""

import importlib
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Final

import msgspec
import structlog

from guilder import folder
from guilder.children import HANDLED, Child, Deaths, fork
from guilder.config import Settings
from guilder.db.embedded import DidNotStart, EmbeddedServer
from guilder.db.launcher import CannotRun
from guilder.folder import CannotStart, Running
from guilder.privileges import confine
from guilder.role import METRICS, READY, WORD, Body, configure_log, open_log, point_output_at, run_role

# The order of the end, with the seconds that each step may take before it is killed; with the database's 1.2 s this
# stays below the 5 s that an operator's tools wait. Callers go first, what they call last.
END: Final = ((("api", "checkout", "dashboard"), 1.8), (("executor", "worker"), 1.0), (("vault", "network"), 0.6))
END_DATABASE_SECONDS: Final = 1.2

# The order of the start: whom others call, then the rest.
FIRST: Final = frozenset({"vault", "network"})
TURN_SECONDS: Final = 1.0

# How much of a role's log is shown when it does not start.
LOG_TAIL_LINES: Final = 5
# Each caller's connection is an open file, and the usual limit of 1,024 is soon reached.
OPEN_FILES: Final = 65_536


class Stopped(Exception):
    """A signal asked for the end while we were still starting."""


class _Place:
    """One process of a role: the one that runs now, and what is known of those before it."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.child: Child | None = None
        self.ready = False
        self.word: str | None = None
        self.metrics_port: str | None = None
        self.deaths = Deaths()


class Supervisor:
    """One running system.

    Args:
        settings: as loaded; ports and the database's address are completed here.
        say: told in a few words what is being done, for people.
    """

    def __init__(self, settings: Settings, *, say: Callable[[str], None] = lambda _text: None) -> None:
        self.settings = settings
        self._say = say
        self._places: list[_Place] = []
        self._server: EmbeddedServer | None = None
        self._server_deaths = Deaths()
        self._server_pid: int | None = None
        self._sockets: dict[str, int] = {}
        self._lock = -1
        self._wake, self._wakened = -1, -1
        self._stopping = False
        self._started = False
        self._bodies: Mapping[str, Body] = {}
        self._port_names: Mapping[str, Sequence[str]] = {}
        self._log = structlog.get_logger()

    def run(self, on_ready: Callable[[Settings, folder.Sandbox], None]) -> None:
        """Start everything, call `on_ready`, and stay until SIGTERM, SIGINT or SIGHUP; then end everything.

        Raises CannotStart; everything that had been started is ended first.
        """
        self._lock = folder.claim(self.settings)
        try:
            self._hear_signals()
            self._start(on_ready)
            while not self._stopping:
                self._turn()
        except Stopped:
            pass
        except (CannotRun, DidNotStart) as error:
            raise CannotStart(str(error)) from error
        finally:
            self._stop()

    # The start

    def _start(self, on_ready: Callable[[Settings, folder.Sandbox], None]) -> None:
        configure_log("supervisor", open_log(self.settings.log_dir / "supervisor.log"))
        _allow_open_files()
        folder.clean_run_folder(self.settings)
        creating = self._create_database()
        # While initdb runs: everything that the roles will need, once, for all of them.
        bootstrap = importlib.import_module("guilder.bootstrap")
        if creating is not None:
            self._finish(creating, "the database could not be created")
        self._start_database()
        self._say("Preparing the database")
        self._finish(self._begin(partial(bootstrap.prepare, self.settings)), "the database could not be prepared")
        ports, self._sockets = folder.open_ports(self.settings)
        self.settings = msgspec.structs.replace(self.settings, ports=ports)
        self._bodies = bootstrap.ROLES
        self._places = [_Place(role) for role, count in bootstrap.counts(self.settings).items() for _ in range(count)]
        self._port_names = bootstrap.SOCKETS
        self._say("Starting the processes")
        for first in (True, False):
            for place in self._places:
                if (place.role in FIRST) is first:
                    self._start_role(place)
            self._wait(lambda: all(place.ready for place in self._places if place.child is not None))
        self._started = True
        self._write_running()
        sandbox = folder.read_sandbox(self.settings)
        if sandbox is None:
            raise CannotStart(f"{self.settings.sandbox_file} is missing")
        on_ready(self.settings, sandbox)

    def _create_database(self) -> Child | None:
        """Begin to make the embedded database, if there is to be one and it is not there yet."""
        if self.settings.database_url is not None:
            return None
        self._server = folder.embedded_server(self.settings)
        if self._server.exists:
            return None
        self._say("Creating the database")
        return self._begin(self._server.create)

    def _start_database(self) -> None:
        if self._server is None:
            return
        self._say("Starting the database")
        server = self._server
        pid = server.start()
        self._wait(server.ready, seconds=0.01)
        self._server_pid = pid
        self.settings = msgspec.structs.replace(self.settings, database_url=server.dsn())

    def _begin(self, work: Callable[[], object]) -> Child:
        """Run something that needs a loop, a connection or time in a short-lived child."""

        def child(tell: Callable[[str], None]) -> int:
            point_output_at(self.settings.log_dir / "supervisor.log")
            configure_log("start")
            try:
                work()
            except Exception as error:
                self._log.exception("start failed", error=str(error), error_type=type(error).__name__)
                tell(json.dumps(str(error) or type(error).__name__))
                return 1
            return 0

        return fork(child)

    def _finish(self, child: Child, problem: str) -> None:
        """Wait for a short-lived child; CannotStart with its own words when it failed."""
        try:
            self._wait(child.ended)
            if child.status != 0:
                said = " ".join(str(json.loads(line)) for line in child.lines())
                raise CannotStart(f"{problem}: {said or f'status {child.status}'}")
        finally:
            child.send(signal.SIGKILL)
            child.close()

    def _start_role(self, place: _Place) -> None:
        settings, body = self.settings, self._bodies[place.role]
        sockets = {name: self._sockets[name] for name in self._port_names.get(place.role, ()) if name in self._sockets}
        log = settings.log_dir / f"{place.role}.log"
        # One after the other from the first that was named, in an order that stays the same.
        port = settings.metrics_port + self._places.index(place) if settings.metrics_port else 0

        def child(tell: Callable[[str], None]) -> int:
            point_output_at(log)
            # PostgreSQL as `nobody` keeps its socket to itself, and only root's powers reach it there.
            if self._server is None or not self._server.is_another_users:
                confine()
            return run_role(place.role, body, settings, sockets=sockets, predecessor=place.word, tell=tell, metrics_port=port)

        place.ready = False
        place.metrics_port = None
        place.deaths.start_at = None
        place.child = fork(child, keep=sockets.values())

    # While it runs

    def _turn(self, seconds: float = TURN_SECONDS) -> None:
        """Wait for something to happen, so long at most, and act on whatever has."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        for place in self._places:
            if place.child is not None and not place.child.silent:
                poller.register(place.child.pipe, select.POLLIN)
        due = [at for at in (self._server_deaths.start_at, *(place.deaths.start_at for place in self._places)) if at is not None]
        if due:
            seconds = max(0.0, min(seconds, min(due) - time.monotonic()))
        poller.poll(seconds * 1000)
        self._take_signals()
        changed = False
        for place in self._places:
            if place.child is not None:
                changed |= self._look_after(place)
        changed |= self._look_after_database()
        changed |= self._start_due()
        if changed and self._started and not self._stopping:
            self._write_running()

    def _look_after(self, place: _Place) -> bool:
        """Hear what a process says, and notice its end."""
        child = place.child
        if child is None:
            return False
        ended, told = child.ended(), False
        for line in child.lines():
            if line == READY:
                place.ready = True
            elif line.startswith(WORD):
                place.word = line.removeprefix(WORD)
            elif line.startswith(METRICS):
                place.metrics_port, told = line.removeprefix(METRICS), True
        if not ended:
            return told
        child.close()
        place.child = None
        with suppress(OSError):
            (self.settings.run_dir / f"clock.{child.pid}").unlink(missing_ok=True)
        if not self._stopping:
            deaths = place.deaths.count(time.monotonic())
            self._log.error("role died", reason=_how(child.status), process=place.role, count=deaths)
            self._say(f"{place.role} has died ({_how(child.status)}) and is started again; see {self.settings.log_dir}")
        return True

    def _look_after_database(self) -> bool:
        if self._server is None or self._server_pid is None or self._stopping or not self._server.died():
            return False
        self._server_pid = None
        deaths = self._server_deaths.count(time.monotonic())
        self._log.error("database died", count=deaths)
        self._say(f"the database has died and is started again; see {self.settings.log_dir}")
        return True

    def _start_due(self) -> bool:
        """Start again what died, when its time has come."""
        if self._stopping:
            return False
        now, started = time.monotonic(), False
        if self._server is not None and self._server_deaths.over(now):
            started = self._start_database_again(self._server)
        for place in self._places:
            if place.child is None and place.deaths.over(now):
                started |= self._start_role_again(place)
        return started

    def _start_role_again(self, place: _Place) -> bool:
        try:
            self._start_role(place)
        except OSError as error:
            place.deaths.count(time.monotonic())
            self._log.error("role cannot be started", process=place.role, error=str(error))
            return False
        return True

    def _start_database_again(self, server: EmbeddedServer) -> bool:
        self._server_deaths.start_at = None
        try:
            self._server_pid = server.start()
        except (OSError, CannotRun) as error:
            # No memory or no room for another process: it comes back, and so do we.
            self._server_deaths.count(time.monotonic())
            self._log.error("database cannot be started", error=str(error))
            return False
        return True

    def _wait(self, condition: Callable[[], bool], *, seconds: float = TURN_SECONDS) -> None:
        """Go on turning until the condition holds. Raises Stopped, or CannotStart when a role does not come up."""
        while not condition():
            self._turn(seconds)
            if self._stopping:
                raise Stopped
            for place in self._places:
                if place.deaths.start_at is not None and place.deaths.start_at > time.monotonic():
                    raise CannotStart(f"the role {place.role} does not start: {self._end_of_log(place.role)}")

    def _end_of_log(self, role: str) -> str:
        with suppress(OSError):
            lines = (self.settings.log_dir / f"{role}.log").read_text(errors="replace").splitlines()
            return "\n".join(lines[-LOG_TAIL_LINES:])
        return "it left no log"

    def _write_running(self) -> None:
        roles: dict[str, list[int]] = {}
        metrics: dict[str, list[str]] = {}
        for place in self._places:
            pids = roles.setdefault(place.role, [])
            if place.child is not None:
                pids.append(place.child.pid)
                if place.metrics_port is not None:
                    metrics.setdefault(place.role, []).append(f"http://127.0.0.1:{place.metrics_port}/metrics")
        running = Running(
            supervisor=os.getpid(),
            postgres=self._server_pid,
            roles=roles,
            ports=self.settings.ports,
            database_url=self.settings.database_url or "",
            network_control=self.settings.network_control if "network" in roles else None,
            metrics=metrics,
        )
        try:
            folder.write_private(self.settings.run_file, running)
        except OSError as error:
            # A full disk must not end what runs; the file is written again at the next change.
            self._log.error("run.json cannot be written", error=str(error))

    # Signals and the end

    def _hear_signals(self) -> None:
        """From now on a signal only wakes us; what it asks for is done between two waits."""
        self._wake, self._wakened = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in HANDLED:
            signal.signal(number, _noted)
        signal.set_wakeup_fd(self._wakened, warn_on_full_buffer=False)

    def _take_signals(self) -> None:
        with suppress(BlockingIOError):
            for number in os.read(self._wake, 4096):
                if number != signal.SIGCHLD:
                    self._stopping = True

    def _stop(self) -> None:
        """End everything within five seconds: callers first, what they call after them, the database last."""
        self._stopping = True
        self._say("Stopping")
        for roles, seconds in END:
            self._end_roles([place for place in self._places if place.role in roles], seconds)
        self._end_roles(self._places, 0.0)
        if self._server is not None:
            self._server.stop(seconds=END_DATABASE_SECONDS)
        for descriptor in self._sockets.values():
            os.close(descriptor)
        self.settings.run_file.unlink(missing_ok=True)
        signal.set_wakeup_fd(-1)
        for descriptor in (self._wake, self._wakened, self._lock):
            if descriptor >= 0:
                os.close(descriptor)

    def _end_roles(self, places: list[_Place], seconds: float) -> None:
        for place in places:
            if place.child is not None:
                place.child.send(signal.SIGTERM)
        end = time.monotonic() + seconds
        while any(place.child is not None for place in places):
            if (left := end - time.monotonic()) <= 0:
                for place in places:
                    if place.child is not None:
                        place.child.send(signal.SIGKILL)
                left = TURN_SECONDS
            self._turn(left)


def _allow_open_files() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Python writes the signal's number into the wake-up pipe; nothing more is done inside a handler."""


def _how(status: int | None) -> str:
    if status is None:
        return "it is gone"
    return f"signal {-status}" if status < 0 else f"status {status}"
