"""The till by the official SDK, with an acquirer that is away, slow or silent, and SIGKILL of whoever works on the payment."""

import http.client
import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe
from payments_system import Shop, running_shop, wait
from sdk import client

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undisturbed")]

# What an account of the bank world is opened with, in cents.
OPENING = 10_000_000_000_000 * 100
# The till is answered within 8 seconds; the rest is a machine that does other things as well.
PATIENCE_SECONDS = 14.0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def reader(shop: Shop) -> str:
    """A simulated reader."""
    sdk = client(shop)
    address = {"line1": "Damrak 1", "city": "Amsterdam", "country": "NL", "postal_code": "1012"}
    location = sdk.v1.terminal.locations.create({"display_name": "Shop 1", "address": address})
    return sdk.v1.terminal.readers.create({"registration_code": "simulated-wpe", "label": "Till", "location": location.id}).id


class Buyer:
    """A buyer at the till with a card account of his own."""

    def __init__(self, shop: Shop, reader: str) -> None:
        self.shop = shop
        self.reader = reader
        self.key = secrets.token_hex(12)
        bin_ = f"42{secrets.randbelow(10**6):06d}"
        self.number = json.loads(shop.bank("POST", "/accounts", {"bin": bin_, "count": 1}))["numbers"][0]
        self.account = f"{bin_}-1"
        params = {"amount": 2500, "currency": "eur", "payment_method_types": ["card_present"]}
        self.payment = shop.insist("POST", "/v1/payment_intents", params).body["id"]
        began = shop.insist("POST", f"/v1/terminal/readers/{reader}/process_payment_intent", {"payment_intent": self.payment})
        assert began.status == 200, began.body

    def hold_card(self) -> dict[str, Any]:
        """The card is held to the reader, until there is a final answer under the one key."""
        params = {"type": "card_present", "card_present": {"number": self.number}}
        path = f"/v1/test_helpers/terminal/readers/{self.reader}/present_payment_method"
        answer = self.shop.insist("POST", path, params, key=self.key)
        assert answer.status == 200, answer.body
        action = answer.body["action"]
        assert isinstance(action, dict)
        return action

    def is_whole(self) -> bool:
        """Whether his account holds what it was opened with."""
        shown = json.loads(self.shop.bank("GET", f"/accounts?name={self.account}"))["accounts"][0]["balances"]
        return shown in ({}, {"eur": {"balance": OPENING, "held": 0}})

    def check(self, action: dict[str, Any]) -> dict[str, Any]:
        """In the end the reader, the payment, the books, the bank and the buyer's account say the same."""
        payment = self.shop.at_rest(self.payment)
        assert payment["status"] == {"succeeded": "succeeded", "failed": "requires_payment_method"}[action["status"]]
        self.shop.audit(self.payment)
        assert self.is_whole() == (action["status"] == "failed")
        assert self.hold_card() == action
        return payment


@pytest.fixture
def buyer(shop: Shop, reader: str) -> Iterator[Buyer]:
    """A buyer at the till, while the bank takes payments (it may have been killed a moment ago)."""
    wait(lambda: shop.pay().status == 200, "the bank takes payments")
    yield Buyer(shop, reader)
    if shop.get(f"/v1/terminal/readers/{reader}")["action"]["status"] == "in_progress":
        shop.insist("POST", f"/v1/terminal/readers/{reader}/cancel_action", {})


def test_the_sdk_takes_a_payment_at_the_till(shop: Shop) -> None:
    """Location, reader, payment, card: the official client, and each answer held against the published schemas."""
    sdk = client(shop)
    reader = sdk.v1.terminal.readers.create({"registration_code": "simulated-s700", "label": "Till 2"})
    payment = sdk.v1.payment_intents.create(
        {"amount": 999, "currency": "eur", "payment_method_types": ["card_present"], "capture_method": "manual"}
    )
    sdk.v1.terminal.readers.process_payment_intent(reader.id, {"payment_intent": payment.id})
    done = sdk.v1.test_helpers.terminal.readers.present_payment_method(reader.id)
    assert done.action.status == "succeeded"
    assert sdk.v1.payment_intents.capture(payment.id).status == "succeeded"
    charge = sdk.v1.charges.retrieve(sdk.v1.payment_intents.retrieve(payment.id).latest_charge)
    assert charge.payment_method_details.card_present.reader == reader.id
    assert sdk.v1.terminal.readers.delete(reader.id).deleted


def test_a_card_at_the_till_is_charged(buyer: Buyer) -> None:
    """At once."""
    assert buyer.check(buyer.hold_card())["status"] == "succeeded"


@pytest.mark.parametrize(("kind", "rule"), [
    ("lost_answer", {}), ("lost_request", {}), ("late_request", {"delay_ms": 9_000}), ("close", {}), ("malformed", {}),
    ("error", {"effect": True}),
])  # fmt: skip
def test_a_bank_that_does_not_answer_properly_is_asked_or_undone_in_time(shop: Shop, buyer: Buyer, kind: str, rule: dict[str, Any]) -> None:
    """The till hears within its time; what was not paid is undone, and the buyer's account is whole."""
    shop.fault(kind, operation="purchase", card=buyer.number, **rule)
    began = time.monotonic()
    action = buyer.hold_card()
    assert time.monotonic() - began < PATIENCE_SECONDS
    buyer.check(action)
    assert action["status"] == "failed" or kind in ("close", "malformed", "error", "late_request")


# The slow one is sent byte by byte, and keeps all else of its connection waiting.
@pytest.mark.parametrize(("kind", "delay_ms"), [("late_answer", 15_000), ("slow", 100)])
def test_an_answer_that_comes_when_the_till_has_been_told_changes_nothing(shop: Shop, buyer: Buyer, kind: str, delay_ms: int) -> None:
    """Told "not paid" and undone; the approval that comes then is taken back once more."""
    shop.fault(kind, operation="purchase", card=buyer.number, delay_ms=delay_ms)
    action = buyer.hold_card()
    assert (action["status"], action["failure_code"]) == ("failed", "processing_error")
    buyer.check(action)
    # It is an executor's work like any other: a death that a later test orders would meet it there.
    wait(lambda: shop.rows("SELECT 1 FROM attempt WHERE payment = $1 AND noted IS NOT NULL", buyer.payment), "the answer has come")
    buyer.check(action)


def test_a_reversal_is_repeated_until_it_is_acknowledged(shop: Shop, buyer: Buyer) -> None:
    """Its answers are lost three times; the executor dies in between; the account is whole in the end."""
    shop.fault("lost_answer", operation="purchase", card=buyer.number)
    shop.fault("lost_request", operation="reversal", count=1)
    shop.fault("lost_answer", operation="reversal", count=1)
    action = buyer.hold_card()
    assert (action["status"], action["failure_code"]) == ("failed", "processing_error")
    shop.kill("executor")
    buyer.check(action)


def test_an_acquirer_that_is_away_means_not_sent(shop: Shop, buyer: Buyer) -> None:
    """SIGKILL of the bank's process until the till is told; nothing has to be undone."""
    shop.kill("network")
    action = buyer.hold_card()
    buyer.check(action)


@pytest.mark.parametrize("role", ["network", "executor"])
def test_a_process_that_stands_still_is_not_waited_for(shop: Shop, buyer: Buyer, role: str) -> None:
    """SIGSTOP for longer than the till waits: told in time, undone or not sent, whole in the end."""
    with shop.stopped(role):
        began = time.monotonic()
        action = buyer.hold_card()
        assert time.monotonic() - began < PATIENCE_SECONDS
        assert action["status"] == "failed"
    buyer.check(action)


@pytest.mark.parametrize(
    "point",
    [
        "accept.before purchase", "accept.after purchase", "claim.after purchase", "send.before purchase", "send.after purchase",
        "answer purchase", "outcome.before approved", "outcome.after approved",
    ],
)  # fmt: skip
def test_whoever_dies_with_the_payment_in_hand(shop: Shop, buyer: Buyer, point: str) -> None:
    """API or executor: the same key ends in one truth, paid or undone."""
    shop.crash_at(point)
    action = buyer.hold_card()
    wait(shop.crashed, "the process has died")
    buyer.check(action)


@pytest.mark.parametrize("point", ["outcome.before reversing", "outcome.after reversing", "send.after reversal", "outcome.before undone"])
def test_whoever_dies_while_it_is_undone(shop: Shop, buyer: Buyer, point: str) -> None:
    """The API before and after it has committed the end of the wait; the executor in the reversal."""
    shop.fault("lost_answer", operation="purchase", card=buyer.number)
    shop.crash_at(point)
    action = buyer.hold_card()
    assert action["status"] == "failed"
    wait(shop.crashed, "the process has died")
    buyer.check(action)


@pytest.mark.parametrize("role", ["postgres", "api"])
def test_a_till_whose_answer_is_lost_repeats_with_the_same_key(shop: Shop, buyer: Buyer, role: str) -> None:
    """While the bank is silent: "not known yet" until it can be committed, then not paid, and undone."""
    shop.fault("lost_answer", operation="purchase", card=buyer.number)
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(buyer.hold_card)
        wait(lambda: shop.rows("SELECT 1 FROM attempt_open WHERE payment = $1 AND sender IS NOT NULL", buyer.payment), "it is sent")
        shop.kill(role)
        action = asked.result()
    assert action["status"] == "failed"
    buyer.check(action)


def test_a_till_whose_end_cannot_be_committed_is_told_not_known_yet(shop: Shop, buyer: Buyer) -> None:
    """The database dies while the bank is silent and stays away: 500, repeat with the same key; repeated, not paid and undone."""
    shop.fault("lost_answer", operation="purchase", card=buyer.number)
    path = f"/v1/test_helpers/terminal/readers/{buyer.reader}/present_payment_method"
    params = {"type": "card_present", "card_present": {"number": buyer.number}}
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(shop.request, "POST", path, params, key=buyer.key)
        wait(lambda: shop.rows("SELECT 1 FROM attempt_open WHERE payment = $1 AND sender IS NOT NULL", buyer.payment), "it is sent")
        with shop.stopped("supervisor"):
            # Nobody starts it again meanwhile.
            shop.kill("postgres")
            answer = asked.result()
    assert (answer.status, answer.body["error"]["type"]) == (500, "api_error")
    assert (answer.headers["stripe-should-retry"], answer.headers["idempotency-key"]) == ("true", buyer.key)
    assert "repeat it with the same idempotency key" in answer.body["error"]["message"]
    action = buyer.hold_card()
    assert action["status"] == "failed"
    buyer.check(action)


def test_a_till_that_never_asks_again_leaves_nothing_paid(shop: Shop, buyer: Buyer) -> None:
    """The API dies, the client goes away, the bank has paid: found when nobody waits any more, and taken back."""
    shop.fault("lost_answer", operation="purchase", card=buyer.number)
    path = f"/v1/test_helpers/terminal/readers/{buyer.reader}/present_payment_method"
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(shop.request, "POST", path, {"card_present": {"number": buyer.number}})
        wait(lambda: shop.rows("SELECT 1 FROM attempt_open WHERE payment = $1 AND sender IS NOT NULL", buyer.payment), "it is sent")
        shop.kill("api")
        with pytest.raises((OSError, http.client.HTTPException, json.JSONDecodeError, stripe.APIConnectionError)):
            asked.result()
    assert shop.at_rest(buyer.payment)["status"] == "requires_payment_method"
    shop.audit(buyer.payment)
    assert buyer.is_whole()
