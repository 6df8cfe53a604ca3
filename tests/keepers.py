"""Servers that all workers of one test run share. Each has a keeper: a process of its own, which ends when the whole run ends.

A keeper is called with a folder of its own and the id of the process to wait for; it writes a file there once it serves.
"""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Below the limit of a test, which the wait is part of.
START_SECONDS_MAX = 100.0


def begin(script: str, folder: Path) -> None:
    """Start a keeper, unless a worker of this run has. Returns at once."""
    controller = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    folder.mkdir(exist_ok=True)
    pid = folder / "keeper.pid"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if pid.exists():
            return
        with (folder / "keeper.log").open("wb") as output:
            keeper = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / script), str(folder), str(controller)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        pid.write_text(str(keeper.pid))
        # It outlives this worker.
        keeper.returncode = 0


def wait(folder: Path, ready: Path, what: str) -> None:
    """Return when a keeper has written `ready`; fail when it has died, or takes too long."""
    pid = int((folder / "keeper.pid").read_text())
    began = time.monotonic()
    while not ready.exists():
        if not alive(pid) or time.monotonic() - began > START_SECONDS_MAX:
            pytest.fail(f"the tests' {what} did not start: {(folder / 'keeper.log').read_text()}")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs (one that has ended and waits to be reaped does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
