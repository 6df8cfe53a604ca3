"""The bench on which the bug bank proves the harness: each defect is planted, its drill is run, and the drill must turn red."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from typing import Final

from msgspec.structs import replace

from chaos.bugs import BUGS, Bug
from chaos.bugs.drills import drill
from chaos.entry import BUG
from chaos.results import Found
from chaos.run import Size, run, say
from chaos.system import ROOT

# Every defect of the core is found within so many seeds; the slowest needs about 1,300.
SEEDS_MAX: Final = 3_000
SIZE: Final = Size(clients=8, merchants=4, cards=50, pause=0.05, scale=0.6, rest_seconds=20.0)


def prove(only: str, seed: int) -> list[Found]:
    """Plant every defect whose name holds `only`, one at a time; what found it, and in how many seconds."""
    found = []
    for bug in BUGS:
        if only not in bug.name:
            continue
        began = time.monotonic()
        by = _in_simulation(bug) if bug.drill == "simulation" else _in_drill(bug, seed)
        found.append(Found(bug.name, bug.defect, bug.drill, round(time.monotonic() - began, 1), by))
        say(f"{bug.name}: {by or 'NOT FOUND'} ({found[-1].seconds} s)")
    return found


def _in_simulation(bug: Bug) -> str:
    """In a process of its own, which has the patched sources; its first line says what was wrong."""
    command = [sys.executable, "-m", "chaos.simulation", "--seeds", str(SEEDS_MAX), "--until-red"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=os.environ | {BUG: bug.name})
    first = done.stdout.partition("\n")[0]
    if done.returncode not in (0, 1) or not first:
        raise RuntimeError(f"{bug.name} cannot be planted: {done.stderr[-500:]}")
    return first.partition(": ")[2].removeprefix("Violation: ").split(" ")[0] if done.returncode else ""


def _in_drill(bug: Bug, seed: int) -> str:
    size, planted = replace(SIZE, mostly=bug.mostly), bug.name if bug.patches else ""
    verdict = asyncio.run(run(
        drill(bug.drill), seed=seed, size=size, bug=planted, days=bug.days, brokers=bug.brokers, clustered=bug.clustered,
    ))  # fmt: skip
    if verdict.kept:
        shutil.rmtree(verdict.kept, ignore_errors=True)
    return ", ".join(sorted({finding.split(" ")[0] for finding in verdict.findings}))
