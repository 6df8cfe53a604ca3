"""kill -9 of each role, of PostgreSQL and of the supervisor while operations are under way: nothing lost, nothing doubled."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import pytest
from payments_system import OPERATIONS, Doing, Shop, running_shop, wait

from guilder.core.crash import POINTS

pytestmark = pytest.mark.slow

UNDER_WAY = 20
# Points that no payment of these comes by: those of webhooks, orders and challenges have tests of their own.
ELSEWHERE = ("fan_out", "deliver.", "session.", "challenge.", "reopen.", "relay.", "offset.")
VICTIMS = ("api", "vault", "executor", "worker", "network", "postgres", "supervisor")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system, killed in part or whole again and again."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.mark.parametrize("victim", VICTIMS)
def test_twenty_operations_under_way_survive_the_death_of(shop: Shop, victim: str) -> None:
    """Each client repeats its request with its key until it is answered, and is answered once; truth = books."""
    doings = [Doing(shop, operation) for operation in islice(cycle(OPERATIONS), UNDER_WAY)]
    before = len(shop.truth())
    # Slow enough at the bank that the death finds some operations before, some in, and some after it.
    shop.fault("late_answer", delay_ms=500, probability=0.5, count=UNDER_WAY)
    with ThreadPoolExecutor(UNDER_WAY) as threads:
        asked = [threads.submit(doing.do) for doing in doings]
        wait(lambda: len(shop.truth()) >= before + UNDER_WAY // 4, "a quarter of them has reached the bank")
        shop.kill(victim)
        answers = [one.result() for one in asked]
    shop.no_faults()
    payments = [doing.check(answer, undone=None)["id"] for doing, answer in zip(doings, answers, strict=True)]
    assert len(set(payments)) == UNDER_WAY
    shop.audit()
    assert shop.paid()["status"] == "succeeded"


def test_an_executor_that_is_told_to_end_gives_back_what_it_had_not_sent(shop: Shop) -> None:
    """As at a deploy: the next one sends it. No buyer is told of a failure, nothing is in doubt, nobody asks the bank."""
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2045, "cvc": "123"}
    methods = [shop.insist("POST", "/v1/payment_methods", {"type": "card", "card": card}).body["id"] for _ in range(4)]
    in_doubt = "SELECT 1 FROM event WHERE type = 'payment_intent.processing'"
    before = len(shop.rows(in_doubt))
    with ThreadPoolExecutor(len(methods)) as threads:
        # No card is revealed, so nothing leaves.
        with shop.stopped("vault"):
            asked = [threads.submit(shop.pay, payment_method=method) for method in methods]
            wait(lambda: len(shop.rows("SELECT 1 FROM attempt_open WHERE sender IS NOT NULL")) == len(methods), "all are claimed")
            ended = shop.pid("executor")
            os.kill(ended, signal.SIGTERM)
            wait(lambda: shop.pid("executor") != ended, "another executor runs")
        assert [one.result().body["status"] for one in asked] == ["succeeded"] * len(methods)
    assert len(shop.rows(in_doubt)) == before
    shop.audit()


@pytest.mark.parametrize("point", sorted(point for point in POINTS if not point.startswith(ELSEWHERE)))
def test_the_supervisor_dies_with_everything_while_somebody_is_at(shop: Shop, point: str) -> None:
    """One process stands at the recovery point, the others wherever they are; all end at once, and the next start goes on."""
    doings = [Doing(shop, operation) for operation in OPERATIONS]
    with ThreadPoolExecutor(len(doings)) as threads:
        shop.crash_at(f"stop {point}")
        asked = [threads.submit(doing.do) for doing in doings]
        wait(shop.crashed, f"somebody stands at {point}")
        shop.kill("supervisor")
        answers = [one.result() for one in asked]
    for doing, answer in zip(doings, answers, strict=True):
        doing.check(answer, undone=None)
    shop.audit()
