"""One role in one process: its loop, its clock, its log, its end. The supervisor's children and `guilder run` both live here.

Everything that a loop, a pool or a random source hangs on is made here, after the fork, never at import.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
import uvloop

from guilder.config import Settings
from guilder.core.clock import OFFSET_REFRESH_SECONDS, SystemClock, sleep
from guilder.core.ids import Ids
from guilder.folder import CannotStart, listen_on
from guilder.http_server import serve_http
from guilder.metrics import Metrics
from guilder.security.mask import masking

# A log file that has grown beyond this is put aside as `.1`, in place of the one before.
LOG_BYTES_MAX: Final = 50_000_000
# How often a process looks at the size of its log file.
LOG_CHECK_SECONDS: Final = 60.0
# A body that does not return by itself after it was told to stop is cancelled after this; the supervisor waits little longer.
END_SECONDS: Final = 1.5

# New objects before the collector looks for cycles, and looks before it takes the older ones too. With Python's own 700, 10
# and 10 it took 4 to 5% of the CPU of api and executor under load, to find next to nothing: our objects have no cycles.
COLLECT_AFTER: Final = (50_000, 20, 100)

Result = TypeVar("Result")

READY: Final = "ready"
METRICS: Final = "metrics "
WORD: Final = "word "


class Context:
    """What a role's body is handed besides the settings.

    Args:
        name: the role.
        predecessor: the last word of the process that this one replaces (an executor's sender id), None at the first start.
        sockets: listening sockets that were opened for this role before it started, by the name of their port; empty for
            `guilder run`, where the body listens by itself.
    """

    def __init__(
        self, name: str, settings: Settings, *,
        predecessor: str | None, sockets: Mapping[str, socket.socket], tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.clock = SystemClock(settings.clock_file)
        self.ids = Ids(self.clock)
        self.predecessor = predecessor
        self.sockets = sockets
        self.stop = asyncio.Event()
        self.metrics = Metrics(name)
        self._tell = tell
        self._clock_mark = settings.run_dir / f"clock.{os.getpid()}"

    def ready(self) -> None:
        """The role serves: say so to whoever waits for it."""
        self._tell(READY)

    async def serve_metrics(self, port: int) -> None:
        """Serve /metrics on loopback until the role stops, and say where; without a port the role does without."""
        try:
            listener = listen_on("127.0.0.1", port)
        except CannotStart as error:
            structlog.get_logger().error("metrics_not_served", role=self.name, reason=str(error))
            return
        address = listener.getsockname()[1]
        structlog.get_logger().info("metrics_served", role=self.name, port=address)
        await serve_http(self.metrics, listener, clock=self.clock, ready=lambda: self._tell(f"{METRICS}{address}"), stop=self.stop)

    def leave_word(self, word: str) -> None:
        """What the process that replaces this one is to know (one line); the last word counts."""
        self._tell(WORD + word)

    async def follow_clock(self) -> None:
        """Take up a moved clock within 0.1 s, and confirm it by a file that `guilder clock` looks for."""
        confirmed: int | None = None
        while True:
            offset = self.clock.refresh()
            if offset != confirmed:
                with suppress(OSError):
                    draft = self._clock_mark.with_name(f".{self._clock_mark.name}.new")
                    draft.write_text(str(offset))
                    draft.rename(self._clock_mark)
                    confirmed = offset
            await sleep(OFFSET_REFRESH_SECONDS)

    def forget_clock(self) -> None:
        """Remove the confirmation: this process is ending."""
        with suppress(OSError):
            self._clock_mark.unlink(missing_ok=True)


Body = Callable[[Settings, Context], Awaitable[None]]


def run_role(
    name: str, body: Body, settings: Settings, *,
    sockets: Mapping[str, int] | None = None, predecessor: str | None = None, tell: Callable[[str], None] = lambda _word: None,
    metrics_port: int = 0,
) -> int:  # fmt: skip
    """Run a role's body in a loop of its own until it is told to stop (SIGTERM, SIGINT); the process's exit status.

    Its metrics are served on loopback beside it, on a free port unless one is given.
    """
    configure_log(name)
    gc.set_threshold(*COLLECT_AFTER)
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened = {port: socket.socket(fileno=descriptor) for port, descriptor in (sockets or {}).items()}

    async def live() -> int:
        return await _live(Context(name, settings, predecessor=predecessor, sockets=opened, tell=tell), body, settings, metrics_port)

    return run_in_loop(live())


def run_in_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end in a new loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _live(context: Context, body: Body, settings: Settings, metrics_port: int) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, context.stop.set)
    told = loop.create_task(context.stop.wait())
    tasks = [told, loop.create_task(context.follow_clock()), loop.create_task(_keep_log_small())]
    tasks.append(loop.create_task(context.serve_metrics(metrics_port)))
    working = asyncio.ensure_future(body(settings, context))
    log = structlog.get_logger()
    try:
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await asyncio.wait({working}, timeout=END_SECONDS)
        working.cancel()
        await working
    except asyncio.CancelledError:
        log.warning("role cut short", role=context.name)
    except Exception as error:
        log.exception("role failed", role=context.name, error=str(error), error_type=type(error).__name__)
        return 1
    finally:
        context.forget_clock()
        for task in tasks:
            task.cancel()
    if not context.stop.is_set():
        log.error("role ended by itself", role=context.name)
        return 1
    return 0


async def until_told(context: Context, work: Coroutine[Any, Any, None]) -> None:
    """Work until the role is told to stop, or until the work ends by itself, which is an error."""
    working = asyncio.ensure_future(work)
    told = asyncio.ensure_future(context.stop.wait())
    try:
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, told):
            task.cancel()
        await asyncio.gather(working, told, return_exceptions=True)


async def _keep_log_small() -> None:
    """Put the log file aside when it has grown too large, where the output is a file of ours."""
    while True:
        await sleep(LOG_CHECK_SECONDS)
        with suppress(OSError):
            _put_large_log_aside()


def _put_large_log_aside() -> None:
    target = Path(f"/proc/self/fd/{sys.stderr.fileno()}").resolve()
    if target.is_file() and target.stat().st_size > LOG_BYTES_MAX:
        target.rename(target.with_name(target.name + ".1"))
        point_output_at(target)


def point_output_at(path: Path) -> None:
    """Append this process's standard output and error to a file."""
    descriptor = open_log(path)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if descriptor > 2:
        os.close(descriptor)


def open_log(path: Path) -> int:
    """A descriptor that appends to this file; only our user may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class _Lines:
    """Where log lines go: each in one write, so that processes sharing a file never mix theirs.

    A line that cannot be written (a full disk) is lost: a log never stops a payment.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def msg(self, message: str) -> None:
        with suppress(OSError):
            os.write(self._descriptor, message.encode(errors="replace") + b"\n")

    debug = info = warning = error = critical = exception = log = failure = fatal = msg


def configure_log(name: str, descriptor: int = 2) -> None:
    """One JSON line per event on standard error, or on another descriptor; only allowed fields, masked."""

    def stamp(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"role": name, "pid": os.getpid(), **entry}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            stamp,
            structlog.processors.format_exc_info,
            masking(),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=lambda *_: _Lines(descriptor),
        cache_logger_on_first_use=True,
    )
