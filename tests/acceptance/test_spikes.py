"""A spike: far more payments than the acquirer takes. They are accepted, wait in the log, and every one ends right."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from payments_system import Answer, Shop, running_shop, wait

pytestmark = pytest.mark.slow

# The acquirer does 30 payments a second, and all of these come at once: more than it does within the time that anybody waits for
# one of its answers.
THROTTLED_MS = 33
PAYMENTS = 330


@pytest.fixture(scope="module", params=["postgres", "kafka"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system on the one log or the other."""
    variables = {"GUILDER_KAFKA_BOOTSTRAP": request.getfixturevalue("kafka"), "GUILDER_KAFKA_PREFIX": "spikes"} if request.param == "kafka" else {}
    with running_shop(tmp_path_factory.mktemp("shop"), **variables) as shop:
        shop.paid()
        yield shop


def test_a_spike_is_buffered_and_every_payment_of_it_ends_right(shop: Shop) -> None:
    """Nobody is turned away, the acquirer gets each payment once, and all are paid when the throttle is lifted."""
    shop.fault("throttled", operation="purchase", delay_ms=THROTTLED_MS)
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(shop.pay())) for _ in range(PAYMENTS)]
    for thread in threads:
        thread.start()
    wait(lambda: len(shop.rows("SELECT 1 FROM payment")) > PAYMENTS, "all are accepted")
    done = len(shop.rows("SELECT 1 FROM payment WHERE state = 'succeeded'"))
    assert done < PAYMENTS * 0.8, "the acquirer was throttled"
    for thread in threads:
        thread.join()
    assert Counter(answer.status for answer in answers) == {200: PAYMENTS}
    shop.no_faults()
    wait(lambda: not shop.rows("SELECT 1 FROM attempt_open WHERE state <> 'recheck'"), "nothing is open")
    states = Counter(row["state"] for row in shop.rows("SELECT state FROM payment"))
    assert states == {"succeeded": PAYMENTS + 1}
    assert not shop.rows("SELECT 1 FROM attempt WHERE state <> 'approved'"), "nothing was in doubt, reversed or begun anew"
    shop.audit()
