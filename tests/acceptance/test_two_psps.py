"""Two PSPs on a running system: payments on both, buyers at the PSP's page, deaths in between; in the end both truths are the books."""

import http.client
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from payments_system import Doing, Shop, running_shop, wait

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undisturbed")]

RULES = """
[[rule]]
name = "large amounts"
amount_min = 2000
own_page = false
connectors = { webpsp = 1 }

[[rule]]
name = "half of the Swiss francs"
currencies = ["chf"]
own_page = false
connectors = { cardnet = 1, webpsp = 1 }
"""
# What the rule above sends to the web PSP.
LARGE = 3000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system; at its end nothing is open, and truth and books of both PSPs agree."""
    folder = tmp_path_factory.mktemp("two")
    rules = folder / "routes.toml"
    rules.write_text(RULES)
    with running_shop(folder, GUILDER_ROUTES=str(rules)) as shop:
        yield shop


def explained(shop: Shop, id_: str) -> list[str]:
    """What `guilder route explain` says of each attempt of a payment."""
    answered = shop.command("route", "explain", id_, "--json")
    assert answered.returncode == 0, answered.stderr
    return [attempt["what"] for attempt in json.loads(answered.stdout)["attempts"]]


def test_payments_go_where_the_rules_say_and_tell_why(shop: Shop) -> None:
    """What follows a payment goes where the payment went."""
    small, large = shop.paid(amount=1000), shop.paid(amount=LARGE)
    shop.insist("POST", "/v1/refunds", {"payment_intent": large["id"], "amount": 500})
    assert explained(shop, small["id"]) == ["purchase of 10.00 EUR accepted for cardnet, because the first of 2 test connectors for visa in eur"]
    [purchase, refund] = explained(shop, large["id"])
    assert purchase == 'purchase of 30.00 EUR accepted for webpsp, because rule "large amounts"'
    assert refund.startswith("refund of 5.00 EUR accepted for webpsp, because where at_")


def test_by_weight_each_payment_has_its_connector(shop: Shop) -> None:
    """Of a dozen not all go one way, and each says so."""
    payments = [shop.paid(amount=1000, currency="chf")["id"] for _ in range(12)]
    rows = shop.rows("SELECT facts FROM attempt WHERE payment = ANY ($1)", payments)
    chosen = [b"webpsp" in row["facts"] for row in rows]
    assert len(chosen) == 12
    assert 0 < sum(chosen) < 12
    assert all(b"half of the Swiss francs" in row["facts"] for row in rows)


@pytest.mark.parametrize("point", ["claim.after", "send.before", "send.after", "answer", "outcome.before approved", "outcome.after approved"])
@pytest.mark.parametrize("operation", ["purchase", "capture", "refund"])
def test_the_executor_dies_with_an_operation_at_the_web_psp(shop: Shop, operation: str, point: str) -> None:
    """The same recovery as at any connector with keys, queries and voids."""
    doing = Doing(shop, operation, amount=LARGE)
    shop.crash_at(point if "outcome" in point else f"{point} {operation}")
    doing.check(doing.do(), undone=operation == "purchase" and point in ("claim.after", "send.before"))


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("fault", ["error_page", "close", "error"])
def test_an_answer_of_the_web_psp_that_says_nothing_is_asked_about(shop: Shop, fault: str, effect: bool) -> None:
    """Done or not: asking tells, and what was not found is reversed."""
    doing = Doing(shop, "purchase", amount=LARGE)
    shop.fault(fault, face="web", operation="purchase", count=1, effect=effect)
    doing.check(doing.do(), undone=not effect)


def test_the_bank_world_dies_with_requests_of_both_psps_in_hand(shop: Shop) -> None:
    """What anybody has heard of is there when it is back."""
    shop.fault("late_answer", operation="purchase", delay_ms=3_000)
    doing = [Doing(shop, "purchase", amount=amount) for amount in (1000, LARGE)]
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(one.do) for one in doing]
        wait(lambda: len(shop.rows(_UNDER_WAY)) >= 2, "both are under way")
        shop.kill("network")
        for one, answer in zip(doing, asked, strict=True):
            one.check(answer.result(), undone=None)


_UNDER_WAY = "SELECT 1 FROM attempt_open WHERE sender IS NOT NULL AND state = 'created'"

# --- the PSP's own page -----------------------------------------------------------------------------------------------


class Buyer:
    """A payment at the PSP's page, and the buyer who is to pay there."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.key = secrets.token_hex(12)
        self.params = {
            "amount": 1234, "currency": "eur", "confirm": True, "payment_method_types": ["psp_page"],
            "payment_method_data": {"type": "psp_page"},
        }  # fmt: skip

    def order(self) -> str:
        """The shop orders the page, whatever dies meanwhile; the payment's id, once it is open."""
        answer = self.shop.insist("POST", "/v1/payment_intents", self.params, key=self.key)
        assert answer.status == 200, answer.body
        self.id = answer.body["id"]
        self.way = wait(self._address, "the page is open")
        return self.id

    def _address(self) -> str | None:
        action = self.shop.get(f"/v1/payment_intents/{self.id}")["next_action"]
        return action and action["redirect_to_url"]["url"]

    def pay(self) -> str:
        """Go to the page and pay; where the PSP sends him back to."""
        _, page = browse(self.way)
        _, back = wait(lambda: paid(page), "the PSP takes the card")
        return back

    def come_back(self, back: str) -> None:
        """Follow the PSP's redirect."""
        wait(lambda: browse(back)[0] == 200, "the checkout answers")


def browse(url: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and redirect of a page; 0 when nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=30)
    try:
        connection.request("POST" if form else "GET", parts.path, urlencode(form) if form else None)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Location") or ""
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def paid(page: str) -> tuple[int, str] | None:
    """The card is entered; None while nobody answers."""
    answered = browse(page, {"number": "4242424242424242", "expiry": "12/40", "cvc": "123", "answer": "pay"})
    return answered if answered[0] else None


def check(shop: Shop, id_: str, status: str) -> None:
    """The payment ends so, and its PSP agrees."""
    payment: dict[str, Any] = shop.at_rest(id_)
    assert payment["status"] == status, payment
    shop.audit(id_)


@pytest.mark.parametrize("point", [
    "accept.after purchase", "claim.after purchase", "send.after purchase", "answer purchase", "outcome.before awaiting_buyer",
    "outcome.after awaiting_buyer",
])  # fmt: skip
def test_a_process_dies_while_the_page_is_opened(shop: Shop, point: str) -> None:
    """The shop gets the address all the same; the buyer pays, once."""
    buyer = Buyer(shop)
    shop.crash_at(point)
    id_ = buyer.order()
    buyer.come_back(buyer.pay())
    check(shop, id_, "succeeded")


@pytest.mark.parametrize("point", ["send.before query", "send.after query", "answer query", "outcome.before approved", "outcome.after approved"])
def test_the_executor_dies_while_the_buyer_comes_back(shop: Shop, point: str) -> None:
    """The question is asked again; what he has paid is booked once."""
    shop.fault("notice_lost")
    buyer = Buyer(shop)
    id_ = buyer.order()
    back = buyer.pay()
    shop.crash_at(point)
    buyer.come_back(back)
    check(shop, id_, "succeeded")


def test_executor_and_psp_die_while_the_buyer_is_at_the_page(shop: Shop) -> None:
    """Neither forgets that he is there."""
    buyer = Buyer(shop)
    id_ = buyer.order()
    _, page = browse(buyer.way)
    shop.kill("network")
    shop.kill("executor")
    _, back = wait(lambda: paid(page), "the PSP is back")
    shop.kill("network")
    buyer.come_back(back)
    check(shop, id_, "succeeded")


@pytest.mark.parametrize("point", ["send.before reversal", "send.after reversal", "answer reversal", "outcome.before undone"])
def test_the_executor_dies_while_a_paid_page_is_undone(shop: Shop, point: str) -> None:
    """The merchant canceled before anybody knew that the buyer had paid."""
    shop.fault("notice_lost")
    buyer = Buyer(shop)
    id_ = buyer.order()
    buyer.pay()
    shop.crash_at(point)
    canceled = shop.insist("POST", f"/v1/payment_intents/{id_}/cancel")
    assert canceled.body["status"] == "canceled", canceled.body
    check(shop, id_, "canceled")


def test_a_forged_notification_is_refused(shop: Shop) -> None:
    """It is not the PSP's, and moves nothing."""
    buyer = Buyer(shop)
    id_ = buyer.order()
    document = {"id": "evt_forged", "reference": "AAAAAAAAAAAA", "status": "approved"}
    forged = shop.request("POST", "/psp/webpsp", document, **{"Webpsp-Signature": "t=1,v1=00"})
    assert (forged.status, forged.body["error"]["code"]) == (400, "notification_refused")
    assert shop.rows("SELECT 1 FROM psp_notification WHERE id = 'evt_forged'") == []
    buyer.come_back(buyer.pay())
    check(shop, id_, "succeeded")


def test_rules_that_cannot_be_right_stop_the_start_with_their_name(tmp_path: Path) -> None:
    """Before anything listens."""
    rules = tmp_path / "routes.toml"
    rules.write_text('[[rule]]\nname = "mine"\nconnectors = { paypal = 1 }\n')
    shop = Shop(tmp_path, GUILDER_ROUTES=str(rules))
    refused = shop.command("up", "--port", "0")
    assert refused.returncode != 0
    assert "routing rule \"mine\": there is no connector 'paypal'; there are cardnet, webpsp" in refused.stdout + refused.stderr
