"""`guilder run ROLE`: every role by itself, against a database that is already there."""

import json
import os
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from whole_system import GUILDER, environment, until

ROLES = ("vault", "network", "executor", "worker", "api")


def free_ports() -> int:
    """The first of five ports in a row that nobody uses now, below those that the kernel gives to whoever connects."""
    for first in range(20_000 + os.getpid() % 12_000, 32_768, 5):
        try:
            for port in range(first, first + 5):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    pytest.fail("no five free ports in a row")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended with the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(role: str, variables: dict[str, str]) -> subprocess.Popen[str]:
    """Start one role; it says so when it is ready."""
    process = subprocess.Popen(
        [GUILDER, "run", role, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | variables,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f'{{"ready": true, "role": "{role}"}}\n', (line, process.communicate())
    return process


def post(url: str, key: str, **fields: str) -> dict[str, Any]:
    """POST a form as the merchant."""
    request = urllib.request.Request(url, urllib.parse.urlencode(fields).encode())
    request.add_header("Authorization", "Basic " + b64encode(f"{key}:".encode()).decode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def test_roles_that_were_started_one_by_one_take_a_payment(
    database: str,
    tmp_path: Path,
    started: list[subprocess.Popen[str]],
) -> None:
    """They find each other by DATA, the ports and the database; each ends by SIGTERM with status 0."""
    first = free_ports()
    variables = {"GUILDER_DATABASE_URL": database, "GUILDER_DATA": str(tmp_path / "data"), "GUILDER_PORT": str(first)}
    started.extend(start(role, variables) for role in ROLES)
    key = json.loads((tmp_path / "data" / "sandbox.json").read_text())["secret_key"]
    paid = post(
        f"http://127.0.0.1:{first}/v1/payment_intents",
        key,
        amount="1050",
        currency="eur",
        confirm="true",
        payment_method="pm_card_visa",
        **{"automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"},
    )
    assert paid["status"] == "succeeded"
    moved = subprocess.run(
        [GUILDER, "clock", "advance", "1h", "--json"],
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(moved.stdout)["offset_seconds"] == 3600
    for process in reversed(started):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        assert process.returncode == 0


def test_run_does_not_change_the_schema(server: dict[str, str], tmp_path: Path) -> None:
    """It says what is missing, and that `guilder migrate` mends it."""
    variables = {"GUILDER_DATABASE_URL": server["admin"], "GUILDER_DATA": str(tmp_path)}
    done = subprocess.run(
        [GUILDER, "run", "vault"], env=environment() | variables, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "guilder migrate" in done.stderr


def test_a_role_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """With the names of those that do."""
    done = subprocess.run([GUILDER, "run", "nobody"], env=environment(), capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "executor" in done.stderr


def test_up_uses_the_database_that_it_is_given(database: str, tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    """No server of its own then, and the same processes."""
    variables = {"GUILDER_DATABASE_URL": database}
    up = subprocess.Popen(
        [GUILDER, "up", "--json", "--port", "0", "--data", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | variables,
    )
    started.append(up)
    assert up.stdout is not None
    assert up.stdout.readline().startswith('{"ready": true')
    running = until(lambda: json.loads((tmp_path / "data" / "run.json").read_text()), "run.json is there")
    assert running["postgres"] is None
    assert running["database_url"] == database
    assert not (tmp_path / "data" / "postgres").exists()
    up.terminate()
    up.communicate(timeout=10)
    assert up.returncode == 0
