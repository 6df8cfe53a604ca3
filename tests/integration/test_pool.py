"""Database on a real PostgreSQL: what a session may do, and what becomes of foreign errors."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import asyncpg
import pytest
from steps import until

from guilder.core.clock import sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db import Again, Database, Listener, UniqueViolation, constraint_of
from guilder.db.embedded import LOGIN, SUPERUSER, EmbeddedServer


@pytest.fixture
async def table(database: str) -> AsyncIterator[Database]:
    """A pool of the login itself, which may end its own sessions, and one table, `thing`."""
    pool = await Database.connect(database, role=LOGIN, max_size=4, name="test")
    await pool.execute("CREATE TABLE thing (id int CONSTRAINT thing_id PRIMARY KEY, note text)")
    yield pool
    await pool.close()


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder whose path fits a Unix socket, whatever the test is called."""
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as name:
        yield Path(name)


async def test_sessions_start_with_the_role_and_the_limits(db: Database) -> None:
    """No round trip of its own sets them, so they hold from the first statement on."""
    row = await db.fetchrow(
        """SELECT current_user AS who, current_setting('jit') AS jit,
            current_setting('idle_in_transaction_session_timeout') AS idle, current_setting('synchronous_commit') AS commits""",
    )
    assert row is not None
    assert (row["who"], row["idle"], row["jit"], row["commits"]) == ("guilder_app", "2s", "off", "on")


async def test_hot_sessions_plan_without_statistics(database: str) -> None:
    """Generic plans and no sequential scans, for the processes that ask for it."""
    hot = await Database.connect(database, role="guilder_app", max_size=1, hot=True, name="test")
    assert await hot.fetchval("SELECT current_setting('plan_cache_mode')") == "force_generic_plan"
    assert await hot.fetchval("SELECT current_setting('enable_seqscan')") == "off"
    await hot.close()


async def test_a_transaction_commits_at_its_end_and_rolls_back_on_an_error(table: Database) -> None:
    """The block is the transaction."""
    async with table.transaction() as connection:
        await connection.execute("INSERT INTO thing VALUES (1)")
    with pytest.raises(UniqueViolation):
        async with table.transaction() as connection:
            await connection.execute("INSERT INTO thing VALUES (2), (1)")
    assert [row["id"] for row in await table.fetch("SELECT id FROM thing")] == [1]


async def test_a_constraint_stays_an_error_of_its_own(table: Database) -> None:
    """Callers act on it by name."""
    await table.execute("INSERT INTO thing VALUES (1)")
    with pytest.raises(UniqueViolation) as caught:
        await table.execute("INSERT INTO thing VALUES (1)")
    assert constraint_of(caught.value) == "thing_id"


async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    """A refused connection stores nothing."""
    with pytest.raises(Unavailable):
        await Database.connect(f"postgresql://a:b@/c?host={tmp_path}", role="guilder_app", max_size=1, name="test")


async def test_an_answer_lost_in_flight_is_unknown(table: Database) -> None:
    """A statement in autocommit may have committed before its session ended."""
    with pytest.raises(ResultUnknown):
        await table.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await table.fetchval("SELECT 1") == 1


async def test_a_session_lost_before_the_commit_is_unavailable(table: Database) -> None:
    """Nothing of the transaction can have been stored, and the pool goes on with a new connection."""
    with pytest.raises(Unavailable):
        async with table.transaction() as connection:
            await connection.execute("INSERT INTO thing VALUES (1); SELECT pg_terminate_backend(pg_backend_pid())")
    assert await table.fetchval("SELECT count(*) FROM thing") == 0


async def test_an_answer_lost_during_the_commit_is_unknown(table: Database) -> None:
    """A deferred trigger ends the session in the middle of COMMIT."""
    await table.execute("""
        CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON thing DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()""")
    with pytest.raises(ResultUnknown):
        async with table.transaction() as connection:
            await connection.execute("INSERT INTO thing VALUES (1)")


async def test_a_client_that_idles_in_its_transaction_loses_it(table: Database) -> None:
    """No lock outlives a client that has stopped."""

    async def idle() -> None:
        async with table.transaction() as connection:
            await connection.execute("INSERT INTO thing VALUES (1)")
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 20")
            await until(connection.is_closed)  # type: ignore[attr-defined]
            await connection.execute("INSERT INTO thing VALUES (2)")

    with pytest.raises(Unavailable):
        await idle()
    assert await table.fetchval("SELECT count(*) FROM thing") == 0


async def test_a_deadlock_says_again(table: Database) -> None:
    """One of two that wait for each other is told to run once more."""
    await table.execute("INSERT INTO thing VALUES (1), (2)")
    both_hold_one = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with table.transaction() as connection:
            await connection.execute("UPDATE thing SET note = 'x' WHERE id = $1", first)
            await both_hold_one.wait()
            await connection.execute("UPDATE thing SET note = 'x' WHERE id = $1", second)

    results = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Again", "NoneType"]
    assert any(isinstance(result, Again) for result in results)


async def test_a_full_pool_is_unavailable_in_time(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot get a connection is told so while its client still listens."""
    monkeypatch.setattr("guilder.db.sessions.ACQUIRE_TIMEOUT_SECONDS", 0.05)
    pool = await Database.connect(database, role="guilder_app", max_size=1, name="test")
    async with pool.transaction():
        with pytest.raises(Unavailable):
            await pool.fetchval("SELECT 1")
    await pool.close()


async def test_a_cancelled_caller_does_not_cancel_its_commit(table: Database) -> None:
    """The COMMIT runs to its end, and the connection is good afterwards."""
    await table.execute("""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON thing DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION wait()""")
    sent = asyncio.Event()

    async def store() -> None:
        async with table.transaction() as connection:
            await connection.execute("INSERT INTO thing VALUES (1)")
            sent.set()

    async with table.connection() as holder:
        await holder.execute("SELECT pg_advisory_lock(1)")
        storing = asyncio.create_task(store())
        await sent.wait()
        await waiting_for_a_lock(table)
        storing.cancel()
        await asyncio.sleep(0)
        await holder.execute("SELECT pg_advisory_unlock(1)")
        await asyncio.wait({storing})
    assert storing.cancelled()
    assert await table.fetchval("SELECT count(*) FROM thing") == 1


async def waiting_for_a_lock(database: Database) -> None:
    """Return when some session waits for an advisory lock."""
    for _ in range(1000):
        if await database.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            return
        await sleep(0.005)
    pytest.fail("nobody waits")


async def test_a_commit_that_is_local_only_is_unknown(tmp_path: Path, socket_folder: Path) -> None:
    """A cancelled wait for the standby is reported as success with a warning, which must not count as success."""
    settings = {"synchronous_standby_names": "nobody", "fsync": "off"}
    server = EmbeddedServer(
        tmp_path,
        socket_folder=socket_folder,
        password_file=tmp_path / "p",
        log=tmp_path / "log",
        settings=settings,
    )
    server.create()
    server.start()
    server.wait_until_ready()
    try:
        pool = await Database.connect(server.dsn(user=SUPERUSER), role="postgres", max_size=2, name="test")
        await pool.execute("SET synchronous_commit = local; CREATE TABLE thing (id int)")
        storing = asyncio.create_task(pool.execute("SET synchronous_commit = on; INSERT INTO thing VALUES (1)"))
        admin = await asyncpg.connect(server.dsn(user=SUPERUSER))
        cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        for _ in range(1000):
            if await admin.fetchval(cancel):
                break
            await sleep(0.005)
        await admin.close()
        with pytest.raises(ResultUnknown):
            await storing
        await pool.execute("SET synchronous_commit = local")
        await pool.close()
    finally:
        server.stop(seconds=0)


async def test_a_listener_hears_and_comes_back_after_its_session_was_ended(db: Database) -> None:
    """After a gap it says so for each channel, because what was sent meanwhile is lost."""
    heard: list[tuple[str, str]] = []
    listener = Listener(
        db.dsn, ["news"], lambda channel, payload: heard.append((channel, payload)), role="guilder_app", name="test"
    )
    await listener.start()
    await db.execute("SELECT pg_notify('news', 'one')")
    await until(lambda: ("news", "one") in heard)
    login = await Database.connect(db.dsn, role=LOGIN, max_size=1, name="test")
    await login.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'guilder test listener'")
    await login.close()
    await until(lambda: ("news", "") in heard)
    await db.execute("SELECT pg_notify('news', 'two')")
    await until(lambda: ("news", "two") in heard)
    await listener.close()


async def test_a_listener_that_starts_while_the_database_is_away_listens_when_it_is_back(socket_folder: Path) -> None:
    """A start has the patience of every later moment: a role that begins in a restart of the database does not end by it."""
    server = EmbeddedServer(
        socket_folder / "postgres",
        socket_folder=socket_folder / "run",
        password_file=socket_folder / "passwords",
        log=socket_folder / "log",
        settings={"fsync": "off"},
    )
    server.create()
    heard: list[tuple[str, str]] = []
    listener = Listener(server.dsn(), ["news"], lambda channel, payload: heard.append((channel, payload)), role=LOGIN, name="test")
    await listener.start()
    server.start()
    try:
        server.wait_until_ready()
        await until(lambda: ("news", "") in heard)
        await listener.close()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["a", "b'\"\\", None, ""], "text[]"),
        ((1, None, -(2**40)), "bigint[]"),
        ([True, False, None], "boolean[]"),
        ([b"", b"\x00\xff", None], "bytea[]"),
        ([], "int[]"),
        ([[1, 2], [3, 4]], "int[]"),
    ],
)
async def test_arrays_go_out_and_come_back(db: Database, values: Sequence[object], type_: str) -> None:
    """Whatever the driver asks about their elements."""
    assert await db.fetchval(f"SELECT $1::{type_}", values) == [*values]


async def test_an_array_of_a_composite_type_takes_tuples(db: Database) -> None:
    """Each tuple is a record, not one more dimension."""
    rows = await db.fetch("SELECT * FROM unnest($1::log_in[])", [(1, 2, 3, "key", b"payload"), (4, 5, 6, "other", b"")])
    assert [tuple(row) for row in rows] == [(1, 2, 3, "key", b"payload"), (4, 5, 6, "other", b"")]


async def test_the_driver_asks_no_abstract_class_about_elements(db: Database) -> None:
    """The names that db/arrays.py sets are still those that it looks at: a view of a dict is a container to the abstract classes only."""
    with pytest.raises(asyncpg.DataError):
        await db.fetchval("SELECT $1::int[]", {"a": 1}.values())
