"""The supervisor's own arithmetic, and the data folder's files, without any process."""

import os
from pathlib import Path

import pytest

from guilder import bootstrap, folder
from guilder.children import WAIT, Deaths, close_all_but
from guilder.config import API_PROCESSES_MAX, Ports, Settings
from guilder.core.clock import DAY
from guilder.folder import CannotStart, Running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A folder that is claimed by nobody."""
    found = Settings.load({}, {"data_dir": tmp_path / "data", "port": 0})
    found.run_dir.mkdir(parents=True)
    return found


@pytest.mark.parametrize("api_processes", bootstrap.POOLS)
def test_the_connections_of_all_processes_are_sixteen_at_most(api_processes: int) -> None:
    """However many serve the API, up to as many as may; and every process can reach the database."""
    counts = bootstrap.counts(Settings.load({}, {"api_processes": api_processes}))
    pools = bootstrap.POOLS[api_processes]
    used = sum(counts[role] * (pools[role].plain + pools[role].hot + bootstrap.BESIDE[role]) for role in pools)
    assert used + bootstrap.VAULT_CONNECTIONS <= 16
    assert all(one.plain + one.hot > 0 for one in pools.values())
    assert max(bootstrap.POOLS) == API_PROCESSES_MAX


def test_what_dies_seldom_is_started_again_at_once() -> None:
    """Two deaths in a minute are bad luck."""
    deaths = Deaths()
    for now in (10.0, 20.0):
        deaths.count(now)
        assert deaths.start_at == now


def test_what_dies_three_times_in_a_minute_waits_longer_each_time() -> None:
    """From one second to half a minute, so that a broken role does not fill the machine."""
    deaths = Deaths()
    waits = []
    for now in range(10):
        deaths.count(float(now))
        assert deaths.start_at is not None
        waits.append(deaths.start_at - now)
    assert waits == [0, 0, 1, 2, 4, 8, 16, WAIT.cap_seconds, WAIT.cap_seconds, WAIT.cap_seconds]


def test_deaths_are_forgotten_after_a_minute() -> None:
    """A role that has run well since is started again at once."""
    deaths = Deaths()
    for now in (0.0, 1.0, 2.0):
        deaths.count(now)
    deaths.count(62.5)
    assert deaths.start_at == 62.5


def test_a_folder_is_held_by_one_at_a_time(settings: Settings) -> None:
    """The second is told who holds it; when the first lets go, it is free."""
    held = folder.claim(settings)
    assert folder.is_alive(settings)
    with pytest.raises(CannotStart, match=f"process {os.getpid()}"):
        folder.claim(settings)
    os.close(held)
    assert not folder.is_alive(settings)
    os.close(folder.claim(settings))


def test_free_ports_are_found_and_remembered(settings: Settings) -> None:
    """Five different ones; the next start has them again."""
    ports, opened = folder.open_ports(settings)
    for descriptor in opened.values():
        os.close(descriptor)
    assert len({getattr(ports, name) for name in Ports.__struct_fields__}) == 5
    again, opened = folder.open_ports(settings)
    for descriptor in opened.values():
        os.close(descriptor)
    assert again == ports


def test_files_that_others_must_not_read_are_never_open_to_them(settings: Settings) -> None:
    """Not even for a moment."""
    before = os.umask(0)
    try:
        folder.write_private(settings.run_file, {"password": "x"})
    finally:
        os.umask(before)
    assert settings.run_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.data_dir.glob(".run*")] == []


def test_a_clock_move_waits_for_the_living_only(settings: Settings) -> None:
    """A process that has ended cannot confirm any more."""
    gone = 2**22 - 1
    folder.write_private(
        settings.run_file,
        Running(
            supervisor=1,
            postgres=None,
            roles={"api": [os.getpid()], "vault": [gone]},
            ports=settings.ports,
            database_url="",
            network_control=None,
        ),
    )
    offset = folder.advance_clock(settings, DAY)
    assert folder.unconfirmed(settings, offset) == [os.getpid()]
    (settings.run_dir / f"clock.{os.getpid()}").write_text(str(offset))
    assert folder.unconfirmed(settings, offset) == []
    assert folder.advance_clock(settings, DAY) == 2 * DAY
    assert folder.unconfirmed(settings, 2 * DAY) == [os.getpid()]


def test_a_child_keeps_only_the_descriptors_that_it_was_given() -> None:
    """Also when zero is the first of them, which `closerange` would take for everything."""
    kept, closed = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            close_all_but(frozenset({0, 1, 2, kept}))
            os.fstat(0), os.fstat(kept)
            try:
                os.fstat(closed)
            except OSError:
                os._exit(7)
        finally:
            os._exit(1)
    os.close(kept)
    os.close(closed)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_there_is_a_relay_only_with_kafka() -> None:
    """It would have nothing to copy to."""
    without, with_ = Settings.load({}), Settings.load({"GUILDER_KAFKA_BOOTSTRAP": "127.0.0.1:9092"})
    assert (bootstrap.counts(without)["relay"], bootstrap.counts(with_)["relay"]) == (0, 1)
