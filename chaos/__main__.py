"""`python -m chaos`: run the experiment. Exit status 1 when anything was not as it must be.

python -m chaos quick                    every crash point, every fault once, the simulation, the canary
python -m chaos run --minutes 10         mixes by chance; --seed repeats one
python -m chaos simulate --seconds 60    the simulation alone
python -m chaos bugs                     the bug bank: each seeded defect must be found
"""

import argparse
import asyncio
import random
import sys
from pathlib import Path

from chaos.faults import FAULTS
from chaos.run import Size, one_after_the_other, run, say, show


def main() -> int:
    """Do what was asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="")
    parser.add_argument("--bug", default="")
    parser.add_argument("--keep", type=Path, default=None)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().getrandbits(31)
    say(f"seed {seed}")
    faults = [fault() for fault in FAULTS if given.only.split(",") == [""] or fault.__name__ in given.only.split(",")]
    verdict = asyncio.run(run(one_after_the_other(faults), seed=seed, size=Size(clients=4, cards=100, scale=0.5), bug=given.bug, keep=given.keep))
    show(verdict)
    return verdict.red


if __name__ == "__main__":
    sys.exit(main())
