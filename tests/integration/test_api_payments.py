"""Payments over HTTP, through every real process but the worker: states, answers, keys, expand, lists."""

import asyncio

import pytest
import pytest_asyncio
from api_world import ApiWorld, api_world, database_name, fresh_database
from vault_world import every_value

from guilder.risk import TEST_RULES

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAY = {"amount": 1999, "currency": "eur"}
CONFIRM = {**PAY, "payment_method": "pm_card_visa", "confirm": True}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("payments")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


async def types(api: ApiWorld, key: str) -> list[str]:
    """The types of the merchant's events, oldest first."""
    return [event["type"] for event in reversed((await api.get("/v1/events", key, limit=100))["data"])]


async def test_a_payment_succeeds_and_is_in_the_books_in_the_same_answer(api: ApiWorld):
    """Charge, balance transaction, fee and balance are there when the answer is."""
    merchant = await api.merchant()
    answer = await api.post(
        "/v1/payment_intents", merchant.secret, **CONFIRM, automatic_payment_methods={"enabled": True}, metadata={"order": "7"},
        expand=["latest_charge.balance_transaction"],
    )  # fmt: skip
    paid = answer.json
    assert (answer.status, paid["status"], paid["amount_received"]) == (200, "succeeded", 1999)
    assert paid["metadata"] == paid["latest_charge"]["metadata"] == {"order": "7"}
    entry = paid["latest_charge"]["balance_transaction"]
    assert (entry["amount"], entry["fee"], entry["net"], entry["status"]) == (1999, 30, 1969, "pending")
    balance = (await api.get("/v1/balance", merchant.secret)).json
    assert balance["pending"] == [{"amount": 1969, "currency": "eur", "source_types": {"card": 1969}}]
    assert await types(api, merchant.secret) == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


async def test_a_card_that_was_declined_too_often_is_refused_by_us_and_told_why(api: ApiWorld):
    """Nothing is sent, another card pays, and a try that is repeated with its key gets its own answer."""
    merchant = await api.merchant()
    declined = {**CONFIRM, "payment_method": "pm_card_visa_chargeDeclined"}
    tries_max = TEST_RULES.limits[0].tries_max
    first = await api.post("/v1/payment_intents", merchant.secret, idempotency_key="first", **declined)
    await asyncio.gather(*(api.post("/v1/payment_intents", merchant.secret, **declined) for _ in range(tries_max - 1)))
    refused = await api.post("/v1/payment_intents", merchant.secret, **declined)
    error = refused.error
    assert (refused.status, error["code"], error["decline_code"]) == (402, "card_declined", "card_velocity_exceeded")
    assert error["message"] == "Your card was declined for making repeated attempts too frequently or exceeding its amount limit."
    charge = (await api.get(f"/v1/charges/{error['charge']}", merchant.secret)).json
    assert (charge["outcome"]["type"], charge["failure_message"]) == ("blocked", error["message"])
    again = await api.post("/v1/payment_intents", merchant.secret, idempotency_key="first", **declined)
    assert again.error["decline_code"] == first.error["decline_code"] == "generic_decline"
    assert (await api.post("/v1/payment_intents", merchant.secret, **CONFIRM)).json["status"] == "succeeded"


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
        ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", "card_declined", "card_velocity_exceeded"),
        ("pm_card_radarBlock", "card_declined", "fraudulent"),
    ],
)
async def test_a_decline_is_402_with_the_payment_and_another_card_goes_on(api: ApiWorld, token, code, decline_code):
    """The payment is stored with its failed charge; the same one takes another card."""
    merchant = await api.merchant()
    answer = await api.post("/v1/payment_intents", merchant.secret, **PAY, payment_method=token, confirm=True)
    error = answer.error
    assert (answer.status, error["type"], error["code"]) == (402, "card_error", code)
    if decline_code is not None:
        assert error["decline_code"] == decline_code
    payment = error["payment_intent"]
    assert (payment["status"], payment["payment_method"]) == ("requires_payment_method", None)
    assert payment["last_payment_error"]["code"] == code
    assert payment["last_payment_error"]["payment_method"]["id"] == error["payment_method"]["id"]
    failed = (await api.get(f"/v1/charges/{error['charge']}", merchant.secret)).json
    assert (failed["status"], failed["paid"], failed["failure_code"]) == ("failed", False, code)
    again = await api.post(f"/v1/payment_intents/{payment['id']}/confirm", merchant.secret, payment_method="pm_card_mastercard")
    assert (again.status, again["status"]) == (200, "succeeded")
    charges = (await api.get("/v1/charges", merchant.secret, payment_intent=payment["id"]))["data"]
    assert [charge["status"] for charge in charges] == ["succeeded", "failed"]


async def test_a_payment_is_made_step_by_step(api: ApiWorld):
    """Created without a card, given one, changed, confirmed."""
    merchant = await api.merchant()
    made = (await api.post("/v1/payment_intents", merchant.secret, **PAY, description="first")).json
    assert made["status"] == "requires_payment_method"
    path = f"/v1/payment_intents/{made['id']}"
    given = (await api.post(path, merchant.secret, payment_method="pm_card_visa")).json
    assert given["status"] == "requires_confirmation"
    changed = (
        await api.post(path, merchant.secret, amount=2500, description="", metadata={"a": "1"}, receipt_email="ada@example.com")
    ).json
    assert (changed["amount"], changed["description"], changed["metadata"], changed["receipt_email"]) == (
        2500, None, {"a": "1"}, "ada@example.com",
    )  # fmt: skip
    again = (
        await api.post(path, merchant.secret, metadata={"a": "", "b": "2"}, shipping={"name": "Ada", "address": {"line1": "x"}})
    ).json
    assert (again["metadata"], again["receipt_email"], again["shipping"]["name"]) == ({"b": "2"}, "ada@example.com", "Ada")
    paid = (await api.post(f"{path}/confirm", merchant.secret, expand=["latest_charge"])).json
    assert (paid["status"], paid["latest_charge"]["amount"]) == ("succeeded", 2500)
    assert (paid["latest_charge"]["receipt_email"], paid["latest_charge"]["shipping"]["name"]) == ("ada@example.com", "Ada")
    late = await api.post(path, merchant.secret, amount=3000)
    assert (late.status, late.error["code"]) == (400, "payment_intent_unexpected_state")
    cleared = (await api.post(path, merchant.secret, metadata="", receipt_email="")).json
    assert (cleared["metadata"], cleared["receipt_email"]) == ({}, None)


async def test_card_data_can_come_with_the_payment(api: ApiWorld):
    """With billing details, which go into the charge; the number goes to the vault only."""
    merchant = await api.merchant()
    data = {
        "type": "card",
        "card": {"number": "5555 5555 5555 4444", "exp_month": "05", "exp_year": "40", "cvc": "123"},
        "billing_details": {"name": "Ada", "address": {"postal_code": "1012"}},
    }
    paid = (
        await api.post(
            "/v1/payment_intents",
            merchant.secret,
            **PAY,
            payment_method_data=data,
            confirm=True,
            expand=["payment_method", "latest_charge"],
        )
    ).json
    card = paid["payment_method"]["card"]
    assert (paid["status"], card["brand"], card["last4"], card["exp_month"], card["exp_year"]) == (
        "succeeded",
        "mastercard",
        "4444",
        5,
        2040,
    )
    assert paid["latest_charge"]["billing_details"]["name"] == "Ada"
    assert paid["latest_charge"]["payment_method_details"]["card"]["checks"]["cvc_check"] == "pass"


async def test_card_data_leaves_no_trace_outside_the_vault(api: ApiWorld):
    """Not in any table, not in an answer, whether the request succeeds, is declined or is refused."""
    merchant = await api.merchant()
    numbers = ("4242424242424242", "4000000000000002", "4242424242424241")
    answers = b""
    for count, number in enumerate(numbers):
        data = {"type": "card", "card": {"number": number, "exp_month": 12, "exp_year": 2040, "cvc": "987"}}
        for path, form in (
            ("/v1/payment_methods", data),
            ("/v1/payment_intents", {**PAY, "payment_method_data": data, "confirm": True}),
        ):
            answers += (await api.post(path, merchant.secret, **form, idempotency_key=f"{path} {count}")).body
            answers += (await api.post(path, merchant.secret, **{**form, number: number, "metadata": {"987": "x"}})).body
    stored = await every_value(api.settings.database_url)
    for number in numbers:
        assert number.encode() not in stored
        assert number.encode() not in answers


async def test_an_authorization_is_captured_in_part(api: ApiWorld):
    """The rest is let go; one balance transaction; charge.captured, no refund."""
    merchant = await api.merchant()
    held = (
        await api.post("/v1/payment_intents", merchant.secret, **CONFIRM, capture_method="manual", expand=["latest_charge"])
    ).json
    assert (held["status"], held["amount_capturable"], held["latest_charge"]["captured"]) == ("requires_capture", 1999, False)
    assert held["latest_charge"]["payment_method_details"]["card"]["capture_before"] > held["created"]
    taken = (
        await api.post(
            f"/v1/payment_intents/{held['id']}/capture",
            merchant.secret,
            amount_to_capture=999,
            expand=["latest_charge.balance_transaction"],
        )
    ).json
    charge = taken["latest_charge"]
    assert (taken["status"], taken["amount_received"], taken["amount_capturable"]) == ("succeeded", 999, 0)
    assert (charge["amount_captured"], charge["amount_refunded"], charge["refunded"]) == (999, 0, False)
    assert charge["balance_transaction"]["amount"] == 999
    assert (await types(api, merchant.secret))[-2:] == ["charge.captured", "payment_intent.succeeded"]


async def test_an_authorization_is_canceled(api: ApiWorld):
    """With its reason; nothing was captured."""
    merchant = await api.merchant()
    held = (await api.post("/v1/payment_intents", merchant.secret, **CONFIRM, capture_method="manual")).json
    path = f"/v1/payment_intents/{held['id']}/cancel"
    gone = (await api.post(path, merchant.secret, cancellation_reason="abandoned", expand=["latest_charge"])).json
    assert (gone["status"], gone["cancellation_reason"], gone["latest_charge"]["amount_captured"]) == ("canceled", "abandoned", 0)
    again = await api.post(path, merchant.secret)
    assert (again.status, again.error["code"]) == (400, "payment_intent_unexpected_state")


@pytest.mark.parametrize(
    ("currency", "amount"), [("jpy", 500), ("kwd", 1500), ("isk", 50000), ("ugx", 500000), ("mga", 5000), ("usd", 50)]
)
async def test_every_kind_of_currency_keeps_its_amount(api: ApiWorld, currency, amount):
    """With 0, 2 and 3 decimals, and the three that Stripe counts in a way of its own; any case in, lower case out."""
    merchant = await api.merchant()
    paid = (
        await api.post(
            "/v1/payment_intents",
            merchant.secret,
            amount=amount,
            currency=currency.upper(),
            payment_method="pm_card_visa",
            confirm=True,
            expand=["latest_charge.balance_transaction"],
        )
    ).json
    assert (paid["status"], paid["currency"], paid["amount"], paid["amount_received"]) == ("succeeded", currency, amount, amount)
    entry = paid["latest_charge"]["balance_transaction"]
    assert (entry["amount"], entry["net"]) == (amount, amount - entry["fee"])
    refund = (await api.post("/v1/refunds", merchant.secret, payment_intent=paid["id"], amount=amount)).json
    assert (refund["status"], refund["amount"]) == ("succeeded", amount)


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_a_repeated_request_gets_the_same_bytes(api: ApiWorld):
    """Once charged, whatever was sent in between; the replay says that it is one."""
    merchant = await api.merchant()
    first = await api.post("/v1/payment_intents", merchant.secret, **CONFIRM, idempotency_key="order-1")
    again = await api.post("/v1/payment_intents", merchant.secret, **CONFIRM, idempotency_key="order-1")
    assert (again.status, again.body) == (first.status, first.body)
    assert (again.headers["idempotent-replayed"], again.headers["idempotency-key"]) == ("true", "order-1")
    assert "idempotent-replayed" not in first.headers
    assert len((await api.get("/v1/charges", merchant.secret))["data"]) == 1


async def test_a_declined_request_is_replayed_as_declined(api: ApiWorld):
    """402 is stored with the key."""
    merchant = await api.merchant()
    form = {**CONFIRM, "payment_method": "pm_card_visa_chargeDeclined"}
    first = await api.post("/v1/payment_intents", merchant.secret, **form, idempotency_key="k")
    again = await api.post("/v1/payment_intents", merchant.secret, **form, idempotency_key="k")
    assert (again.status, again.body) == (402, first.body)


async def test_a_retry_in_json_is_the_same_request(api: ApiWorld):
    """The parameters are compared, not the bytes."""
    merchant = await api.merchant()
    first = await api.post("/v1/payment_intents", merchant.secret, **PAY, metadata={"a": "1"}, idempotency_key="k")
    headers = {"Content-Type": "application/json; charset=utf-8", "Idempotency-Key": "k"}
    body = b'{"metadata": {"a": "1"}, "currency": "eur", "amount": 1999}'
    again = await api.send("POST", "/v1/payment_intents", key=merchant.secret, body=body, headers=headers)
    assert (again.status, again.body) == (200, first.body)


async def test_a_key_with_other_parameters_is_refused_before_anything_else(api: ApiWorld):
    """Also when those are invalid in themselves, at another address, and with another card number."""
    merchant = await api.merchant()
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    data = {"type": "card", "card": card}
    await api.post("/v1/payment_intents", merchant.secret, **PAY, payment_method_data=data, idempotency_key="k")
    same_but_cvc = {**data, "card": {**card, "cvc": "321"}}
    replay = await api.post("/v1/payment_intents", merchant.secret, **PAY, payment_method_data=same_but_cvc, idempotency_key="k")
    assert (replay.status, replay.headers.get("idempotent-replayed")) == (200, "true")
    for path, form in [
        ("/v1/payment_intents", {**PAY, "amount": 5}),
        ("/v1/payment_intents", {**PAY, "surprise": 1}),
        ("/v1/payment_intents", {**PAY, "payment_method_data": {**data, "card": {**card, "number": "4000000000000002"}}}),
        ("/v1/customers", {"name": "Ada"}),
        ("/v1/payment_methods", data),
        ("/v1/refunds", {"payment_intent": "pi_nowhere"}),
        ("/v1/payment_intents/pi_nowhere/confirm", {}),
    ]:
        answer = await api.post(path, merchant.secret, **form, idempotency_key="k")
        assert (answer.status, answer.error["type"]) == (400, "idempotency_error"), (path, form)
        assert "Try using a key other than 'k'" in answer.error["message"]


async def test_a_stored_answer_comes_back_when_the_same_request_would_be_refused_now(api: ApiWorld):
    """The key first: a payment method that was detached since does not change what was answered."""
    merchant = await api.merchant()
    customer = (await api.post("/v1/customers", merchant.secret, name="Ada"))["id"]
    method = (await api.post("/v1/payment_methods/pm_card_visa/attach", merchant.secret, customer=customer))["id"]
    form = {**PAY, "customer": customer, "payment_method": method, "confirm": True, "off_session": True}
    first = await api.post("/v1/payment_intents", merchant.secret, **form, idempotency_key="k")
    assert first["status"] == "succeeded"
    await api.post(f"/v1/payment_methods/{method}/detach", merchant.secret)
    assert (await api.post("/v1/payment_intents", merchant.secret, **form)).status == 400
    assert (await api.post("/v1/payment_intents", merchant.secret, **form, idempotency_key="k")).body == first.body


async def test_concurrent_requests_with_one_key_charge_once(api: ApiWorld):
    """The others wait, or are told to come again."""
    merchant = await api.merchant()
    answers = await asyncio.gather(
        *(api.post("/v1/payment_intents", merchant.secret, **CONFIRM, idempotency_key="once") for _ in range(8))
    )
    done = {answer.body for answer in answers if answer.status == 200}
    assert len(done) == 1
    for answer in answers:
        if answer.status != 200:
            assert (answer.status, answer.error["code"]) == (409, "idempotency_key_in_use")
            assert answer.headers["stripe-should-retry"] == "true"
    assert len((await api.get("/v1/charges", merchant.secret))["data"]) == 1


async def test_a_refused_request_leaves_its_key_free(api: ApiWorld):
    """Validation errors claim no key: the mended request runs."""
    merchant = await api.merchant()
    assert (await api.post("/v1/payment_intents", merchant.secret, amount=5, currency="eur", idempotency_key="k")).status == 400
    assert (await api.post("/v1/payment_intents", merchant.secret, **PAY, idempotency_key="k")).status == 200


async def test_a_key_is_made_where_none_was_sent_and_works(api: ApiWorld):
    """Every answer names it."""
    merchant = await api.merchant()
    first = await api.post("/v1/payment_intents", merchant.secret, **PAY)
    again = await api.post("/v1/payment_intents", merchant.secret, **PAY, idempotency_key=first.headers["idempotency-key"])
    assert again.body == first.body
    too_long = await api.post("/v1/payment_intents", merchant.secret, **PAY, idempotency_key="k" * 256)
    assert too_long.status == 400


# --- lists ----------------------------------------------------------------------------------------------------------


async def test_pages_run_through_all_payments_in_both_directions(api: ApiWorld):
    """Newest first; ending_before gives the items just before the cursor; the url carries no query."""
    merchant = await api.merchant()
    made = [(await api.post("/v1/payment_intents", merchant.secret, **PAY))["id"] for _ in range(5)]
    newest = made[::-1]
    first = await api.get("/v1/payment_intents", merchant.secret, limit=2)
    assert ([one["id"] for one in first["data"]], first["has_more"], first["url"]) == (newest[:2], True, "/v1/payment_intents")
    rest = await api.get("/v1/payment_intents", merchant.secret, limit=10, starting_after=newest[1])
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (newest[2:], False)
    back = await api.get("/v1/payment_intents", merchant.secret, limit=2, ending_before=newest[3])
    assert ([one["id"] for one in back["data"]], back["has_more"]) == (newest[1:3], True)


async def test_lists_are_narrowed_by_their_filters(api: ApiWorld):
    """By customer, by time; objects of a list can be expanded."""
    merchant = await api.merchant()
    customer = (await api.post("/v1/customers", merchant.secret, name="Ada"))["id"]
    mine = (await api.post("/v1/payment_intents", merchant.secret, **PAY, customer=customer)).json
    await api.post("/v1/payment_intents", merchant.secret, **PAY)
    found = (await api.get("/v1/payment_intents", merchant.secret, customer=customer, expand=["data.customer"]))["data"]
    assert [(one["id"], one["customer"]["name"]) for one in found] == [(mine["id"], "Ada")]
    created = mine["created"]
    for filters, count in [
        ({"created": {"gte": created}}, 2),
        ({"created": {"gt": created + 60}}, 0),
        ({"created": {"lt": created}}, 0),
        ({"created": {"lte": created + 60, "gt": created - 1}}, 2),
        ({"created": created - 100}, 0),
    ]:
        assert len((await api.get("/v1/payment_intents", merchant.secret, **filters))["data"]) == count


# --- refunds and charges --------------------------------------------------------------------------------------------


async def test_refunds_give_back_in_part_and_then_the_rest(api: ApiWorld):
    """The charge shows both, embedded newest first; the balance follows."""
    merchant = await api.merchant()
    paid = (await api.post("/v1/payment_intents", merchant.secret, **CONFIRM)).json
    part = (await api.post("/v1/refunds", merchant.secret, charge=paid["latest_charge"], amount=500, reason="duplicate")).json
    assert (part["status"], part["amount"], part["reason"], part["payment_intent"]) == ("succeeded", 500, "duplicate", paid["id"])
    rest = (
        await api.post("/v1/refunds", merchant.secret, payment_intent=paid["id"], expand=["balance_transaction", "charge"])
    ).json
    assert (rest["amount"], rest["balance_transaction"]["net"], rest["charge"]["refunded"]) == (1499, -1499, True)
    charge = (await api.get(f"/v1/charges/{paid['latest_charge']}", merchant.secret, expand=["refunds"])).json
    assert [one["id"] for one in charge["refunds"]["data"]] == [rest["id"], part["id"]]
    assert (await api.get(charge["refunds"]["url"], merchant.secret))["data"] == charge["refunds"]["data"]
    for filters in ({"charge": charge["id"]}, {"payment_intent": paid["id"]}):
        assert len((await api.get("/v1/refunds", merchant.secret, **filters))["data"]) == 2
    entries = (await api.get("/v1/balance_transactions", merchant.secret))["data"]
    balance = (await api.get("/v1/balance", merchant.secret)).json
    assert sum(entry["net"] for entry in entries) == balance["pending"][0]["amount"] + balance["available"][0]["amount"]
    only = (await api.get("/v1/balance_transactions", merchant.secret, type="refund", source=part["id"]))["data"]
    assert [entry["source"] for entry in only] == [part["id"]]
    one = await api.get(f"/v1/balance_transactions/{only[0]['id']}", merchant.secret, expand=["source"])
    assert one["source"]["object"] == "refund"


async def test_charges_and_refunds_take_new_metadata(api: ApiWorld):
    """And say so by events that hold what was there before."""
    merchant = await api.merchant()
    paid = (await api.post("/v1/payment_intents", merchant.secret, **CONFIRM, metadata={"a": "1"})).json
    charge = (
        await api.post(
            f"/v1/charges/{paid['latest_charge']}", merchant.secret, metadata={"a": "2"}, receipt_email="ada@example.com"
        )
    ).json
    assert (charge["metadata"], charge["receipt_email"]) == ({"a": "2"}, "ada@example.com")
    [event] = (await api.get("/v1/events", merchant.secret, type="charge.updated"))["data"]
    assert event["data"]["previous_attributes"] == {"metadata": {"a": "1"}}
    refund = (await api.post("/v1/refunds", merchant.secret, payment_intent=paid["id"], amount=1)).json
    changed = (await api.post(f"/v1/refunds/{refund['id']}", merchant.secret, metadata={"b": "1"})).json
    assert changed["metadata"] == {"b": "1"}
    assert (await api.get(f"/v1/refunds/{refund['id']}", merchant.secret)).json == changed
    stays = await api.post(f"/v1/refunds/{refund['id']}/cancel", merchant.secret)
    assert stays.status == 400


async def test_events_tell_who_asked_and_are_found_by_type(api: ApiWorld):
    """request.id and request.idempotency_key; wildcards; one by its id."""
    merchant = await api.merchant()
    answer = await api.post("/v1/payment_intents", merchant.secret, **CONFIRM, idempotency_key="mine")
    [made] = (await api.get("/v1/events", merchant.secret, type="payment_intent.created"))["data"]
    assert made["request"] == {"id": answer.headers["request-id"], "idempotency_key": "mine"}
    assert (made["data"]["object"]["status"], made["data"]["object"]["id"]) == ("requires_confirmation", answer["id"])
    assert (await api.get(f"/v1/events/{made['id']}", merchant.secret)).json == made
    for filters, count in [
        ({"type": "payment_intent.*"}, 2),
        ({"types": ["charge.succeeded", "nothing"]}, 1),
        ({"type": "charge_*"}, 0),
    ]:
        assert len((await api.get("/v1/events", merchant.secret, **filters))["data"]) == count
