"""Integrity's nouns: what a check finds, and what it is handed."""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from msgspec import Struct

from guilder.db import Connection
from guilder.integrity.witness import Lines

# Violations that a result names; all are counted. Whoever has more than these has one cause to look for, not a list to work off.
NAMED_MAX: Final = 20
# Things worth knowing that a result names, such as attempts in doubt.
NOTES_MAX: Final = 50


class Violation(Struct, frozen=True, kw_only=True):
    """Something that must never be: which invariant, about what (an id), and in what way."""

    check: str
    subject: str
    message: str


class Note(Struct, frozen=True, kw_only=True):
    """Something that may be, and that a person may want to know: an attempt in doubt and its age."""

    subject: str
    message: str


class Result(Struct, frozen=True, kw_only=True):
    """What one check found.

    Args:
        examined: how many rows or effects it looked at.
        violations: the first of them, by name; `violated` counts all.
        skipped: why it could not be made, None when it was.
    """

    name: str
    title: str
    examined: int
    violated: int
    violations: tuple[Violation, ...]
    notes: tuple[Note, ...]
    seconds: float
    skipped: str | None = None


class Progress(Struct, frozen=True):
    """How far a check has come; total is None where nobody knows."""

    title: str
    done: int
    total: int | None


class Skipped(Exception):
    """The check cannot be made here; the message says why."""


class Sums(Struct):
    """What a ledger account's transfers add up to."""

    debits_posted: int = 0
    debits_pending: int = 0
    credits_posted: int = 0
    credits_pending: int = 0


class Examination:
    """What the checks of one run share.

    Args:
        connection: a session of guilder_reader, alone in its pool. Inside one REPEATABLE READ transaction for all checks
            but those that say that they are `live`.
        now: business time.
        running: somebody works on what is open; if nobody does, what is late is only noted.
        witness: the bank world's truth, None where there is none.
        elsewhere: connectors to other banks, of which this witness knows nothing.
        tell: told how far a check has come.
    """

    def __init__(
        self, connection: Connection, *, now: int, running: bool, witness: Lines | None, tell: Callable[[Progress], None],
        elsewhere: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.connection = connection
        self.now = now
        self.running = running
        self.witness = witness
        self.elsewhere = elsewhere
        # By the account's number; filled by the first check of the ledger.
        self.recount: dict[int, Sums] = {}
        self._tell = tell
        self.begin("", "")

    def begin(self, name: str, title: str) -> None:
        """A check begins: what is found from now on is its own."""
        self._name = name
        self._title = title
        self.violated = 0
        self.violations: list[Violation] = []
        self.notes: list[Note] = []

    def progress(self, done: int, total: int | None = None) -> None:
        """Tell how far this check has come."""
        self._tell(Progress(self._title, done, total))

    def violation(self, subject: str, message: str) -> None:
        """An invariant is broken."""
        self.violated += 1
        if len(self.violations) < NAMED_MAX:
            self.violations.append(Violation(check=self._name, subject=subject, message=message))

    def note(self, subject: str, message: str) -> None:
        """Worth knowing, and allowed."""
        if len(self.notes) < NOTES_MAX:
            self.notes.append(Note(subject=subject, message=message))

    async def count(self, table: str) -> int:
        """Rows of a table, whose name is a constant of ours."""
        return int(await self.connection.fetchval(f"SELECT count(*) FROM {table}"))


class Check(Struct, frozen=True):
    """One invariant, or a group that is looked at in one go.

    Args:
        title: what holds when nothing is found.
        look: returns how much it examined. Raises Skipped.
        live: outside the snapshot that the others share, because it looks again at what has moved meanwhile.
    """

    name: str
    title: str
    look: Callable[[Examination], Awaitable[int]]
    live: bool = False
