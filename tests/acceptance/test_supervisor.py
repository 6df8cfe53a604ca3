"""`guilder up` with real processes: what it shows, what dies and comes back, how it ends."""

import asyncio
import base64
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import asyncpg
import pytest
from whole_system import GUILDER, System, environment, until

from guilder.db.embedded import processes_in
from keepers import alive

CONNECTIONS_MAX = 16
BUSY_CLIENTS = 12
IDLE_MEMORY_MAX_MB = 450


async def test_the_first_start_says_where_everything_is(system: System) -> None:
    """The ready line, run.json and the files that it leaves, each open to its user alone."""
    line = system.up()
    assert list(line) == ["ready", "api", "checkout", "dashboard", "secret_key", "publishable_key"]
    assert (line["ready"], line["dashboard"]) == (True, None)
    assert (line["secret_key"][:8], line["publishable_key"][:8]) == ("sk_test_", "pk_test_")
    running = system.running()
    assert running["supervisor"] == system.process.pid  # type: ignore[union-attr]
    assert line["api"] == f"http://127.0.0.1:{running['ports']['api']}"
    assert line["checkout"] == f"http://127.0.0.1:{running['ports']['checkout']}"
    assert running["network_control"] == f"http://127.0.0.1:{running['ports']['network_http']}"
    assert all(alive(pid) for pid in system.pids())
    for name in ("run.json", "sandbox.json", "keys/master.key", "keys/app.key", "keys/database.json"):
        assert (system.data / name).stat().st_mode & 0o777 == 0o600, name
    connection = await asyncpg.connect(running["database_url"])
    used = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    await connection.close()
    assert used - 1 <= CONNECTIONS_MAX
    assert memory_mb([running["supervisor"], *system.pids()]) < IDLE_MEMORY_MAX_MB
    system.stop()


@pytest.mark.parametrize("api_processes", [2, 3, 4])
async def test_several_api_processes_share_the_connections(system: System, api_processes: int) -> None:
    """Sixteen at most while all of them are busy with payments, customers, refunds and transfers; every request is answered."""
    line = system.up("--port", "0", "--api-processes", str(api_processes))
    assert len(system.running()["roles"]["api"]) == api_processes
    connection = await asyncpg.connect(system.running()["database_url"])
    with ThreadPoolExecutor(BUSY_CLIENTS) as threads:
        busy = [threads.submit(_shop, line) for _ in range(BUSY_CLIENTS)]
        most, answered = 0, False
        while not answered:
            answered = all(client.done() for client in busy)
            found = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            most = max(most, found - 1)
    await connection.close()
    assert {status for client in busy for status in client.result()} == {200}
    assert most <= CONNECTIONS_MAX
    assert system.command("check").returncode == 0


def _shop(line: dict[str, str]) -> list[int]:
    """What a busy merchant asks for, one after the other; the statuses of the answers."""
    authorization = base64.b64encode(f"{line['secret_key']}:".encode()).decode()

    def ask(path: str, **form: str) -> tuple[int, dict]:
        body = urlencode(form).encode() if form else None
        request = urllib.request.Request(line["api"] + path, body, {"Authorization": f"Basic {authorization}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)

    statuses = []
    for _ in range(3):
        statuses.append((customer := ask("/v1/customers", name="Ada", payment_method="pm_card_visa"))[0])
        paid = ask("/v1/payment_intents", amount="1000", currency="eur", payment_method="pm_card_visa", confirm="true")
        accounts = [ask("/v1/ledger/accounts", currency="eur") for _ in range(2)]
        transfer = ask("/v1/ledger/transfers", debit=accounts[0][1]["id"], credit=accounts[1][1]["id"], amount="5")
        statuses += [paid[0], transfer[0], *(status for status, _ in accounts)]
        statuses.append(ask("/v1/refunds", payment_intent=paid[1]["id"])[0])
        statuses += [ask(path)[0] for path in ("/v1/balance", "/v1/events", "/v1/charges", f"/v1/customers/{customer[1]['id']}")]
    return statuses


def memory_mb(pids: list[int]) -> float:
    """The memory of these processes and of PostgreSQL's children: the sum of their proportional shares."""
    postgres = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _parent(int(entry.name)) in pids]
    total = 0
    for pid in {*pids, *postgres}:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, PermissionError):
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1000


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


def test_a_killed_role_is_started_again_and_the_others_go_on(system: System) -> None:
    """kill -9 of each role in turn: a new process in its place, and nobody else is touched."""
    system.up()
    for role, pids in system.running()["roles"].items():
        others = {name: found for name, found in system.running()["roles"].items() if name != role}
        os.kill(pids[0], signal.SIGKILL)
        until(lambda role=role, pids=pids: system.running()["roles"][role] not in ([], pids), f"{role} is back")  # type: ignore[misc]
        assert {name: found for name, found in system.running()["roles"].items() if name != role} == others
        mark = system.data / "run" / f"clock.{system.running()['roles'][role][0]}"
        until(mark.exists, f"the new {role} runs")
    assert system.stop() == 0


async def test_a_killed_database_is_started_again(system: System) -> None:
    """kill -9 of the postmaster: another one answers, and it has every role's connections."""
    system.up()
    before = system.running()
    os.kill(before["postgres"], signal.SIGKILL)
    until(lambda: system.running()["postgres"] not in (None, before["postgres"]), "the database is back")
    connection = await connected(before["database_url"])
    assert await connection.fetchval("SELECT count(*) FROM merchant") == 1
    await connection.close()
    assert system.running()["roles"] == before["roles"]
    assert system.stop() == 0


async def connected(url: str) -> asyncpg.Connection:
    """A connection, as soon as the database takes one."""
    for _ in range(1000):
        try:
            return await asyncpg.connect(url)
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            await asyncio.sleep(0.01)
    pytest.fail("the database does not come back")


def test_a_killed_supervisor_takes_everything_with_it_and_the_next_one_recovers(system: System) -> None:
    """Nothing outlives it; the same folder comes up again with the same keys and the same ports."""
    first = system.up()
    pids = system.pids()
    system.stop(signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids), "every process is gone")
    assert not processes_in(system.data / "postgres" / "pgdata")
    assert system.up() == first
    assert system.stop() == 0


def test_the_next_start_does_not_wait_for_the_dying(system: System) -> None:
    """`up` at once after kill -9 of the supervisor, while its children are still being ended."""
    system.up()
    assert system.process is not None
    system.process.kill()
    first = system.process
    system.up()
    first.communicate()
    assert all(alive(pid) for pid in system.pids())
    assert system.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_ends_within_five_seconds_and_leaves_nothing_running(system: System, number: int) -> None:
    """SIGTERM, Ctrl-C and a closed terminal: exit status 0, no process left, no run.json."""
    system.up()
    pids = system.pids()
    began = time.monotonic()
    assert system.stop(number) == 0
    assert time.monotonic() - began < 5
    assert not any(alive(pid) for pid in pids)
    assert not (system.data / "run.json").exists()


def test_it_ends_while_it_is_still_starting(system: System) -> None:
    """SIGTERM during the first start leaves no process behind, and the folder is good for another try."""
    starting = subprocess.Popen(
        [GUILDER, "up", "--json", "--port", "0", "--data", str(system.data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    until((system.data / "postgres").exists, "it has begun")
    starting.terminate()
    out, _ = starting.communicate(timeout=10)
    assert (starting.returncode, out) == (0, b"")
    assert not processes_in(system.data / "postgres" / "pgdata")
    system.up()
    assert system.stop() == 0


def test_stopped_roles_do_not_hold_up_the_end(system: System) -> None:
    """A role that does not answer its SIGTERM is killed; `stop` waits for so long and no longer."""
    system.up()
    pids = system.pids()[1:]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    assert system.stop() == 0
    assert not any(alive(pid) for pid in pids)


def test_a_second_up_on_the_same_data_says_who_holds_it(system: System) -> None:
    """It changes nothing, and names the process and its address."""
    line = system.up()
    second = system.command("up", "--json", "--port", "0")
    assert second.returncode == 1
    assert str(system.process.pid) in second.stderr  # type: ignore[union-attr]
    assert line["api"] in second.stderr
    assert json.loads(second.stdout)["error"]
    assert system.stop() == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """One line that says what would help, and no stack trace."""
    (tmp_path / "file").write_text("not a folder")
    done = System(tmp_path / "file" / "data").command("up")
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_named(system: System) -> None:
    """And everything that had been started by then is ended."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = system.command("up", "--port", str(port))
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert not processes_in(system.data / "postgres" / "pgdata")


def test_a_role_that_cannot_start_ends_the_start_with_its_reason(system: System) -> None:
    """A vault without its key: the start fails, says why, and leaves nothing running."""
    system.up()
    assert system.stop() == 0
    (system.data / "keys" / "master.key").write_text("not a key")
    done = system.command("up", "--port", "0")
    assert done.returncode == 1
    assert "vault" in done.stderr
    assert "key file" in done.stderr
    assert not processes_in(system.data / "postgres" / "pgdata")


def test_the_clock_stands_where_live_mode_is_in_use(system: System, tmp_path: Path) -> None:
    """Refused with what to do, running or stopped; and where it was moved, no live key is made."""
    system.up()
    system.stop()
    for name in ("master", "app"):
        place = tmp_path / f"{name}.key"
        (system.data / "keys" / f"{name}.key").rename(place)
        system.variables[f"GUILDER_{name.upper()}_KEY_FILE"] = str(place)
    assert system.command("clock", "advance", "1d").returncode == 0
    moved = system.command("keys", "create", "--live")
    assert moved.returncode == 1
    assert "real time" in moved.stderr
    (system.data / "clock").unlink()
    assert system.command("keys", "create", "--live").returncode == 0
    for running in (False, True):
        if running:
            system.up()
        refused = system.command("clock", "advance", "1d")
        assert refused.returncode == 1
        assert "live mode is in use" in refused.stderr
        assert json.loads(system.command("clock", "--json").stdout)["offset_seconds"] == 0


def test_the_clock_has_moved_everywhere_when_the_command_returns(system: System) -> None:
    """Each process has confirmed the new offset, and moves add up; time never goes back."""
    system.up()
    assert json.loads(system.command("clock", "advance", "7d", "--json").stdout)["offset_seconds"] == 7 * 86400
    marks = [
        int((system.data / "run" / f"clock.{pid}").read_text()) for pids in system.running()["roles"].values() for pid in pids
    ]
    assert set(marks) == {7 * 86400 * 1_000_000}
    assert json.loads(system.command("clock", "advance", "36h", "--json").stdout)["offset_seconds"] == 7 * 86400 + 36 * 3600
    assert system.command("clock", "advance", "-1d").returncode != 0
    assert system.stop() == 0


def test_keys_are_made_listed_and_revoked_on_a_running_and_on_a_stopped_system(system: System) -> None:
    """The stopped one has its database started for the time of the command."""
    system.up()
    made = json.loads(system.command("keys", "create", "--json").stdout)
    assert made["secret"].startswith("sk_test_")
    assert system.stop() == 0
    listed = json.loads(system.command("keys", "list", "--json").stdout)["keys"]
    assert made["key"]["id"] in {key["id"] for key in listed}
    assert len(listed) == 3
    revoked = json.loads(system.command("keys", "revoke", made["key"]["id"], "--json").stdout)
    assert revoked["key"]["revoked"] is not None
    assert not processes_in(system.data / "postgres" / "pgdata")


def test_a_data_folder_with_a_long_path_works(tmp_path: Path) -> None:
    """Sockets have short paths only, so they lie elsewhere."""
    system = System(tmp_path / ("deep" * 20) / ("folder" * 10))
    try:
        system.up()
        assert system.settings.run_dir.parent != system.data
        assert json.loads(system.command("keys", "list", "--json").stdout)["keys"]
    finally:
        assert system.stop() == 0


@pytest.mark.needs("root")
def test_root_without_user_namespaces_runs_the_database_as_nobody() -> None:
    """As in a container that refuses them: everything else is the same."""
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as name:
        Path(name).chmod(0o755)
        system = System(Path(name) / "data", PATH="/nowhere")
        system.up()
        try:
            assert Path(f"/proc/{system.running()['postgres']}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
            assert (system.data / "keys").stat().st_mode & 0o777 == 0o700
            pids = system.pids()
        finally:
            system.stop(signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in pids), "every process is gone")
        system.up()
        assert system.stop() == 0


def test_no_role_can_gain_rights_and_root_has_none_to_lose(system: System) -> None:
    """No capability is left, none can come back by starting a program, and a role that is started again has none either."""
    system.up()
    before = system.running()["roles"]["vault"]
    os.kill(before[0], signal.SIGKILL)
    until(lambda: system.running()["roles"]["vault"] not in ([], before), "the vault is back")
    mark = system.data / "run" / f"clock.{system.running()['roles']['vault'][0]}"
    until(mark.exists, "the new vault runs")
    for role, pids in system.running()["roles"].items():
        lines = Path(f"/proc/{pids[0]}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["NoNewPrivs"] == "1", role
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}, role
        if os.geteuid() == 0:
            assert int(status["CapBnd"], 16) == 0, role
    assert _shop(system.line) == [200] * len(_shop(system.line))


# Root in a mount namespace of its own, in which everybody may enter the home that this Python lies in.
OPEN_HOME = """
set -e
mkdir "$0/own"
mount --bind "$HOME" "$0/own"
mount -t tmpfs -o mode=755 none "$HOME"
for name in "$0"/own/.[a-z]*; do
    [ -d "$name" ] && mkdir "$HOME/$(basename "$name")" && mount --bind "$name" "$HOME/$(basename "$name")"
done
exec "$@"
"""


@pytest.mark.needs("root")
def test_root_may_name_the_user_that_everything_runs_as() -> None:
    """The data is that user's from then on, no process is left to root, and every command of root's does as that user does."""
    nobody = pwd.getpwnam("nobody").pw_uid
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as name:
        Path(name).chmod(0o755)
        system = System(Path(name) / "data")
        system.up()
        assert system.stop() == 0
        inside = ["unshare", "-m", "sh", "-c", OPEN_HOME, name]
        started = subprocess.Popen(
            [*inside, GUILDER, "up", "--json", "--port", "0", "--user", "nobody", "--data", str(system.data)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        assert started.stdout is not None
        line = started.stdout.readline()
        try:
            assert line.startswith('{"ready": true'), (line, started.communicate(timeout=15))
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in (started.pid, *system.pids())} == {nobody}
            assert {path.lstat().st_uid for path in (system.data, *system.data.rglob("*"))} == {nobody}
            assert set(_shop(json.loads(line))) == {200}
            command = ["nsenter", "-m", "-t", str(started.pid), GUILDER]
            for words in (["clock", "advance", "1d"], ["check"]):
                done = subprocess.run(
                    [*command, *words, "--data", str(system.data)], capture_output=True, text=True, check=False, env=environment(),
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
        finally:
            started.terminate()
            started.communicate(timeout=15)
        assert {path.lstat().st_uid for path in (system.data, *system.data.rglob("*"))} == {nobody}


@pytest.mark.needs("root")
def test_a_user_that_cannot_be_is_refused_before_anything_starts(system: System) -> None:
    """Unknown, out of reach, or while the system runs: one line that says what would help, and the data stays whose it is."""
    for words, says in ((["--user", "no-such-user"], "there is no user"), (["--user", "nobody"], "cannot reach")):
        refused = system.command("up", *words)
        assert refused.returncode == 1
        assert says in refused.stderr
    shutil.rmtree(system.data, ignore_errors=True)
    system.up()
    refused = system.command("up", "--user", "nobody")
    assert refused.returncode == 1
    assert "already runs" in refused.stderr
    assert system.data.stat().st_uid == 0
    assert system.stop() == 0


@pytest.mark.needs("user namespaces")
def test_an_ordinary_user_runs_it_too(system: System) -> None:
    """Without any help from root: here in a namespace in which nobody is root."""
    started = subprocess.Popen(
        [
            "unshare",
            "-U",
            "--map-user=1000",
            "--map-group=1000",
            GUILDER,
            "up",
            "--json",
            "--port",
            "0",
            "--data",
            str(system.data),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert started.stdout is not None
    line = started.stdout.readline()
    started.terminate()
    _, said = started.communicate(timeout=15)
    assert line.startswith('{"ready": true'), said
    assert started.returncode == 0
