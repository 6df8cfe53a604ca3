"""Which installation this database belongs to, and how often it has been started.

The generation stands in the database and in a file outside it. Each start raises both, and so does a running system every few
seconds (`raise_generation`). A database that was restored from a backup, or a standby that has missed something, then shows a lower
number than the file, and is put in quarantine (DESIGN section 5).
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.db.connection import Record
from guilder.db.pool import Database
from guilder.db.quarantine import begin_quarantine

# What a restored database can lack without showing itself; each time costs a commit.
RAISE_SECONDS: Final = 5.0

_RAISE: Final = "UPDATE installation SET generation = generation + 1 RETURNING id, generation"


class Start(Struct, frozen=True, kw_only=True):
    """The generation was raised. `behind` is how many times this database has missed; 0 is as it should be."""

    installation: str
    generation: int
    behind: int


async def begin(database: Database, file: Path, clock: Clock, ids: Ids) -> Start:
    """Raise the generation, in the database first: a crash in between leaves the file behind, which means nothing."""
    row = await database.fetchrow(
        """
        INSERT INTO installation AS i (id, generation, created_at) VALUES ($1, 1, $2)
        ON CONFLICT (only_row) DO UPDATE SET generation = i.generation + 1
        RETURNING id, generation
        """,
        ids.new("inst"),
        clock.now(),
    )
    return await _compared(database, row, file, clock)


async def raise_generation(database: Database, file: Path, clock: Clock) -> Start:
    """The same on the way, so that also a database that was restored without a new start in between shows itself."""
    return await _compared(database, await database.fetchrow(_RAISE), file, clock)


async def _compared(database: Database, row: Record | None, file: Path, clock: Clock) -> Start:
    outside = _read(file)
    installation, generation = ("", 0) if row is None else (str(row["id"]), int(row["generation"]))
    behind = max(0, outside - (generation - 1))
    if behind:
        generation = outside + 1
        # First of all: whoever dies here finds the number of the file still ahead.
        await begin_quarantine(database, clock.now(), f"it lacks {behind} of the {outside} generations that the file {file.name} counts")
        await database.execute("UPDATE installation SET generation = $1", generation)
    _write(file, generation)
    return Start(installation=installation, generation=generation, behind=behind)


def _read(file: Path) -> int:
    with suppress(FileNotFoundError, ValueError):
        return int(file.read_text())
    return 0


def _write(file: Path, generation: int) -> None:
    draft = file.with_name(f".{file.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(str(generation))
        opened.flush()
        os.fsync(opened.fileno())
    draft.rename(file)
