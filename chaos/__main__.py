"""`python -m chaos`: run the experiment. Exit status 1 when anything was not as it must be.

    python -m chaos quick                  every crash point, every fault once, 10,000 payments, the simulation, the canary
    python -m chaos run --minutes 10       faults mixed by chance; --seed repeats a run
    python -m chaos kafka                  three brokers; `failovers`: PostgreSQL with a standby. Both are parts of `quick`
    python -m chaos bugs --only NAME       the bug bank: each seeded defect must be found

The system's data, the clients' histories and the bank's truth of a red run stay where the last line says.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from chaos import plans, results
from chaos.bugs import bench
from chaos.run import Script, Size, Verdict, run, say, show
from chaos.system import ROOT

QUICK: Final = Size(clients=16, pause=0.1, scale=0.5)
SMALL: Final = Size(clients=6, merchants=5, cards=50, pause=0.05, scale=0.5)
BROKERS: Final = 3
COMMANDS: Final = {
    "quick": "what CI runs", "run": "faults mixed by chance", "kafka": "the log through three brokers, and what can happen to them",
    "failovers": "PostgreSQL with a synchronous standby, and what can happen to it", "bugs": "the bug bank",
}  # fmt: skip
HEEDS: Final = {
    "quick": ("keep", "only"), "run": ("keep", "minutes"), "kafka": ("keep",), "failovers": ("keep",), "bugs": ("only",),
}  # fmt: skip
"""What each command offers beside the seed and `--no-results`: what it heeds, and nothing else."""
DISK_BYTES: Final = 500 * 1024 * 1024
QUICK_PAYMENTS: Final = 10_000
# What remains to come to the 10,000 payments after the faults; a slow machine is told how far it came.
FILL_SECONDS_MAX: Final = 240.0
SIMULATION_SECONDS: Final = 30.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = made.add_subparsers(dest="command", required=True)
    for name, words in COMMANDS.items():
        command = commands.add_parser(name, help=words)
        command.add_argument("--seed", type=int, default=None, help="repeat the run with this seed")
        if "keep" in HEEDS[name]:
            command.add_argument("--keep", type=Path, default=None, help="keep everything in this folder")
        if "only" in HEEDS[name]:
            what = "defects" if name == "bugs" else "crash points"
            command.add_argument("--only", default="", help=f"only the {what} whose name holds this")
        if "minutes" in HEEDS[name]:
            command.add_argument("--minutes", type=float, default=10.0, help="how long the mix runs")
        command.add_argument("--no-results", action="store_true", help="do not add to chaos/results")
    return made


def main() -> int:
    """Do what was asked for; the exit status."""
    given = parser().parse_args()
    seed = random.SystemRandom().getrandbits(31) if given.seed is None else given.seed
    say(f"seed {seed}")
    match given.command:
        case "bugs":
            return _bugs(given, seed)
        case "run":
            return int(_run("mix", plans.mix(given.minutes), Size(), given, seed).red)
        case "kafka":
            return int(_run("kafka", plans.through_kafka(), SMALL, given, seed, brokers=BROKERS).red)
        case "failovers":
            return int(_run("failovers", plans.failovers(), SMALL, given, seed, clustered=True).red)
    return _quick(given, seed)


def _run(
    name: str, script: Script, size: Size, given: argparse.Namespace, seed: int, *, clustered: bool = False, disk_bytes: int = 0,
    brokers: int = 0,
) -> Verdict:  # fmt: skip
    """One run on a system of its own, shown and kept."""
    say(f"{name}:")
    folder = given.keep and given.keep / name.replace(" ", "-")
    verdict = asyncio.run(run(script, seed=seed, size=size, keep=folder, clustered=clustered, disk_bytes=disk_bytes, brokers=brokers))
    show(verdict)
    if not given.no_results:
        results.keep(name, verdict)
    return verdict


def _quick(given: argparse.Namespace, seed: int) -> int:
    """All of it, within CI's time: the parts that need no system first, then those that need one of their own kind, then all the rest."""
    began = time.monotonic()
    simulated = subprocess.run(
        [sys.executable, "-m", "chaos.simulation", "--first", str(seed), "--seeds", "1000000", "--seconds", str(SIMULATION_SECONDS)],
        cwd=ROOT, check=False,
    ).returncode  # fmt: skip
    verdicts = [
        _run("failovers", plans.failovers(), SMALL, given, seed, clustered=True),
        _run("full disk", plans.full_disk(), SMALL, given, seed, disk_bytes=DISK_BYTES),
        _run("kafka", plans.through_kafka(), SMALL, given, seed, brokers=BROKERS),
    ]
    fill = plans.until_payments(QUICK_PAYMENTS - sum(one.payments for one in verdicts), FILL_SECONDS_MAX)
    main_part = plans.in_turn(plans.sweep(*filter(None, (given.only,))), plans.everything_once(), fill)
    verdicts.append(_run("quick", main_part, QUICK, given, seed))
    canary = not all(found.found_by for found in bench.prove("canary", seed))
    if canary:
        say("RED: the canary was not seen: the harness proves nothing")
    violations = sum(len(one.findings) for one in verdicts)
    say(
        f"{sum(one.payments for one in verdicts)} payments, {sum(one.kills for one in verdicts)} kills, "
        f"{sum(one.failovers for one in verdicts)} failovers in {time.monotonic() - began:.0f} s: {violations} violations",
    )  # fmt: skip
    return int(bool(simulated or violations or canary))


def _bugs(given: argparse.Namespace, seed: int) -> int:
    found = bench.prove(given.only, seed)
    if not given.no_results:
        results.keep_found(found)
    missed = [one.name for one in found if not one.found_by]
    say(f"{len(found) - len(missed)} of {len(found)} found" + (f"; not found: {', '.join(missed)}" if missed else ""))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
