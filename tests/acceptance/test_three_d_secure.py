"""3-D Secure by the official SDK and a browser without cookies or script, and SIGKILL of every process on the way."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe
from buyer import at_bank, browse, come_back, redirect_status
from payments_system import Shop, running_shop, wait
from sdk import client

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undisturbed")]

SHOP = "https://shop.example/done"
PAY = {"amount": 2000, "currency": "eur", "confirm": True, "expand": ["latest_charge"]}
CHALLENGED = {
    "threeDSecure2Required": "4000000000003220",
    "authenticationRequired": "4000002760003184",
    "authenticationRequiredOnSetup": "4000002500003155",
    "authenticationRequiredSetupForOffSession": "4000003800000446",
}
DECLINED = {
    "threeDSecureRequiredChargeDeclined": ("4000008400001629", "generic_decline"),
    "authenticationRequiredChargeDeclinedInsufficientFunds": ("4000008260003178", "insufficient_funds"),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def sdk(shop: Shop) -> stripe.StripeClient:
    """A client with the merchant's secret key."""
    return client(shop)


def typed(number: str) -> dict[str, Any]:
    """The card as it is typed in."""
    return {"payment_method_data": {"type": "card", "card": {"number": number, "exp_month": 12, "exp_year": 2040, "cvc": "123"}}}


@pytest.mark.parametrize("name", CHALLENGED)
def test_a_card_that_wants_a_challenge_pays_after_it(sdk: stripe.StripeClient, name: str) -> None:
    """By token and by number; with the proof on the charge."""
    for way in ({"payment_method": f"pm_card_{name}"}, typed(CHALLENGED[name])):
        asked = sdk.v1.payment_intents.create({**PAY, **way, "return_url": SHOP})
        assert (asked.status, asked.next_action.type) == ("requires_action", "redirect_to_url")
        end = come_back(at_bank(asked.next_action.redirect_to_url.url))
        assert redirect_status(end) == "succeeded"
        paid = sdk.v1.payment_intents.retrieve(asked.id, {"expand": ["latest_charge"]})
        assert paid.status == "succeeded"
        assert paid.latest_charge.payment_method_details.card.three_d_secure.authentication_flow == "challenge"


@pytest.mark.parametrize("name", DECLINED)
def test_a_card_that_is_declined_after_its_challenge_says_why(sdk: stripe.StripeClient, name: str) -> None:
    """The failed charge shows that the buyer was authenticated."""
    number, code = DECLINED[name]
    for way in ({"payment_method": f"pm_card_{name}"}, typed(number)):
        asked = sdk.v1.payment_intents.create({**PAY, **way, "return_url": SHOP})
        assert redirect_status(come_back(at_bank(asked.next_action.redirect_to_url.url))) == "failed"
        failed = sdk.v1.payment_intents.retrieve(asked.id)
        assert (failed.status, failed.last_payment_error.decline_code) == ("requires_payment_method", code)


def test_a_buyer_who_refuses_at_his_bank_is_not_charged(sdk: stripe.StripeClient) -> None:
    """And may take another card."""
    asked = sdk.v1.payment_intents.create({**PAY, "payment_method": "pm_card_threeDSecure2Required", "return_url": SHOP})
    assert redirect_status(come_back(at_bank(asked.next_action.redirect_to_url.url, "fail"))) == "failed"
    failed = sdk.v1.payment_intents.retrieve(asked.id)
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"
    assert sdk.v1.payment_intents.confirm(asked.id, {"payment_method": "pm_card_visa"}).status == "succeeded"


def test_an_authentication_that_is_required_and_unavailable_declines(sdk: stripe.StripeClient) -> None:
    """402 card_declined, by token and by number."""
    for way in ({"payment_method": "pm_card_threeDSecureRequiredProcessingError"}, typed("4000008400001280")):
        with pytest.raises(stripe.CardError) as raised:
            sdk.v1.payment_intents.create({**PAY, **way})
        assert (raised.value.code, raised.value.error.decline_code) == ("card_declined", "authentication_required")


def test_without_the_buyer_it_is_declined_with_the_documented_code(sdk: stripe.StripeClient) -> None:
    """off_session; the card that was set up pays."""
    with pytest.raises(stripe.CardError) as raised:
        sdk.v1.payment_intents.create({**PAY, "payment_method": "pm_card_authenticationRequired", "off_session": True})
    assert (raised.value.code, raised.value.error.payment_intent.status) == ("authentication_required", "requires_payment_method")
    set_up = {"payment_method": "pm_card_authenticationRequiredSetupForOffSession", "off_session": True}
    assert sdk.v1.payment_intents.create({**PAY, **set_up}).status == "succeeded"


def test_a_buyer_who_does_not_come_back_is_given_up_after_a_quarter_of_an_hour(shop: Shop, sdk: stripe.StripeClient) -> None:
    """By the worker; what he answers later moves nothing."""
    asked = sdk.v1.payment_intents.create({**PAY, "payment_method": "pm_card_threeDSecure2Required", "return_url": SHOP})
    url = asked.next_action.redirect_to_url.url
    _, bank, _ = browse(url)
    shop.command("clock", "advance", "16m")
    wait(lambda: sdk.v1.payment_intents.retrieve(asked.id).status == "requires_payment_method", "the challenge is given up")
    browse(bank, {"answer": "pass"})
    assert redirect_status(come_back(f"{url}/return")) == "failed"
    assert sdk.v1.payment_intents.retrieve(asked.id).last_payment_error.code == "payment_intent_payment_attempt_expired"


# --- deaths -------------------------------------------------------------------------------------------------------------

EXECUTE = ("claim.after", "send.before", "send.after", "answer")


def begin(shop: Shop, card: str, key: str | None = None) -> dict[str, Any]:
    """A payment with a card, until it has its final answer."""
    answer = shop.pay(payment_method=f"pm_card_{card}", return_url=SHOP, key=key)
    assert answer.status in (200, 402), answer.body
    return answer.body


def check(shop: Shop, payment: str, status: str) -> None:
    """At rest, in this state, and the bank's truth is what the books say."""
    assert shop.at_rest(payment)["status"] == status
    shop.audit(payment)


@pytest.mark.parametrize("point", [f"{point} authenticate" for point in EXECUTE] + ["accept.before authenticate", "accept.after authenticate"])
def test_the_executor_dies_with_an_authentication_in_hand(shop: Shop, point: str) -> None:
    """It moves nothing, so it is asked for again: the payment is paid, once, under one answer.

    Before the commit that accepts it, the soft decline is asked for once more.
    """
    key = secrets.token_hex(12)
    shop.crash_at(point)
    paid = begin(shop, "threeDSecureFrictionless", key)
    wait(shop.crashed, "the executor has died")
    check(shop, paid["id"], "succeeded")
    assert begin(shop, "threeDSecureFrictionless", key) == paid


@pytest.mark.parametrize("point", ["outcome.before action_required", "outcome.after action_required"])
def test_the_executor_dies_around_the_commit_that_opens_a_challenge(shop: Shop, point: str) -> None:
    """One challenge is open in the end, and the buyer can answer it."""
    shop.crash_at(point)
    asked = begin(shop, "threeDSecure2Required")
    assert asked["status"] == "requires_action"
    assert len(shop.rows("SELECT 1 FROM challenge WHERE payment = $1", asked["id"])) == 1
    assert redirect_status(come_back(at_bank(asked["next_action"]["redirect_to_url"]["url"]))) == "succeeded"
    check(shop, asked["id"], "succeeded")


@pytest.mark.parametrize("point", ["send.before query", "send.after query", "answer query", "accept.before purchase"])
def test_the_executor_dies_while_it_asks_what_came_of_a_challenge(shop: Shop, point: str) -> None:
    """It is asked again, and the authorization that follows is accepted once."""
    asked = begin(shop, "threeDSecure2Required")
    back = at_bank(asked["next_action"]["redirect_to_url"]["url"])
    shop.crash_at(point)
    assert redirect_status(come_back(back)) == "succeeded"
    wait(shop.crashed, "the executor has died")
    check(shop, asked["id"], "succeeded")
    assert len(shop.rows("SELECT 1 FROM charge WHERE payment = $1", asked["id"])) == 1


def test_the_executor_dies_when_it_has_accepted_the_proved_authorization(shop: Shop) -> None:
    """The commit wakes the claim of the same process, which may be in the database before the process dies.

    Accepted only, it is sent by the next executor; claimed, it looks like one that was sent, is asked about and reversed.
    """
    asked = begin(shop, "threeDSecure2Required")
    back = at_bank(asked["next_action"]["redirect_to_url"]["url"])
    shop.crash_at("accept.after purchase")
    told = redirect_status(come_back(back))
    wait(shop.crashed, "the executor has died")
    check(shop, asked["id"], {"succeeded": "succeeded", "failed": "requires_payment_method"}[told])
    assert len(shop.rows("SELECT 1 FROM charge WHERE payment = $1 AND succeeded", asked["id"])) == (told == "succeeded")


@pytest.mark.parametrize("point", ["send.after purchase", "answer purchase"])
def test_the_executor_dies_with_the_proved_authorization_in_hand(shop: Shop, point: str) -> None:
    """In doubt like any other: the bank is asked, and what it did is booked."""
    asked = begin(shop, "threeDSecure2Required")
    back = at_bank(asked["next_action"]["redirect_to_url"]["url"])
    shop.crash_at(point)
    come_back(back)
    wait(shop.crashed, "the executor has died")
    payment = shop.at_rest(asked["id"])
    assert payment["status"] in ("succeeded", "requires_payment_method")
    shop.audit(asked["id"])


@pytest.mark.parametrize("role", ["vault", "supervisor"])
def test_the_vault_dies_with_the_cvc_while_the_buyer_is_at_his_bank(shop: Shop, role: str) -> None:
    """A CVC lives in its memory only: what was to go with it is not sent, and the buyer is asked for his card again."""
    asked = begin(shop, "threeDSecure2Required")
    shop.kill(role)
    assert redirect_status(come_back(at_bank(asked["next_action"]["redirect_to_url"]["url"]))) == "failed"
    check(shop, asked["id"], "requires_payment_method")
    states = {row["state"] for row in shop.rows("SELECT state FROM attempt WHERE payment = $1", asked["id"])}
    assert states == {"declined", "action_required", "not_sent"}


@pytest.mark.parametrize("role", ["api", "checkout", "network", "executor", "worker", "postgres"])
def test_a_process_dies_while_the_buyer_is_at_his_bank(shop: Shop, role: str) -> None:
    """Whatever is started again finds the challenge where it was."""
    asked = begin(shop, "threeDSecure2Required")
    shop.kill(role)
    assert redirect_status(come_back(at_bank(asked["next_action"]["redirect_to_url"]["url"]))) == "succeeded"
    check(shop, asked["id"], "succeeded")


@pytest.mark.parametrize("role", ["api", "checkout", "network", "executor", "worker"])
def test_a_process_dies_while_the_buyer_comes_back(shop: Shop, role: str) -> None:
    """He reloads the page."""
    asked = begin(shop, "threeDSecure2Required")
    back = at_bank(asked["next_action"]["redirect_to_url"]["url"])
    with ThreadPoolExecutor(1) as beside:
        coming = beside.submit(come_back, back)
        shop.kill(role)
        assert redirect_status(coming.result()) in ("succeeded", "failed")
    assert shop.at_rest(asked["id"])["status"] in ("succeeded", "requires_payment_method")
    shop.audit(asked["id"])


@pytest.mark.parametrize("kind", ["lost_answer", "lost_request", "malformed", "close", "error"])
def test_an_authentication_without_a_definite_answer_is_a_decline_and_nothing_is_open(shop: Shop, kind: str) -> None:
    """Never in doubt: 402 with `card_declined`, whatever the wire has done."""
    shop.fault(kind, operation="authenticate", count=1)
    failed = begin(shop, "threeDSecureFrictionless")
    assert failed["error"]["code"] == "card_declined"
    check(shop, failed["error"]["payment_intent"]["id"], "requires_payment_method")


def test_a_result_that_is_asked_twice_and_answered_late_pays_once(shop: Shop) -> None:
    """The bank answers after the question was given up, and again."""
    asked = begin(shop, "threeDSecure2Required")
    back = at_bank(asked["next_action"]["redirect_to_url"]["url"])
    shop.fault("late_answer", operation="query", count=1, delay_ms=9_000)
    shop.fault("duplicate_answer", operation="query", count=1, delay_ms=100)
    with ThreadPoolExecutor(3) as tabs:
        ends = [tab.result() for tab in [tabs.submit(come_back, back) for _ in range(3)]]
    assert {redirect_status(end) for end in ends} == {"succeeded"}
    check(shop, asked["id"], "succeeded")
    assert len(shop.rows("SELECT 1 FROM charge WHERE payment = $1", asked["id"])) == 1
