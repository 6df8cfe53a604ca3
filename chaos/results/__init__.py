"""What runs have shown: history.jsonl, a line for each, kept with the code, and runs.md, its table; and that of the bug bank, bugs.md."""

import platform
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from chaos.bugs import BUGS as BANK
from chaos.run import Verdict

FOLDER: Final = Path(__file__).parent
HISTORY: Final = FOLDER / "history.jsonl"
RUNS: Final = FOLDER / "runs.md"
FOUND: Final = FOLDER / "bugs.jsonl"
BUGS: Final = FOLDER / "bugs.md"


class Found(Struct, frozen=True):
    """What became of one seeded defect."""

    name: str
    defect: str
    drill: str
    seconds: float
    found_by: str


def keep(plan: str, verdict: Verdict) -> None:
    """Add a run to the history, and to its table."""
    row: dict[str, Any] = {
        "at": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()), "commit": _commit(),
        "plan": plan, "seed": verdict.seed, "seconds": verdict.seconds, "payments": verdict.payments, "attempts": verdict.attempts,
        "operations": verdict.operations, "kills": verdict.kills, "failovers": verdict.failovers, "faults": verdict.faults,
        "violations": len(verdict.findings), "python": platform.python_version(),
    }  # fmt: skip
    with HISTORY.open("ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")
    RUNS.write_text(runs([msgspec.json.decode(line) for line in HISTORY.read_bytes().splitlines()]))


def _commit() -> str | None:
    """The commit of the sources, with a `+` when they were changed since; None where there is no repository."""
    try:
        said = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=FOLDER, check=True, capture_output=True, text=True).stdout
        sources = ["../../src", "..", ":(exclude)."]
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *sources], cwd=FOLDER, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.strip() + ("+" if changed else "")


def runs(history: list[dict[str, Any]]) -> str:
    """All runs as Markdown, the newest first; what the early ones did not note is left out."""
    counted = ("payments", "attempts", "kills", "failovers")
    rows = [
        f"| {row.get('at', '')} | {row.get('commit') or ''} | {row['plan']} | {row['seed']} | {row['seconds']:,.0f} "
        + "".join(f"| {row[name]:,} " for name in counted) + f"| {sum(row['faults'].values()):,} | {row['violations'] or ''} |"
        for row in reversed(history)
    ]  # fmt: skip
    totals: Counter[str] = Counter()
    for row in history:
        totals.update({name: row[name] for name in (*counted, "violations")})
    return "\n".join((
        "# All runs", "", f"{len(history)} runs, {', '.join(f'{totals[name]:,} {name}' for name in (*counted, 'violations'))}. A line is",
        "added by each run of the experiment (CI's are not); what its violations were stands in docs/reliability.md.", "",
        f"| at | commit | plan | seed | seconds | {' | '.join(counted)} | faults | violations |",
        f"|{'---|' * (len(counted) + 7)}", *rows, "",
    ))  # fmt: skip


def keep_found(found: list[Found]) -> None:
    """Take over what a run of the bug bank found, in place of what stood there for the same defects; and the table of all."""
    known = {one.name: one for one in _decode(FOUND.read_bytes())} if FOUND.exists() else {}
    known |= {one.name: one for one in found}
    kept = [known[bug.name] for bug in BANK if bug.name in known]
    FOUND.write_bytes(b"\n".join(msgspec.json.encode(one) for one in kept) + b"\n")
    BUGS.write_text(table(kept))


def _decode(lines: bytes) -> list[Found]:
    return [msgspec.json.decode(line, type=Found) for line in lines.splitlines()]


def table(found: list[Found]) -> str:
    """The bug bank as Markdown."""
    rows = [f"| `{one.name}` | {one.defect} | {one.drill} | {one.found_by or '**not found**'} | {one.seconds:.1f} |" for one in found]
    caught = sum(bool(one.found_by) for one in found)
    return "\n".join((
        "# The bug bank", "",
        f"{len(found)} seeded defects, {caught} of them found. Made by `make chaos-bugs`, each line by the last run of its defect; the",
        "seconds include the start of the system.", "",
        "| name | defect | drill | found by | seconds |", "|---|---|---|---|---|", *rows, "",
    ))  # fmt: skip
