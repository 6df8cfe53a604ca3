"""Payments at the PSP's own page, through every real process but the worker: the buyer's way there and back, and all that comes between."""

import asyncio
import hmac
import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from api_world import Answer, ApiWorld, Merchant, api_world, database_name, fresh_database

from bank_process import ControlPort
from guilder.folder import webpsp_account
from guilder.payments.model import attempt_facts_from

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = {"payment_method_types": ["psp_page"], "payment_method_data": {"type": "psp_page"}}
EITHER = {**PAGE, "payment_method_types": ["card", "psp_page"]}
SHOP = "https://shop.example/done?order=7"
PATIENCE_SECONDS = 30


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("psp_page")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        await world.start("checkout")
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def merchant(api: ApiWorld):
    """A merchant of the test's own; no fault outlives it."""
    yield await api.merchant()
    await bank(api).ask("DELETE", "/faults")


def bank(api: ApiWorld) -> ControlPort:
    """The bank world's control port."""
    return ControlPort(api.settings.ports.network_http)


async def begin(api: ApiWorld, merchant: Merchant, **more) -> Answer:
    """Ask for 19.99 EUR at the PSP's page."""
    return await api.post("/v1/payment_intents", merchant.secret, **{"amount": 1999, "currency": "eur", "confirm": True, **PAGE, **more})


async def page_of(api: ApiWorld, answer: Answer) -> str:
    """The PSP's page, at the end of the way that the merchant sends the buyer."""
    shown = answer.json
    assert (answer.status, shown["status"]) == (200, "requires_action"), shown
    assert shown["next_action"]["type"] == "redirect_to_url"
    there = await api.browse(shown["next_action"]["redirect_to_url"]["url"])
    assert there.status == 303
    return there.headers["location"]


async def pay(api: ApiWorld, page: str, number: str = "4242424242424242") -> Answer:
    """The buyer enters a card at the PSP."""
    return await api.browse(page, form={"number": number, "expiry": "12/40", "cvc": "123", "answer": "pay"})


async def find(api: ApiWorld, merchant: Merchant, id_: str):
    """The payment as it stands."""
    return (await api.get(f"/v1/payment_intents/{id_}", merchant.secret, expand=["latest_charge"])).json


async def until(api: ApiWorld, merchant: Merchant, id_: str, status: str):
    """The payment, once it has this status and nothing is open about it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            payment = await find(api, merchant, id_)
            if payment["status"] == status and not await open_states(api, id_):
                return payment
            await asyncio.sleep(0.02)


async def open_states(api: ApiWorld, id_: str) -> list[str]:
    """The states of what is open about a payment; a later look at an undone attempt does not count."""
    rows = await api.db.fetch("SELECT state FROM attempt_open WHERE payment = $1 AND state <> 'recheck'", id_)
    return [row["state"] for row in rows]


async def attempts(api: ApiWorld, id_: str) -> list[tuple[str, str | None, str]]:
    """Operation, end and reference of a payment's attempts."""
    rows = await api.db.fetch("SELECT operation, state, reference FROM attempt WHERE payment = $1 ORDER BY id", id_)
    return [tuple(row) for row in rows]


async def effects(api: ApiWorld, id_: str) -> list[str]:
    """What really happened under the references of a payment's attempts, and what undid it."""
    references = {reference for _, _, reference in await attempts(api, id_)}
    return [one["kind"] for one in await bank(api).truth() if {one["reference"], one["original"]} & references]


async def advance(api: ApiWorld, seconds: int) -> None:
    """Move business time."""
    file = api.settings.clock_file
    before = int(file.read_text()) if file.exists() else 0
    file.write_text(str(before + seconds * 1_000_000))


async def test_a_buyer_pays_at_the_psps_page_and_comes_back_to_the_shop(api: ApiWorld, merchant: Merchant):
    """Neither shop nor Guilder sees the card; by the time he is back, the payment is complete."""
    answer = await begin(api, merchant, return_url=SHOP)
    page = await page_of(api, answer)
    paid = await pay(api, page)
    assert paid.status == 303
    end = await api.browse(paid.headers["location"])
    query = parse_qs(urlsplit(end.headers["location"]).query)
    assert end.headers["location"].startswith("https://shop.example/done?order=7&payment_intent=")
    assert query["redirect_status"] == ["succeeded"]
    payment = await find(api, merchant, answer["id"])
    assert (payment["status"], payment["amount_received"], payment["next_action"]) == ("succeeded", 1999, None)
    assert payment["latest_charge"]["payment_method_details"] == {"psp_page": {}, "type": "psp_page"}
    assert await effects(api, answer["id"]) == ["authorization", "capture"]
    vaulted = await api.db.fetchval("SELECT count(*) FROM payment_method WHERE id = $1", payment["payment_method"])
    assert vaulted == 1
    again = await api.browse(paid.headers["location"])
    assert again.headers["location"] == end.headers["location"]


async def test_what_is_held_at_the_page_is_captured_and_refunded(api: ApiWorld, merchant: Merchant):
    """Where the payment went, the rest goes."""
    answer = await begin(api, merchant, capture_method="manual")
    await api.browse((await pay(api, await page_of(api, answer))).headers["location"])
    one = f"/v1/payment_intents/{answer['id']}"
    assert (await find(api, merchant, answer["id"]))["status"] == "requires_capture"
    assert (await api.post(f"{one}/capture", merchant.secret, amount_to_capture=1500))["status"] == "succeeded"
    refund = await api.post("/v1/refunds", merchant.secret, payment_intent=answer["id"], amount=500)
    assert refund["status"] == "succeeded"
    assert await effects(api, answer["id"]) == ["authorization", "capture", "refund"]
    rows = await api.db.fetch("SELECT facts FROM attempt WHERE payment = $1", answer["id"])
    assert {attempt_facts_from(row["facts"]).connector for row in rows} == {"webpsp"}


async def test_a_notification_is_enough(api: ApiWorld, merchant: Merchant):
    """The buyer closes the window; the PSP tells us, and is asked."""
    answer = await begin(api, merchant)
    await pay(api, await page_of(api, answer))
    await until(api, merchant, answer["id"], "succeeded")
    [(_, _, reference)] = await attempts(api, answer["id"])
    row = await api.db.fetchrow("SELECT connector, heeded_at IS NOT NULL AS heeded FROM psp_notification WHERE reference = $1", reference)
    assert (row["connector"], row["heeded"]) == ("webpsp", True)


async def test_without_return_and_notification_the_psp_is_asked_all_the_same(api: ApiWorld, merchant: Merchant):
    """On a schedule that begins at five seconds."""
    await bank(api).fault("notice_lost")
    answer = await begin(api, merchant)
    await pay(api, await page_of(api, answer))
    assert await open_states(api, answer["id"]) == ["awaiting_buyer"]
    await advance(api, 6)
    await until(api, merchant, answer["id"], "succeeded")


async def test_a_notification_that_comes_twice_or_late_changes_nothing(api: ApiWorld, merchant: Merchant):
    """One row, one charge."""
    await bank(api).fault("notice_duplicate")
    answer = await begin(api, merchant)
    await api.browse((await pay(api, await page_of(api, answer))).headers["location"])
    await until(api, merchant, answer["id"], "succeeded")
    [(_, _, reference)] = await attempts(api, answer["id"])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await api.db.fetchval("SELECT count(*) FROM psp_notification WHERE reference = $1 AND heeded_at > 0", reference):
            await asyncio.sleep(0.02)
    assert await api.db.fetchval("SELECT count(*) FROM psp_notification WHERE reference = $1", reference) == 1
    assert await effects(api, answer["id"]) == ["authorization", "capture"]


async def test_a_buyer_who_gives_up_may_take_a_card_instead(api: ApiWorld, merchant: Merchant):
    """No charge, a reason, and the payment asks for a payment method again."""
    answer = await begin(api, merchant, **EITHER)
    left = await api.browse(await page_of(api, answer), form={"answer": "cancel"})
    end = await api.browse(left.headers["location"])
    assert (end.status, b"Nothing was charged" in end.body) == (200, True)
    payment = await find(api, merchant, answer["id"])
    assert (payment["status"], payment["latest_charge"]) == ("requires_payment_method", None)
    assert payment["last_payment_error"]["code"] == "payment_intent_payment_attempt_failed"
    paid = await api.post(f"/v1/payment_intents/{answer['id']}/confirm", merchant.secret, payment_method="pm_card_visa")
    assert paid["status"] == "succeeded"


async def test_a_buyer_who_comes_back_too_soon_is_sent_to_the_page_again(api: ApiWorld, merchant: Merchant):
    """He has used the browser's back button; the page is still open."""
    answer = await begin(api, merchant)
    page = await page_of(api, answer)
    way = answer["next_action"]["redirect_to_url"]["url"]
    back = await api.browse(f"{way}/return")
    assert (back.status, page.encode() in back.body) == (200, True)
    assert (await find(api, merchant, answer["id"]))["status"] == "requires_action"


@pytest.mark.parametrize("paid", [False, True])
async def test_a_cancel_closes_the_page_and_gives_back_what_was_paid_there(api: ApiWorld, merchant: Merchant, paid: bool):
    """Canceled at once; what nobody knew of yet is undone."""
    await bank(api).fault("notice_lost")
    answer = await begin(api, merchant)
    page = await page_of(api, answer)
    if paid:
        await pay(api, page)
    canceled = await api.post(f"/v1/payment_intents/{answer['id']}/cancel", merchant.secret)
    assert (canceled.status, canceled["status"]) == (200, "canceled")
    await until(api, merchant, answer["id"], "canceled")
    assert (await pay(api, page)).status == 409
    assert await effects(api, answer["id"]) == (["authorization", "capture", "reversal", "reversal"] if paid else [])
    assert [state for _, state, _ in await attempts(api, answer["id"])] == ["undone"]


@pytest.mark.parametrize("change", [
    ("/confirm", {"payment_method": "pm_card_visa"}), ("", {"amount": 2500}), ("", {"payment_method": "pm_card_visa"})
])  # fmt: skip
async def test_whatever_else_is_to_be_done_waits_until_the_page_is_closed(api: ApiWorld, merchant: Merchant, change):
    """409 that says so; repeated under the same key it goes through, and nobody can pay at the page any more."""
    answer = await begin(api, merchant, **EITHER)
    page = await page_of(api, answer)
    path, fields = f"/v1/payment_intents/{answer['id']}{change[0]}", change[1]
    first = await api.post(path, merchant.secret, idempotency_key=f"k{answer['id']}{fields}", **fields)
    assert (first.status, first.error["code"], first.headers["stripe-should-retry"]) == (409, "lock_timeout", "true")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (again := await api.post(path, merchant.secret, idempotency_key=f"k{answer['id']}{fields}", **fields)).status == 409:
            await asyncio.sleep(0.05)
    assert again.status == 200
    assert again["status"] == ("succeeded" if change[0] else "requires_payment_method" if "amount" in fields else "requires_confirmation")
    assert (await pay(api, page)).status == 409


async def test_metadata_may_change_while_the_buyer_is_at_the_page(api: ApiWorld, merchant: Merchant):
    """It has nothing to do with the money."""
    answer = await begin(api, merchant)
    changed = await api.post(f"/v1/payment_intents/{answer['id']}", merchant.secret, metadata={"order": "7"})
    assert (changed.status, changed["status"], changed["metadata"]) == (200, "requires_action", {"order": "7"})
    assert await open_states(api, answer["id"]) == ["awaiting_buyer"]


async def test_a_buyer_who_does_not_come_in_fifteen_minutes_has_gone(api: ApiWorld, merchant: Merchant):
    """The payment asks for a payment method again, and says why."""
    answer = await begin(api, merchant)
    await advance(api, 15 * 60 + 1)
    payment = await until(api, merchant, answer["id"], "requires_payment_method")
    assert payment["last_payment_error"]["code"] == "payment_intent_payment_attempt_expired"


async def test_a_page_whose_psp_is_silent_at_the_deadline_is_undone(api: ApiWorld, merchant: Merchant):
    """From then on nothing that is found approves it: what was paid there is given back."""
    await bank(api).fault("notice_lost")
    answer = await begin(api, merchant)
    await pay(api, await page_of(api, answer))
    await bank(api).fault("error", operation="query", code="96")
    await advance(api, 15 * 60 + 1)
    payment = await until(api, merchant, answer["id"], "requires_payment_method")
    assert payment["last_payment_error"]["code"] == "payment_intent_payment_attempt_expired"
    assert await effects(api, answer["id"]) == ["authorization", "capture", "reversal", "reversal"]


@pytest.mark.parametrize("fault", ["close", "lost_request"])
async def test_a_page_whose_opening_got_no_answer_is_opened_all_the_same(api: ApiWorld, merchant: Merchant, fault: str):
    """Found by asking, or ordered again under its key: nobody has its address, so nobody can have paid there."""
    await bank(api).fault("close" if fault == "close" else "error_page", face="web", operation="purchase", count=1, effect=fault == "close")
    answer = await begin(api, merchant)
    assert (answer.status, answer["status"]) == (200, "processing")
    assert answer["guilder"] == {"in_doubt": True}
    await advance(api, 2)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (payment := await api.get(f"/v1/payment_intents/{answer['id']}", merchant.secret))["status"] != "requires_action":
            await asyncio.sleep(0.02)
    await api.browse((await pay(api, await page_of(api, payment))).headers["location"])
    await until(api, merchant, answer["id"], "succeeded")
    assert await effects(api, answer["id"]) == ["authorization", "capture"]


async def test_a_wrong_amount_at_the_page_is_undone(api: ApiWorld, merchant: Merchant):
    """Whatever was taken there is not what was asked for."""
    await bank(api).fault("notice_lost")
    await bank(api).fault("wrong_amount", operation="query", face="web", count=1)
    answer = await begin(api, merchant)
    await api.browse((await pay(api, await page_of(api, answer))).headers["location"])
    await until(api, merchant, answer["id"], "requires_payment_method")
    assert await effects(api, answer["id"]) == ["authorization", "capture", "reversal", "reversal"]


@pytest.mark.parametrize(("fields", "param"), [
    ({"payment_method_types": ["card"]}, "payment_method"),
    ({"off_session": True}, "off_session"),
    ({"error_on_requires_action": True}, "error_on_requires_action"),
    ({"setup_future_usage": "off_session"}, "setup_future_usage"),
    ({"payment_method_data": {"type": "psp_page", "card": {"token": "tok_visa"}}}, "payment_method_data[card]"),
    ({"payment_method_data": {"type": "card"}}, "payment_method_data[card]"),
    ({"payment_method_data": {"type": "card", "card": {"token": "tok_visa"}}}, "payment_method"),
])  # fmt: skip
async def test_what_cannot_be_is_refused_by_name(api: ApiWorld, merchant: Merchant, fields, param: str):
    """Before anybody is asked."""
    answer = await begin(api, merchant, **fields)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_a_page_cannot_be_kept_for_a_customer(api: ApiWorld, merchant: Merchant):
    """It holds nothing to be charged again."""
    method = await api.post("/v1/payment_methods", merchant.secret, type="psp_page")
    customer = await api.post("/v1/customers", merchant.secret)
    assert (method.status, method["type"], method["psp_page"]) == (200, "psp_page", {})
    attached = await api.post(f"/v1/payment_methods/{method['id']}/attach", merchant.secret, customer=customer["id"])
    assert (attached.status, attached.error["code"]) == (400, "payment_method_unexpected_state")


async def test_an_address_that_was_never_given_out_leads_nowhere(api: ApiWorld, merchant: Merchant):
    """To know the attempt is not enough."""
    answer = await begin(api, merchant)
    way = answer["next_action"]["redirect_to_url"]["url"]
    for wrong in (way[:-1] + ("0" if way[-1] != "0" else "1"), way.rpartition("/")[0], way + "/return/return"):
        assert (await api.browse(wrong)).status == 404


# --- notifications ----------------------------------------------------------------------------------------------------


def signed(api: ApiWorld, document, *, secret: str | None = None, seconds: int | None = None) -> tuple[bytes, dict[str, str]]:
    """A notification as the PSP signs it, or somebody else."""
    body = json.dumps(document).encode()
    seconds = int(time.time()) if seconds is None else seconds
    key = (secret or webpsp_account(api.settings, lambda _: "").signing_secret).encode()
    mark = hmac.digest(key, b"%d." % seconds + body, "sha256").hex()
    return body, {"Content-Type": "application/json", "Webpsp-Signature": f"t={seconds},v1={mark}"}


async def told(api: ApiWorld, body: bytes, headers: dict[str, str], connector: str = "webpsp", method: str = "POST") -> Answer:
    """Send a notification."""
    return await api.send(method, f"/psp/{connector}", body=body, headers=headers)


async def test_what_a_notification_says_of_money_is_never_believed(api: ApiWorld, merchant: Merchant):
    """Signed by the PSP itself it says "approved"; asked, the PSP says that nobody has paid."""
    answer = await begin(api, merchant)
    [(_, _, reference)] = await attempts(api, answer["id"])
    attempt = answer["next_action"]["redirect_to_url"]["url"].split("/")[4]
    tries = await api.db.fetchval("SELECT tries FROM attempt_open WHERE payment = $1", answer["id"])
    document = {"id": "evt_lie", "reference": reference, "status": "approved", "amount": 1999, "currency": "eur", "metadata": {"attempt": attempt}}
    assert (await told(api, *signed(api, document))).status == 200
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await api.db.fetchval("SELECT tries FROM attempt_open WHERE payment = $1", answer["id"]) == tries:
            await asyncio.sleep(0.02)
    assert (await find(api, merchant, answer["id"]))["status"] == "requires_action"


async def test_a_forged_or_old_notification_is_refused_and_not_stored(api: ApiWorld, merchant: Merchant):
    """Another secret, another body, another time, no signature at all."""
    document = {"id": "evt_forged", "reference": "AAAAAAAAAAAA"}
    body, headers = signed(api, document)
    old = int(time.time()) - 301
    for forged in (
        signed(api, document, secret="web_secret_of_nobody"),
        (body.replace(b"AAAA", b"BBBB"), headers),
        signed(api, document, seconds=old),
        signed(api, document, seconds=old + 1000),
        (body, headers | {"Webpsp-Signature": headers["Webpsp-Signature"].replace("t=", "t=1")}),
        (body, headers | {"Webpsp-Signature": "v1=00"}),
        (body, {"Content-Type": "application/json"}),
        signed(api, {"id": "evt_forged"}),
    ):
        refused = await told(api, *forged)
        assert (refused.status, refused.error["code"]) == (400, "notification_refused")
    assert await api.db.fetchval("SELECT count(*) FROM psp_notification WHERE id = 'evt_forged'") == 0


async def test_a_notification_about_nothing_of_ours_is_taken_and_changes_nothing(api: ApiWorld, merchant: Merchant):
    """The PSP need not send it again."""
    document = {"id": "evt_nothing", "reference": "AAAAAAAAAAAA", "metadata": {"attempt": "at_nobody"}}
    assert (await told(api, *signed(api, document))).status == 200
    assert await api.db.fetchval("SELECT heeded_at FROM psp_notification WHERE id = 'evt_nothing'") is not None


async def test_notifications_have_one_address_for_each_connector(api: ApiWorld, merchant: Merchant):
    """And are sent there by POST."""
    body, headers = signed(api, {"id": "evt_x", "reference": "AAAAAAAAAAAA"})
    assert (await told(api, body, headers, "cardnet")).status == 404
    assert (await told(api, b"", headers, method="GET")).status == 405
