"""Details that a merchant's client meets: test tokens of every brand, words on a declined charge, addresses that are none."""

import json

import pytest
import pytest_asyncio
from api_world import ApiWorld, api_world, database_name, fresh_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAY = {"amount": 1000, "currency": "eur", "confirm": True}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("user")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


@pytest.mark.parametrize(
    "token",
    ["visa", "visa_debit", "mastercard", "mastercard_debit", "mastercard_prepaid", "amex", "discover", "diners", "jcb", "unionpay"],
)
async def test_the_test_token_of_every_brand_pays(api: ApiWorld, token):
    """Each with the security code that its issuer expects: American Express prints four digits."""
    merchant = await api.merchant()
    paid = await api.post("/v1/payment_intents", merchant.secret, payment_method=f"pm_card_{token}", **PAY)
    assert (paid.status, paid["status"]) == (200, "succeeded")


async def test_a_declined_charge_says_which_code_the_bank_returned(api: ApiWorld):
    """Also where the error's code is the decline's own, as for an expired card."""
    merchant = await api.merchant()
    declined = await api.post("/v1/payment_intents", merchant.secret, payment_method="pm_card_chargeDeclinedExpiredCard", **PAY)
    charge = await api.get(f"/v1/charges/{declined.error['charge']}", merchant.secret)
    assert charge["outcome"]["seller_message"] == "The bank returned the decline code `expired_card`."


@pytest.mark.parametrize("what", ["payment_intents", "customers", "charges"])
async def test_search_is_an_address_that_does_not_exist(api: ApiWorld, what):
    """And no object with the id `search`, nor a parameter that is not known."""
    merchant = await api.merchant()
    answer = await api.get(f"/v1/{what}/search", merchant.secret, query="amount>1")
    assert (answer.status, answer.error["type"]) == (404, "invalid_request_error")
    assert answer.error["message"].startswith(f"Unrecognized request URL (GET: /v1/{what}/search)")


async def test_events_are_listed_by_whether_they_were_delivered(api: ApiWorld):
    """Nobody has asked for a delivery, so none is outstanding."""
    merchant = await api.merchant()
    await api.post("/v1/customers", merchant.secret)
    delivered = await api.get("/v1/events", merchant.secret, delivery_success=True)
    outstanding = await api.get("/v1/events", merchant.secret, delivery_success=False)
    assert ([event["type"] for event in delivered["data"]], outstanding["data"]) == (["customer.created"], [])


async def test_the_answer_names_the_account_that_the_request_named(api: ApiWorld):
    """Only then, and only the caller's own."""
    merchant = await api.merchant()
    named = await api.send("GET", "/v1/balance", key=merchant.secret, headers={"Stripe-Account": merchant.id})
    foreign = await api.send("GET", "/v1/balance", key=merchant.secret, headers={"Stripe-Account": "acct_other"})
    silent = await api.get("/v1/balance", merchant.secret)
    assert [one.headers.get("stripe-account") for one in (named, foreign, silent)] == [merchant.id, None, None]


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [("amount", "1000", "is a text; in JSON a number is written without quotes"), ("confirm", "true", "in JSON without quotes")],
)
async def test_json_that_quotes_a_number_or_a_boolean_is_told_so(api: ApiWorld, name, value, right):
    """The plain digits themselves are not what is wrong."""
    merchant = await api.merchant()
    body = json.dumps({"amount": 1000, "currency": "eur", name: value}).encode()
    headers = {"Content-Type": "application/json"}
    answer = await api.send("POST", "/v1/payment_intents", key=merchant.secret, body=body, headers=headers)
    assert (answer.status, answer.error["param"]) == (400, name)
    assert right in answer.error["message"]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "parameter_missing", "debit"),
        ({"debit": "a", "credit": "b"}, "parameter_missing", "amount"),
        ({"debit": "a", "credit": "b", "amount": 0}, "parameter_invalid_integer", "amount"),
        ({"debit": "a", "credit": "b", "amount": 1, "code": -1}, "parameter_invalid_integer", "code"),
        ({"transfers": [{"debit": "a", "credit": "b", "amount": -1}]}, "parameter_invalid_integer", "transfers[0][amount]"),
        ({"debit": "a", "credit": "b", "amount": 1, "id": "a b"}, None, "id"),
    ],
)
async def test_a_transfer_that_cannot_be_is_refused_with_the_code_of_the_other_resources(api: ApiWorld, fields, code, param):
    """A client tells a missing parameter from a bad number by the code, wherever it stands."""
    merchant = await api.merchant()
    answer = await api.post("/v1/ledger/transfers", merchant.secret, **fields)
    assert (answer.status, answer.error.get("code"), answer.error["param"]) == (400, code, param)
