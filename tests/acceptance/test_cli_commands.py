"""The commands that look at a system: on a running one, and on one that is stopped."""

import asyncio
import base64
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from whole_system import GUILDER, System, environment, until


@pytest.fixture
def running(system: System) -> System:
    """A system that runs."""
    system.up()
    return system


def post(system: System, path: str, **fields: object) -> dict:
    """Ask the API as a merchant does."""
    body = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
    key = base64.b64encode(f"{system.line['secret_key']}:".encode()).decode()
    request = urllib.request.Request(system.line["api"] + path, body, {"Authorization": f"Basic {key}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def pay(system: System, amount: int = 1099) -> dict:
    return post(system, "/v1/payment_intents", amount=amount, currency="eur", payment_method="pm_card_visa", confirm="true")


def told(done: subprocess.CompletedProcess[str]) -> dict:
    """What a command with --json said."""
    return json.loads(done.stdout)


def test_looking_at_a_system_that_runs_and_at_one_that_is_stopped(running: System) -> None:
    """The proof with the bank's truth in it, a payment's story, fees, events; a stopped system starts its database for it."""
    payment = pay(running)["id"]
    post(running, "/v1/refunds", payment_intent=payment, amount=300)
    for stop in (False, True):
        if stop:
            assert running.stop() == 0
        check = told(running.command("check", "--json"))
        assert check["ok"], check
        assert not any(one["skipped"] for one in check["checks"]), check
        # Nobody has asked for webhooks.
        assert [one["name"] for one in check["checks"] if not one["examined"]] == ["sessions", "deliveries"]
        story = told(running.command("payments", "show", payment, "--json"))
        assert (story["payment"], story["state"]) == (payment, "succeeded")
        assert {moment["kind"] for moment in story["moments"]} == {
            "request", "attempt", "psp", "outcome", "ledger", "balance", "event",
        }  # fmt: skip
        assert told(running.command("revenue", "--json"))["totals"] == [{"currency": "eur", "amount": 16}]
        events = running.command("events", "tail", "--json", "--type", "refund.*").stdout.splitlines()
        assert [json.loads(line)["type"] for line in events] == ["refund.created", "refund.updated"]
        assert told(running.command("dlq", "list", "--json")) == {"dead_letters": []}
        assert len(told(running.command("keys", "list", "--json"))["keys"]) == 2
    assert not list((running.data / "postgres" / "pgdata").glob("postmaster.pid")), "the database was stopped again"


def test_what_people_see(running: System) -> None:
    """The same commands in words: no card number, and everything that is promised."""
    payment = pay(running)["id"]
    check = running.command("check")
    assert "Everything is as it should be." in check.stdout
    assert check.returncode == 0
    story = running.command("payments", "show", payment).stdout
    for word in (payment, "10.99 EUR", "purchase approved", "psp_clearing of cardnet", "charge.succeeded"):
        assert word in story
    assert "4242424242424242" not in story
    assert "16" in running.command("revenue").stdout
    assert payment in running.command("events", "tail", "-n", "1").stdout
    assert "no dead letters" in running.command("dlq", "list").stdout
    assert "there is nothing with the id pi_x" in running.command("payments", "show", "pi_x").stderr


async def test_a_broken_invariant_is_named_and_the_status_is_1(running: System) -> None:
    """In words on standard error, and as the first violation in JSON."""
    pay(running)
    connection = await asyncpg.connect(running.running()["database_url"])
    await connection.execute("UPDATE balance_transaction SET amount = amount + 1")
    await connection.close()
    done = running.command("check", "--json")
    assert done.returncode == 1
    assert told(done)["first_violation"] == told(done)["checks"][3]["violations"][0]
    assert told(done)["first_violation"]["check"] == "wallet"
    assert done.stderr.startswith("guilder: wallet: acct_")


@pytest.fixture
def following(running: System) -> Iterator[subprocess.Popen[str]]:
    """`guilder events tail --follow` on the running system."""
    flags = ["--follow", "--json", "-n", "0", "--type", "payment_intent.*"]
    command = [GUILDER, "events", "tail", *flags, "--data", str(running.data)]
    # Who starts the tests in the background has SIGINT ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        signal.signal(signal.SIGINT, before)
        yield process
        process.kill()


def test_events_are_shown_as_they_come(running: System, following: subprocess.Popen[str]) -> None:
    """In their order, only those that were asked for, until Ctrl-C."""
    payment = ""

    async def connections() -> int:
        connection = await asyncpg.connect(running.running()["database_url"])
        count = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'guilder events'")
        await connection.close()
        return count

    until(lambda: asyncio.run(connections()), "the events are followed")
    payment = pay(running)["id"]
    assert following.stdout is not None
    events = [json.loads(following.stdout.readline()) for _ in range(2)]
    assert [event["type"] for event in events] == ["payment_intent.created", "payment_intent.succeeded"]
    assert {event["data"]["object"]["id"] for event in events} == {payment}
    following.send_signal(2)
    assert following.wait(10) in (0, 130, 1, -2)


async def test_a_dead_letter_is_listed_shown_replayed_and_discarded(running: System) -> None:
    """What a person decides is done once; the other decision comes too late."""
    connection = await asyncpg.connect(running.running()["database_url"])
    for name in ("dl_one", "dl_two"):
        row = "($1, 'refunds', 2, 3, 1, $2, '', 'ValueError: no', 'Traceback', 5, 1, 'open')"
        await connection.execute(f"INSERT INTO dead_letter VALUES {row}", name, f"pi_{name}")
    await connection.close()
    assert {one["id"] for one in told(running.command("dlq", "list", "--json"))["dead_letters"]} == {"dl_one", "dl_two"}
    shown = running.command("dlq", "show", "dl_one").stdout
    assert "ValueError: no" in shown
    assert "closed until this is replayed or discarded" in shown
    assert "Traceback" in shown
    planned = running.command("dlq", "replay", "--all", "--dry-run").stdout.splitlines()
    assert [line.partition(": would hand topic 2")[0] for line in planned] == ["dl_one", "dl_two"]
    assert told(running.command("dlq", "replay", "dl_one", "--json"))["dead_letters"][0]["done"]
    assert told(running.command("dlq", "discard", "--reason", "ValueError", "--json"))["dead_letters"][0]["id"] == "dl_two"
    again = running.command("dlq", "replay", "dl_one")
    assert (again.returncode, again.stdout) == (0, "dl_one: nothing: it was replayed before\n")
    assert "say which" in running.command("dlq", "discard").stderr
    late = running.command("dlq", "discard", "dl_one")
    assert late.returncode == 1
    assert "dl_one was replayed before" in late.stderr
    assert told(running.command("dlq", "list", "--json")) == {"dead_letters": []}
    assert len(told(running.command("dlq", "list", "--all", "--json"))["dead_letters"]) == 2
    assert "there is no dead letter dl_x" in running.command("dlq", "show", "dl_x").stderr


def test_the_bank_world_runs_alone(tmp_path: Path) -> None:
    """Both ports answer, faults can be set, SIGTERM ends it, and a second one on the same memory says why it cannot."""
    command = [GUILDER, "network", "--data", str(tmp_path / "bank"), "--iso-port", "0", "--http-port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"]
        assert ready["iso8583"].startswith("127.0.0.1:")
        with urllib.request.urlopen(f"{ready['control']}/health", timeout=5) as answer:
            assert json.load(answer)["status"] == "ok"
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, env=environment())
        assert second.returncode == 1
        assert "error" in json.loads(second.stdout)
        process.terminate()
        assert process.wait(10) == 0


def test_commands_that_find_nothing_say_what_would_help(tmp_path: Path) -> None:
    """No data folder, nothing that runs: one line and status 1, in JSON too."""
    for words in ("check", "payments show pi_x", "revenue", "dlq list", "events tail --account acct_x"):
        command = [GUILDER, *words.split(), "--json", "--data", str(tmp_path / "nothing")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
        assert done.returncode == 1, words
        assert "there is no Guilder in" in told(done)["error"]
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "nothing").exists(), "looking leaves no trace"


def test_the_module_is_the_command_too() -> None:
    """`python -m guilder`, for those who have no script on their path."""
    done = subprocess.run([sys.executable, "-m", "guilder", "--help"], capture_output=True, text=True, check=True)
    assert "payments" in done.stdout
