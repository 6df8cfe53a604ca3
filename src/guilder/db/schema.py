"""Which schema this version needs, and which one a database has; cheap to import, so every role checks it at its start."""

import re
from pathlib import Path
from typing import Final

import asyncpg
from msgspec import Struct

from guilder.core.errors import GuilderError

FOLDER: Final = Path(__file__).parent / "migrations"
NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
VERSION_TABLE: Final = "alembic_version"

# This file makes the roles, so it cannot run as one of them.
BASE_ROLE_FILE: Final = "0001_base.sql"


class WrongSchema(GuilderError):
    """The database's schema is not the one that this version needs; the message says what to do."""


class Migration(Struct, frozen=True):
    """One numbered file."""

    revision: str
    path: Path


def migrations() -> list[Migration]:
    """The files that ship with this version, in order."""
    found = [Migration(match[1], path) for path in sorted(FOLDER.glob("*.sql")) if (match := NAME.fullmatch(path.name))]
    if len({file.revision for file in found}) != len(found):
        raise WrongSchema("two migration files bear the same number")
    return found


async def current(dsn: str) -> str | None:
    """The number of the last file that ran in this database, None when none has."""
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval("SELECT to_regclass($1)", VERSION_TABLE) is None:
            return None
        number = await connection.fetchval(f"SELECT max(version_num) FROM {VERSION_TABLE}")
        return str(number) if number else None
    finally:
        await connection.close()


async def is_current(dsn: str) -> bool:
    """Whether nothing is left to migrate."""
    return await current(dsn) == migrations()[-1].revision


async def check(dsn: str) -> None:
    """Raise WrongSchema unless the database has the schema of this version."""
    has, needs = await current(dsn), migrations()[-1].revision
    if has == needs:
        return
    if has is not None and has > needs:
        raise WrongSchema(f"the database is at schema {has}, newer than this version's {needs}; update Guilder")
    raise WrongSchema(f"the database is at schema {has or 'none'}, this version needs {needs}; run `guilder migrate`")
