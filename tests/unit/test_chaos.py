"""The experiment's own parts that need no running system: the simulation, and the bank of seeded defects."""

import subprocess
import sys

import pytest
from chaos.bugs import BUGS
from chaos.patches import SOURCE
from chaos.simulation.world import verdict
from chaos.system import ROOT

# Seeds that were red once; each stays here for good.
ONCE_RED: tuple[int, ...] = (1, 338, 373, 453)
SEEDS = 150
DEFECTS_MIN = 30


@pytest.mark.parametrize("seed", ONCE_RED)
def test_a_seed_that_was_red_once_is_green(seed: int) -> None:
    """What it had found stays mended."""
    assert verdict(seed) == ""


def test_payments_in_a_world_of_losses_deaths_and_pauses_end_as_the_bank_has_them() -> None:
    """A few of the seeds of which `make chaos-quick` runs thousands."""
    assert [(seed, wrong) for seed in range(SEEDS) if (wrong := verdict(seed))] == []


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_seeded_defect_fits_the_source_that_it_is_about(bug) -> None:
    """A patch whose words are gone plants nothing, and then its drill proves nothing."""
    text: dict[str, str] = {}
    for patch in bug.patches:
        text[patch.file] = patch.apply(text.get(patch.file) or (SOURCE / patch.file).read_text())


def test_the_bank_holds_enough_defects_each_under_a_name_of_its_own() -> None:
    """Thirty at least."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= DEFECTS_MIN


@pytest.mark.parametrize("name", ["timeout-is-failure", "known-approvals-are-news", "fee-not-shown", "hold-not-released"])
def test_the_simulation_turns_red_on_a_defect(name: str) -> None:
    """In a process of its own, which has the patched sources."""
    command = [sys.executable, "-m", "chaos.simulation", "--seeds", "40", "--until-red"]
    done = subprocess.run(command, cwd=ROOT, env={"GUILDER_CHAOS_BUG": name, "PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("seed ")
