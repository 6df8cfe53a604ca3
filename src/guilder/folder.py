"""The data folder: who holds it, what runs there, which ports it had. Plain files that people and scripts may read."""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from guilder.config import Ports, Settings
from guilder.core.errors import GuilderError
from guilder.db.embedded import EmbeddedServer

# The processes of a supervisor that was killed are ended by the kernel within milliseconds; this is ample.
CLAIM_SECONDS: Final = 2.0
BACKLOG: Final = 1024
LISTENING: Final = ("api", "checkout", "network_http", "network_iso")


class CannotStart(GuilderError):
    """The system cannot start here; the message says why and what would help."""


class Running(Struct, frozen=True, kw_only=True):
    """DATA/run.json: what runs."""

    supervisor: int
    postgres: int | None
    roles: dict[str, list[int]]
    ports: Ports
    database_url: str
    network_control: str | None
    metrics: dict[str, list[str]] = {}
    """Where each process of a role serves its metrics, on loopback."""


class Sandbox(Struct, frozen=True, kw_only=True):
    """DATA/sandbox.json: the sandbox merchant and its test keys."""

    account: str
    secret_key: str
    publishable_key: str


class WebpspAccount(Struct, frozen=True, kw_only=True):
    """DATA/keys/webpsp.json: our account at the sandbox's web PSP. The PSP reads the same file by a struct of its own."""

    api_key: str
    signing_secret: str

    def __repr__(self) -> str:
        """Without the secrets."""
        return "WebpspAccount(...)"


def claim(settings: Settings) -> int:
    """Make the folder and take its lock; the descriptor holds the lock for as long as it is open.

    Raises CannotStart: it cannot be written, or another supervisor holds it.
    """
    data = settings.data_dir
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (settings.run_dir, settings.log_dir):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _must_be_ours(settings.run_dir)
        descriptor = os.open(settings.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStart(f"cannot write to {data}: {error.strerror}; name a folder that can be written with --data") from error
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            if (holder.isdigit() and Path(f"/proc/{holder}").exists()) or time.monotonic() - began > CLAIM_SECONDS:
                os.close(descriptor)
                raise CannotStart(_held(settings, holder)) from None
            time.sleep(0.01)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor


@contextlib.contextmanager
def claimed(settings: Settings) -> Iterator[None]:
    """The same for the time of a block: a command that starts the database alone."""
    descriptor = claim(settings)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def one_at_a_time(settings: Settings) -> Iterator[None]:
    """Keep processes of this folder apart for the time of a block; makes the folder when there is none."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with settings.data_dir.joinpath(".prepare.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def embedded_server(settings: Settings) -> EmbeddedServer:
    """This folder's own PostgreSQL, not started."""
    return EmbeddedServer(
        settings.data_dir / "postgres",
        socket_folder=settings.run_dir / "pg",
        passage=(settings.data_dir, settings.run_dir),
        password_file=settings.data_dir / "keys" / "database.json",
        log=settings.log_dir / "postgres.log",
    )


def _held(settings: Settings, holder: str) -> str:
    running = read_running(settings)
    where = f", API at http://{settings.host}:{running.ports.api}" if running and str(running.supervisor) == holder else ""
    return (
        f"Guilder already runs on {settings.data_dir} (process {holder or 'unknown'}{where}); "
        "stop it first, or name another folder with --data"
    )


def _must_be_ours(folder: Path) -> None:
    """The socket folder may lie in the shared temporary folder, where somebody else could have made it first."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise CannotStart(f"{folder} is not a folder of this user's; remove it")


def read_running(settings: Settings) -> Running | None:
    """What run.json says, None when there is none; whether it still runs is `is_alive`'s to say."""
    try:
        return msgspec.json.decode(settings.run_file.read_bytes(), type=Running)
    except (FileNotFoundError, NotADirectoryError, PermissionError, msgspec.DecodeError):
        return None


def is_alive(settings: Settings) -> bool:
    """Whether a supervisor holds the folder now."""
    try:
        descriptor = os.open(settings.lock_file, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def must_be_stopped(settings: Settings) -> None:
    """Raise CannotStart when a supervisor holds the folder: nobody else may change whose it is."""
    if is_alive(settings):
        running = read_running(settings)
        raise CannotStart(_held(settings, str(running.supervisor) if running else ""))


def write_private(path: Path, content: object) -> None:
    """Write JSON that only our user may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    draft.rename(path)


def read_sandbox(settings: Settings) -> Sandbox | None:
    """The sandbox merchant's keys, None before the first start."""
    try:
        return msgspec.json.decode(settings.sandbox_file.read_bytes(), type=Sandbox)
    except FileNotFoundError:
        return None


def webpsp_account(settings: Settings, draw: Callable[[str], str]) -> WebpspAccount:
    """Our account at the sandbox's web PSP, made by whoever asks first; `draw` makes a secret with a prefix."""
    path = settings.webpsp_file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}.new")
        write_private(draft, WebpspAccount(api_key=draw("web_key_"), signing_secret=draw("web_secret_")))
        # Of several that start at once the first one's stands.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return msgspec.json.decode(path.read_bytes(), type=WebpspAccount)


def open_ports(settings: Settings) -> tuple[Ports, dict[str, int]]:
    """Listen on this installation's ports: those of the last time, those that were asked for, or free ones.

    Returns the ports and the listening descriptors by name. Raises CannotStart when one is taken.
    """
    remembered = _remembered(settings)
    if settings.port:
        return _open(settings, settings.ports, wait=True)
    if remembered is not None:
        try:
            return _open(settings, remembered, wait=True)
        except CannotStart:
            if settings.port is None:
                raise
    ports, descriptors = _open(settings, settings.ports, wait=True)
    write_private(settings.ports_file, ports)
    return ports, descriptors


def _remembered(settings: Settings) -> Ports | None:
    try:
        return msgspec.json.decode(settings.ports_file.read_bytes(), type=Ports)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _open(settings: Settings, wanted: Ports, *, wait: bool) -> tuple[Ports, dict[str, int]]:
    sockets: dict[str, socket.socket] = {}
    try:
        for name in Ports.__struct_fields__:
            number = getattr(wanted, name)
            if number == 0 or name in LISTENING:
                sockets[name] = listen_on(settings.host, number, seconds=CLAIM_SECONDS if wait else 0.0)
    except CannotStart:
        for opened in sockets.values():
            opened.close()
        raise
    found = Ports(
        **{name: sockets[name].getsockname()[1] if name in sockets else getattr(wanted, name) for name in Ports.__struct_fields__}
    )
    for name in set(sockets) - set(LISTENING):
        sockets.pop(name).close()
    return found, {name: opened.detach() for name, opened in sockets.items()}


def listen_on(host: str, port: int, *, seconds: float = 0.0) -> socket.socket:
    """A listening socket. Raises CannotStart when the port is still taken after so many seconds.

    The processes of a killed supervisor need a moment to let go of theirs.
    """
    began = time.monotonic()
    while True:
        try:
            return _bound(host, port)
        except OSError as error:
            if time.monotonic() - began > seconds or error.errno != errno.EADDRINUSE:
                raise CannotStart(
                    f"cannot listen on {host} port {port}: {error.strerror}; "
                    "choose others with --port (five in a row), or --port 0 for free ones",
                ) from error
            time.sleep(0.02)


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def clean_run_folder(settings: Settings) -> None:
    """Remove what dead processes left: clock marks and sockets. Called by the holder of the lock, before anything starts."""
    for left in settings.run_dir.glob("clock.*"):
        with contextlib.suppress(OSError):
            left.unlink()


def advance_clock(settings: Settings, micros: int) -> int:
    """Move business time forward; returns the new offset. Two at a time add up."""
    with settings.clock_file.with_name(".clock.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        offset = read_offset(settings) + micros
        draft = settings.clock_file.with_name(".clock.new")
        draft.write_text(str(offset))
        # The file is replaced, never rewritten: a reader sees the old number or the new one.
        draft.rename(settings.clock_file)
    return offset


def read_offset(settings: Settings) -> int:
    """What business time is ahead, in microseconds."""
    try:
        return int(settings.clock_file.read_text() or 0)
    except FileNotFoundError:
        return 0


def unconfirmed(settings: Settings, offset: int) -> list[int]:
    """The living processes, of `guilder up` and of `guilder run`, that have not confirmed this offset yet."""
    running = read_running(settings)
    pids = {pid for pids in running.roles.values() for pid in pids} if running else set()
    pids |= {int(mark.name.removeprefix("clock.")) for mark in settings.run_dir.glob("clock.*") if mark.suffix[1:].isdigit()}
    return sorted(pid for pid in pids if Path(f"/proc/{pid}").exists() and _confirmed(settings, pid) < offset)


def _confirmed(settings: Settings, pid: int) -> int:
    try:
        return int((settings.run_dir / f"clock.{pid}").read_text())
    except (FileNotFoundError, ValueError):
        return -1
