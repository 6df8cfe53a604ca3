"""The command line's own parts: durations, and a start fast enough to be no nuisance."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from guilder.cli.clock import ClockNotMoved, parse_duration
from guilder.core.clock import DAY, HOUR, MINUTE, SECOND

HELP_SECONDS_MAX = 0.15


@pytest.mark.parametrize(
    ("text", "micros"),
    [("7d", 7 * DAY), ("36h", 36 * HOUR), ("1d12h", DAY + 12 * HOUR), ("90m", 90 * MINUTE), ("5s", 5 * SECOND), ("1w", 7 * DAY)],
)
def test_durations_are_read_as_people_write_them(text: str, micros: int) -> None:
    """Numbers and units, joined."""
    assert parse_duration(text) == micros


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1.5h", "7 d", "7days", "0d", "9999999d", "99999w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Backwards, nowhere and too far included."""
    with pytest.raises(ClockNotMoved):
        parse_duration(text)


def test_help_imports_nothing_heavy() -> None:
    """The command line answers before anybody notices; the database driver, the web server and rich stay unloaded."""
    heavy = ("asyncpg", "httptools", "rich", "asyncio", "sqlalchemy")
    code = f"import sys, guilder.cli; print([name for name in sys.modules if name in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_is_quick() -> None:
    """Counted in processor time, because other tests use the machine at the same time."""
    guilder = Path(sys.executable).with_name("guilder")
    best = min(_seconds([str(guilder), "--help"]) for _ in range(9))
    assert best < HELP_SECONDS_MAX


def _seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
