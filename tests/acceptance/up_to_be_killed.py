"""`guilder` for tests that kill and stop its processes: the supervisor has endless patience, and a crash point can pause too.

Run as `python up_to_be_killed.py up ...`. The crash file may hold `stop POINT` beside the product's own words: then the
first process that gets there stands still (SIGSTOP) until somebody continues it.
"""

import os
import signal
from pathlib import Path

from guilder import supervisor
from guilder.core import crash

die_here = crash.crash_point


def crash_or_stop(name: str, detail: str = "") -> None:
    """As crash_point; `stop NAME` or `stop NAME DETAIL` stops the process in place of killing it."""
    die_here(name, detail)
    file = Path(os.environ[crash.VARIABLE])
    try:
        if file.read_text().strip() in (f"stop {name}", f"stop {name} {detail}"):
            file.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
    except FileNotFoundError:
        return


# Before any room is imported: they take the name from there, in the supervisor's process, and the roles are its forks.
crash.crash_point = crash_or_stop
# Kills of one role within a minute are what these tests are made of; the growing waits have tests of their own.
supervisor.DEATHS_MAX = 10**6  # type: ignore[misc]

if __name__ == "__main__":
    from guilder.cli import main

    main()
