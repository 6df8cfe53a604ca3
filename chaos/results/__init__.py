"""What runs have shown: history.jsonl, a line for each, kept with the code; and the table of the bug bank, bugs.md."""

import platform
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from chaos.bugs import BUGS as BANK
from chaos.run import Verdict

FOLDER: Final = Path(__file__).parent
HISTORY: Final = FOLDER / "history.jsonl"
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
    """Add a run to the history."""
    row: dict[str, Any] = {
        "plan": plan, "seed": verdict.seed, "seconds": verdict.seconds, "payments": verdict.payments, "attempts": verdict.attempts,
        "operations": verdict.operations, "kills": verdict.kills, "failovers": verdict.failovers, "faults": verdict.faults,
        "violations": len(verdict.findings), "python": platform.python_version(),
    }  # fmt: skip
    with HISTORY.open("ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")


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
        f"{len(found)} seeded defects, {caught} of them found. Made by `make chaos-bugs`; the seconds include the start of the system.", "",
        "| name | defect | drill | found by | seconds |", "|---|---|---|---|---|", *rows, "",
    ))  # fmt: skip
