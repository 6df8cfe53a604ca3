"""Who may call, what they see, and what every answer bears."""

import base64
import json

import pytest
import pytest_asyncio
from api_world import ApiWorld, api_world, database_name, fresh_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAY = {"amount": 1999, "currency": "eur"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("callers")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer sk_test_nobody", "Basic !!!", "Basic " + base64.b64encode(b":x").decode(), "Digest x",
     "Bearer " + "x" * 5000, "Bearer sk_test_\xff"],
)  # fmt: skip
async def test_no_key_or_a_wrong_one_is_401(api: ApiWorld, authorization):
    """With a Request-Id and a challenge; a wrong key is repeated masked."""
    answer = await api.send("GET", "/v1/balance", headers={} if authorization is None else {"Authorization": authorization})
    assert (answer.status, answer.error["type"]) == (401, "invalid_request_error")
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "nobody" not in answer.error["message"]


async def test_curl_users_send_their_key_as_basic(api: ApiWorld):
    """`curl -u sk_test_...:`."""
    merchant = await api.merchant()
    basic = base64.b64encode(f"{merchant.secret}:".encode()).decode()
    answer = await api.send("GET", "/v1/balance", headers={"Authorization": f"Basic {basic}"})
    assert answer.status == 200


async def test_a_revoked_key_is_refused(api: ApiWorld):
    """At once, where it was revoked."""
    merchant = await api.merchant()
    key, secret = await api.merchants.create_key(merchant.id, livemode=False, kind="secret")
    await api.merchants.revoke_key(merchant.id, key.id)
    assert (await api.get("/v1/balance", secret.reveal())).status == 401


async def test_another_account_and_the_other_mode_do_not_exist(api: ApiWorld):
    """Each object by each verb: as if it were not there."""
    merchant, stranger = await api.merchant(), await api.merchant()
    customer = (await api.post("/v1/customers", merchant.secret, name="Ada"))["id"]
    method = (await api.post("/v1/payment_methods/pm_card_visa/attach", merchant.secret, customer=customer))["id"]
    form = {
        **PAY,
        "customer": customer,
        "payment_method": method,
        "confirm": True,
        "off_session": True,
        "receipt_email": "a@example.com",
    }
    paid = (await api.post("/v1/payment_intents", merchant.secret, **form)).json
    refund = (await api.post("/v1/refunds", merchant.secret, payment_intent=paid["id"], amount=1)).json
    event = (await api.get("/v1/events", merchant.secret))["data"][0]["id"]
    account = (await api.post("/v1/ledger/accounts", merchant.secret, currency="eur"))["id"]
    reads = [
        f"/v1/customers/{customer}", f"/v1/payment_methods/{method}", f"/v1/payment_intents/{paid['id']}",
        f"/v1/charges/{paid['latest_charge']}", f"/v1/refunds/{refund['id']}", f"/v1/events/{event}",
        f"/v1/balance_transactions/{refund['balance_transaction']}", f"/v1/ledger/accounts/{account}",
        f"/v1/ledger/accounts/{account}/balance",
    ]  # fmt: skip
    writes = [
        (f"/v1/customers/{customer}", {"name": "x"}), (f"/v1/payment_methods/{method}/detach", {}),
        (f"/v1/payment_intents/{paid['id']}", {"metadata": {"a": "1"}}), (f"/v1/payment_intents/{paid['id']}/cancel", {}),
        (f"/v1/payment_intents/{paid['id']}/capture", {}), (f"/v1/payment_intents/{paid['id']}/confirm", {}),
        (f"/v1/charges/{paid['latest_charge']}", {"metadata": {"a": "1"}}),
        (f"/v1/refunds/{refund['id']}", {"metadata": {"a": "1"}}),
    ]  # fmt: skip
    named = [
        ("/v1/payment_intents", {**PAY, "customer": customer}, "customer"),
        ("/v1/payment_intents", {**PAY, "payment_method": method}, "payment_method"),
        ("/v1/refunds", {"payment_intent": paid["id"]}, "payment_intent"),
        ("/v1/refunds", {"charge": paid["latest_charge"]}, "charge"),
    ]
    for key in (stranger.secret, merchant.live_secret):
        for path in reads:
            assert (await api.get(path, key)).status == 404, path
        for path, changes in writes:
            assert (await api.post(path, key, **changes)).status == 404, path
        for path, fields, param in named:
            answer = await api.post(path, key, **fields)
            assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "resource_missing", param)
        for path in (
            "/v1/customers",
            "/v1/payment_intents",
            "/v1/charges",
            "/v1/refunds",
            "/v1/events",
            "/v1/balance_transactions",
        ):
            assert (await api.get(path, key))["data"] == [], path


async def test_the_same_key_of_another_merchant_is_another_request(api: ApiWorld):
    """Idempotency keys belong to an account and a mode."""
    merchant, stranger = await api.merchant(), await api.merchant()
    answers = [
        await api.post("/v1/payment_intents", key, **PAY, idempotency_key="k") for key in (merchant.secret, stranger.secret)
    ]
    assert answers[0]["id"] != answers[1]["id"]


async def test_a_live_payment_without_a_live_connector_is_refused(api: ApiWorld):
    """It can be made, but nothing of it is sent to the sandbox's bank."""
    merchant = await api.merchant()
    method = (await api.post("/v1/payment_methods", merchant.secret, type="card", card={"token": "tok_visa"}))["id"]
    await api.db.execute(
        "INSERT INTO payment_method (id, account, livemode, card, metadata, allow_redisplay, created_at) "
        "SELECT 'pm_live', account, true, card, metadata, allow_redisplay, created_at FROM payment_method WHERE id = $1",
        method,
    )
    made = await api.post("/v1/payment_intents", merchant.live_secret, **PAY, payment_method="pm_live")
    assert (made["livemode"], made["status"]) == (True, "requires_confirmation")
    answer = await api.post(f"/v1/payment_intents/{made['id']}/confirm", merchant.live_secret)
    assert (answer.status, answer.error["code"]) == (400, "payment_intent_incompatible_payment_method")
    assert await api.db.fetchval("SELECT count(*) FROM attempt WHERE payment = $1", made["id"]) == 0


async def test_a_request_that_names_another_account_is_refused(api: ApiWorld):
    """Charging the caller's own account instead would be the wrong merchant's money."""
    merchant = await api.merchant()
    headers = {"Stripe-Account": "acct_other"}
    answer = await api.send("GET", "/v1/balance", key=merchant.secret, headers=headers)
    assert (answer.status, answer.error["code"]) == (403, "account_invalid")
    assert (await api.send("GET", "/v1/balance", key=merchant.secret, headers={"Stripe-Account": merchant.id})).status == 200


# --- publishable keys -----------------------------------------------------------------------------------------------


async def test_a_browser_pays_with_the_client_secret(api: ApiWorld):
    """It makes a PaymentMethod, sees its payment redacted, and confirms it."""
    merchant = await api.merchant()
    made = (await api.post("/v1/payment_intents", merchant.secret, **PAY, metadata={"secret": "x"})).json
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    method = (await api.post("/v1/payment_methods", merchant.publishable, type="card", card=card)).json
    assert method["card"]["fingerprint"] is None
    path, secret = f"/v1/payment_intents/{made['id']}", made["client_secret"]
    seen = (await api.get(path, merchant.publishable, client_secret=secret)).json
    assert (seen["amount"], seen["client_secret"]) == (1999, secret)
    assert {"metadata", "customer", "latest_charge", "amount_received"}.isdisjoint(seen)
    done = await api.post(
        f"{path}/confirm",
        merchant.publishable,
        client_secret=secret,
        payment_method=method["id"],
        use_stripe_sdk=True,
        idempotency_key="k",
    )
    assert done["status"] == "succeeded"
    assert "latest_charge" not in done.json
    again = await api.post(
        f"{path}/confirm",
        merchant.publishable,
        client_secret=secret,
        payment_method=method["id"],
        use_stripe_sdk=True,
        idempotency_key="k",
    )
    assert again.body == done.body


async def test_a_browser_without_the_secret_sees_nothing(api: ApiWorld):
    """Missing, wrong, or for parameters that are the merchant's."""
    merchant = await api.merchant()
    made = (await api.post("/v1/payment_intents", merchant.secret, **PAY)).json
    path = f"/v1/payment_intents/{made['id']}"
    for call in (api.get(path, merchant.publishable), api.post(f"{path}/confirm", merchant.publishable)):
        answer = await call
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "parameter_missing", "client_secret")
    wrong = {"client_secret": f"{made['id']}_secret_wrong"}
    for call in (api.get(path, merchant.publishable, **wrong), api.post(f"{path}/confirm", merchant.secret, **wrong)):
        answer = await call
        assert (answer.status, answer.error["param"]) == (400, "client_secret")
    answer = await api.post(
        f"{path}/confirm",
        merchant.publishable,
        client_secret=made["client_secret"],
        payment_method="pm_card_visa",
        off_session=True,
    )
    assert (answer.status, answer.error["code"], answer.error["param"]) == (403, "secret_key_required", "off_session")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/payment_intents"), ("POST", "/v1/payment_intents"), ("POST", "/v1/payment_intents/pi_1"),
     ("POST", "/v1/payment_intents/pi_1/capture"), ("POST", "/v1/payment_intents/pi_1/cancel"), ("GET", "/v1/customers"),
     ("POST", "/v1/customers"), ("GET", "/v1/payment_methods"), ("GET", "/v1/payment_methods/pm_1"), ("GET", "/v1/charges"),
     ("POST", "/v1/refunds"), ("GET", "/v1/events"), ("GET", "/v1/balance"), ("GET", "/v1/account"),
     ("GET", "/v1/ledger/accounts"), ("POST", "/v1/ledger/transfers"), ("GET", "/v1/ledger/trial_balance")],
)  # fmt: skip
async def test_a_publishable_key_may_do_nothing_else(api: ApiWorld, method, path):
    """403, and it says which key to use."""
    merchant = await api.merchant()
    answer = await api.send(method, path, key=merchant.publishable)
    assert (answer.status, answer.error["code"]) == (403, "secret_key_required")


# --- headers and forms of answers -----------------------------------------------------------------------------------


async def test_every_answer_bears_its_headers(api: ApiWorld):
    """Request-Id, the one version that is served whatever was asked for, no caching; the key on POST only."""
    merchant = await api.merchant()
    headers = {"Stripe-Version": "2019-01-01", "Idempotency-Key": "ignored"}
    read = await api.send("GET", "/v1/balance", key=merchant.secret, headers=headers)
    assert (read.headers["stripe-version"], read.headers["cache-control"]) == ("2026-05-27.dahlia", "no-store")
    assert "idempotency-key" not in read.headers
    written = await api.post("/v1/customers", merchant.secret, idempotency_key="mine")
    assert written.headers["idempotency-key"] == "mine"
    refused = await api.post("/v1/payment_intents", merchant.secret, idempotency_key="mine2")
    assert refused.headers["idempotency-key"] == "mine2"


async def test_an_error_carries_problem_members_for_those_who_ask(api: ApiWorld):
    """RFC 9457 beside Stripe's object, also for a decline and an unknown address."""
    merchant = await api.merchant()
    headers = {"Accept": "application/problem+json", "Content-Type": "application/x-www-form-urlencoded"}
    decline = b"amount=1000&currency=eur&payment_method=pm_card_visa_chargeDeclined&confirm=true"
    for method, path, body, status, code in [
        ("POST", "/v1/payment_intents", b"amount=1&currency=eur", 400, "amount_too_small"),
        ("POST", "/v1/payment_intents", decline, 402, "card_declined"),
        ("GET", "/v1/nowhere", b"", 404, None),
    ]:
        answer = await api.send(method, path, key=merchant.secret, body=body, headers=headers)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json
        assert (problem["status"], problem["detail"]) == (status, problem["error"]["message"])
        assert problem["instance"] == f"urn:guilder:request:{answer.headers['request-id']}"
        assert problem["type"] == (f"urn:guilder:error:{code}" if code else "about:blank")


async def test_json_bodies_are_as_good_as_forms(api: ApiWorld):
    """For people and agents; nested, typed."""
    merchant = await api.merchant()
    body = json.dumps(
        {**PAY, "metadata": {"a": "1"}, "confirm": True, "payment_method": "pm_card_visa", "expand": ["latest_charge"]}
    )
    answer = await api.send(
        "POST",
        "/v1/payment_intents",
        key=merchant.secret,
        body=body.encode(),
        headers={"Content-Type": "application/json"},
    )
    assert (answer["status"], answer["latest_charge"]["metadata"]) == ("succeeded", {"a": "1"})


async def test_an_empty_post_is_a_request_without_parameters(api: ApiWorld):
    """As SDKs send it: form content type, length 0."""
    merchant = await api.merchant()
    answer = await api.post("/v1/customers", merchant.secret)
    assert answer.status == 200


async def test_the_document_lists_every_address(api: ApiWorld):
    """OpenAPI 3.1, without a key."""
    answer = await api.send("GET", "/openapi.json")
    assert (answer.status, answer["openapi"]) == (200, "3.1.0")
    assert {"/v1/payment_intents/{intent}/confirm", "/v1/ledger/transfers", "/v1/events"} <= set(answer["paths"])
