"""Processes that stand still (SIGSTOP) between any two of their statements, past their lease where they have one, and then go on.

Nothing leaves after a takeover, no lock outlives the pause, nothing is lost and nothing is done twice.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from payments_system import OPERATIONS, Doing, Shop, running_shop, wait
from whole_system import GUILDER, environment

pytestmark = pytest.mark.slow

# Where the executor stands still with operations in hand.
POINTS = ("claim.after", "send.before", "send.after", "answer", "outcome.before", "outcome.after")
# And between its statements: the claim, the reads and the outcomes of five operations, its beat and its housekeeping.
STATEMENTS = tuple(f"statement executor {number}" for number in range(1, 6))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system whose processes are paused one after the other."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@contextmanager
def second(shop: Shop, role: str) -> Iterator[None]:
    """One more process of a role, beside the system's own: `guilder run`."""
    running = shop.running()
    # The acquirer's port is the fourth after the first one.
    first = str(running["ports"]["network_iso"] - 4)
    process = subprocess.Popen(
        [GUILDER, "run", role, "--json", "--data", str(shop.data), "--port", first],
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


def lost_senders(shop: Shop, role: str = "executor") -> set[str]:
    """The senders that somebody has taken over from."""
    return {row["id"] for row in shop.rows("SELECT id FROM sender WHERE lost AND role = $1", role)}


@pytest.mark.parametrize("point", POINTS + STATEMENTS)
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
            with second(shop, "executor"):
                wait(lambda: lost_senders(shop) - lost, "another has taken over")
                answers = [one.result() for one in asked]
                # Those whose answer is "processing" as well: it may still be at work for them.
                for doing, answer in zip(doings, answers, strict=True):
                    shop.at_rest(doing.payment_of(answer))
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


def shopping(shop: Shop, customer: str) -> str:
    """What a first purchase asks of the roles: a card kept with its customer, a payment, and some of it back. Returns the payment."""
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2045, "cvc": "123"}
    method = shop.insist("POST", "/v1/payment_methods", {"type": "card", "card": card}).body["id"]
    shop.insist("POST", f"/v1/payment_methods/{method}/attach", {"customer": customer})
    payment = shop.paid(payment_method=method, customer=customer)["id"]
    assert shop.insist("POST", "/v1/refunds", {"payment_intent": payment, "amount": 300}).status == 200
    return payment


def came_out_right(shop: Shop, payment: str) -> None:
    """The payment was taken once and refunded once, and the bank says the same."""
    assert shop.at_rest(payment)["amount_received"] == 1000
    [charge] = shop.get(f"/v1/charges?payment_intent={payment}")["data"]
    assert (charge["captured"], charge["amount_refunded"]) == (True, 300)
    shop.audit(payment)


# The bank's statements are its syncs: an answer leaves after the second moment of each.
FEWEST = {"api": 10, "vault": 2, "network": 4}


@pytest.mark.parametrize("role", FEWEST)
def test_a_role_that_is_paused_between_any_two_statements_loses_nothing(shop: Shop, role: str) -> None:
    """At every one of them in turn, until one shopping has no more. Its open transaction ends without it, and harms nobody."""
    idle = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
    working = "SELECT 1 FROM attempt_open WHERE state = 'created'"
    pid = shop.pid(role)
    customer = shop.insist("POST", "/v1/customers", {"name": "Ada"}).body["id"]
    with ThreadPoolExecutor(1) as threads:
        for number in count(1):
            shop.crash_at(f"stop statement {role} {number}")
            asked = threads.submit(shopping, shop, customer)
            try:
                wait(lambda asked=asked: asked.done() or (shop.crashed() and stopped(pid)), "it stands still, or has no more statements")  # type: ignore[misc]
                if not shop.crashed():
                    break
                wait(lambda: not shop.rows(idle), "nobody holds a transaction open")
                if role == "api":
                    wait(lambda: not shop.rows(working), "the others have done their part")
            finally:
                shop.crash_file.unlink(missing_ok=True)
                os.kill(pid, signal.SIGCONT)
            came_out_right(shop, asked.result())
    assert number > FEWEST[role]


@pytest.mark.parametrize("number", [1, 4, 9])
def test_a_worker_that_is_paused_between_two_statements_does_nothing_twice(shop: Shop, number: int) -> None:
    """It stands still among the releases and expiries of a day; another does them, and then they are done."""
    paid = shop.paid(currency="usd", amount=10_000, expand=["latest_charge"])["latest_charge"]
    held = shop.paid(capture_method="manual")["id"]
    entry = f"/v1/balance_transactions/{paid['balance_transaction']}"
    lost = lost_senders(shop, "worker")
    with ThreadPoolExecutor(1) as threads:
        # Time moves while it is away, so that all of its jobs are due when it comes back.
        with shop.stopped("worker") as pid:
            before = moved(shop)
            advanced = threads.submit(shop.command, "clock", "advance", "8d")
            wait(lambda: moved(shop) != before, "time has moved")
            shop.crash_at(f"stop statement worker {number}")
        wait(lambda: shop.crashed() and stopped(pid), "the worker stands still")
        try:
            with second(shop, "worker"):
                wait(lambda: lost_senders(shop, "worker") - lost, "another has taken over")
                wait(lambda: shop.get(entry)["status"] == "available", "the money is released")
                wait(lambda: shop.get(f"/v1/payment_intents/{held}")["status"] == "canceled", "the authorization has expired")
                os.kill(pid, signal.SIGCONT)
                registered = "SELECT 1 FROM sender WHERE NOT lost AND role = 'worker'"
                wait(lambda: len(shop.rows(registered)) == 2, "the first goes on under a new name")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert advanced.result().returncode == 0
    pending = {one["currency"]: one["amount"] for one in shop.get("/v1/balance")["pending"]}
    assert pending.get("usd", 0) == 0
    shop.audit()


def moved(shop: Shop) -> str:
    """How far time has been moved."""
    file = shop.settings.clock_file
    return file.read_text() if file.exists() else ""
