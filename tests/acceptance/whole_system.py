"""A whole system for an acceptance test: `guilder up` as people start it, on data of its own, ended with the test."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guilder.config import Settings

START_SECONDS_MAX = 30.0
UNTIL_SECONDS_MAX = 10.0
GUILDER = str(Path(sys.executable).with_name("guilder"))


class System:
    """One data folder, and the `guilder up` that runs on it now, if any."""

    def __init__(self, data: Path, **variables: str) -> None:
        self.data = data
        self.variables = variables
        self.process: subprocess.Popen[str] | None = None
        self.line: dict[str, Any] = {}

    def up(self, *flags: str) -> dict[str, Any]:
        """Start, and return the ready line; fails the test with what it said when it does not come up."""
        self.process = subprocess.Popen(
            [GUILDER, "up", "--json", "--data", str(self.data), *(flags or ("--port", "0"))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | self.variables,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith('{"ready"'):
            self.process.kill()
            pytest.fail(f"guilder up said {line!r}, {self.process.communicate()}")
        self.line = json.loads(line)
        return self.line

    def running(self) -> dict[str, Any]:
        """What run.json says now."""
        return json.loads((self.data / "run.json").read_text())

    def pids(self) -> list[int]:
        """Every process of the system but the supervisor."""
        running = self.running()
        return [running["postgres"], *(pid for pids in running["roles"].values() for pid in pids)]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command on the same data."""
        return subprocess.run(
            [GUILDER, *words, "--data", str(self.data)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment() | self.variables,
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the supervisor a signal and wait for its end; returns its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=15)
        status, self.process = self.process.returncode, None
        return status

    @property
    def settings(self) -> Settings:
        """The settings of this folder."""
        return Settings.load({}, {"data_dir": self.data})


def environment() -> dict[str, str]:
    """The test's own environment without settings of Guilder's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GUILDER_")}


def until(condition: Callable[[], object], what: str) -> Any:
    """Wait until something holds, ten seconds at most, and return it."""
    began = time.monotonic()
    while True:
        try:
            if found := condition():
                return found
        except (FileNotFoundError, ConnectionError, json.JSONDecodeError):
            pass
        if time.monotonic() - began > UNTIL_SECONDS_MAX:
            pytest.fail(f"waited too long until {what}")
        time.sleep(0.01)
