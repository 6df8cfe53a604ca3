"""What runs have shown: history.jsonl, a line for each, kept with the code; and the table of the bug bank, bugs.md."""

import platform
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from chaos.run import Verdict

FOLDER: Final = Path(__file__).parent
HISTORY: Final = FOLDER / "history.jsonl"
BUGS: Final = FOLDER / "bugs.md"


class Found(Struct, frozen=True):
    """What became of one seeded defect."""

    name: str
    defect: str
    drill: str
    seconds: float
    found_by: str


def keep(plan: str, verdict: Verdict) -> None:
    """Add a run to the history."""
    row: dict[str, Any] = {
        "plan": plan, "seed": verdict.seed, "seconds": verdict.seconds, "payments": verdict.payments, "attempts": verdict.attempts,
        "operations": verdict.operations, "kills": verdict.kills, "failovers": verdict.failovers, "faults": verdict.faults,
        "violations": len(verdict.findings), "python": platform.python_version(),
    }  # fmt: skip
    with HISTORY.open("ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")


def table(found: list[Found]) -> str:
    """The bug bank as Markdown."""
    rows = [f"| `{one.name}` | {one.defect} | {one.drill} | {one.found_by or '**not found**'} | {one.seconds:.1f} |" for one in found]
    caught = sum(bool(one.found_by) for one in found)
    return "\n".join((
        "# The bug bank", "",
        f"{len(found)} seeded defects, {caught} of them found. Made by `make chaos-bugs`; the seconds include the start of the system.", "",
        "| name | defect | drill | found by | seconds |", "|---|---|---|---|---|", *rows, "",
    ))  # fmt: skip
