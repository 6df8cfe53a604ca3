"""The entry point of the system under test: `guilder`, whose processes can be told to die or stop at any point that they pass.

Run as `python -m chaos.entry up ...`. By environment:

    GUILDER_CRASH_FILE       holds one order, `kill`, `stop` or `fail` with ROLE and POINT. The first process of the role that
                             passes the point removes the file, and then kills itself by SIGKILL, stands still (SIGSTOP), or has
                             the statement fail: before it is sent, or with its answer lost. `storm ROLE POINT` stays until it
                             is removed: a third of such statements end as deadlocks.
    GUILDER_CHAOS_CLOCKS     a folder; a file ROLE in it holds the seconds by which that role's wall clock is wrong.
    GUILDER_CHAOS_POINTS     a folder in which each process notes the points that it passes, one line each, once.
    GUILDER_CHAOS_BUG        the defect of the bank to plant, by name.
    GUILDER_CHAOS_ACQUIRER   the port on which the executor finds the acquirer: the harness's own proxy before the real one.
    GUILDER_CHAOS_WEB        the same for the web PSP.

A point is one of the product's recovery points with its detail (`outcome.before approved`), or `sql VERB TARGET before|after`
around every statement: what is committed by a statement has been sent before, and acknowledged after it. `disk before|after`
stand around each sync of the bank world, behind which an answer leaves.
"""

import os
import re
import secrets
import signal
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import asyncpg

from chaos.bugs.model import Bug
from chaos.patches import install

POINTS: Final = "GUILDER_CHAOS_POINTS"
BUG: Final = "GUILDER_CHAOS_BUG"
ACQUIRER: Final = "GUILDER_CHAOS_ACQUIRER"
WEB: Final = "GUILDER_CHAOS_WEB"
CLOCKS: Final = "GUILDER_CHAOS_CLOCKS"
STORM: Final = 0.33
CLOCK_LOOK_SECONDS: Final = 0.1
STATEMENTS: Final = ("fetch", "fetchrow", "fetchval", "execute", "executemany")

_WORDS: Final = re.compile(
    r"(?is)\b(insert\s+into|update|delete\s+from|from|select)\s+(?:only\s+)?([a-z_]+)",
)  # fmt: skip

role = "supervisor"
passed: set[str] = set()


@lru_cache(maxsize=2_000)
def label(sql: str) -> str:
    """A statement in two words: what it does and to what."""
    words = [found for found in _WORDS.findall(sql) if found[1].lower() not in ("only", "select", "unnest", "lateral")]
    if not words:
        return f"sql {sql.split(maxsplit=1)[0].lower() if sql.split() else 'nothing'} -"
    writing = [found for found in words if found[0].lower() not in ("from", "select")]
    reading = [found for found in words if found[0].lower() == "from"]
    verb, target = (writing or reading or words)[0]
    return f"sql {verb.split()[0].lower()} {target.lower()}"


def note(name: str) -> None:
    """The first time that this process passes a point it is written down."""
    folder = os.environ.get(POINTS)
    if folder is not None and name not in passed:
        passed.add(name)
        with (Path(folder) / f"{role}.{os.getpid()}").open("a") as file:
            file.write(name + "\n")


def ordered() -> list[str]:
    """The verb, the role and the point of the order; empty without one."""
    try:
        with CRASH_FILE.open() as file:
            return file.read().strip().split(" ", 2)
    except FileNotFoundError:
        return []


def point(name: str, detail: str = "") -> str:
    """Pass a point: note it, and die or stop here if that is the order. Returns `fail` or `storm` where that was ordered."""
    full = f"{name} {detail}" if detail else name
    note(full)
    match ordered():
        case [verb, to, where] if to == role and where in (full, name):
            if verb != "storm":
                CRASH_FILE.unlink(missing_ok=True)
            if verb in ("kill", "stop"):
                os.kill(os.getpid(), signal.SIGKILL if verb == "kill" else signal.SIGSTOP)
            return verb
    return ""


def around(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The same method of a connection, with a point before and one after it."""

    async def statement(connection: Any, sql: str, *arguments: Any, **named: Any) -> Any:
        name = label(sql)
        trouble = point(name, "before")
        if trouble == "fail":
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if trouble == "storm" and secrets.randbelow(100) < 100 * STORM:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        found = await verb(connection, sql, *arguments, **named)
        if point(name, "after") == "fail":
            connection.terminate()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return found

    return statement


def sync(descriptor: int, fdatasync: Callable[[int], None] = os.fdatasync) -> None:
    """As os.fdatasync, with a point before and after it."""
    point("disk", "before")
    fdatasync(descriptor)
    point("disk", "after")


def wrong_clock(time_ns: Callable[[], int] = time.time_ns) -> Callable[[], int]:
    """As time.time_ns, wrong by what the role's file says."""
    looked, wrong = float("-inf"), 0

    def now() -> int:
        nonlocal looked, wrong
        if time.monotonic() - looked > CLOCK_LOOK_SECONDS:
            looked = time.monotonic()
            file = Path(os.environ[CLOCKS]) / role
            wrong = int(file.read_text() or 0) * 1_000_000_000 if file.exists() else 0
        return time_ns() + wrong

    return now


def planted() -> Bug | None:
    """The defect that this process is to have."""
    from chaos.bugs import BY_NAME

    name = os.environ.get(BUG)
    return BY_NAME[name] if name else None


def arm() -> None:
    """Before any room is imported: the roles are forks of this process and take from it what they call."""
    if (bug := planted()) is not None:
        install(bug.patches)
    from guilder.core import crash

    crash.crash_point = point  # type: ignore[assignment]
    os.fdatasync = sync  # type: ignore[assignment]
    for verb in STATEMENTS:
        setattr(asyncpg.connection.Connection, verb, around(getattr(asyncpg.connection.Connection, verb)))
    if CLOCKS in os.environ:
        time.time_ns = wrong_clock()
    from guilder import children, supervisor

    run_role: Callable[..., int] = getattr(supervisor, "run_role")  # noqa: B009 - a name that it only uses

    def run_named_role(name: str, *arguments: Any, **named: Any) -> int:
        global role  # noqa: PLW0603 - one process, one role
        role = name
        return run_role(name, *arguments, **named)

    setattr(supervisor, "run_role", run_named_role)  # noqa: B010
    # Deaths by the dozen are what this is for; the growing waits after them are the product's own, tested elsewhere.
    children.DEATHS_MAX = 10**6  # type: ignore[misc]
    redirect()


def redirect() -> None:
    """The connectors find their PSPs behind the harness's proxies."""
    from guilder.psp.connectors import configured

    acquirer, web = os.environ.get(ACQUIRER), os.environ.get(WEB)
    if acquirer:
        _with(configured, "CardnetSettings", port=int(acquirer))
    if web:
        _with(configured, "WebpspSettings", url=f"http://127.0.0.1:{web}")


def _with(module: object, name: str, **instead: object) -> None:
    """What a module makes under this name is made with these arguments in place of its own."""
    make: Callable[..., Any] = getattr(module, name)
    setattr(module, name, lambda **named: make(**(named | instead)))


CRASH_FILE: Final = Path(os.environ.get("GUILDER_CRASH_FILE") or "/nonexistent/order")

if __name__ == "__main__":
    arm()
    from guilder.cli import main

    main()

