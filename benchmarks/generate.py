"""Runs the load generator in a process of its own: wrk where the machine has it, else ours."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

LUA: Final = Path(__file__).with_name("load.lua")
# The generator ends by itself; past this it hangs.
GRACE_SECONDS: Final = 30.0


class Order(Struct, frozen=True, kw_only=True):
    """What is to be sent.

    Args:
        requests: whole HTTP requests with `{n}` where the number goes, taken in turn.
        contains: what every good body holds; a 200 without it is wrong.
        rate: requests a second whatever has been answered (open loop); 0: as fast as answers come (closed loop).
        count: no more than so many; 0: as many as the time allows.
    """

    url: str
    requests: tuple[str, ...]
    contains: str
    connections: int
    seconds: float
    rate: float = 0.0
    count: int = 0
    seed: int = 1


class Report(Struct, frozen=True, kw_only=True):
    """What came back. `wrong`: answers that are not 200 or lack what they must hold."""

    generator: str
    connections: int
    sent: int
    good: int
    wrong: int
    first_wrong: str
    seconds: float
    per_second: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    max_ms: float | None
    cpu_seconds: float
    by_second: tuple[int, ...] = ()


def generator_of(order: Order) -> str:
    """Which one is taken: wrk knows no open loop and no count."""
    return "wrk" if shutil.which("wrk") and not order.rate and not order.count else "ours"


def generate(order: Order) -> Report:
    """Send, wait for the last answer, and report. Raises RuntimeError when the generator fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    generator = generator_of(order)
    found = _with_wrk(order) if generator == "wrk" else _with_ours(order)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Report(**{**found, "generator": generator, "connections": order.connections, "cpu_seconds": round(cpu, 3)})


def crowd(order: Order) -> dict[str, Any]:
    """Send as crowd.py does, wait for the last answer, and return its report. Raises RuntimeError when the generator fails."""
    found: dict[str, Any] = json.loads(_run([sys.executable, "-S", "-E", "-m", "benchmarks.crowd"], order, _as_json(order)))
    return found


def _as_json(order: Order) -> str:
    return json.dumps({name: getattr(order, name) for name in order.__struct_fields__})


def _with_ours(order: Order) -> dict[str, Any]:
    # -S -E: the standard library is all it needs, and it starts in 30 ms.
    found: dict[str, Any] = json.loads(_run([sys.executable, "-S", "-E", "-m", "benchmarks.load"], order, _as_json(order)))
    return found


def _with_wrk(order: Order) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile("w", prefix="guilder-load-") as file:
        file.write("\0".join(order.requests))
        file.flush()
        words = ["wrk", "-t1", f"-c{order.connections}", f"-d{order.seconds:.0f}s", "--timeout", "15s", "-s", str(LUA), order.url]
        output = _run(words, order, None, GUILDER_LOAD=file.name, GUILDER_LOAD_CONTAINS=order.contains)
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


def _run(words: Sequence[str], order: Order, given: str | None, **variables: str) -> str:
    done = subprocess.run(
        words, input=given, capture_output=True, text=True, check=False, timeout=order.seconds + GRACE_SECONDS,
        cwd=LUA.parent.parent, env={**os.environ, **variables},
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
