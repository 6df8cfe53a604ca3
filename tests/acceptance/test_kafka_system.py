"""A whole system whose consumers read through Kafka: every death on the way, Kafka itself away, empty, and left behind under load."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from payments_system import Doing, Shop, running_shop, wait

from kafka.brokers import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.needs("kafka of its own")]

# Entries that may be behind before nothing more is accepted: as few as may be set.
OUTBOX_MAX = 1_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One broker, which these tests may stop and empty."""
    cluster = Cluster(tmp_path_factory.mktemp("kafka") / "cluster")
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Shop]:
    """One running system on it, with a receiver that never answers: each event is to be one delivery."""
    with running_shop(
        tmp_path_factory.mktemp("shop"), GUILDER_KAFKA_BOOTSTRAP=cluster.bootstrap, GUILDER_OUTBOX_MAX=str(OUTBOX_MAX),
    ) as shop:  # fmt: skip
        shop.insist("POST", "/v1/webhook_endpoints", {"url": "http://127.0.0.1:9/none", "enabled_events": ["*"]})
        for _ in range(3):
            shop.paid()
        yield shop


@pytest.fixture(autouse=True)
def _each_event_is_one_delivery(shop: Shop) -> Iterator[None]:
    """Whatever happened: in the end consumers have applied everything, and nobody is told of an event twice."""
    yield
    wait(lambda: not behind(shop), "everything is applied")
    events = shop.rows("SELECT count(*) AS n FROM event WHERE created_at >= (SELECT min(created_at) FROM webhook_endpoint)")
    deliveries = shop.rows("SELECT count(*) AS n, count(DISTINCT (endpoint, event)) AS distinct FROM webhook_delivery")[0]
    assert deliveries["n"] == deliveries["distinct"] == events[0]["n"]


def behind(shop: Shop, *, relay: bool = False) -> int:
    """Entries that consumers have not applied, or the relay has not published."""
    return shop.rows(
        "SELECT coalesce(sum(h.head - c.applied_to), 0)::int AS n FROM log_consumer c JOIN log_head h "
        "ON h.topic = c.topic AND h.partition = c.partition WHERE c.awaited <> $1", relay,
    )[0]["n"]  # fmt: skip


def status(shop: Shop) -> dict:
    """What `guilder log status` says."""
    done = shop.command("log", "status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "point", ["relay.publish", "relay.acknowledged", "offset.commit", "claim.before", "claim.after purchase", "outcome.after approved"],
)
def test_a_death_anywhere_on_the_way_through_kafka_loses_and_doubles_nothing(shop: Shop, point: str) -> None:
    """Published and not stored, applied and not committed, claimed and not sent: whoever replaces it goes on by the positions.

    One payment need not bring a death: what its process reads from the outbox leaves no offset to commit.
    """
    doing = Doing(shop, "purchase")
    shop.crash_at(point)
    answer = doing.do()
    wait(lambda: shop.crashed() or not shop.paid(), "the process is dead")
    doing.check(answer, undone=None)
    assert shop.paid()["status"] == "succeeded"


@contextmanager
def paying(shop: Shop) -> Iterator[list[str]]:
    """Payments all the time inside the block; in the end each of them is paid."""
    ids: list[str] = []
    problems: list[BaseException] = []
    ended = threading.Event()

    def pay() -> None:
        try:
            while not ended.is_set():
                ids.append(shop.paid()["id"])
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=pay) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield ids
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not problems
    assert len(set(ids)) == len(ids)


def test_payments_go_on_while_kafka_is_down_and_it_has_everything_when_it_is_back(shop: Shop, cluster: Cluster) -> None:
    """The outbox is read meanwhile; the relay publishes what is missing."""
    with paying(shop) as ids:
        wait(lambda: len(ids) > 4, "payments are made")
        cluster.brokers[0].kill()
        without = len(ids)
        wait(lambda: len(ids) > without + 12, "payments are made without Kafka")
        cluster.start()
        again = len(ids)
        wait(lambda: len(ids) > again + 4, "payments are made with Kafka")
    wait(lambda: not behind(shop, relay=True), "Kafka has everything")


def test_a_relay_that_stands_still_and_goes_on_is_only_late(shop: Shop) -> None:
    """Its partitions are read from the outbox; what it publishes afterwards is known already."""
    with paying(shop) as ids:
        with shop.stopped("relay"):
            wait(lambda: len(ids) > 8, "payments are made without it")
        late = len(ids)
        wait(lambda: len(ids) > late + 4, "payments are made with it")


def test_consumers_move_to_postgres_and_back_under_load(shop: Shop) -> None:
    """Positions stay the same, so nothing is handled twice."""
    with paying(shop) as ids:
        for target in ("postgres", "kafka"):
            done = shop.command("log", "move", "--to", target)
            assert done.returncode == 0, done.stderr
            assert {log for one in status(shop)["consumers"] if not one["is_relay"] for log in one["logs"]} == {target}
            moved = len(ids)
            wait(lambda: len(ids) > moved + 8, "payments are made")


def test_a_cluster_that_has_lost_everything_is_rebuilt_under_load(shop: Shop, cluster: Cluster) -> None:
    """`guilder log rebuild` has all that the outbox keeps published again."""
    with paying(shop) as ids:
        cluster.lose_everything()
        cluster.start()
        empty = len(ids)
        wait(lambda: len(ids) > empty + 4, "payments are made")
        done = shop.command("log", "rebuild", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["entries_to_publish"] > 2 * empty, "each payment has an entry in both topics"
    wait(lambda: not behind(shop, relay=True), "Kafka has everything")
    said = status(shop)
    assert "1 of 1 partitions are led" in said["kafka"]
    assert shop.paid()["status"] == "succeeded"


def test_past_the_bound_nothing_is_accepted_until_the_consumers_have_caught_up(shop: Shop) -> None:
    """503 with Retry-After, and no money moves; what was accepted before keeps its answer."""
    first = Doing(shop, "purchase")
    answer = first.do()
    with shop.stopped("worker"):
        refused = fill(shop)
        assert int(refused.headers["retry-after"]) > 0
        taken = len(shop.truth())
        for _ in range(3):
            assert pay_once(shop).status == 503
        assert len(shop.truth()) == taken
        again = shop.request("POST", first.path, first.params, key=first.key)
        assert (again.status, again.raw) == (answer.status, answer.raw)
        assert shop.request("GET", f"/v1/payment_intents/{first.payment_of(answer)}").status == 200
    assert wait(lambda: pay_once(shop).status == 200, "there is room again")


def pay_once(shop: Shop):
    """One request for a payment, never repeated."""
    return shop.request("POST", "/v1/payment_intents", {"amount": 1000, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True})


def fill(shop: Shop):
    """Pay until nothing is accepted any more; returns the first refusal."""
    found = []

    def pay() -> None:
        while not found:
            if (answer := pay_once(shop)).status == 503:
                found.append(answer)

    threads = [threading.Thread(target=pay) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found[0]


def test_a_broker_that_hangs_holds_up_nobody(shop: Shop, cluster: Cluster) -> None:
    """It takes bytes and answers nothing: the first payment waits two seconds, the others not at all."""
    process = cluster.brokers[0].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        assert [shop.paid()["status"] for _ in range(6)] == ["succeeded"] * 6
    finally:
        process.send_signal(signal.SIGCONT)
    wait(lambda: not behind(shop, relay=True), "Kafka has everything")
