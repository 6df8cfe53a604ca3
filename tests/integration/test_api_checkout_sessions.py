"""/v1/checkout/sessions: shape, parameters, refusals, lists; every answer is held against Stripe's schema by `send`."""

import asyncio
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from api_world import Answer, ApiWorld, api_world, database_name, fresh_database

from guilder.core.errors import Refusal
from guilder.merchants import BrandChange

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINE = {"price_data": {"currency": "eur", "unit_amount": 1250, "product_data": {"name": "Coffee"}}, "quantity": 2}
GOOD: dict[str, Any] = {"mode": "payment", "success_url": "https://shop.example/thanks", "line_items": [LINE]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(server: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiWorld]:
    """One running chain for this module."""
    async with fresh_database(server, database_name("sessions")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


async def asked(world: ApiWorld, key: str, **changes: Any) -> Answer:
    """A request for a session."""
    return await world.post("/v1/checkout/sessions", key, **(GOOD | changes))


async def test_a_session_shows_what_it_was_asked_for(world: ApiWorld) -> None:
    """Open, unpaid, with an address of its own and no payment yet."""
    shop = await world.merchant()
    answer = await asked(
        world, shop.secret, cancel_url="https://shop.example/cart", client_reference_id="order-1", customer_email="ada@example.com",
        metadata={"a": "b"}, submit_type="book", locale="de", expand=["line_items"], ui_mode="hosted",
        payment_intent_data={"capture_method": "manual", "receipt_email": "ada@example.com", "metadata": {"c": "d"}},
    )  # fmt: skip
    assert answer.status == 200
    shown = answer.json
    assert shown["id"].startswith("cs_test_") and shown["url"].endswith(f"/c/{shown['id']}")
    assert (shown["status"], shown["payment_status"], shown["payment_intent"]) == ("open", "unpaid", None)
    assert (shown["amount_total"], shown["currency"], shown["expires_at"] - shown["created"]) == (2500, "eur", 24 * 3600)
    assert shown["customer_email"] == shown["customer_details"]["email"] == "ada@example.com"
    assert shown["line_items"]["data"][0]["price"]["unit_amount"] == 1250
    again = await world.get(f"/v1/checkout/sessions/{shown['id']}", shop.secret, expand=["line_items"])
    assert again.json == shown
    assert "line_items" not in (await world.get(f"/v1/checkout/sessions/{shown['id']}", shop.secret)).json


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"mode": "subscription"}, "mode", None),
        ({"mode": None}, "mode", "parameter_invalid_empty"),
        ({"line_items": [{"price": "price_1"}]}, "line_items[0][price]", "parameter_unknown"),
        ({"line_items": []}, "line_items", "parameter_missing"),
        ({"line_items": [LINE | {"quantity": 0}]}, "line_items[0][quantity]", "parameter_invalid_integer"),
        ({"line_items": [LINE | {"tax_rates": ["txr_1"]}]}, "line_items[0][tax_rates]", "parameter_unknown"),
        ({"line_items": [LINE, LINE | {"price_data": LINE["price_data"] | {"currency": "usd"}}]}, "line_items[1][price_data][currency]", None),
        ({"line_items": [LINE | {"price_data": LINE["price_data"] | {"unit_amount": -1}}]}, "line_items[0][price_data][unit_amount]",
         "parameter_invalid_integer"),
        ({"line_items": [LINE | {"price_data": LINE["price_data"] | {"unit_amount": 10}}]}, "line_items", "amount_too_small"),
        ({"line_items": [LINE | {"quantity": 999_999}]}, "line_items", "amount_too_large"),
        ({"success_url": "/thanks"}, "success_url", "url_invalid"),
        ({"success_url": "myapp://thanks"}, "success_url", "url_invalid"),
        ({"cancel_url": "javascript:alert(1)"}, "cancel_url", "url_invalid"),
        ({"customer_email": "ada"}, "customer_email", "email_invalid"),
        ({"customer": "cus_none"}, "customer", "resource_missing"),
        ({"expires_at": 1}, "expires_at", None),
        ({"discounts": [{"coupon": "c"}]}, "discounts", "parameter_unknown"),
        ({"automatic_tax": {"enabled": True}}, "automatic_tax[enabled]", None),
        ({"allow_promotion_codes": True}, "allow_promotion_codes", None),
        ({"phone_number_collection": {"enabled": True}}, "phone_number_collection[enabled]", None),
        ({"invoice_creation": {"enabled": True}}, "invoice_creation[enabled]", None),
        ({"tax_id_collection": {"enabled": True}}, "tax_id_collection[enabled]", None),
        ({"line_items": [LINE, LINE | {"adjustable_quantity": {"enabled": True}}]}, "line_items[1][adjustable_quantity][enabled]", None),
        ({"line_items": [LINE | {"adjustable_quantity": {"enabled": False, "maximum": 5}}]}, "line_items[0][adjustable_quantity][maximum]",
         "parameter_unknown"),
        ({"billing_address_collection": "required"}, "billing_address_collection", None),
        ({"customer_creation": "always"}, "customer_creation", None),
        ({"payment_method_options": {"card": {"request_three_d_secure": "never"}}}, "payment_method_options[card][request_three_d_secure]", None),
        ({"payment_method_options": {"card": {"installments": {"enabled": True}}}}, "payment_method_options[card][installments]",
         "parameter_unknown"),
        ({"shipping_options": [{"shipping_rate": "shr"}]}, "shipping_options", "parameter_unknown"),
        ({"payment_intent_data": {"application_fee_amount": 5}}, "payment_intent_data[application_fee_amount]", "parameter_unknown"),
        ({"payment_intent_data": {"transfer_data": {"destination": "acct"}}}, "payment_intent_data[transfer_data]", "parameter_unknown"),
        ({"payment_intent_data": {"statement_descriptor": "***"}}, "payment_intent_data[statement_descriptor]", None),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_by_name(world: ApiWorld, changes: dict[str, Any], param: str, code: str | None) -> None:
    """Above all what would touch money."""
    shop = await world.merchant()
    answer = await asked(world, shop.secret, **changes)
    assert answer.status == 400, answer.json
    assert (answer.error["param"], answer.error.get("code")) == (param, code)
    assert (await world.get("/v1/checkout/sessions", shop.secret))["data"] == []


async def test_a_feature_that_is_not_there_may_be_declined_by_name(world: ApiWorld) -> None:
    """As many integrations do; the session is the same as without."""
    shop = await world.merchant()
    off = {"enabled": False}
    answer = await asked(
        world, shop.secret, automatic_tax=off, allow_promotion_codes=False, phone_number_collection=off, invoice_creation=off,
        tax_id_collection=off, billing_address_collection="auto", customer_creation="if_required",
        line_items=[LINE | {"adjustable_quantity": off}],
    )  # fmt: skip
    assert answer.status == 200, answer.json
    plain = (await asked(world, shop.secret)).json
    different = {name for name, value in answer.json.items() if value != plain[name]}
    assert different <= {"id", "url", "created", "expires_at"}


@pytest.mark.parametrize("wish", [None, "automatic", "any", "challenge"])
async def test_a_session_shows_what_it_asks_of_the_issuer(world: ApiWorld, wish: str | None) -> None:
    """`automatic` when nothing is said."""
    shop = await world.merchant()
    options = {} if wish is None else {"payment_method_options": {"card": {"request_three_d_secure": wish}}}
    answer = await asked(world, shop.secret, **options)
    assert answer["payment_method_options"]["card"]["request_three_d_secure"] == (wish or "automatic")


async def test_the_same_key_gives_the_same_session(world: ApiWorld) -> None:
    """Create, update and expire answer a repeated request with the first one's bytes; other parameters are refused."""
    shop = await world.merchant()
    first, second = [await world.post("/v1/checkout/sessions", shop.secret, idempotency_key="one", **GOOD) for _ in range(2)]
    assert first.body == second.body and second.headers["idempotent-replayed"] == "true"
    path = f"/v1/checkout/sessions/{first['id']}"
    for verb, params in (("", {"metadata": {"a": "b"}}), ("/expire", {})):
        done, again = [await world.post(path + verb, shop.secret, idempotency_key=f"key{verb}", **params) for _ in range(2)]
        assert done.status == 200
        assert (again.body, again.headers["idempotent-replayed"]) == (done.body, "true")
    refused = await world.post(path + "/expire", shop.secret, idempotency_key="key", metadata={"a": "b"})
    assert refused.error["type"] == "idempotency_error"


async def test_a_session_expires_once(world: ApiWorld) -> None:
    """The event tells it; a second request is refused, and that refusal is its key's answer for ever."""
    shop = await world.merchant()
    session = await asked(world, shop.secret)
    path = f"/v1/checkout/sessions/{session['id']}/expire"
    ended = await world.post(path, shop.secret)
    assert (ended["status"], ended["url"]) == ("expired", None)
    refused, again = [await world.post(path, shop.secret, idempotency_key="late") for _ in range(2)]
    assert refused.status == 400 and "status of expired" in refused.error["message"]
    assert again.body == refused.body
    events = (await world.get("/v1/events", shop.secret))["data"]
    assert [event["type"] for event in events] == ["checkout.session.expired"]
    assert events[0]["data"]["object"]["id"] == session["id"]


async def test_metadata_is_merged(world: ApiWorld) -> None:
    """As everywhere: "" deletes a key; nothing else may be changed."""
    shop = await world.merchant()
    session = await asked(world, shop.secret, metadata={"a": "1", "b": "2"})
    path = f"/v1/checkout/sessions/{session['id']}"
    assert (await world.post(path, shop.secret, metadata={"a": "", "c": "3"}))["metadata"] == {"b": "2", "c": "3"}
    assert (await world.post(path, shop.secret, success_url="https://other.example")).error["code"] == "parameter_unknown"


async def test_lists_are_pages(world: ApiWorld) -> None:
    """Sessions by status and customer, newest first; line items in their order."""
    shop = await world.merchant()
    customer = await world.post("/v1/customers", shop.secret, name="Ada")
    first = await asked(world, shop.secret, line_items=[LINE, LINE, LINE])
    second = await asked(world, shop.secret, customer=customer["id"])
    await world.post(f"/v1/checkout/sessions/{first['id']}/expire", shop.secret)

    async def ids(**query: Any) -> list[str]:
        return [one["id"] for one in (await world.get("/v1/checkout/sessions", shop.secret, **query))["data"]]

    assert await ids() == [second["id"], first["id"]]
    assert await ids(status="expired") == [first["id"]]
    assert await ids(customer=customer["id"]) == [second["id"]]
    assert await ids(payment_intent="pi_none") == []
    path = f"/v1/checkout/sessions/{first['id']}/line_items"
    page = await world.get(path, shop.secret, limit=2)
    assert (len(page["data"]), page["has_more"], page["url"]) == (2, True, path)
    rest = await world.get(path, shop.secret, starting_after=page["data"][-1]["id"])
    assert (len(rest["data"]), rest["has_more"]) == (1, False)
    back = await world.get(path, shop.secret, ending_before=rest["data"][0]["id"])
    assert back["data"] == page["data"]


async def test_another_merchants_session_does_not_exist(world: ApiWorld) -> None:
    """Nor one of the other mode, nor for a publishable key."""
    shop, other = await world.merchant(), await world.merchant()
    session = await asked(world, shop.secret)
    path = f"/v1/checkout/sessions/{session['id']}"
    for key in (other.secret, shop.live_secret):
        assert (await world.get(path, key)).status == 404
        assert (await world.post(path + "/expire", key)).status == 404
    assert (await world.get(path, shop.publishable)).status == 403


# --- the page on the same roles -------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50


async def browse(url: str, form: Mapping[str, str] | None = None) -> tuple[int, str]:
    """One request of a browser, as (status, page)."""

    def ask() -> tuple[int, str]:
        body = None if form is None else urlencode(form).encode()
        try:
            with urllib.request.urlopen(url, body, timeout=20) as answer:
                return answer.status, answer.read().decode("latin-1")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(world: ApiWorld) -> ApiWorld:
    """The same chain with the page."""
    await world.start("checkout")
    return world


async def test_a_card_that_nobody_takes_is_told_and_another_may_be_tried(page: ApiWorld) -> None:
    """There is no connector to real money: nothing is sent, each try is told so, and none is lost in a stored answer."""
    shop = await page.merchant()
    url = (await asked(page, shop.live_secret))["url"]
    for number in ("4242424242424242", "5555555555554444"):
        _, html = await browse(url)
        form = dict(re.findall(r'name="(try|token|lang)" value="([^"]*)"', html))
        form |= {"email": "ada@example.com", "number": number, "expiry": "12/34", "cvc": "123", "name": "Ada"}
        status, html = await browse(url, form)
        assert status == 422
        assert "This card cannot be used here" in html


async def test_a_page_looks_like_its_merchant(page: ApiWorld) -> None:
    """Name, colour and logo, from our own origin; the usual look comes back."""
    shop = await page.merchant()
    url = (await asked(page, shop.secret))["url"]
    await page.merchants.set_brand(shop.id, BrandChange(name="Coffee & Co", color="#FFE000", logo=PNG))
    other = await asked(page, shop.secret)
    _, html = await browse(other["url"])
    assert "Coffee &amp; Co" in html and "/brand/ffe000.css" in html
    origin = url.partition("/c/")[0]
    assert (await browse(f"{origin}/logo/{other['id']}")) == (200, PNG.decode("latin-1"))
    status, sheet = await browse(f"{origin}/brand/ffe000.css")
    assert status == 200 and "--on-brand:#000000" in sheet
    assert (await browse(f"{origin}/brand/evil}}.css"))[0] == 404


@pytest.mark.parametrize(
    "wrong",
    [{"name": "x" * 81}, {"color": "red"}, {"color": "#12345"}, {"logo": b"<svg/>"}, {"logo": PNG + b"0" * 30_000}],
)
async def test_a_look_that_cannot_be_is_refused(page: ApiWorld, wrong: dict[str, Any]) -> None:
    """What could run in a browser, what is too large, and what is no colour."""
    shop = await page.merchant()
    with pytest.raises(Refusal):
        await page.merchants.set_brand(shop.id, BrandChange(**wrong))
