"""`guilder` for tests that kill and stop its processes: the supervisor has endless patience, and any moment can be named.

Run as `python up_to_be_killed.py up ...`. The crash file may hold, beside the product's own words:

    stop POINT [DETAIL]         the first process that gets to this crash point stands still (SIGSTOP) until somebody
                                continues it
    stop statement ROLE N       the same for the process of the role, right before its N-th statement from now on. Of the
                                bank world, which has no database, the moments before and after each sync count

The file goes with the stop.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from guilder import children, supervisor
from guilder.core import crash

FILE = Path(os.environ[crash.VARIABLE])
STATEMENTS = ("fetch", "fetchrow", "fetchval", "execute", "executemany")

die_here = crash.crash_point
run_role = supervisor.run_role
role = ""


def stop() -> None:
    """Stand still until somebody continues us."""
    FILE.unlink()
    os.kill(os.getpid(), signal.SIGSTOP)


def ordered() -> list[str]:
    """The words of the file."""
    try:
        return FILE.read_text().split()
    except FileNotFoundError:
        return []


def crash_or_stop(name: str, detail: str = "") -> None:
    """As crash_point; stops where the file says so."""
    die_here(name, detail)
    if ordered() in (["stop", name], ["stop", name, detail]):
        stop()


def statement() -> None:
    """One more statement of this process is about to be sent."""
    words = ordered()
    if words[:3] != ["stop", "statement", role]:
        return
    left = int(words[3]) - 1
    if left == 0:
        stop()
    else:
        # Written beside it and moved there: nobody reads half of it.
        new = FILE.with_suffix(".left")
        new.write_text(f"stop statement {role} {left}")
        new.rename(FILE)


def counted(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The same method, with a place to stop before it."""

    async def with_a_stop(*arguments: Any, **named: Any) -> Any:
        statement()
        return await verb(*arguments, **named)

    return with_a_stop


def sync(descriptor: int, fdatasync: Callable[[int], None] = os.fdatasync) -> None:
    """As os.fdatasync, with a place to stop before and after it."""
    statement()
    fdatasync(descriptor)
    statement()


def run_named_role(name: str, *arguments: Any, **named: Any) -> int:
    """As role.run_role; the process knows who it is."""
    global role  # noqa: PLW0603 - one process, one role
    role = name
    return run_role(name, *arguments, **named)


# Before any room is imported: they take the name from there, in the supervisor's process, and the roles are its forks.
crash.crash_point = crash_or_stop
supervisor.run_role = run_named_role
os.fdatasync = sync
for each in STATEMENTS:
    setattr(asyncpg.connection.Connection, each, counted(getattr(asyncpg.connection.Connection, each)))
# Kills of one role within a minute are what these tests are made of; the growing waits have tests of their own.
children.DEATHS_MAX = 10**6  # type: ignore[misc]

if __name__ == "__main__":
    from guilder.cli import main

    main()
