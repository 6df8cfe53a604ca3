"""3-D Secure over plain HTTP, through every real process but the worker: all its test cards, the buyer's way there and back."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from api_world import ApiWorld, Merchant, api_world, database_name, fresh_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAY = {"amount": 1999, "currency": "eur", "confirm": True}
SHOP = "https://shop.example/done?order=7"
# They want a proof, and a challenge before it.
CHALLENGED = ("threeDSecure2Required", "threeDSecureRequired", "authenticationRequired", "authenticationRequiredOnSetup")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("three_d_secure")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        await world.start("checkout")
        yield world


async def pay(api: ApiWorld, merchant: Merchant, card: str, **more):
    """Try to take a payment with a test card."""
    return await api.post("/v1/payment_intents", merchant.secret, **{**PAY, "payment_method": f"pm_card_{card}", **more})


async def answer_bank(api: ApiWorld, url: str, answer: str = "pass") -> str:
    """The buyer's way: the checkout sends him to the bank, he answers there; returns where the bank sends him back to."""
    there = await api.browse(url)
    assert there.status == 303
    bank = there.headers["location"]
    page = await api.browse(bank)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<form" in page.body and b"<script" not in page.body
    answered = await api.browse(bank, form={"answer": answer})
    assert answered.status == 303
    return answered.headers["location"]


async def finish(api: ApiWorld, answer, said: str = "pass"):
    """The whole way; returns the page or redirect at its end."""
    action = answer.json["next_action"]
    assert action["type"] == "redirect_to_url"
    return await api.browse(await answer_bank(api, action["redirect_to_url"]["url"], said))


async def find(api: ApiWorld, merchant: Merchant, payment: str):
    """The payment as it stands."""
    return (await api.get(f"/v1/payment_intents/{payment}", merchant.secret, expand=["latest_charge"])).json


@pytest.mark.parametrize("card", CHALLENGED)
async def test_a_challenged_card_pays_when_the_buyer_says_yes(api: ApiWorld, card: str):
    """requires_action with an address on the checkout origin; back at the shop the payment is complete."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, card, return_url=SHOP)
    shown = answer.json
    assert (answer.status, shown["status"]) == (200, "requires_action")
    origin = f"http://127.0.0.1:{api.settings.ports.checkout}/authenticate/"
    assert shown["next_action"]["redirect_to_url"]["url"].startswith(origin)
    assert shown["next_action"]["redirect_to_url"]["return_url"] == SHOP
    end = await finish(api, answer)
    assert end.status == 303
    query = parse_qs(urlsplit(end.headers["location"]).query)
    assert end.headers["location"].startswith("https://shop.example/done?order=7&payment_intent=")
    assert query["payment_intent"] == [shown["id"]]
    assert query["payment_intent_client_secret"] == [shown["client_secret"]]
    assert query["redirect_status"] == ["succeeded"]
    paid = await find(api, merchant, shown["id"])
    assert (paid["status"], paid["amount_received"], paid["next_action"]) == ("succeeded", 1999, None)
    secure = paid["latest_charge"]["payment_method_details"]["card"]["three_d_secure"]
    assert (secure["result"], secure["authentication_flow"], secure["electronic_commerce_indicator"]) == ("authenticated", "challenge", "05")


async def test_a_buyer_who_says_no_is_not_charged_and_may_take_another_card(api: ApiWorld):
    """Without a return_url the way ends on a page of ours."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, "threeDSecure2Required")
    end = await finish(api, answer, "fail")
    assert end.status == 200 and b"Nothing was charged" in end.body
    failed = await find(api, merchant, answer["id"])
    assert (failed["status"], failed["latest_charge"]) == ("requires_payment_method", None)
    assert failed["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    assert failed["last_payment_error"]["payment_method"]["card"]["last4"] == "3220"
    again = await api.post(f"/v1/payment_intents/{answer['id']}/confirm", merchant.secret, payment_method="pm_card_visa")
    assert again["status"] == "succeeded"


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("threeDSecureRequiredChargeDeclined", "generic_decline"),
        ("authenticationRequiredChargeDeclinedInsufficientFunds", "insufficient_funds"),
    ],
)
async def test_a_card_may_be_declined_after_its_buyer_was_authenticated(api: ApiWorld, card: str, code: str):
    """The shop is told that it failed; the failed charge shows the authentication."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, card, return_url=SHOP)
    end = await finish(api, answer)
    assert parse_qs(urlsplit(end.headers["location"]).query)["redirect_status"] == ["failed"]
    failed = await find(api, merchant, answer["id"])
    assert (failed["status"], failed["last_payment_error"]["decline_code"]) == ("requires_payment_method", code)
    charge = failed["latest_charge"]
    assert (charge["status"], charge["payment_method_details"]["card"]["three_d_secure"]["result"]) == ("failed", "authenticated")


async def test_a_card_that_is_authenticated_without_a_challenge_pays_at_once(api: ApiWorld):
    """The soft decline is seen by nobody."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, "threeDSecureFrictionless", expand=["latest_charge"])
    assert (answer.status, answer["status"]) == (200, "succeeded")
    secure = answer["latest_charge"]["payment_method_details"]["card"]["three_d_secure"]
    assert (secure["result"], secure["authentication_flow"]) == ("authenticated", "frictionless")


async def test_an_authentication_that_is_required_and_unavailable_is_a_decline(api: ApiWorld):
    """402 card_declined; nothing was charged."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, "threeDSecureRequiredProcessingError")
    assert (answer.status, answer.error["code"], answer.error["decline_code"]) == (402, "card_declined", "authentication_required")
    assert answer.error["payment_intent"]["status"] == "requires_payment_method"


@pytest.mark.parametrize(
    ("card", "result"),
    [("visa", "attempt_acknowledged"), ("threeDSecureOptionalProcessingError", "processing_error"), ("amex", "not_supported")],
)
async def test_a_merchant_who_asks_for_an_authentication_is_paid_also_where_none_is_to_be_had(api: ApiWorld, card: str, result: str):
    """Not enrolled, unavailable, not supported: the charge says so."""
    merchant = await api.merchant()
    answer = await pay(
        api, merchant, card, expand=["latest_charge"], payment_method_options={"card": {"request_three_d_secure": "any"}},
    )  # fmt: skip
    assert (answer.status, answer["status"]) == (200, "succeeded")
    assert answer["latest_charge"]["payment_method_details"]["card"]["three_d_secure"]["result"] == result


async def test_an_optional_card_pays_without_and_is_challenged_on_demand(api: ApiWorld):
    """`any` and `challenge` ask; `automatic` does not."""
    merchant = await api.merchant()
    plain = await pay(api, merchant, "threeDSecureOptional", expand=["latest_charge"])
    assert plain["status"] == "succeeded"
    assert plain["latest_charge"]["payment_method_details"]["card"]["three_d_secure"] is None
    for wish in ("any", "challenge"):
        asked = await pay(api, merchant, "threeDSecureOptional", payment_method_options={"card": {"request_three_d_secure": wish}})
        assert asked["status"] == "requires_action"
        await finish(api, asked)
        assert (await find(api, merchant, asked["id"]))["status"] == "succeeded"


@pytest.mark.parametrize("how", ["off_session", "error_on_requires_action"])
@pytest.mark.parametrize("card", ["authenticationRequired", "threeDSecure2Required", "authenticationRequiredOnSetup"])
async def test_without_the_buyer_it_is_402_authentication_required(api: ApiWorld, card: str, how: str):
    """Code and decline code as documented, and the payment asks for a card again."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, card, **{how: True})
    assert (answer.status, answer.error["code"], answer.error["decline_code"]) == (402, "authentication_required", "authentication_required")
    assert answer.error["payment_intent"]["status"] == "requires_payment_method"


async def test_a_card_that_was_set_up_pays_off_session_and_is_challenged_on_session(api: ApiWorld):
    """4000003800000446."""
    merchant = await api.merchant()
    card = "authenticationRequiredSetupForOffSession"
    assert (await pay(api, merchant, card, off_session=True))["status"] == "succeeded"
    assert (await pay(api, merchant, card))["status"] == "requires_action"


async def test_a_manual_capture_holds_the_amount_after_the_challenge(api: ApiWorld):
    """requires_capture, and captured as any other."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, "threeDSecure2Required", capture_method="manual")
    await finish(api, answer)
    held = await find(api, merchant, answer["id"])
    assert (held["status"], held["amount_capturable"]) == ("requires_capture", 1999)
    captured = await api.post(f"/v1/payment_intents/{answer['id']}/capture", merchant.secret)
    assert (captured["status"], captured["amount_received"]) == ("succeeded", 1999)


async def test_the_events_tell_the_way(api: ApiWorld):
    """created, requires_action, and then as always."""
    merchant = await api.merchant()
    await finish(api, await pay(api, merchant, "threeDSecure2Required"))
    events = (await api.get("/v1/events", merchant.secret, limit=100)).json["data"]
    assert [event["type"] for event in reversed(events)] == [
        "payment_intent.created", "payment_intent.requires_action", "charge.succeeded", "payment_intent.succeeded",
    ]  # fmt: skip
    asked = next(event for event in events if event["type"] == "payment_intent.requires_action")
    assert asked["data"]["object"]["next_action"]["type"] == "redirect_to_url"


async def test_the_way_is_a_plain_one(api: ApiWorld):
    """GET without cookies; an address that we never gave out leads nowhere; another method is not possible."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, "threeDSecure2Required")
    url = answer.json["next_action"]["redirect_to_url"]["url"]
    first = await api.browse(url)
    assert "set-cookie" not in first.headers
    assert (await api.browse(url[:-1])).status == 404
    assert (await api.browse(f"{url}/elsewhere")).status == 404
    assert (await api.browse(url, form={})).status == 405
    bank = first.headers["location"]
    assert (await api.browse(bank[:-1])).status == 404
    assert (await api.browse(bank, form={"answer": "perhaps"})).status == 400


async def test_a_buyer_who_comes_back_without_an_answer_is_shown_the_way_to_his_bank(api: ApiWorld):
    """He may still answer; the first answer counts, whatever is said later."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, "threeDSecure2Required")
    url = answer.json["next_action"]["redirect_to_url"]["url"]
    early = await api.browse(f"{url}/return")
    bank = re.search(rb'href="([^"]+)"', early.body)
    assert early.status == 200 and bank is not None
    await finish(api, answer)
    assert b"already" in (await api.browse(bank[1].decode())).body.lower()
    assert (await api.browse(bank[1].decode(), form={"answer": "fail"})).status == 303
    again = await api.browse(f"{url}/return")
    assert again.status == 200 and b"complete" in again.body
    assert (await find(api, merchant, answer["id"]))["status"] == "succeeded"


async def test_a_proof_is_accepted_once_and_for_its_payment_only(api: ApiWorld):
    """The bank's truth names the authentication that each authorization was proved with."""
    merchant = await api.merchant()
    answer = await pay(api, merchant, "threeDSecureFrictionless")
    rows = await api.db.fetch("SELECT operation, reference FROM attempt WHERE payment = $1 ORDER BY id", answer["id"])
    references = {row["operation"]: row["reference"] for row in rows}
    truth = await api.browse(f"{api.settings.network_control}/truth?reference={references['purchase']}")
    assert f'"proof":"{references["authenticate"]}"'.encode() in truth.body
    told = await api.browse(f"{api.settings.network_control}/truth?reference={references['authenticate']}")
    assert b'"kind":"authentication"' in told.body and b'"result":"Y"' in told.body
