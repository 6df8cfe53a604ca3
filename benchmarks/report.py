"""The figures for people, and one JSON line a run for the history."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from benchmarks import measure

HISTORY: Final = Path(__file__).parent / "history"
# A run is marked when the machine itself was slower than at the start by more than this, or others used more of it.
SLOWER_MAX: Final = 1.15
OTHERS_MAX: Final = 0.15

Row = Mapping[str, Any]


class Target(Struct, frozen=True):
    """A figure of a run that has a bound: at least, or with `below` less than."""

    run: str
    figure: str
    bound: float
    below: bool = False


TARGETS: Final = (
    Target("payments at 128", "per_second", 2_500),
    Target("payments at 128 *", "per_second", 2_200),
    Target("payments at 128 *", "drained_seconds", 10, below=True),
    Target("a lone payment", "p50_ms", 6, below=True),
    Target("payments at half, open loop", "p99_ms", 100, below=True),
    Target("the page: shown", "p50_ms", 10, below=True),
    Target("the page: shown", "weight_kb", 60, below=True),
    Target("payments at 128, Kafka", "share_of_outbox", 0.8),
    Target("transfers by HTTP at 64", "per_second", 6_000),
    Target("transfers by HTTP at 256", "per_second", 8_000),
    Target("transfers by HTTP in lists", "per_second", 30_000),
    *(
        Target(outage, figure, bound, below=True)
        for outage in ("a PSP that stands still", "a PSP that closes")
        for figure, bound in (("psp_calls_each", 1.1), ("normal_after_seconds", 60), ("settled_after_seconds", 60))
    ),
    Target("lost answers", "known_after_doubt_seconds", 5, below=True),
    Target("executor killed", "without_outcome_seconds", 5, below=True),
    *(Target(f"without {role}, outbox", "accepted_share", 0.999) for role in ("executor", "worker", "network", "vault")),
    *(Target(f"without {role}, Kafka", "accepted_share", 0.999) for role in ("executor", "worker", "relay", "a broker")),
)
"""What the system is to reach on two cores."""


class History:
    """Appends what was measured, each row with when, on which machine and on which commit."""

    def __init__(self, name: str, *, quick: bool) -> None:
        self._file = HISTORY / f"{name}.jsonl"
        self._about = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": _commit(), "quick": quick,
            "machine_is": measure.about(),
        }  # fmt: skip

    def add(self, row: Row) -> None:
        """Append one run."""
        HISTORY.mkdir(exist_ok=True)
        with self._file.open("a") as file:
            file.write(json.dumps({**self._about, **row}) + "\n")


def show(rows: Sequence[Row], *, loop_ms: float) -> None:
    """Print the figures, CPU by process, and memory. `loop_ms` is the machine's pace before the first run."""
    console = Console(width=150)
    console.print(_figures(rows, loop_ms))
    console.print(_cpu(rows))
    with_memory = [row for row in rows if "memory_mb" in row]
    if with_memory:
        memory = with_memory[-1]["memory_mb"]
        sizes = ", ".join(f"{name} {size:.0f}" for name, size in memory.items())
        console.print(f"Memory (PSS) after the last payments: {sum(memory.values()):.0f} MB: {sizes}")
    console.print(f"Fixed loop before the first run: {loop_ms} ms")
    for line in verdicts(rows):
        console.print(line)


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What each bound says of these runs."""
    by_name = {row["run"]: row for row in rows}
    lines = []
    for target in TARGETS:
        value = by_name.get(target.run, {}).get(target.figure)
        if value is not None:
            good = value < target.bound if target.below else value >= target.bound
            words = "below" if target.below else "at least"
            lines.append(f"{'reached' if good else 'MISSED '} {target.run}: {target.figure} {value:,} ({words} {target.bound:,})")
    return lines


def _figures(rows: Sequence[Row], loop_ms: float) -> Table:
    table = Table(title="Each run, fsync on")
    for name in ("run", "by", "batches"):
        table.add_column(name)
    for name in ("/s", "worst s", "p50 ms", "p99 ms", "p99.9", "CPU us", "idle", "softirq", "others", "loop", "disk ms"):
        table.add_column(name, justify="right")
    for row in rows:
        machine = row["machine"]
        table.add_row(
            row["run"] + (" (disturbed)" if disturbed(row, loop_ms) else ""), row["generator"],
            " ".join(f"{name} {size:.0f}" for name, size in row.get("batches", {}).items()), f"{row['per_second']:,.0f}",
            f"{min(row['by_second'] or [0]) * row.get('each', 1):,}",
            *(f"{row[name]:.1f}" for name in ("p50_ms", "p99_ms", "p999_ms")), f"{row['cpu_us_all']:,.0f}",
            f"{machine['idle']:.0%}", f"{machine['softirq']:.1%}", f"{machine['others']:.2f}", f"{machine['loop_ms']:.0f}",
            f"{machine['disk_ms']:.2f}",
        )  # fmt: skip
    return table


def disturbed(row: Row, loop_ms: float) -> bool:
    """Whether the machine was slow or busy with something else, so that the run says less than it seems to."""
    machine = row["machine"]
    return bool(machine["others"] > OTHERS_MAX or machine["loop_ms"] > loop_ms * SLOWER_MAX)


def _cpu(rows: Sequence[Row]) -> Table:
    table = Table(title="CPU microseconds for each payment or transfer")
    table.add_column("process")
    for row in rows:
        table.add_column(row["run"].removeprefix("payments ").removeprefix("transfers "), justify="right")
    names = sorted({name for row in rows for name in row["cpu_us"]})
    for name in names:
        table.add_row(name, *(f"{row['cpu_us'][name]:,.1f}" if name in row["cpu_us"] else "" for row in rows))
    table.add_row("all", *(f"{row['cpu_us_all']:,.0f}" for row in rows))
    return table


def _commit() -> str | None:
    """The commit that was measured, with `+` when the tree differed from it; None outside a repository."""
    here = Path(__file__).parent
    words = ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    found = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
