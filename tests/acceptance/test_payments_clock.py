"""`guilder clock advance` while payments are under way: time moves for everybody at once, and nothing is lost or done twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import pytest
from payments_system import OPERATIONS, Doing, Shop, running_shop, wait

pytestmark = pytest.mark.slow

UNDER_WAY = 20


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A system of the test's own: its time is nobody else's."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


def advance(shop: Shop, how_far: str) -> None:
    """Move the clock; returns when every process has confirmed it."""
    done = shop.command("clock", "advance", how_far)
    assert done.returncode == 0, done.stderr


def test_operations_under_way_are_done_once_when_the_clock_jumps(shop: Shop) -> None:
    """Past every retry time, `execute_by` and the authorization's week: each ends, is answered once, and truth = books."""
    shop.paid()
    # The card's first use of this day is behind us; these take a while at the bank, and time jumps meanwhile.
    doings = [Doing(shop, operation) for operation in islice(cycle(OPERATIONS), UNDER_WAY)]
    shop.fault("late_answer", delay_ms=1_500, probability=0.6)
    with ThreadPoolExecutor(UNDER_WAY) as threads:
        asked = [threads.submit(doing.do) for doing in doings]
        wait(lambda: len(shop.rows("SELECT 1 FROM attempt_open")) > UNDER_WAY // 2, "half of them are under way")
        for how_far in ("2m", "1h", "3d"):
            advance(shop, how_far)
        answers = [one.result() for one in asked]
    shop.no_faults()
    for doing, answer in zip(doings, answers, strict=True):
        doing.check(answer, undone=None)


def test_what_was_in_doubt_and_what_was_undone_is_asked_about_when_its_time_has_come(shop: Shop) -> None:
    """A lost request is reversed; a minute, a quarter of an hour and a day later the bank is asked again, and nothing comes of it."""
    doing = Doing(shop, "purchase")
    shop.fault("close", operation="purchase", count=1, effect=False)
    payment = doing.check(doing.do(), undone=True)["id"]
    for how_far in ("2m", "20m", "25h"):
        shop.count_received()
        shop.fault("lost_answer", operation="query", probability=0)
        advance(shop, how_far)
        wait(lambda: shop.received()["query"] == 1, "the bank is asked again")
    wait(lambda: not shop.rows("SELECT 1 FROM attempt_open WHERE payment = $1", payment), "nobody asks any more")
    shop.audit(payment)


def test_an_approval_that_the_bank_gives_after_the_reversal_window_is_found_and_undone(shop: Shop) -> None:
    """The request was under way for a day and a half: the bank has forgotten the reversal and does it. Its late answer tells."""
    doing = Doing(shop, "purchase", amount=4_300)
    shop.fault("late_request", operation="purchase", amount=4_300, count=1, delay_ms=24_000)
    payment = doing.check(doing.do(), undone=True)["id"]
    [attempt] = shop.rows("SELECT id, reference FROM attempt WHERE payment = $1", payment)
    advance(shop, "25h")
    wait(lambda: [one for one in shop.truth() if one["reference"] == attempt["reference"]], "the request arrives after all")
    # Its answer came late, too; what was found is reversed, and asked about for the rest of the schedule.
    asked = "SELECT 1 FROM attempt_open WHERE payment = $1 AND state = 'recheck' AND sender IS NULL AND tries = $2"
    for answers in (1, 2):
        wait(lambda answers=answers: shop.rows(asked, payment, answers), "the bank has been asked, and what it has is reversed")
        advance(shop, "25h")
    wait(lambda: not shop.rows("SELECT 1 FROM attempt_open WHERE payment = $1", payment), "it is undone, and nobody asks any more")
    assert shop.get(f"/v1/payment_intents/{payment}")["status"] == "requires_payment_method"
    shop.audit(payment)


def test_an_authorization_that_nobody_captures_expires(shop: Shop) -> None:
    """After its week it is voided at the bank first, and then canceled with the reason; a capture comes too late."""
    held = shop.paid(capture_method="manual")["id"]
    advance(shop, "6d")
    assert shop.get(f"/v1/payment_intents/{held}")["status"] == "requires_capture"
    advance(shop, "2d")
    wait(lambda: shop.get(f"/v1/payment_intents/{held}")["status"] == "canceled", "it has expired")
    gone = shop.get(f"/v1/payment_intents/{held}")
    assert (gone["cancellation_reason"], gone["amount_capturable"]) == ("expired", 0)
    assert shop.request("POST", f"/v1/payment_intents/{held}/capture").status == 400
    events = {event["type"] for event in shop.get("/v1/events?limit=100")["data"]}
    assert {"charge.expired", "payment_intent.canceled"} <= events
    shop.audit(held)


def test_money_becomes_available_after_two_days_and_waiting_refunds_get_theirs(shop: Shop) -> None:
    """Pending moves to available, to the cent, and the balance transaction says so."""
    paid = shop.paid(amount=10_000, currency="usd", expand=["latest_charge"])
    entry = paid["latest_charge"]["balance_transaction"]
    assert shop.get(f"/v1/balance_transactions/{entry}")["status"] == "pending"
    pending = {one["currency"]: one["amount"] for one in shop.get("/v1/balance")["pending"]}
    assert pending["usd"] == 9_850
    advance(shop, "3d")
    wait(lambda: shop.get(f"/v1/balance_transactions/{entry}")["status"] == "available", "the money is released")
    balance = shop.get("/v1/balance")
    assert {one["currency"]: one["amount"] for one in balance["available"]}["usd"] == 9_850
    assert {one["currency"]: one["amount"] for one in balance["pending"]}.get("usd", 0) == 0
    back = shop.insist("POST", "/v1/refunds", {"payment_intent": paid["id"]}).body
    assert back["status"] == "succeeded"
    shop.audit()


def test_a_card_is_paid_with_without_its_cvc_a_quarter_of_an_hour_after_it_was_entered(shop: Shop) -> None:
    """The vault has dropped it; nobody is asked for it again, because it was not to go with the payment any more."""
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2045, "cvc": "123"}
    fresh, old = (shop.insist("POST", "/v1/payment_methods", {"type": "card", "card": card}).body["id"] for _ in range(2))
    first = shop.paid(payment_method=fresh, expand=["latest_charge"])["latest_charge"]
    advance(shop, "16m")
    later = shop.paid(payment_method=old, expand=["latest_charge"])["latest_charge"]
    checks = [one["payment_method_details"]["card"]["checks"]["cvc_check"] for one in (first, later)]
    assert checks[0] == "pass"
    assert checks[1] != "pass"
