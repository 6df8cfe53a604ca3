"""What PostgreSQL and the network can answer, translated once into what the callers act on.

- Again: rolled back by a conflict (40001, 40P01); run the whole transaction once more.
- core.Unavailable: nothing was stored, because nothing was sent or because the server rolled it back.
- core.ResultUnknown: the answer was lost after something had been sent that may have committed.
- asyncpg's own: anything else (a constraint, a bad statement), the caller's to understand, or a defect.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from guilder.core.errors import GuilderError, ResultUnknown, Unavailable

UniqueViolation = asyncpg.UniqueViolationError
"""A unique index refused the row; `constraint_of` says which."""


class Again(GuilderError):
    """A conflict with another transaction; nothing was stored, and the whole transaction can be run again."""


@contextmanager
def may_be_stored(why: str) -> Iterator[None]:
    """Inside, "nothing was stored" would be a lie: what is Unavailable there is raised as ResultUnknown."""
    try:
        yield
    except Unavailable as error:
        raise ResultUnknown(f"{why}: {error}") from error


CONFLICTS: Final = frozenset({"40001", "40P01"})

# The server said no for lack of something that comes back, and rolled back: disk, memory, connections, a read-only
# standby, a lock or statement that took too long, a session that it ended because it was idle in its transaction.
ROLLED_BACK: Final = frozenset({
    "53000", "53100", "53200", "53300", "53400", "58030", "25006", "55P03", "57014", "25P02", "25P03", "57P03",
})  # fmt: skip

# A database that takes no connections now, as while it is being copied or restored.
NOT_CONNECTABLE: Final = frozenset({"55000"})

# The server ended the session. Before a COMMIT was sent that is a roll-back; afterwards nobody knows.
SESSION_ENDED: Final = frozenset({"57P01", "57P02", "57P05", "08000", "08003", "08006", "08007"})


def translate(error: BaseException, *, committing: bool) -> BaseException:
    """The error to raise in place of this one, or the same one when it is not foreign.

    `committing` says whether something had been sent that commits by itself: a statement in autocommit, or COMMIT.
    """
    original = error
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error, committing=committing) or original
    if isinstance(error, asyncpg.InterfaceError):
        return Unavailable(f"the database connection is closed: {error}") if _says_closed(error) else original
    if isinstance(error, OSError | asyncpg.InternalClientError | asyncio.IncompleteReadError):
        return _lost(error, committing=committing)
    return original


def _of_server(error: asyncpg.PostgresError, *, committing: bool) -> BaseException | None:
    """What the server's word means, None when it is the caller's to understand."""
    state = _state_of(error)
    if state in CONFLICTS:
        return Again(str(error))
    if state in ROLLED_BACK:
        return Unavailable(f"the database cannot do it now: {error}")
    return _lost(error, committing=committing) if state in SESSION_ENDED else None


def translate_connect(error: BaseException) -> BaseException:
    """The same for an attempt to get a connection, where nothing of the caller's can have been sent yet."""
    original = error
    if isinstance(error, asyncpg.PostgresError) and _state_of(error) not in ROLLED_BACK | SESSION_ENDED | NOT_CONNECTABLE:
        return original
    if isinstance(error, OSError | asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return Unavailable(f"no connection to the database: {_text(original)}")
    return original


def constraint_of(error: asyncpg.PostgresError) -> str | None:
    """The name of the constraint that refused, None when the error is not about one."""
    name = getattr(error, "constraint_name", None)
    return str(name) if name else None


def _state_of(error: asyncpg.PostgresError) -> str:
    # A FATAL message arrives as the cause of "connection was closed in the middle of operation"; it knows more.
    cause = error.__cause__
    if isinstance(cause, asyncpg.PostgresError) and isinstance(error, asyncpg.ConnectionDoesNotExistError):
        return str(cause.sqlstate)
    return str(error.sqlstate)


def _lost(error: BaseException, *, committing: bool) -> BaseException:
    if committing:
        return ResultUnknown(f"the database's answer was lost: {_text(error)}")
    return Unavailable(f"the database connection was lost before the commit: {_text(error)}")


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _says_closed(error: asyncpg.InterfaceError) -> bool:
    # asyncpg refuses to use a closed connection or pool by an InterfaceError, before it sends anything; it uses the
    # same class for misuse, which must stay visible as the defect that it is.
    text = str(error)
    return "is closed" in text or "is closing" in text or "has been released" in text
