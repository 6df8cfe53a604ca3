"""A whole system for an acceptance test: `guilder up` as people start it, on data of its own, ended with the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from whole_system import System


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A data folder on which a test may start the system; whatever runs at its end is killed."""
    found = System(tmp_path / "data")
    yield found
    if found.process is not None:
        found.process.kill()
        found.process.communicate()
