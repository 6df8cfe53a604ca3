"""A PSP that is away for a while: it is not hammered, nobody is charged twice, and buyers who tried meanwhile pay at once afterwards."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from payments_system import Answer, Shop, running_shop, wait

pytestmark = pytest.mark.slow

# A breaker opens by the timeouts of some; the default of 8 s would be most of the test.
FILE = """
[connectors.cardnet.timeouts]
read_seconds = 0.5
[connectors.cardnet.breaker]
failures_min = 5
cool_down_seconds = 0.5
"""
WAVES, EACH = 12, 25
# A first send and its resends, for each payment; questions and reversals are not counted.
CALLS_MAX = 1.1


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A running system with short timeouts."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "data").mkdir()
    (folder / "data" / "guilder.toml").write_text(FILE)
    with running_shop(folder) as shop:
        yield shop


def crowd(shop: Shop, saved: str) -> list[Answer]:
    """So many payments at once, with a card that is kept."""
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(shop.pay(payment_method=saved))) for _ in range(EACH)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def kept(shop: Shop) -> dict[str, Any]:
    """A card without a CVC, which may be used again and again."""
    card = {"type": "card", "card": {"number": "4242424242424242", "exp_month": 12, "exp_year": 2034}}
    return shop.insist("POST", "/v1/payment_methods", card).body


def test_an_outage_costs_the_psp_no_calls_and_the_next_buyer_nothing(shop: Shop) -> None:
    """At most 1.1 calls for each payment; what was in doubt is settled; the same card pays as soon as the PSP answers."""
    saved = kept(shop)["id"]
    shop.count_received()
    before = len(shop.rows("SELECT 1 FROM payment"))
    with shop.stopped("network"):
        answers = [answer for _ in range(WAVES) for answer in crowd(shop, saved)]
    assert {answer.status for answer in answers} <= {200, 402}, "each is accepted, whatever becomes of it"
    refusals = Counter(answer.body["error"]["code"] for answer in answers if answer.status == 402)
    assert set(refusals) == {"processing_error"}, "nobody is told that a card was declined"
    shop.paid(payment_method=saved)
    wait(lambda: not shop.rows("SELECT 1 FROM attempt_open WHERE state <> 'recheck'"), "nothing is open")
    made = len(shop.rows("SELECT 1 FROM payment")) - before
    assert made > WAVES * EACH
    assert shop.received()["purchase"] <= CALLS_MAX * made
    shop.audit()
