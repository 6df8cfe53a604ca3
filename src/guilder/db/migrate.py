"""Brings a database to the newest schema: the numbered .sql files, in order, each in a transaction of its own.

Alembic keeps the account of which file has run (table alembic_version); an advisory lock keeps two migrations apart.
Only `guilder migrate`, the first part of `guilder up` and the tests import this module.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import asyncpg
import sqlalchemy
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.script import Script
from alembic.script.revision import RevisionMap
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from guilder.core.errors import GuilderError
from guilder.db.schema import BASE_ROLE_FILE, VERSION_TABLE, Migration, migrations

OWNER: Final = "guilder_owner"

# An advisory lock of our own: the letters "guil" and a one.
LOCK: Final = 0x6775696C_00000001


class MigrationFailed(GuilderError):
    """A file could not be run; the message names it, and nothing of it was stored."""


async def migrate(dsn: str, files: Sequence[Migration] | None = None) -> list[str]:
    """Run what has not run yet; returns the names of the files that did. Safe to repeat, and at the same time elsewhere.

    `files` is the list that ships with this version unless a test hands in another one.
    """
    ran: list[str] = []

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn, server_settings={"application_name": "guilder migrate", "timezone": "UTC"})

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=sqlalchemy.NullPool)
    guard = await connect()
    try:
        await guard.execute("SELECT pg_advisory_lock($1)", LOCK)
        async with engine.connect() as connection:
            await connection.run_sync(_run, migrations() if files is None else files, ran)
            await connection.commit()
    finally:
        await guard.close()
        await engine.dispose()
    return ran


def migrate_now(dsn: str) -> list[str]:
    """The same for callers without an event loop."""
    return asyncio.run(migrate(dsn))


def _run(connection: sqlalchemy.Connection, files: Sequence[Migration], ran: list[str]) -> None:
    revisions = _revisions(files, connection, ran)

    def steps(heads: str | tuple[str, ...], _context: MigrationContext) -> list[MigrationStep]:
        current = heads[0] if isinstance(heads, tuple) and heads else (heads or None)
        if current is not None and current not in {file.revision for file in files}:
            raise MigrationFailed(f"the database is at {current}, which this version of Guilder does not know; update Guilder")
        todo = [script for script in revisions.iterate_revisions("heads", current or "base") if isinstance(script, Script)]
        return [RevisionStep(revisions, script, is_upgrade=True) for script in reversed(todo)]

    context = MigrationContext.configure(
        connection,
        opts={"fn": steps, "transaction_per_migration": True, "version_table": VERSION_TABLE},
    )
    context.run_migrations()


def _revisions(files: Sequence[Migration], connection: sqlalchemy.Connection, ran: list[str]) -> RevisionMap:
    scripts = []
    before: str | None = None
    for file in files:
        scripts.append(Script(_module(file, before, partial(_upgrade, file, connection, ran)), file.revision, str(file.path)))
        before = file.revision
    return RevisionMap(lambda: scripts)


def _module(file: Migration, before: str | None, upgrade: Callable[[], None]) -> ModuleType:
    """What Alembic expects of a revision: a module with its number, the one before it, and `upgrade`."""
    module = ModuleType(f"migration_{file.revision}", file.path.name)
    module.revision = file.revision  # type: ignore[attr-defined]
    module.down_revision = before  # type: ignore[attr-defined]
    module.upgrade = lambda **_: upgrade()  # type: ignore[attr-defined]
    return module


def _upgrade(file: Migration, connection: sqlalchemy.Connection, ran: list[str]) -> None:
    # The first statement also opens the transaction, in which the file and Alembic's own note then stand together.
    role = "NONE" if file.path.name == BASE_ROLE_FILE else OWNER
    connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
    driver: Any = connection.connection.driver_connection
    try:
        await_only(driver.execute(file.path.read_text()))
    except asyncpg.PostgresError as error:
        raise MigrationFailed(f"{file.path.name}: {error}{_place(error, file.path)}") from error
    connection.exec_driver_sql("SET LOCAL ROLE NONE")
    ran.append(file.path.name)


def _place(error: asyncpg.PostgresError, path: Path) -> str:
    """Where in the file, by line, when the server says so."""
    position = getattr(error, "position", None)
    if position is None:
        return ""
    line = path.read_text()[: int(position)].count("\n") + 1
    return f" (line {line})"
