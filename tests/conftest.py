"""What every test may ask for: a fresh database, and whether this machine can do what the test needs.

`database` is the address of a copy of a migrated template, made for one test and dropped after it. One PostgreSQL
server serves the whole run, all of its workers included; it is started by the first test that asks.
"""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

import keepers
from databases import drop_database
from guilder.db import Database
from kafka import brokers

RUN_FOLDER = "GUILDER_TEST_RUN"
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Name the run's folder, once, in the process that the workers inherit from."""
    config.addinivalue_line("markers", "needs(ability): skip, or fail under GUILDER_REQUIRE=all, where this is missing")
    config.addinivalue_line("markers", "slow: takes more than five seconds")
    if not hasattr(config, "workerinput"):
        os.environ[RUN_FOLDER] = tempfile.mkdtemp(prefix="guilder-test-", dir="/tmp")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's folder if no server ever used it; a server removes it itself."""
    if not hasattr(config, "workerinput") and not (folder := Path(os.environ[RUN_FOLDER])).joinpath("lock").exists():
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what takes long to start while other tests run: a broker needs many seconds beside them."""
    wanted = any("kafka" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly and brokers.bootstrap_of_the_environment() is None:
        _begin_kafka()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail what this machine cannot run."""
    for marker in item.iter_markers("needs"):
        demand(*marker.args)


def demand(ability: str) -> None:
    """Go on only where the machine has this ability; without it skip, or fail when GUILDER_REQUIRE=all.

    An ability is a name of ABILITIES, or a program that must be on the path.
    """
    present = ABILITIES.get(ability, lambda: shutil.which(ability) is not None)
    if present():
        return
    reason = f"this machine has no {ability}{NEEDED.get(ability, '')}"
    if os.environ.get("GUILDER_REQUIRE") == "all" and ability not in OUTSIDE_THE_PROJECT:
        pytest.fail(f"{reason}, and GUILDER_REQUIRE=all")
    pytest.skip(reason)


def _namespaces() -> bool:
    return shutil.which("unshare") is not None and subprocess.run(["unshare", "-U", "true"], check=False).returncode == 0


def _mounting() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0


def _stripe_node() -> bool:
    return shutil.which("node") is not None and (STRIPE_NODE / "stripe").exists()


# Where `make node` puts the packages that requirements/node/package-lock.json names, each checked against its hash there.
STRIPE_NODE = Path(__file__).resolve().parents[1] / "requirements" / "node" / "node_modules"

AXE = STRIPE_NODE / "axe-core" / "axe.min.js"

ABILITIES: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "ordinary user": lambda: os.geteuid() != 0,
    "user namespaces": _namespaces,
    "mounting": _mounting,
    "stripe-node": _stripe_node,
    "axe": AXE.exists,
    "kafka": lambda: brokers.bootstrap_of_the_environment() is not None or brokers.can_run(),
    "kafka of its own": brokers.can_run,
    "stripe schemas": lambda: _shared("reference/stripe_inscope.jsonschema.min.json") is not None,
}

# What an ability comes from, where its name does not say it.
NEEDED = {
    "kafka": ": neither KAFKA_BOOTSTRAP nor Java 17 with Maven, or Maven could not fetch the jars",
    "kafka of its own": ": no Java 17 with Maven, or Maven could not fetch the jars",
}

# Kept beside the project, not in it: its absence is no fault of the machine.
OUTSIDE_THE_PROJECT = frozenset({"stripe schemas"})


def _shared(path: str) -> Path | None:
    """A file of the folder of references that lies beside the project where it is developed."""
    found = Path(__file__).resolve().parents[2] / "shared" / path
    return found if found.exists() else None


@pytest.fixture
def require() -> Callable[[str], None]:
    """`require("node")` inside a test, for what only shows itself there."""
    return demand


@pytest.fixture(scope="session")
def server() -> dict[str, str]:
    """The run's PostgreSQL: `admin` is an address that may make databases, `template` the migrated one, `dsn` a pattern."""
    folder = Path(os.environ[RUN_FOLDER])
    ready = folder / "ready.json"
    keepers.begin("keep_server.py", folder)
    keepers.wait(folder, ready, "PostgreSQL")
    return json.loads(ready.read_text())


@pytest.fixture(scope="session")
def kafka() -> str:
    """The bootstrap address of the run's Kafka, of one broker, or of the one that KAFKA_BOOTSTRAP names."""
    demand("kafka")
    if (given := brokers.bootstrap_of_the_environment()) is not None:
        return given
    folder = _begin_kafka()
    ready = folder / "bootstrap"
    keepers.wait(folder, ready, "Kafka")
    return ready.read_text()


def _begin_kafka() -> Path:
    folder = Path(f"{os.environ[RUN_FOLDER]}-kafka")
    keepers.begin("kafka/keep_broker.py", folder)
    return folder


@pytest.fixture
async def database(server: dict[str, str]) -> AsyncIterator[str]:
    """The address of a fresh, migrated database of this test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(server["admin"])
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {server['template']}")
        try:
            yield server["dsn"].replace("DATABASE", name)
        finally:
            await drop_database(admin, name)
    finally:
        await admin.close()


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    """A pool on a fresh database, as the processes have it."""
    pool = await Database.connect(database, role="guilder_app", max_size=4, name="test")
    yield pool
    await pool.close()
