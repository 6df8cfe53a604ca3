"""Children: forked to share the memory of what was imported and nothing else that is open, and started again when they die.

The supervisor has no thread and no event loop, so a fork copies a process whose whole state is known. The child first
closes what it inherited, then asks the kernel to end it together with its parent, and only then does anything else.
"""

import contextlib
import gc
import os
import resource
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from guilder.core.retry import Kind, Retry
from guilder.db.launcher import die_with

# A role that died this often within the window is started again only after a wait that doubles each time.
DEATHS_MAX: Final = 3
DEATHS_WINDOW_SECONDS: Final = 60.0
WAIT: Final = Retry(kind=Kind.EXPONENTIAL, base_seconds=1.0, cap_seconds=30.0)

# The signals that a supervisor handles by being woken; a child starts with the usual meanings again.
HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
STANDARD: Final = frozenset({0, 1, 2})
# Above any number of descriptors that a supervisor has open.
DESCRIPTORS_MAX: Final = 65_536
REPORT_BYTES: Final = 65_536


class Child:
    """A forked process and the pipe through which it tells us lines of text."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self.pipe = pipe
        self.status: int | None = None
        # The pipe is at its end: there is nothing to wait for in it any more.
        self.silent = False
        self._rest = b""

    def lines(self) -> list[str]:
        """What it has told since the last call; never waits."""
        while not self.silent:
            try:
                heard = os.read(self.pipe, REPORT_BYTES)
            except BlockingIOError:
                break
            if not heard:
                self.silent = True
                break
            self._rest += heard
        *whole, self._rest = self._rest.split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def ended(self) -> bool:
        """Whether it has ended; reaps it, and `status` then holds its exit status (negative: the signal)."""
        if self.status is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid == 0:
                    return False
                self.status = os.waitstatus_to_exitcode(status)
        return True

    def send(self, number: int) -> None:
        """Send a signal, if it has not ended yet."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """Let go of the pipe, when everything was heard."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1


class Deaths:
    """When something died lately, and when it may be started again."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self.start_at: float | None = None

    def count(self, now: float) -> int:
        """Note a death and plan the next start; returns the deaths within the window."""
        self._times.append(now)
        while self._times[0] < now - DEATHS_WINDOW_SECONDS:
            self._times.popleft()
        over = len(self._times) - DEATHS_MAX
        self.start_at = now if over < 0 else now + WAIT.wait(over + 1)
        return len(self._times)

    def over(self, now: float) -> bool:
        """Whether it is dead and its time to be started again has come."""
        return self.start_at is not None and self.start_at <= now


def fork(work: Callable[[Callable[[str], None]], int], *, keep: Collection[int] = ()) -> Child:
    """Run `work(tell)` in a child; its result is the exit status. `keep` are the descriptors that it needs besides 0, 1, 2.

    The child is ended by SIGKILL when the parent dies, however that happens.
    """
    heard, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    parent = os.getpid()
    # What exists now is never looked at by the collector again, so that its pages stay shared.
    gc.collect()
    gc.freeze()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    pid = os.fork()
    if pid == 0:
        _be_child(work, parent, told, frozenset({*keep, told}) | STANDARD, blocked)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.close(told)
    return Child(pid, heard)


def _be_child(
    work: Callable[[Callable[[str], None]], int],
    parent: int,
    pipe: int,
    keep: frozenset[int],
    blocked: Iterable[int],
) -> None:
    status = 1
    try:
        close_all_but(keep)
        die_with(parent, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        # Ctrl-C and a closed terminal reach every process of the group; only the supervisor acts on them.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        # A core file of these processes would hold keys and card numbers.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = work(lambda line: _tell(pipe, line))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def close_all_but(keep: frozenset[int]) -> None:
    """Close every descriptor that is not in `keep`."""
    before = 0
    for descriptor in sorted(keep):
        # An empty range from zero would be taken for everything.
        if before < descriptor:
            os.closerange(before, descriptor)
        before = descriptor + 1
    os.closerange(before, DESCRIPTORS_MAX)


def _tell(pipe: int, line: str) -> None:
    """Write one line to the supervisor. A full pipe or a dead supervisor loses it, which never stops the role."""
    with contextlib.suppress(OSError):
        os.write(pipe, line.replace("\n", " ").encode() + b"\n")
