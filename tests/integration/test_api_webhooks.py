"""/v1/webhook_endpoints and /v1/webhook_deliveries over HTTP: Stripe's shape, secrets shown once, what was sent and answered."""

import json

import pytest
import pytest_asyncio
import stripe
from api_world import Answer, ApiWorld, Merchant, api_world, database_name, fresh_database

from guilder.core.clock import SystemClock, epoch_seconds, sleep
from receiver import Receiver, answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAID = "payment_intent.succeeded"
URL = "https://example.com/webhooks"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain with a worker, for this module."""
    async with fresh_database(server, database_name("webhooks")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        await world.start("worker")
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def merchant(api: ApiWorld) -> Merchant:
    """A merchant of the test's own."""
    return await api.merchant()


@pytest_asyncio.fixture(loop_scope="module")
async def receiver():
    """A receiver that takes everything."""
    receiver = await Receiver().start()
    yield receiver
    await receiver.close()


async def create(api: ApiWorld, merchant: Merchant, url: str = URL, *types: str, **more) -> Answer:
    """Make an endpoint for these types, all by default."""
    return await api.post("/v1/webhook_endpoints", merchant.secret, url=url, enabled_events=types or ("*",), **more)


async def pay(api: ApiWorld, merchant: Merchant) -> str:
    """Take a payment; the id of its last event."""
    fields = {"amount": 1000, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    paid = await api.post("/v1/payment_intents", merchant.secret, **fields, automatic_payment_methods={"enabled": True, "allow_redirects": "never"})
    assert paid["status"] == "succeeded"
    return (await api.get("/v1/events", merchant.secret, type=PAID))["data"][0]["id"]


async def delivered(api: ApiWorld, merchant: Merchant, event: str, state: str = "delivered") -> dict:
    """The delivery of an event, as soon as it is in this state."""
    for _ in range(500):
        found = (await api.get("/v1/webhook_deliveries", merchant.secret, event=event))["data"]
        if found and all(one["state"] == state for one in found):
            return found[0]
        await sleep(0.02)
    raise AssertionError(found)


async def test_an_endpoint_is_made_changed_listed_and_deleted(api: ApiWorld, merchant: Merchant):
    """Its secret is in the first answer, and in that one again when the request is repeated, and nowhere else."""
    made = await create(api, merchant, URL, PAID, "charge.refunded", description="Shop", metadata={"team": "a"}, idempotency_key="k1")
    again = await create(api, merchant, URL, PAID, "charge.refunded", description="Shop", metadata={"team": "a"}, idempotency_key="k1")
    assert again.body == made.body
    shown = made.json
    assert shown.pop("secret").startswith("whsec_")
    assert (shown["status"], shown["enabled_events"], shown["livemode"]) == ("enabled", [PAID, "charge.refunded"], False)
    one = f"/v1/webhook_endpoints/{shown['id']}"
    assert (await api.get(one, merchant.secret)).json == shown
    changed = await api.post(one, merchant.secret, url=URL + "/2", enabled_events=["*"], description="", metadata={"team": ""}, disabled=True)
    assert changed.json == shown | {"url": URL + "/2", "enabled_events": ["*"], "description": None, "metadata": {}, "status": "disabled"}
    assert (await api.post(one, merchant.secret, disabled=False))["status"] == "enabled"
    assert [found["id"] for found in (await api.get("/v1/webhook_endpoints", merchant.secret))["data"]] == [shown["id"]]
    gone = await api.send("DELETE", one, key=merchant.secret)
    assert gone.json == {"id": shown["id"], "object": "webhook_endpoint", "deleted": True}
    assert (await api.get(one, merchant.secret)).status == 404
    assert (await api.get("/v1/webhook_endpoints", merchant.secret))["data"] == []


async def test_the_secret_stands_nowhere_in_the_clear(api: ApiWorld, merchant: Merchant):
    """Neither in its own row nor in the stored answer that shows it."""
    secret = (await create(api, merchant))["secret"]
    for sql in (
        "SELECT string_agg(encode(secret, 'escape'), '') FROM webhook_endpoint",
        "SELECT string_agg(encode(answer, 'escape'), '') FROM idempotency_key",
    ):
        assert secret not in await api.db.fetchval(sql)


async def test_rotation_gives_a_new_secret_and_lets_the_old_one_sign_for_a_while(api: ApiWorld, merchant: Merchant, receiver: Receiver):
    """A receiver that knows either of the two accepts what comes meanwhile."""
    made = await create(api, merchant, receiver.url, PAID)
    rotated = await api.post(f"/v1/webhook_endpoints/{made['id']}/rotate_secret", merchant.secret, overlap_hours=2)
    assert rotated["secret"] not in ("", made["secret"])
    assert rotated["guilder"]["previous_secret_until"] == pytest.approx(epoch_seconds(SystemClock().now()) + 7200, abs=60)
    await sleep(1.2)
    await delivered(api, merchant, await pay(api, merchant))
    [request] = receiver.requests
    for secret in (made["secret"], rotated["secret"]):
        stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], secret)
    assert request.headers["stripe-signature"].count("v1=") == 2
    assert request.headers["webhook-signature"].count("v1,") == 2
    await api.post(f"/v1/webhook_endpoints/{made['id']}/rotate_secret", merchant.secret, overlap_hours=0)
    await sleep(1.2)
    await delivered(api, merchant, await pay(api, merchant))
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(receiver.requests[1].body, receiver.requests[1].headers["stripe-signature"], rotated["secret"])


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"url": "ftp://example.com"}, "url", "url_invalid"),
        ({"url": "https://user:pass@example.com"}, "url", "url_invalid"),
        ({"url": "https://example.com/#x"}, "url", "url_invalid"),
        ({"url": "https://example.com:22/"}, "url", "url_invalid"),
        ({"url": "https://10.0.0.1/"}, "url", "url_invalid"),
        ({"url": "https://169.254.169.254/latest"}, "url", "url_invalid"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url", "url_invalid"),
        ({"url": "https://0xa.1/"}, "url", "url_invalid"),
        ({"enabled_events": ["payment_intent.succeded"]}, "enabled_events[0]", None),
        ({"enabled_events": ["*", "invoice.paid"]}, "enabled_events[1]", None),
        ({"api_version": "2020-08-27"}, "api_version", None),
        ({"connect": True}, "connect", None),
        ({"secret": "whsec_mine"}, "secret", "parameter_unknown"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(api: ApiWorld, merchant: Merchant, fields: dict, param: str, code: str | None):
    """400, with the parameter at fault; an unknown type is named in the message."""
    refused = await api.post("/v1/webhook_endpoints", merchant.secret, **{"url": URL, "enabled_events": ["*"], **fields})
    assert (refused.status, refused.error["param"], refused.error.get("code")) == (400, param, code)
    if param.startswith("enabled_events"):
        assert fields["enabled_events"][-1] in refused.error["message"]
        assert ("did you mean 'payment_intent.succeeded'?" in refused.error["message"]) == ("succeded" in fields["enabled_events"][0])


async def test_an_endpoint_tells_which_of_its_types_nothing_sends_yet(api: ApiWorld, merchant: Merchant):
    """Integrations that were written for Stripe subscribe to them, so they are taken; nobody waits for them without a word."""
    made = await create(api, merchant, URL, PAID, "payout.paid", "charge.dispute.created")
    assert made["guilder"] == {"not_sent_yet": ["payout.paid", "charge.dispute.created"]}
    one = f"/v1/webhook_endpoints/{made['id']}"
    assert (await api.get(one, merchant.secret))["guilder"] == made["guilder"]
    assert "guilder" not in (await api.post(one, merchant.secret, enabled_events=[PAID])).json
    assert "guilder" not in (await create(api, merchant)).json


async def test_live_endpoints_want_tls_and_a_public_address(api: ApiWorld, merchant: Merchant):
    """Test mode may go to this machine, live mode may not unless a setting says so."""
    for url in ("http://example.com/", "https://127.0.0.1:4242/", "https://[::1]:4242/"):
        refused = await api.post("/v1/webhook_endpoints", merchant.live_secret, url=url, enabled_events=["*"])
        assert (refused.status, refused.error["code"]) == (400, "url_invalid")
    assert (await api.post("/v1/webhook_endpoints", merchant.live_secret, url=URL, enabled_events=["*"])).status == 200


async def test_a_merchant_has_sixteen_endpoints_in_each_mode(api: ApiWorld, merchant: Merchant):
    """The seventeenth is refused; deleting one makes room."""
    made = [await create(api, merchant) for _ in range(16)]
    refused = await create(api, merchant)
    assert refused.status == 400
    assert "16 test webhook endpoints" in refused.error["message"]
    await api.send("DELETE", f"/v1/webhook_endpoints/{made[0]['id']}", key=merchant.secret)
    assert (await create(api, merchant)).status == 200


async def test_another_merchants_endpoint_and_the_other_modes_do_not_exist(api: ApiWorld, merchant: Merchant):
    """404 for each verb."""
    one = f"/v1/webhook_endpoints/{(await create(api, merchant))['id']}"
    for key in ((await api.merchant()).secret, merchant.live_secret):
        assert (await api.get(one, key)).status == 404
        assert (await api.post(one, key, disabled=True)).status == 404
        assert (await api.post(f"{one}/rotate_secret", key)).status == 404
        assert (await api.send("DELETE", one, key=key)).status == 404


async def test_a_delivery_shows_what_was_sent_and_answered_and_can_be_sent_again(api: ApiWorld, merchant: Merchant, receiver: Receiver):
    """No signature and no secret stands in it; the event says what it waits for."""
    endpoint = await create(api, merchant, receiver.url, PAID)
    receiver.behave = lambda _request: answer(500, b"card 4242 4242 4242 4242 is broken")
    event = await pay(api, merchant)
    for _ in range(500):
        waiting = (await api.get("/v1/webhook_deliveries", merchant.secret, state="pending"))["data"]
        if waiting and waiting[0]["tries"] == 1:
            break
        await sleep(0.02)
    [waiting] = waiting
    assert (waiting["event"], waiting["endpoint"], waiting["sequence"], waiting["tries"]) == (event, endpoint["id"], 1, 1)
    assert waiting["next_try_at"] is not None
    assert (await api.get(f"/v1/events/{event}", merchant.secret))["pending_webhooks"] == 1
    assert [one["id"] for one in (await api.get("/v1/events", merchant.secret, delivery_success=False))["data"]] == [event]
    receiver.behave = lambda _request: answer(200, b"thanks")
    again = await api.post(f"/v1/webhook_deliveries/{waiting['id']}/retry", merchant.secret)
    assert again.status == 200
    await delivered(api, merchant, event)
    shown = (await api.get(f"/v1/webhook_deliveries/{waiting['id']}", merchant.secret)).json
    assert [(one["try"], one["status"], one["answer"]) for one in shown["attempts"]] == [(1, 500, "card ***4242 is broken"), (2, 200, "thanks")]
    assert [one["url"] for one in shown["attempts"]] == [receiver.url] * 2
    assert shown["request"]["body"] == json.loads(receiver.requests[0].body) == json.loads(receiver.requests[1].body)
    assert shown["request"]["headers"]["Guilder-Sequence"] == "1"
    assert shown["request"]["headers"]["Stripe-Signature"] == "t=***,v1=***"
    assert (await api.get(f"/v1/events/{event}", merchant.secret))["pending_webhooks"] == 0
    assert (await api.get("/v1/events", merchant.secret, delivery_success=False))["data"] == []
    assert event in [one["id"] for one in (await api.get("/v1/events", merchant.secret, delivery_success=True))["data"]]


async def test_each_try_shows_the_address_that_it_went_to(api: ApiWorld, merchant: Merchant, receiver: Receiver):
    """Also after the endpoint has another one, and after a success that was sent again."""
    endpoint = await create(api, merchant, receiver.url + "/old", PAID)
    event = await pay(api, merchant)
    one = f"/v1/webhook_deliveries/{(await delivered(api, merchant, event))['id']}"
    await api.post(f"/v1/webhook_endpoints/{endpoint['id']}", merchant.secret, url=receiver.url + "/new")
    # Changes take effect within about a second.
    await sleep(1.2)
    assert [tried["url"] for tried in (await api.get(one, merchant.secret))["attempts"]] == [receiver.url + "/old"]
    for behave, paths in ((answer(500), ["old", "new"]), (answer(200), ["old", "new", "new"])):
        receiver.behave = lambda _request, behave=behave: behave
        await api.post(f"{one}/retry", merchant.secret)
        for _ in range(500):
            shown = (await api.get(one, merchant.secret)).json
            if len(shown["attempts"]) == len(paths):
                break
            await sleep(0.02)
        assert [tried["url"] for tried in shown["attempts"]] == [f"{receiver.url}/{path}" for path in paths]
    assert [request.path.rpartition("/")[2] for request in receiver.requests] == ["old", "new", "new"]


async def test_a_delivery_that_has_arrived_can_be_sent_again(api: ApiWorld, merchant: Merchant, receiver: Receiver):
    """The same bytes under the same number; both tries are shown. A disabled endpoint takes none."""
    endpoint = await create(api, merchant, receiver.url, PAID)
    event = await pay(api, merchant)
    first = await delivered(api, merchant, event)
    await api.post(f"/v1/webhook_deliveries/{first['id']}/retry", merchant.secret)
    for _ in range(500):
        if len(receiver.requests) == 2:
            break
        await sleep(0.02)
    await delivered(api, merchant, event)
    assert receiver.requests[0].body == receiver.requests[1].body
    assert [request.number for request in receiver.requests] == [1, 1]
    shown = await api.get(f"/v1/webhook_deliveries/{first['id']}", merchant.secret)
    assert [(one["try"], one["status"]) for one in shown["attempts"]] == [(1, 200), (2, 200)]
    await api.post(f"/v1/webhook_endpoints/{endpoint['id']}", merchant.secret, disabled=True)
    refused = await api.post(f"/v1/webhook_deliveries/{first['id']}/retry", merchant.secret)
    assert (refused.status, refused.error["code"]) == (400, "webhook_endpoint_disabled")
    assert (await api.get(f"/v1/webhook_deliveries/{first['id']}", (await api.merchant()).secret)).status == 404


async def test_deliveries_are_listed_by_endpoint_and_state(api: ApiWorld, merchant: Merchant, receiver: Receiver):
    """And by pages, as everything is."""
    one, two = [await create(api, merchant, f"{receiver.url}/{name}", PAID) for name in "ab"]
    events = [await pay(api, merchant) for _ in range(3)]
    for event in events:
        await delivered(api, merchant, event)
    listed = (await api.get("/v1/webhook_deliveries", merchant.secret, endpoint=one["id"]))["data"]
    assert [found["event"] for found in listed] == events[::-1]
    assert {found["sequence"] for found in listed} == {1, 2, 3}
    page = await api.get("/v1/webhook_deliveries", merchant.secret, endpoint=two["id"], limit=2)
    assert (len(page["data"]), page["has_more"]) == (2, True)
    for state, count in (("delivered", 6), ("pending", 0), ("exhausted", 0), ("canceled", 0)):
        assert len((await api.get("/v1/webhook_deliveries", merchant.secret, state=state))["data"]) == count
