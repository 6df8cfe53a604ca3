"""The till over HTTP, through every real process but the worker: readers, cards held to them, slow and absent banks."""

import asyncio
import json

import asyncpg
import pytest
import pytest_asyncio
from api_world import ApiWorld, Merchant, api_world, database_name, fresh_database

from guilder.api.call import Call

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOCATION = {"display_name": "Shop 1", "address": {"line1": "Damrak 1", "city": "Amsterdam", "country": "NL", "postal_code": "1012"}}
# What an account of the bank world is opened with, in cents.
OPENING = 10_000_000_000_000 * 100
AT_TILL = {"amount": 2500, "currency": "eur", "payment_method_types": ["card_present"]}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("terminal")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def shop(api: ApiWorld):
    """A merchant with a reader at a location."""
    merchant = await api.merchant()
    location = await api.post("/v1/terminal/locations", merchant.secret, **LOCATION)
    reader = await api.post(
        "/v1/terminal/readers", merchant.secret, registration_code="simulated-wpe", label="Till 1", location=location["id"],
    )  # fmt: skip
    yield merchant, reader["id"], location["id"]
    await api.browse(f"{api.settings.network_control}/faults", method="DELETE")


async def begin(api: ApiWorld, merchant: Merchant, reader: str, **more) -> str:
    """A payment that the reader asks a card for."""
    payment = await api.post("/v1/payment_intents", merchant.secret, **{**AT_TILL, **more})
    assert payment["status"] == "requires_payment_method"
    asked = await api.post(f"/v1/terminal/readers/{reader}/process_payment_intent", merchant.secret, payment_intent=payment["id"])
    assert asked["action"]["status"] == "in_progress"
    assert asked["action"]["process_payment_intent"]["payment_intent"] == payment["id"]
    return payment["id"]


async def hold_card(api: ApiWorld, merchant: Merchant, reader: str, number: str | None = None, **more):
    """Hold a card to the reader."""
    card = {} if number is None else {"card_present": {"number": number}}
    path = f"/v1/test_helpers/terminal/readers/{reader}/present_payment_method"
    return await api.post(path, merchant.secret, type="card_present", **card, **more)


async def is_whole(api: ApiWorld, name: str) -> bool:
    """Whether a card account of the bank world holds what it was opened with, and nothing is held on it."""
    shown = await api.browse(f"{api.settings.network_control}/accounts?name={name}")
    return json.loads(shown.body)["accounts"][0]["balances"] in ({}, {"eur": {"balance": OPENING, "held": 0}})


async def new_card(api: ApiWorld, bin_: str) -> tuple[str, str]:
    """A card account of this test's own: its number and its name."""
    opened = await api.browse(f"{api.settings.network_control}/accounts", json={"bin": bin_, "count": 1})
    return json.loads(opened.body)["numbers"][0], f"{bin_}-1"


async def fault(api: ApiWorld, kind: str, **rule):
    """Switch a fault of the bank on."""
    answer = await api.browse(f"{api.settings.network_control}/faults", json={"kind": kind, **rule})
    assert answer.status == 201


async def comes_to(api: ApiWorld, merchant: Merchant, payment: str, status: str):
    """Wait until the payment is in this state; returns it."""
    async with asyncio.timeout(30):
        while (shown := await api.get(f"/v1/payment_intents/{payment}", merchant.secret))["status"] != status:
            await asyncio.sleep(0.02)
    return shown.json


async def test_locations_are_kept(api: ApiWorld):
    """Create, retrieve, update, list, delete."""
    merchant = await api.merchant()
    made = await api.post("/v1/terminal/locations", merchant.secret, **LOCATION, metadata={"floor": "1"})
    assert (made.status, made["address"]["city"], made["metadata"]) == (200, "Amsterdam", {"floor": "1"})
    path = f"/v1/terminal/locations/{made['id']}"
    changed = await api.post(path, merchant.secret, display_name="Shop 2", metadata={"floor": "", "door": "2"})
    assert (changed["display_name"], changed["metadata"]) == ("Shop 2", {"door": "2"})
    assert (await api.get(path, merchant.secret)).json == changed.json
    listed = await api.get("/v1/terminal/locations", merchant.secret)
    assert [one["id"] for one in listed["data"]] == [made["id"]]
    gone = await api.send("DELETE", path, key=merchant.secret)
    assert gone.json == {"id": made["id"], "object": "terminal.location", "deleted": True}
    assert (await api.get(path, merchant.secret)).status == 404


async def test_readers_are_kept(api: ApiWorld, shop):
    """By a simulated code; listed by location; a location with readers stays."""
    merchant, reader, location = shop
    path = f"/v1/terminal/readers/{reader}"
    shown = await api.get(path, merchant.secret)
    assert (shown["device_type"], shown["label"], shown["location"], shown["status"]) == ("simulated_wisepos_e", "Till 1", location, "online")
    assert (await api.post(path, merchant.secret, label="Till 2"))["label"] == "Till 2"
    other = await api.post("/v1/terminal/readers", merchant.secret, registration_code="simulated-s700")
    assert other["device_type"] == "simulated_stripe_s700"
    assert len((await api.get("/v1/terminal/readers", merchant.secret))["data"]) == 2
    assert [one["id"] for one in (await api.get("/v1/terminal/readers", merchant.secret, location=location))["data"]] == [reader]
    assert (await api.send("DELETE", f"/v1/terminal/locations/{location}", key=merchant.secret)).status == 400
    wrong = await api.post("/v1/terminal/readers", merchant.secret, registration_code="puppies-plug-could")
    assert (wrong.status, wrong.error["param"]) == (400, "registration_code")
    gone = await api.send("DELETE", f"/v1/terminal/readers/{other['id']}", key=merchant.secret)
    assert gone["deleted"] is True
    stranger = await api.merchant()
    assert (await api.get(path, stranger.secret)).status == 404


async def test_a_card_at_the_reader_is_charged(api: ApiWorld, shop):
    """The reader's action has succeeded; the charge shows reader, location and how the card was read; the bank has it."""
    merchant, reader, location = shop
    payment = await begin(api, merchant, reader)
    done = await hold_card(api, merchant, reader)
    assert (done.status, done["action"]["status"], done["action"]["failure_code"]) == (200, "succeeded", None)
    paid = (await api.get(f"/v1/payment_intents/{payment}", merchant.secret, expand=["latest_charge", "payment_method"])).json
    assert (paid["status"], paid["amount_received"], paid["payment_method"]["type"]) == ("succeeded", 2500, "card_present")
    details = paid["latest_charge"]["payment_method_details"]
    assert (details["type"], details["card_present"]["reader"], details["card_present"]["location"]) == ("card_present", reader, location)
    assert (details["card_present"]["last4"], details["card_present"]["read_method"]) == ("4242", "contact_emv")
    events = [one["type"] for one in (await api.get("/v1/events", merchant.secret, limit=100))["data"]]
    assert "terminal.reader.action_succeeded" in events


async def test_a_declined_card_fails_the_action_and_another_card_pays(api: ApiWorld, shop):
    """The payment asks for a card again, and the reader can take it."""
    merchant, reader, _ = shop
    payment = await begin(api, merchant, reader)
    failed = await hold_card(api, merchant, reader, "4000000000009995")
    assert (failed["action"]["status"], failed["action"]["failure_code"]) == ("failed", "insufficient_funds")
    shown = await api.get(f"/v1/payment_intents/{payment}", merchant.secret)
    assert shown["status"] == "requires_payment_method"
    assert shown["last_payment_error"]["payment_method"]["type"] == "card_present"
    seen = await api.get(f"/v1/payment_intents/{payment}", merchant.publishable, client_secret=shown["client_secret"])
    assert seen["last_payment_error"]["payment_method"]["card_present"]["fingerprint"] is None
    await api.post(f"/v1/terminal/readers/{reader}/process_payment_intent", merchant.secret, payment_intent=payment)
    assert (await hold_card(api, merchant, reader))["action"]["status"] == "succeeded"


async def test_a_card_that_wants_authentication_pays_at_the_reader(api: ApiWorld, shop):
    """The chip proves the buyer."""
    merchant, reader, _ = shop
    await begin(api, merchant, reader)
    assert (await hold_card(api, merchant, reader, "4000002760003184"))["action"]["status"] == "succeeded"


async def test_a_busy_reader_takes_nothing_else_and_an_action_can_be_canceled(api: ApiWorld, shop):
    """Without an action no card can be held to it."""
    merchant, reader, _ = shop
    payment = await begin(api, merchant, reader)
    again = await api.post(f"/v1/terminal/readers/{reader}/process_payment_intent", merchant.secret, payment_intent=payment)
    assert (again.status, again.error["code"]) == (400, "terminal_reader_busy")
    canceled = await api.post(f"/v1/terminal/readers/{reader}/cancel_action", merchant.secret)
    assert canceled["action"] is None
    assert (await hold_card(api, merchant, reader)).status == 400
    assert (await api.post(f"/v1/payment_intents/{payment}/cancel", merchant.secret))["status"] == "canceled"


async def test_a_repeat_at_the_reader_is_answered_as_the_first_request_was(api: ApiWorld, shop):
    """Whatever has become of the payment and of the action since."""
    merchant, reader, _ = shop
    payment = (await api.post("/v1/payment_intents", merchant.secret, **AT_TILL))["id"]
    path, key = f"/v1/terminal/readers/{reader}/process_payment_intent", "process"
    first = await api.post(path, merchant.secret, payment_intent=payment, idempotency_key=key)
    assert (await hold_card(api, merchant, reader))["action"]["status"] == "succeeded"
    again = await api.post(path, merchant.secret, payment_intent=payment, idempotency_key=key)
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (200, first.body, "true")


async def test_a_card_that_a_reader_has_refused_is_not_charged_for_the_next_payment(api: ApiWorld, shop):
    """The refusal stands under its key: who repeats it while the reader asks for another buyer's card is refused again."""
    merchant, reader, _ = shop
    early = await hold_card(api, merchant, reader, idempotency_key="early")
    assert (early.status, early.error["code"]) == (400, "terminal_reader_busy")
    payment = await begin(api, merchant, reader)
    busy = await api.post(f"/v1/terminal/readers/{reader}/process_payment_intent", merchant.secret, payment_intent=payment, idempotency_key="busy")
    again = await hold_card(api, merchant, reader, idempotency_key="early")
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (400, early.body, "true")
    assert (await api.get(f"/v1/payment_intents/{payment}", merchant.secret))["status"] == "requires_payment_method"
    await api.post(f"/v1/terminal/readers/{reader}/cancel_action", merchant.secret)
    again = await api.post(f"/v1/terminal/readers/{reader}/process_payment_intent", merchant.secret, payment_intent=payment, idempotency_key="busy")
    assert (again.status, again.body) == (400, busy.body)


async def test_a_card_that_is_refused_while_the_same_request_reads_it_is_not_charged(api: ApiWorld, shop, monkeypatch):
    """Sent twice under one key, and a payment begins in between: the refusal that was told first is the truth."""
    merchant, reader, _ = shop
    looked, go_on = asyncio.Event(), asyncio.Event()
    look = Call.answered

    async def paused(call):
        found = await look(call)
        if not looked.is_set():
            looked.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(Call, "answered", paused)
    first = asyncio.ensure_future(hold_card(api, merchant, reader, idempotency_key="twice"))
    await looked.wait()
    second = await hold_card(api, merchant, reader, idempotency_key="twice")
    assert (second.status, second.error["code"]) == (400, "terminal_reader_busy")
    payment = await begin(api, merchant, reader)
    go_on.set()
    answer = await first
    assert (answer.status, answer.body) == (400, second.body)
    assert (await api.get(f"/v1/payment_intents/{payment}", merchant.secret))["status"] == "requires_payment_method"
    assert (await hold_card(api, merchant, reader))["action"]["status"] == "succeeded"


async def test_an_action_that_could_not_be_canceled_is_not_canceled_by_the_same_request_later(api: ApiWorld, shop):
    """While the bank is asked; the refusal stands under its key."""
    merchant, reader, _ = shop
    number, _ = await new_card(api, "424206")
    await fault(api, "late_answer", operation="purchase", card=number, delay_ms=5_000)
    payment = await begin(api, merchant, reader)
    holding = asyncio.ensure_future(hold_card(api, merchant, reader, number))
    await comes_to(api, merchant, payment, "processing")
    path = f"/v1/terminal/readers/{reader}/cancel_action"
    refused = await api.post(path, merchant.secret, idempotency_key="cancel")
    assert (refused.status, refused.error["code"]) == (400, "terminal_reader_busy")
    assert (await holding)["action"]["status"] == "succeeded"
    again = await api.post(path, merchant.secret, idempotency_key="cancel")
    assert (again.status, again.body) == (400, refused.body)


async def test_what_is_no_payment_for_a_reader_is_refused(api: ApiWorld, shop):
    """A card payment at a reader, a reader's payment by confirm, and one with both kinds at the reader."""
    merchant, reader, _ = shop
    online = await api.post("/v1/payment_intents", merchant.secret, amount=2500, currency="eur")
    refused = await api.post(f"/v1/terminal/readers/{reader}/process_payment_intent", merchant.secret, payment_intent=online["id"])
    assert (refused.status, refused.error["code"]) == (400, "payment_intent_incompatible_payment_method")
    payment = (await api.post("/v1/payment_intents", merchant.secret, **AT_TILL))["id"]
    confirmed = await api.post(f"/v1/payment_intents/{payment}/confirm", merchant.secret, payment_method="pm_card_visa")
    assert confirmed.status == 400
    at_once = await api.post("/v1/payment_intents", merchant.secret, **AT_TILL, confirm=True, payment_method="pm_card_visa")
    assert at_once.status == 400


@pytest.mark.parametrize("kind", ["lost_answer", "lost_request", "late_answer"])
async def test_a_bank_that_does_not_answer_in_time_is_undone_and_the_buyers_account_is_whole(api: ApiWorld, shop, kind: str):
    """The till hears within 8 seconds and a little; in the end the buyer has what he had."""
    merchant, reader, _ = shop
    number, name = await new_card(api, {"lost_answer": "424201", "lost_request": "424202", "late_answer": "424203"}[kind])
    await fault(api, kind, operation="purchase", card=number, delay_ms=12_000)
    payment = await begin(api, merchant, reader)
    failed = await hold_card(api, merchant, reader, number, idempotency_key=f"till-{kind}")
    assert (failed.status, failed["action"]["status"], failed["action"]["failure_code"]) == (200, "failed", "processing_error")
    assert "being undone" in failed["action"]["failure_message"]
    shown = await comes_to(api, merchant, payment, "requires_payment_method")
    assert shown["latest_charge"] is None
    assert await is_whole(api, name)
    again = await hold_card(api, merchant, reader, number, idempotency_key=f"till-{kind}")
    assert again.body == failed.body


async def test_a_slow_bank_within_the_time_is_waited_for(api: ApiWorld, shop):
    """Three seconds."""
    merchant, reader, _ = shop
    number, _ = await new_card(api, "424204")
    await fault(api, "late_answer", operation="purchase", card=number, delay_ms=3_000)
    payment = await begin(api, merchant, reader)
    assert (await hold_card(api, merchant, reader, number))["action"]["status"] == "succeeded"
    assert (await api.get(f"/v1/payment_intents/{payment}", merchant.secret))["status"] == "succeeded"
    assert not await is_whole(api, "424204-1")


async def waits_for_a_lock(admin: asyncpg.Connection, count: int):
    """Wait until so many sessions of this database wait for a lock."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(600):
        if await admin.fetchval(sql) >= count:
            return
        await asyncio.sleep(0.01)
    pytest.fail("nobody waits")


@pytest.mark.parametrize("first", ["card", "cancel"])
async def test_a_till_that_was_told_canceled_is_never_charged(api: ApiWorld, shop, first: str):
    """The card is held to the reader in the moment in which the action is canceled: one of the two counts.

    A cancel that comes when the card has been charged, and the till has been told so, finds an action that has ended.
    """
    merchant, reader, _ = shop
    payment = await begin(api, merchant, reader)
    path = f"/v1/terminal/readers/{reader}"
    admin = await asyncpg.connect(api.settings.database_url)
    try:
        async with admin.transaction():
            # Whoever comes first has decided, and cannot commit yet.
            table, id_ = ("payment", payment) if first == "card" else ("terminal_reader", reader)
            await admin.execute(f"SELECT 1 FROM {table} WHERE id = $1 FOR UPDATE", id_)
            if first == "card":
                card = asyncio.create_task(hold_card(api, merchant, reader))
                await waits_for_a_lock(admin, 1)
                cancel = asyncio.create_task(api.post(f"{path}/cancel_action", merchant.secret))
                await asyncio.sleep(0.3)
            else:
                cancel = asyncio.create_task(api.post(f"{path}/cancel_action", merchant.secret))
                await waits_for_a_lock(admin, 1)
                card = asyncio.create_task(hold_card(api, merchant, reader))
                await asyncio.sleep(0.3)
        canceled, held = await asyncio.gather(cancel, card)
    finally:
        await admin.close()
    shown = await api.get(f"/v1/payment_intents/{payment}", merchant.secret)
    told = (await api.get(path, merchant.secret))["action"]
    if canceled.status == 200 and canceled["action"] is None:
        charged = first == "card" and held.status == 200 and held["action"]["status"] == "succeeded"
        assert (shown["status"], told) == ("succeeded" if charged else "requires_payment_method", None)
    else:
        assert (shown["status"], told["status"]) == ("succeeded", "succeeded")


async def test_a_card_that_was_charged_is_never_answered_with_nothing_stored(api: ApiWorld, shop):
    """The reader's row cannot be written after the payment: not known yet; the same key tells, and charges nothing more."""
    merchant, reader, _ = shop
    payment = await begin(api, merchant, reader)
    admin = await asyncpg.connect(api.settings.database_url)
    try:
        await admin.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'full' USING ERRCODE = '53100'; END $$;"
            "CREATE TRIGGER full_disk BEFORE UPDATE ON terminal_reader FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
        first = await hold_card(api, merchant, reader, idempotency_key="till-full")
        await admin.execute("DROP FUNCTION full_disk CASCADE")
    finally:
        await admin.close()
    assert (await api.get(f"/v1/payment_intents/{payment}", merchant.secret))["status"] == "succeeded"
    assert (first.status, first.headers["stripe-should-retry"]) == (500, "true")
    again = await hold_card(api, merchant, reader, idempotency_key="till-full")
    assert (again.status, again["action"]["status"]) == (200, "succeeded")
    assert len((await api.get("/v1/charges", merchant.secret, payment_intent=payment))["data"]) == 1
