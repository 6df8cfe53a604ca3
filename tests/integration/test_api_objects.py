"""Customers, their payment methods, the account: made, changed, found and removed over HTTP."""

import pytest
import pytest_asyncio
from api_world import ApiWorld, api_world, database_name, fresh_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

CARD = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}
ADDRESS = {"line1": "Damrak 1", "city": "Amsterdam", "postal_code": "1012 LG", "country": "NL"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("objects")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


async def event(api: ApiWorld, key: str, type_: str) -> dict:
    """The newest event of a type."""
    return (await api.get("/v1/events", key, type=type_))["data"][0]


async def test_a_customer_is_made_changed_found_and_deleted(api: ApiWorld):
    """What was not named stays, what is empty goes; a deleted one is only a name."""
    merchant = await api.merchant()
    made = (
        await api.post(
            "/v1/customers",
            merchant.secret,
            name="Ada",
            email="ada@example.com",
            address=ADDRESS,
            metadata={"tier": "gold"},
            shipping={"name": "Ada", "address": ADDRESS},
            description="first",
        )
    ).json
    assert (made["name"], made["address"]["city"], made["shipping"]["address"]["line1"]) == ("Ada", "Amsterdam", "Damrak 1")
    path = f"/v1/customers/{made['id']}"
    changed = (await api.post(path, merchant.secret, name="", phone="1", metadata={"tier": "", "since": "2026"})).json
    assert (changed["name"], changed["phone"], changed["email"]) == (None, "1", "ada@example.com")
    assert changed["metadata"] == {"since": "2026"}
    updated = await event(api, merchant.secret, "customer.updated")
    assert updated["data"]["previous_attributes"]["metadata"] == {"since": None, "tier": "gold"}
    assert (await api.get(path, merchant.secret)).json == changed
    found = (await api.get("/v1/customers", merchant.secret, email="ada@example.com"))["data"]
    assert [one["id"] for one in found] == [made["id"]]
    assert (await api.get("/v1/customers", merchant.secret, email="ada@example.org"))["data"] == []
    gone = await api.send("DELETE", path, key=merchant.secret, headers={"Content-Length": "0"})
    assert gone.json == {"id": made["id"], "object": "customer", "deleted": True}
    assert (await api.get(path, merchant.secret)).json == gone.json
    assert (await api.get("/v1/customers", merchant.secret))["data"] == []
    assert (await api.send("DELETE", path, key=merchant.secret)).status == 404
    assert (await event(api, merchant.secret, "customer.deleted"))["data"]["object"]["id"] == made["id"]
    assert (await api.post(path, merchant.secret, name="x")).status == 404


async def test_a_customer_keeps_its_languages_and_its_tax_status(api: ApiWorld):
    """As sent, in order; unset they read as those of a customer that never had any."""
    merchant = await api.merchant()
    made = await api.post("/v1/customers", merchant.secret, preferred_locales=["nl-NL", "en"], tax_exempt="reverse")
    assert (made["preferred_locales"], made["tax_exempt"]) == (["nl-NL", "en"], "reverse")
    path = f"/v1/customers/{made['id']}"
    assert (await api.post(path, merchant.secret, name="Ada"))["preferred_locales"] == ["nl-NL", "en"]
    changed = await api.post(path, merchant.secret, preferred_locales="", tax_exempt="exempt")
    assert (changed["preferred_locales"], changed["tax_exempt"]) == ([], "exempt")
    for form in ({"tax_exempt": ""}, {"tax_exempt": "none"}):
        assert (await api.post(path, merchant.secret, **form))["tax_exempt"] == "none"
    assert (await api.get(path, merchant.secret))["name"] == "Ada"
    plain = await api.post("/v1/customers", merchant.secret, preferred_locales="", tax_exempt="none")
    assert (plain["preferred_locales"], plain["tax_exempt"]) == ([], "none")


async def test_a_source_is_refused_with_what_to_use_instead(api: ApiWorld):
    """Stripe's older way to bring a card is refused by name, never ignored."""
    merchant = await api.merchant()
    for name, hint in (("source", "payment_method"), ("default_source", "invoice_settings[default_payment_method]")):
        answer = await api.post("/v1/customers", merchant.secret, **{name: "tok_visa"})
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "parameter_unknown", name)
        assert hint in answer.error["message"]


async def test_an_update_that_changes_nothing_announces_nothing(api: ApiWorld):
    """And a repeated request is answered from its key."""
    merchant = await api.merchant()
    made = await api.post("/v1/customers", merchant.secret, name="Ada", idempotency_key="k")
    assert (await api.post("/v1/customers", merchant.secret, name="Ada", idempotency_key="k")).body == made.body
    await api.post(f"/v1/customers/{made['id']}", merchant.secret, name="Ada")
    assert [one["type"] for one in (await api.get("/v1/events", merchant.secret))["data"]] == ["customer.created"]


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ({"email": "nobody"}, "email_invalid", "email"),
        ({"name": "x" * 257}, None, "name"),
        ({"tax_exempt": "always"}, None, "tax_exempt"),
        ({"preferred_locales": "nl"}, None, "preferred_locales"),
        ({"preferred_locales": ["x" * 36]}, None, "preferred_locales[0]"),
        ({"preferred_locales": ["nl", "<b>"]}, None, "preferred_locales[1]"),
        ({"preferred_locales": ["nl"] * 21}, None, "preferred_locales"),
        ({"address": "Damrak 1"}, None, "address"),
        ({"address": {"planet": "Mars"}}, "parameter_unknown", "address[planet]"),
        ({"shipping": {"name": "Ada"}}, "parameter_missing", "shipping[address]"),
        ({"payment_method": "pm_nowhere"}, "resource_missing", "payment_method"),
        (
            {"invoice_settings": {"default_payment_method": "pm_nowhere"}},
            "resource_missing",
            "invoice_settings[default_payment_method]",
        ),
        ({"invoice_settings": {"footer": "x"}}, "parameter_unknown", "invoice_settings[footer]"),
        ({"invoice_prefix": "lower"}, None, "invoice_prefix"),
        ({"balance": 100}, "parameter_unknown", "balance"),
        ({"source": "tok_visa"}, "parameter_unknown", "source"),
    ],
)
async def test_a_customer_that_cannot_be_is_refused(api: ApiWorld, form, code, param):
    """By parameter, and nothing is stored."""
    merchant = await api.merchant()
    answer = await api.post("/v1/customers", merchant.secret, **form)
    assert (answer.status, answer.error.get("code"), answer.error["param"]) == (400, code, param)
    assert (await api.get("/v1/customers", merchant.secret))["data"] == []


async def test_a_payment_method_lives_with_its_customer(api: ApiWorld):
    """Made, attached, listed, changed, charged, detached for ever."""
    merchant = await api.merchant()
    key = merchant.secret
    customer = (await api.post("/v1/customers", key, name="Ada"))["id"]
    made = (
        await api.post(
            "/v1/payment_methods",
            key,
            type="card",
            card=CARD,
            billing_details={"name": "Ada", "address": ADDRESS},
            metadata={"a": "1"},
        )
    ).json
    assert (made["card"]["last4"], made["customer"], made["billing_details"]["name"]) == ("4242", None, "Ada")
    path = f"/v1/payment_methods/{made['id']}"
    unsaved = await api.post(path, key, metadata={"a": "2"})
    assert (unsaved.status, unsaved.error["type"]) == (400, "invalid_request_error")
    attached = (await api.post(f"{path}/attach", key, customer=customer, expand=["customer"])).json
    assert attached["customer"]["name"] == "Ada"
    assert (await event(api, key, "payment_method.attached"))["data"]["object"]["customer"] == customer
    of_customer = f"/v1/customers/{customer}/payment_methods"
    for found in (
        (await api.get(of_customer, key, type="card"))["data"],
        (await api.get("/v1/payment_methods", key, customer=customer))["data"],
        [(await api.get(f"{of_customer}/{made['id']}", key)).json],
    ):
        assert [one["id"] for one in found] == [made["id"]]
    changed = (
        await api.post(path, key, card={"exp_month": "03", "exp_year": "2041"}, billing_details={"email": "ada@example.com"})
    ).json
    assert (changed["card"]["exp_month"], changed["card"]["exp_year"]) == (3, 2041)
    assert (changed["billing_details"]["name"], changed["billing_details"]["email"]) == ("Ada", "ada@example.com")
    default = await api.post(f"/v1/customers/{customer}", key, invoice_settings={"default_payment_method": made["id"]})
    assert default["invoice_settings"]["default_payment_method"] == made["id"]
    detached = (await api.post(f"{path}/detach", key)).json
    assert detached["customer"] is None
    assert (await api.get(f"/v1/customers/{customer}", key))["invoice_settings"]["default_payment_method"] is None
    assert (await api.get(of_customer, key))["data"] == []
    assert (await api.post(f"{path}/attach", key, customer=customer)).error["code"] == "payment_method_unexpected_state"
    assert (await api.get(path, key))["id"] == made["id"]


async def test_test_tokens_can_be_attached_and_come_with_a_customer(api: ApiWorld):
    """Each use makes a new PaymentMethod; replays do not."""
    merchant = await api.merchant()
    customer = (
        await api.post(
            "/v1/customers",
            merchant.secret,
            payment_method="pm_card_visa",
            invoice_settings={"default_payment_method": "pm_card_visa"},
        )
    ).json
    first = customer["invoice_settings"]["default_payment_method"]
    assert first.startswith("pm_")
    assert not first.startswith("pm_card")
    form = {"customer": customer["id"], "idempotency_key": "k"}
    second = await api.post("/v1/payment_methods/pm_card_mastercard/attach", merchant.secret, **form)
    assert (await api.post("/v1/payment_methods/pm_card_mastercard/attach", merchant.secret, **form)).body == second.body
    listed = (await api.get(f"/v1/customers/{customer['id']}/payment_methods", merchant.secret))["data"]
    assert [one["card"]["brand"] for one in listed] == ["mastercard", "visa"]
    assert (await api.post("/v1/payment_methods/pm_card_nosuch/attach", merchant.secret, customer=customer["id"])).status == 404
    token = await api.post("/v1/payment_methods", merchant.secret, type="card", card={"token": "tok_visa"})
    assert token["card"]["last4"] == "4242"


async def test_a_customers_card_is_charged_only_for_that_customer(api: ApiWorld):
    """The payment must name whose card it is."""
    merchant = await api.merchant()
    customer = (await api.post("/v1/customers", merchant.secret))["id"]
    method = (await api.post("/v1/payment_methods/pm_card_visa/attach", merchant.secret, customer=customer))["id"]
    form = {"amount": 1000, "currency": "eur", "payment_method": method, "confirm": True}
    refused = await api.post("/v1/payment_intents", merchant.secret, **form)
    assert (refused.status, refused.error["code"]) == (400, "payment_method_unexpected_state")
    paid = await api.post(
        "/v1/payment_intents", merchant.secret, **form, customer=customer, off_session=True, expand=["customer"]
    )
    assert (paid["status"], paid["customer"]["id"], paid["payment_method"]) == ("succeeded", customer, method)
    assert (await api.get("/v1/charges", merchant.secret, customer=customer))["data"][0]["payment_method"] == method


async def test_the_account_is_the_callers_own(api: ApiWorld):
    """What SDKs ask for first."""
    merchant = await api.merchant()
    account = (await api.get("/v1/account", merchant.secret)).json
    assert (account["id"], account["charges_enabled"]) == (merchant.id, True)
    balance = (await api.get("/v1/balance", merchant.secret)).json
    assert balance["available"] == [{"amount": 0, "currency": account["default_currency"], "source_types": {"card": 0}}]


async def test_erased_details_are_null_everywhere(api: ApiWorld):
    """In the object, in its event, and in the stored answer of its key."""
    merchant = await api.merchant()
    made = await api.post("/v1/customers", merchant.secret, name="Ada", idempotency_key="k")
    await api.db.execute("UPDATE personal SET sealed = NULL WHERE account = $1", merchant.id)
    assert (await api.get(f"/v1/customers/{made['id']}", merchant.secret))["name"] is None
    assert (await event(api, merchant.secret, "customer.created"))["data"]["object"]["name"] is None
    assert (await api.post("/v1/customers", merchant.secret, name="Ada", idempotency_key="k"))["name"] is None
