"""The PostgreSQL server that comes with Guilder: one folder, one direct child process.

Whoever starts it reaps it, so that a kill -9 is noticed at once and answered by a start (0.1 s). Everything here is
plain blocking code: the supervisor has no event loop. The caller holds the lock on the data folder, therefore a
postmaster that is found running there is a left-over and is ended first.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from guilder.core.errors import GuilderError
from guilder.db.launcher import CannotRun, Launcher, choose

# A Unix socket's path has at most 107 bytes; the file name in the folder is `.s.PGSQL.5432`.
SOCKET_PATH_MAX: Final = 107
SOCKET_PORT: Final = 5432

DATABASE: Final = "guilder"
LOGIN: Final = "guilder"
SUPERUSER: Final = "postgres"

# Sessions of one `guilder up` are 16 at most; the rest is for psql, a check and the superuser.
CONNECTIONS_MAX: Final = 40

# The cache in shared memory: an eighth of the machine, 512 MB at most (the size that the measured hot path had).
SHARED_BUFFERS_MAX_MB: Final = 512

# How long a fast shutdown may take before it becomes an immediate one; the next start then recovers.
STOP_SECONDS: Final = 3.0
POLL_SECONDS: Final = 0.01

# A log that has grown beyond this is started afresh at the next start, its last part kept as `.1`.
LOG_BYTES_MAX: Final = 10_000_000

SETTINGS: Final[Mapping[str, str]] = {
    "unix_socket_permissions": "0700",
    "port": str(SOCKET_PORT),
    "max_connections": str(CONNECTIONS_MAX),
    "huge_pages": "off",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Backends read for themselves: three processes fewer, and our reads are single pages.
    "io_method": "sync",
    # No parallel queries and no logical replication: two processes fewer.
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    # Hot tables are new and grow fast, so look at them often.
    "autovacuum_naptime": "15s",
    # A checkpoint writes every page's first change again in full; let them be far apart.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
}


# Who may connect: whoever knows a password, on this machine.
ACCESS: Final = """\
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""


class DidNotStart(GuilderError):
    """The server ended before it was ready; the message holds the end of its log."""


class Passwords(Struct, frozen=True, kw_only=True):
    """What stands in the password file: the login of our processes, and the superuser's for maintenance by hand."""

    guilder: str
    postgres: str


class EmbeddedServer:
    """The server on one folder.

    Args:
        folder: holds `pgdata`; made when missing.
        socket_folder: where the Unix socket lies; the only address unless `port` is given.
        password_file: made (0600) on the first start.
        log: the server's own log file.
        port: a loopback TCP port to listen on besides.
        settings: more server settings, over the ones here.
        passage: folders of ours on the way to `folder` and `socket_folder`; see launcher.choose.
    """

    def __init__(
        self,
        folder: Path,
        *,
        socket_folder: Path,
        password_file: Path,
        log: Path,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        passage: Sequence[Path] = (),
    ) -> None:
        self.pgdata = folder / "pgdata"
        self._folder = folder
        self._socket_folder = socket_folder
        self._password_file = password_file
        self._log = log
        self._port = port
        self._settings = dict(settings or {})
        self._passage = (*passage, folder)
        self._launcher: Launcher | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if len(os.fsencode(socket_folder)) + len(f"/.s.PGSQL.{SOCKET_PORT}") > SOCKET_PATH_MAX:
            raise CannotRun(f"the path {socket_folder} is too long for a Unix socket ({SOCKET_PATH_MAX} bytes)")

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None when it does not run."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    @property
    def exists(self) -> bool:
        """Whether the folder already holds a database."""
        return (self.pgdata / "PG_VERSION").is_file()

    def dsn(self, *, user: str = LOGIN, database: str = DATABASE) -> str:
        """The address of a database of this server, password included."""
        passwords = self._passwords()
        password = passwords.postgres if user == SUPERUSER else passwords.guilder
        return f"postgresql://{user}:{password}@/{database}?host={quote(str(self._socket_folder), safe='')}&port={SOCKET_PORT}"

    def create(self) -> None:
        """Make the database when there is none yet: initdb, our login and our database. Whole or not at all."""
        if self.exists:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        launcher = self._way()
        building = self._folder / "pgdata.new"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700)
        launcher.give(building)
        passwords = self._passwords()
        launcher.run(
            "initdb",
            "-D",
            str(building),
            "-U",
            SUPERUSER,
            "--auth=reject",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--data-checksums",
            # Synced once, below, when it is complete.
            "--no-sync",
            "--no-instructions",
        )
        (building / "pg_hba.conf").write_text(ACCESS)
        launcher.run(
            "postgres",
            "--single",
            "-D",
            str(building),
            "-c",
            "log_min_messages=fatal",
            "postgres",
            stdin=(
                f"ALTER ROLE {SUPERUSER} PASSWORD '{passwords.postgres}'\n"
                f"CREATE ROLE {LOGIN} LOGIN CREATEROLE CREATEDB PASSWORD '{passwords.guilder}'\n"
                f"CREATE DATABASE {DATABASE} OWNER {LOGIN}\n"
            ).encode(),
        )
        launcher.run("initdb", "-D", str(building), "--sync-only")
        building.rename(self.pgdata)

    def start(self, *, die_with_parent: bool = True) -> int:
        """Start the server and return its process id at once; `ready` says when it answers."""
        self._end_left_over()
        launcher = self._way()
        self._socket_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        launcher.give(self._socket_folder)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
            self._log.rename(self._log.with_name(self._log.name + ".1"))
        settings = {
            **SETTINGS,
            "shared_buffers": f"{_shared_buffers_mb()}MB",
            "unix_socket_directories": str(self._socket_folder),
            "listen_addresses": "127.0.0.1" if self._port else "",
            **({"port": str(self._port)} if self._port else {}),
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = launcher.start(
            "postgres",
            "-D",
            str(self.pgdata),
            *options,
            log=self._log,
            die_with_parent=die_with_parent,
        )
        return self._process.pid

    def ready(self) -> bool:
        """Whether the server answers; DidNotStart when it has ended. Recovery may take long, so there is no limit here."""
        if self._process is None or self._process.poll() is not None:
            raise DidNotStart(f"PostgreSQL did not start: {self._end_of_log()}")
        # The postmaster writes its state into line 8 of its pid file; pg_ctl waits in the same way.
        lines = self._pid_file()
        return len(lines) >= 8 and lines[0].strip() == str(self._process.pid) and lines[7].strip() == "ready"

    def wait_until_ready(self) -> None:
        """Return when the server answers; DidNotStart when it ends instead."""
        while not self.ready():
            time.sleep(POLL_SECONDS)

    def died(self) -> bool:
        """Whether the started server has ended by itself; reaps it."""
        return self._process is not None and self._process.poll() is not None

    @property
    def is_another_users(self) -> bool:
        """Whether the server runs as another user than we do, who owns its files and its socket."""
        return self._way().user is not None

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """End the server: sessions are cut, a checkpoint is written; after so many seconds without that."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()

    def _way(self) -> Launcher:
        """How PostgreSQL runs here; found out once."""
        if self._launcher is None:
            self._launcher = choose(self._folder, self._passage)
        return self._launcher

    def _passwords(self) -> Passwords:
        if not self._password_file.exists():
            self._password_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = Passwords(guilder=secrets.token_hex(24), postgres=secrets.token_hex(24))
            temporary = self._password_file.with_name(self._password_file.name + ".new")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(made))
            temporary.rename(self._password_file)
        return msgspec.json.decode(self._password_file.read_bytes(), type=Passwords)

    def _pid_file(self) -> list[str]:
        try:
            return (self.pgdata / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _end_left_over(self) -> None:
        """End every process of an earlier server on this folder; its parent is dead, and so may be its postmaster."""
        lines = self._pid_file()
        living = processes_in(self.pgdata)
        for pid in living:
            _signal(pid, signal.SIGQUIT)
        began = time.monotonic()
        while living := processes_in(self.pgdata):
            if time.monotonic() - began > STOP_SECONDS:
                for pid in living:
                    _signal(pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS)
        if lines and lines[0].strip().isdigit():
            # Nobody runs here, but the number in the file may by now be another process's, and PostgreSQL would take
            # that for its predecessor. It still refuses to start if the old shared memory is in use.
            (self.pgdata / "postmaster.pid").unlink(missing_ok=True)

    def _end_of_log(self) -> str:
        try:
            return " | ".join(self._log.read_text(errors="replace").splitlines()[-4:])
        except FileNotFoundError:
            return "it left no log"


def processes_in(pgdata: Path) -> list[int]:
    """Processes of PostgreSQL that work in this folder: a postmaster and its children stand in their data folder."""
    found = []
    try:
        wanted = pgdata.stat()
    except FileNotFoundError:
        return []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            here = Path(f"/proc/{entry.name}/cwd").stat()
            name = Path(f"/proc/{entry.name}/comm").read_text()
        except OSError:
            continue
        if (here.st_ino, here.st_dev) == (wanted.st_ino, wanted.st_dev) and name.startswith("postgres"):
            found.append(int(entry.name))
    return found


def _signal(pid: int, signal_number: int) -> None:
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return


def _shared_buffers_mb() -> int:
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000
    return max(32, min(SHARED_BUFFERS_MAX_MB, memory_mb // 8))
