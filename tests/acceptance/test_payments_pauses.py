"""Processes that stand still past their lease (SIGSTOP) and then go on: nothing leaves after a takeover, nothing is lost."""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from payments_system import OPERATIONS, Doing, Shop, running_shop, wait
from whole_system import GUILDER, environment

pytestmark = pytest.mark.slow

# Where the executor stands still with operations in hand.
POINTS = ("claim.after", "send.before", "send.after", "answer", "outcome.before", "outcome.after")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system whose processes are paused one after the other."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@contextmanager
def second_executor(shop: Shop) -> Iterator[None]:
    """One more executor, beside the system's own: `guilder run executor`."""
    running = shop.running()
    # The acquirer's port is the fourth after the first one.
    first = str(running["ports"]["network_iso"] - 4)
    process = subprocess.Popen(
        [GUILDER, "run", "executor", "--json", "--data", str(shop.data), "--port", first],
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | {"GUILDER_DATABASE_URL": running["database_url"]},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.communicate(timeout=15)


def stopped(pid: int) -> bool:
    """Whether the process stands still."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def lost_senders(shop: Shop) -> set[str]:
    """The senders that somebody has taken over from."""
    return {row["id"] for row in shop.rows("SELECT id FROM sender WHERE lost AND role = 'executor'")}


@pytest.mark.parametrize("point", POINTS)
def test_an_executor_that_was_paused_past_its_lease_sends_nothing_more(shop: Shop, point: str) -> None:
    """Another executor has taken over meanwhile, asked and finished; the first goes on under a new name."""
    doings = [Doing(shop, operation) for operation in OPERATIONS]
    lost = lost_senders(shop)
    shop.count_received()
    with ThreadPoolExecutor(len(doings)) as threads:
        # All of them are accepted while the executor is away, so that it claims them together.
        with shop.stopped("executor") as pid:
            asked = [threads.submit(doing.do) for doing in doings]
            wait(lambda: len(shop.rows("SELECT 1 FROM attempt_open WHERE state = 'created'")) == len(doings), "all are accepted")
            shop.crash_at(f"stop {point}")
        wait(lambda: shop.crashed() and stopped(pid), f"the executor stands still at {point}")
        try:
            with second_executor(shop):
                wait(lambda: lost_senders(shop) > lost, "another has taken over")
                answers = [one.result() for one in asked]
                received = shop.received()
                os.kill(pid, signal.SIGCONT)
                registered = "SELECT 1 FROM sender WHERE NOT lost AND role = 'executor'"
                wait(lambda: len(shop.rows(registered)) == 2, "the first goes on under a new name")
                assert shop.received() == received, "a request after the takeover"
        finally:
            os.kill(pid, signal.SIGCONT)
    for doing, answer in zip(doings, answers, strict=True):
        doing.check(answer, undone=None)
    assert shop.paid()["status"] == "succeeded"


@pytest.mark.parametrize("role", ["api", "vault", "network", "worker"])
def test_any_other_role_that_was_paused_goes_on_as_if_nothing_had_been(shop: Shop, role: str) -> None:
    """Past every lease and past the idle limit of an open transaction; what waited is answered, and the books are right."""
    doings = [Doing(shop, operation) for operation in OPERATIONS]
    lost = len(shop.rows("SELECT 1 FROM sender WHERE lost"))
    four_seconds_on = beats(shop) + 4
    with ThreadPoolExecutor(len(doings)) as threads:
        with shop.stopped(role):
            asked = [threads.submit(doing.do) for doing in doings]
            if role == "worker":
                wait(lambda: len(shop.rows("SELECT 1 FROM sender WHERE lost")) > lost, "the executor has taken over from it")
            else:
                wait(lambda: beats(shop) > four_seconds_on, "four seconds have passed")
        answers = [one.result() for one in asked]
    for doing, answer in zip(doings, answers, strict=True):
        # A vault that stands still reveals no card, so a new payment is not sent.
        doing.check(answer, undone=None if role == "vault" else False)
    assert shop.paid()["status"] == "succeeded"


def beats(shop: Shop) -> int:
    """How often the sender that beats longest has beaten: a clock of whole seconds."""
    return int(shop.rows("SELECT max(beat) AS beat FROM sender WHERE NOT lost")[0]["beat"])
