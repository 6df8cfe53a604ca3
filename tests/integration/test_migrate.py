"""Migrations on a real PostgreSQL: in order, once, whole; and what the roles may do afterwards."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from databases import drop_database
from guilder.core.clock import ManualClock
from guilder.core.ids import Ids
from guilder.db import Database, installation, schema
from guilder.db.migrate import MigrationFailed, migrate
from guilder.db.schema import Migration, WrongSchema, migrations


@pytest.fixture
async def empty(server: dict[str, str]) -> AsyncIterator[str]:
    """The address of a database without any table of ours."""
    admin = await asyncpg.connect(server["admin"])
    await admin.execute("CREATE DATABASE empty_one")
    try:
        yield server["dsn"].replace("DATABASE", "empty_one")
    finally:
        await drop_database(admin, "empty_one")
        await admin.close()


def files(folder: Path, **contents: str) -> list[Migration]:
    """Migration files with these contents, in this order, after the real first one."""
    found = [migrations()[0]]
    for number, (name, sql) in enumerate(contents.items(), start=9000):
        path = folder / f"{number}_{name}.sql"
        path.write_text(sql)
        found.append(Migration(str(number), path))
    return found


async def ask(dsn: str, sql: str) -> object:
    """The answer to one question."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_every_file_runs_once_and_in_order(empty: str) -> None:
    """A second run has nothing to do, and the schema is then the one that this version needs."""
    assert not await schema.is_current(empty)
    assert await migrate(empty) == [file.path.name for file in migrations()]
    assert await migrate(empty) == []
    assert await schema.is_current(empty)
    await schema.check(empty)


async def test_two_at_a_time_do_not_meet(empty: str) -> None:
    """One runs everything, the other finds it done."""
    ran = await asyncio.gather(migrate(empty), migrate(empty))
    assert sorted(len(names) for names in ran) == [0, len(migrations())]


async def test_a_failing_file_leaves_nothing_behind_and_names_its_line(empty: str, tmp_path: Path) -> None:
    """The files before it stay; its own statements do not; mended, it runs."""
    wrong = files(
        tmp_path, good="CREATE TABLE one (id int);", bad="CREATE TABLE two (id int);\n\nCREATE TABLE three (id nonsense);"
    )
    with pytest.raises(MigrationFailed, match=r"9001_bad\.sql: .*nonsense.*line 3"):
        await migrate(empty, wrong)
    assert await ask(empty, "SELECT to_regclass('one') IS NOT NULL AND to_regclass('two') IS NULL")
    assert await schema.current(empty) == "9000"
    (tmp_path / "9001_bad.sql").write_text("CREATE TABLE two (id int);")
    assert await migrate(empty, wrong) == ["9001_bad.sql"]


async def test_a_database_of_a_newer_version_is_refused(empty: str, tmp_path: Path) -> None:
    """By `migrate` and by the roles' check, and with the way out."""
    await migrate(empty, files(tmp_path, future="CREATE TABLE later (id int);"))
    with pytest.raises(WrongSchema, match="update Guilder"):
        await schema.check(empty)
    with pytest.raises(MigrationFailed, match="9000"):
        await migrate(empty)


async def test_an_older_database_is_told_to_migrate(empty: str, tmp_path: Path) -> None:
    """`guilder run` only looks."""
    with pytest.raises(WrongSchema, match="guilder migrate"):
        await schema.check(empty)
    await migrate(empty, files(tmp_path))
    with pytest.raises(WrongSchema, match="at schema 0001"):
        await schema.check(empty)


async def test_tables_belong_to_the_owner_and_nobody_may_do_everything(database: str) -> None:
    """Only migrations use the owner; functions are for those to whom they were granted."""
    strangers = """
        SELECT string_agg(tablename, ', ') FROM pg_tables
        WHERE schemaname = 'public' AND tableowner <> 'guilder_owner' AND tablename <> 'alembic_version'"""
    assert await ask(database, strangers) is None
    public = """
        SELECT string_agg(proname, ', ') FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE')"""
    assert await ask(database, public) is None


@pytest.mark.parametrize(
    ("role", "sql"),
    [
        ("guilder_app", "CREATE TABLE mine (id int)"),
        ("guilder_app", "SELECT * FROM vault_card"),
        ("guilder_app", "DELETE FROM installation"),
        ("guilder_vault", "SELECT * FROM merchant"),
        ("guilder_reader", "UPDATE installation SET generation = 0"),
        ("guilder_reader", "SELECT * FROM vault_card"),
    ],
)
async def test_a_role_may_not_do_what_is_not_its_own(database: str, role: str, sql: str) -> None:
    """Least rights, checked by the database itself."""
    pool = await Database.connect(database, role=role, max_size=1, name="test")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute(sql)
    await pool.close()


async def test_each_start_raises_the_generation_inside_and_outside(db: Database, tmp_path: Path) -> None:
    """One installation, counted from one."""
    clock = ManualClock()
    first = await installation.begin(db, tmp_path / "generation", clock, Ids(clock))
    second = await installation.begin(db, tmp_path / "generation", clock, Ids(clock))
    assert (first.generation, second.generation, second.behind) == (1, 2, 0)
    assert second.installation == first.installation
    assert (tmp_path / "generation").read_text() == "2"


async def test_a_database_that_missed_starts_shows_itself(db: Database, tmp_path: Path) -> None:
    """As one that was restored from a backup does; the count then goes on from the higher number."""
    clock = ManualClock()
    (tmp_path / "generation").write_text("5")
    begun = await installation.begin(db, tmp_path / "generation", clock, Ids(clock))
    assert (begun.generation, begun.behind) == (6, 5)
    assert (await installation.begin(db, tmp_path / "generation", clock, Ids(clock))).behind == 0
