"""The Python that the README and the demo show works when it is pasted, and sends nothing to anybody else."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from stripe._base_address import BaseAddresses
from whole_system import System, environment

from guilder.cli.demo_report import FIRST_ADDRESS, OWN_KEY, snippet
from guilder.demo.shop import ADDRESSES

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def shown() -> list[str]:
    """What the README and the demo show, as it stands there."""
    [from_readme] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    return [from_readme, snippet(FIRST_ADDRESS, OWN_KEY)]


def test_every_address_that_the_sdk_knows_is_set(shown: list[str]) -> None:
    """A new one in a later version of the SDK fails here first."""
    assert set(ADDRESSES) == set(BaseAddresses.__annotations__)
    assert all(f'"{name}"' in code for code in shown for name in ADDRESSES)


def test_what_is_shown_works_when_it_is_pasted(tmp_path: Path, shown: list[str]) -> None:
    """Saved as a file in the folder in which `guilder up` was started; only the port is this system's."""
    system = System(tmp_path / "guilder-data")
    line = system.up()
    try:
        codes = [*(code.replace(FIRST_ADDRESS, line["api"]) for code in shown), snippet(line["api"], repr(line["secret_key"]))]
        for code in codes:
            done = subprocess.run(
                [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", code], capture_output=True, text=True, check=False,
                timeout=60, cwd=tmp_path, env=environment(),
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "succeeded" in done.stdout
    finally:
        system.stop()
