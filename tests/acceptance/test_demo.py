"""`guilder demo`: the README's first command, as a newcomer runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from whole_system import GUILDER, environment, until

from keepers import alive

# Half a minute, on a machine that does nothing else.
SECONDS_MAX = 60.0


def demo(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with its temporary data in this folder."""
    variables = environment() | {"TMPDIR": str(folder)}
    return subprocess.run([GUILDER, "demo", *flags], capture_output=True, text=True, check=False, timeout=90, env=variables)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, because sockets lie in it."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.slow
def test_the_demo_shows_everything_and_leaves_nothing(folder: Path) -> None:
    """What happened, the trial balance, the merchant's balance, how to go on; status 0, and no file or process left."""
    done = demo(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("What happened", "Trial balance", "Balance of Demo shop", "invariants hold", "Start it for yourself"):
        assert words in done.stdout
    assert "expected:" not in done.stdout
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_demo_that_is_kept_goes_on_running(folder: Path) -> None:
    """Every act as it should be, every check made, in the time that people wait for a demo; then a system that serves until it is stopped."""
    done = demo(folder, "--keep", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    kept = told["kept"]
    try:
        assert told["ok"]
        assert told["seconds"] < SECONDS_MAX
        assert {act["group"] for act in told["acts"]} == {
            "Paid", "Declined", "Captured", "Canceled", "Refunded", "Retried", "At the page", "By the API", "At the till", "Resolved", "Notified",
        }  # fmt: skip
        assert all(act["ok"] and act["happened"] == act["expected"] for act in told["acts"])
        assert {line["currency"] for line in told["balance"]} == {"eur", "usd", "gbp", "jpy", "krw", "kwd"}
        assert not any(check["skipped"] or check["violated"] for check in told["checks"])
        assert told["trial_balance"]["balanced"]
        check = subprocess.run([GUILDER, "check", "--data", kept["data"]], capture_output=True, check=False, env=environment())
        assert check.returncode == 0
    finally:
        os.kill(kept["pid"], signal.SIGTERM)
    until(lambda: not alive(kept["pid"]), "it has stopped")


def test_without_the_stripe_package_it_says_what_to_install() -> None:
    """One line and status 1, before anything is started."""
    code = "import sys; sys.modules['stripe'] = None; sys.argv = ['guilder', 'demo']; from guilder.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 1
    assert done.stderr.strip().endswith("pip install 'guilder[demo]'")
    assert done.stdout == ""
