"""`python -m chaos.simulation`: seeds one after the other; exit status 1 when one of them is not as it must be."""

import argparse
import os
import sys
import time

from chaos.bugs import BY_NAME
from chaos.patches import install

BUG = "GUILDER_CHAOS_BUG"


def main() -> int:
    """Run seeds; each red one is a line `seed N: what`."""
    parser = argparse.ArgumentParser(prog="python -m chaos.simulation", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no longer than this")
    parser.add_argument("--until-red", action="store_true", help="stop at the first red one")
    given = parser.parse_args()
    if os.environ.get(BUG):
        install(BY_NAME[os.environ[BUG]].patches)
    from chaos.simulation.world import verdict

    began, cpu, red, done = time.monotonic(), time.process_time(), 0, 0
    for seed in range(given.first, given.first + given.seeds):
        if time.monotonic() - began > given.seconds:
            break
        done += 1
        if wrong := verdict(seed):
            red += 1
            sys.stdout.write(f"seed {seed}: {wrong}\n")
            if given.until_red:
                return 1
    rate = done / max(time.process_time() - cpu, 0.001) * 60
    sys.stdout.write(f"{done} seeds, {red} red, {rate:,.0f} seeds a minute of one core\n")
    return int(red > 0)


if __name__ == "__main__":
    sys.exit(main())
