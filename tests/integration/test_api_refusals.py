"""What bad input gets: the documented status, type, code and param, a message that says what would be right, nothing stored."""

import pytest
import pytest_asyncio
from api_world import ApiWorld, api_world, database_name, fresh_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

CARD = "4242424242424242"
PAY = {"amount": 1000, "currency": "eur"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("refusals")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


async def stored(api: ApiWorld) -> int:
    """How many rows tell of what requests made."""
    tables = (
        "payment",
        "customer",
        "payment_method",
        "personal",
        "refund",
        "idempotency_key",
        "event",
        "ledger_account",
        "vault_card",
    )
    counts = [f"(SELECT count(*) FROM {table})" for table in tables if table != "vault_card"]
    return await api.db.fetchval(f"SELECT {' + '.join(counts)}")


PAYMENT_MISTAKES = [
    ({"currency": "eur"}, "parameter_missing", "amount"),
    ({"amount": 1000}, "parameter_missing", "currency"),
    ({"amount": 0, "currency": "eur"}, "parameter_invalid_integer", "amount"),
    ({"amount": -5, "currency": "eur"}, "parameter_invalid_integer", "amount"),
    ({"amount": "1.5", "currency": "eur"}, "parameter_invalid_integer", "amount"),
    ({"amount": "1.0", "currency": "eur"}, "parameter_invalid_integer", "amount"),
    ({"amount": "1e3", "currency": "eur"}, "parameter_invalid_integer", "amount"),
    ({"amount": " 10", "currency": "eur"}, "parameter_invalid_integer", "amount"),
    ({"amount": "+10", "currency": "eur"}, "parameter_invalid_integer", "amount"),
    ({"amount": "ten", "currency": "eur"}, "parameter_invalid_integer", "amount"),
    ({"amount": "", "currency": "eur"}, "parameter_invalid_empty", "amount"),
    ({"amount": 49, "currency": "usd"}, "amount_too_small", "amount"),
    ({"amount": 100_000_000, "currency": "usd"}, "amount_too_large", "amount"),
    ({"amount": 10**40, "currency": "usd"}, "amount_too_large", "amount"),
    ({"amount": 150, "currency": "isk"}, "parameter_invalid_integer", "amount"),
    ({"amount": 1501, "currency": "kwd"}, "parameter_invalid_integer", "amount"),
    ({"amount": 1000, "currency": "xyz"}, None, "currency"),
    ({"amount": 1000, "currency": "euros"}, None, "currency"),
    ({**PAY, "surprise": 1}, "parameter_unknown", "surprise"),
    ({**PAY, "transfer_data": {"destination": "acct_1"}}, "parameter_unknown", "transfer_data"),
    ({**PAY, "application_fee_amount": 10}, "parameter_unknown", "application_fee_amount"),
    ({**PAY, "on_behalf_of": "acct_1"}, "parameter_unknown", "on_behalf_of"),
    ({**PAY, "mandate": "mandate_1"}, "parameter_unknown", "mandate"),
    ({**PAY, "payment_method_options": {"card": {"installments": {"enabled": True}}}}, "parameter_unknown",
     "payment_method_options[card][installments]"),
    ({**PAY, "capture_method": "later"}, None, "capture_method"),
    ({**PAY, "confirmation_method": ""}, "parameter_invalid_empty", "confirmation_method"),
    ({**PAY, "confirmation_method": "manual"}, None, "confirmation_method"),
    ({**PAY, "confirm": "maybe"}, None, "confirm"),
    ({**PAY, "payment_method_types": ["sepa_debit"]}, None, "payment_method_types[0]"),
    ({**PAY, "payment_method_types": ["card"], "automatic_payment_methods": {"enabled": True}}, "parameters_exclusive",
     "payment_method_types"),
    ({**PAY, "off_session": True}, None, "off_session"),
    ({**PAY, "error_on_requires_action": True}, None, "error_on_requires_action"),
    ({**PAY, "confirm": True}, "parameter_missing", "payment_method"),
    ({**PAY, "payment_method": "pm_nowhere"}, "resource_missing", "payment_method"),
    ({**PAY, "payment_method": "pm_card_nosuch"}, "resource_missing", "payment_method"),
    ({**PAY, "payment_method": "pm_" + "x" * 300}, None, "payment_method"),
    ({**PAY, "customer": "cus_nowhere"}, "resource_missing", "customer"),
    ({**PAY, "receipt_email": "nobody"}, "email_invalid", "receipt_email"),
    ({**PAY, "return_url": "not a url"}, "url_invalid", "return_url"),
    ({**PAY, "return_url": "javascript:alert(1)"}, "url_invalid", "return_url"),
    ({**PAY, "statement_descriptor": "<script>"}, None, "statement_descriptor"),
    ({**PAY, "statement_descriptor_suffix": "x" * 23}, None, "statement_descriptor_suffix"),
    ({**PAY, "description": "x" * 5001}, None, "description"),
    ({**PAY, "description": {"a": 1}}, None, "description"),
    ({**PAY, "shipping": {"name": "Ada"}}, "parameter_missing", "shipping[address]"),
    ({**PAY, "metadata": {"k" * 41: "v"}}, None, "metadata"),
    ({**PAY, "metadata": {"k": "v" * 501}}, None, "metadata[k]"),
    ({**PAY, "metadata": {f"k{n}": "v" for n in range(51)}}, None, "metadata"),
    ({**PAY, "metadata": "x"}, None, "metadata"),
    ({**PAY, "expand": "customer"}, None, "expand"),
    ({**PAY, "expand": ["amount"]}, None, "expand"),
    ({**PAY, "expand": ["customer.name"]}, None, "expand"),
    ({**PAY, "expand": ["data.customer"]}, None, "expand"),
    ({**PAY, "expand": ["latest_charge.payment_intent.latest_charge.payment_intent.customer"]}, None, "expand"),
    ({**PAY, "payment_method": "pm_card_visa", "payment_method_data": {"type": "card", "card": {"token": "tok_visa"}}},
     "parameters_exclusive", "payment_method_data"),
    ({**PAY, "payment_method_data": {"type": "card"}}, "parameter_missing", "payment_method_data[card]"),
    ({**PAY, "payment_method_data": {"type": "card", "card": {"cvc": "1"}}}, "parameter_missing",
     "payment_method_data[card][number]"),
    ({**PAY, "payment_method_data": {"type": "sepa_debit"}}, None, "payment_method_data[type]"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "code", "param"), PAYMENT_MISTAKES, ids=lambda value: str(value)[:60])
async def test_a_payment_that_cannot_be_is_refused_by_parameter(api: ApiWorld, form, code, param):
    """400, and nothing is stored, not even the key."""
    merchant = await api.merchant()
    before = await stored(api)
    answer = await api.post("/v1/payment_intents", merchant.secret, idempotency_key="k", **form)
    error = answer.error
    assert (answer.status, error["type"], error.get("code"), error.get("param")) == (400, "invalid_request_error", code, param)
    assert error["message"]
    assert await stored(api) == before


@pytest.mark.parametrize(
    ("card", "code", "field"),
    [
        ({"number": "4242424242424241"}, "incorrect_number", "number"),
        ({"number": "4242 4242 4242 424x"}, "invalid_number", "number"),
        ({"exp_month": 13}, "invalid_expiry_month", "exp_month"),
        ({"exp_month": 0}, "invalid_expiry_month", "exp_month"),
        ({"exp_year": 1999}, "invalid_expiry_year", "exp_year"),
        ({"exp_year": 9 * 10**18}, "invalid_expiry_year", "exp_year"),
        ({"cvc": "12"}, "invalid_cvc", "cvc"),
        ({"cvc": "abc"}, "invalid_cvc", "cvc"),
    ],
)
async def test_a_card_that_cannot_be_is_a_card_error(api: ApiWorld, card, code, field):
    """402 as Stripe has it, at PaymentMethods and inside a payment; the number is never repeated."""
    merchant = await api.merchant()
    before = await stored(api)
    whole = {"number": CARD, "exp_month": 12, "exp_year": 2040, "cvc": "123", **card}
    data = {"type": "card", "card": whole}
    for path, form, prefix in (
        ("/v1/payment_methods", data, "card"),
        ("/v1/payment_intents", {**PAY, "payment_method_data": data}, "payment_method_data[card]"),
    ):
        answer = await api.post(path, merchant.secret, **form)
        error = answer.error
        assert (answer.status, error["type"], error["code"], error["param"]) == (402, "card_error", code, f"{prefix}[{field}]")
        assert str(whole["number"]).encode() not in answer.body
    assert await stored(api) == before


CARD_SPACED = "4242 4242-4242 4242"
GOOD_TRANSFER = {"debit": "lac_1", "credit": "lac_2", "amount": 1}


@pytest.mark.parametrize("number", [CARD, CARD_SPACED, f"pm_{CARD}"])
async def test_a_card_number_sent_where_an_id_belongs_is_not_shown_again(api: ApiWorld, number: str):
    """In any parameter, in any place of the path, in a cursor, as a name or a value; not even stored with the key."""
    merchant = await api.merchant()
    quoted = number.replace(" ", "%20")
    posts = [
        ("/v1/payment_intents", {**PAY, "payment_method": number}),
        ("/v1/payment_intents", {**PAY, "payment_method": number, "confirm": True}),
        ("/v1/payment_intents", {**PAY, "customer": number}),
        ("/v1/payment_intents", {**PAY, "expand": [number]}),
        ("/v1/payment_intents", {**PAY, "capture_method": number}),
        ("/v1/payment_intents", {"amount": number, "currency": "eur"}),
        ("/v1/payment_intents", {"amount": 1000, "currency": number}),
        ("/v1/payment_intents", {**PAY, number: "1"}),
        ("/v1/payment_intents", {**PAY, "metadata": {number * 4: "1"}}),
        ("/v1/payment_methods", {"type": number}),
        ("/v1/payment_methods", {"type": "card", "card": {"token": number}}),
        ("/v1/customers", {"payment_method": number}),
        ("/v1/customers", {"email": number}),
        ("/v1/refunds", {"charge": number}),
        ("/v1/refunds", {"payment_intent": number}),
        ("/v1/ledger/transfers", {**GOOD_TRANSFER, "debit": number}),
        ("/v1/ledger/transfers", {**GOOD_TRANSFER, "id": number}),
        ("/v1/ledger/transfers", {"kind": "post", "pending_transfer": number}),
        (f"/v1/payment_methods/{quoted}/attach", {"customer": "cus_nowhere"}),
        (f"/v1/payment_methods/{quoted}/detach", {}),
        (f"/v1/{quoted}", {}),
    ]
    paths = ["/payment_intents/{}", "/charges/{}", "/charges/{}/refunds", "/refunds/{}", "/customers/{}", "/customers/{}/payment_methods",
             "/payment_methods/{}", "/events/{}", "/balance_transactions/{}", "/ledger/accounts/{}", "/ledger/accounts/{}/balance",
             "/ledger/transfers/{}", "/{}", "/accounts/{}", "/charges?starting_after={}", "/charges?payment_intent={}",
             "/refunds?charge={}", "/payment_methods?customer={}", "/balance_transactions?payout={}", "/ledger/transfers?ledger_account={}",
             "/events?starting_after={}", "/ledger/transfers?ending_before={}", "/charges?{}=1", "/charges?limit={}"]  # fmt: skip
    answers = [await api.post(path, merchant.secret, **form) for path, form in posts]
    answers += [await api.send("GET", f"/v1{path.format(quoted)}", key=merchant.secret) for path in paths]
    answers += [await api.send("DELETE", f"/v1/customers/{quoted}", key=merchant.secret)]
    for answer in answers:
        assert answer.status in (400, 402, 404)
        assert all(text not in answer.body.decode() for text in (CARD, CARD_SPACED, "4242 4242", "4242424242"))
    stored_answers = await api.db.fetch("SELECT answer FROM idempotency_key WHERE answer IS NOT NULL")
    assert not any(number.encode() in row["answer"] for row in stored_answers)


async def test_card_numbers_are_refused_with_live_keys(api: ApiWorld):
    """Unless a setting allows them; test tokens do not exist in live mode either."""
    merchant = await api.merchant()
    card = {"number": CARD, "exp_month": 12, "exp_year": 2040}
    answer = await api.post("/v1/payment_methods", merchant.live_secret, type="card", card=card)
    assert (answer.status, answer.error["param"]) == (400, "card")
    answer = await api.post("/v1/payment_methods", merchant.live_secret, type="card", card={"token": "tok_visa"})
    assert (answer.status, answer.error["code"]) == (400, "resource_missing")


@pytest.mark.parametrize(
    ("path", "status", "code", "param"),
    [
        ("/v1/payment_intents?limit=0", 400, "parameter_invalid_integer", "limit"),
        ("/v1/payment_intents?limit=101", 400, "parameter_invalid_integer", "limit"),
        ("/v1/payment_intents?limit=x", 400, "parameter_invalid_integer", "limit"),
        ("/v1/payment_intents?starting_after=pi_nowhere", 400, "resource_missing", "starting_after"),
        ("/v1/payment_intents?ending_before=pi_nowhere", 400, "resource_missing", "ending_before"),
        ("/v1/payment_intents?starting_after=a&ending_before=b", 400, "parameters_exclusive", "ending_before"),
        ("/v1/payment_intents?created[gt]=x", 400, "parameter_invalid_integer", "created[gt]"),
        ("/v1/payment_intents?created%5Bbefore%5D=1", 400, "parameter_unknown", "created[before]"),
        ("/v1/payment_intents?expand[]=customer", 400, None, "expand"),
        ("/v1/payment_intents?expand[]=data.amount", 400, None, "expand"),
        ("/v1/payment_intents?customer=cus_nowhere", 400, "resource_missing", "customer"),
        ("/v1/payment_intents?color=red", 400, "parameter_unknown", "color"),
        ("/v1/payment_intents?limit=1&limit=2", 400, None, "limit"),
        ("/v1/payment_intents?customer=%00", 400, None, "customer"),
        ("/v1/payment_intents?customer=%ff", 400, None, "customer"),
        ("/v1/payment_intents/pi_nowhere", 404, "resource_missing", "id"),
        ("/v1/payment_intents/pi_%00", 404, None, None),
        ("/v1/payment_intents/pi_%ff", 404, "resource_missing", "id"),
        ("/v1/charges?payment_intent=pi_nowhere", 400, "resource_missing", "payment_intent"),
        ("/v1/charges/ch_nowhere", 404, "resource_missing", "id"),
        ("/v1/charges/ch_nowhere/refunds", 404, "resource_missing", "id"),
        ("/v1/refunds?charge=ch_nowhere", 400, "resource_missing", "charge"),
        ("/v1/refunds/re_nowhere", 404, "resource_missing", "id"),
        ("/v1/customers/cus_nowhere", 404, "resource_missing", "id"),
        ("/v1/customers/cus_nowhere/payment_methods", 404, "resource_missing", "id"),
        ("/v1/payment_methods/pm_nowhere", 404, "resource_missing", "id"),
        ("/v1/payment_methods?customer=cus_nowhere", 400, "resource_missing", "customer"),
        ("/v1/events/evt_nowhere", 404, "resource_missing", "id"),
        ("/v1/events?type=a&types[]=b", 400, "parameters_exclusive", "types"),
        ("/v1/balance_transactions/txn_nowhere", 404, "resource_missing", "id"),
        ("/v1/balance_transactions?payout=po_1", 400, "resource_missing", "payout"),
        ("/v1/balance?account=x", 400, "parameter_unknown", "account"),
        ("/v1/ledger/accounts/lac_nowhere", 404, "resource_missing", "id"),
        ("/v1/ledger/transfers/nowhere", 404, "resource_missing", "id"),
        ("/v1/ledger/transfers?ledger_account=lac_nowhere", 400, "resource_missing", "ledger_account"),
        ("/v1/ledger/revenue?since=2&until=1", 200, None, None),
        ("/v1/ledger/revenue?since=1767225600&until=1", 400, None, "since"),
    ],
)
async def test_what_is_asked_for_wrongly_is_refused(api: ApiWorld, path, status, code, param):
    """An id in the path is 404, in a parameter 400; cursors, filters, expand, names and encodings are checked."""
    merchant = await api.merchant()
    answer = await api.send("GET", path, key=merchant.secret)
    assert answer.status == status
    if status != 200:
        assert (answer.error.get("code"), answer.error.get("param")) == (code, param)


BODIES = [
    ("application/x-www-form-urlencoded", b"amount=1000&currency=eur&description=%00", "description"),
    ("application/x-www-form-urlencoded", b"amount=1000&currency=eur&description=\xff", "description"),
    ("application/x-www-form-urlencoded", b"amount=1000&currency=eur&metadata[a]=%ed%a0%80", "metadata[a]"),
    ("application/x-www-form-urlencoded", b"amount=1000&amount=2000&currency=eur", "amount"),
    ("application/x-www-form-urlencoded", b"amount[=1000", "amount["),
    ("application/x-www-form-urlencoded", b"a[b][c][d][e][f][g]=1", "a[b][c][d][e][f][g]"),
    ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(600)), None),
    ("application/json", b"{", None),
    ("application/json", b"[]", None),
    ("application/json", b'{"amount": 1000, "currency": "eur", "description": "\\ud800"}', "description"),
    ("application/json", b'{"amount": 1000, "currency": "eur", "description": "\\u0000"}', "description"),
    ("application/json", b'{"amount": "1000", "currency": "eur"}', "amount"),
    ("application/json", b'{"amount": 1000.0, "currency": "eur"}', "amount"),
    ("application/json", b'{"amount": 1000, "amount": 2000, "currency": "eur"}', "amount"),
    ("application/json", b'{"amount": 1000, "currency": "eur", "metadata": {"k": "1", "k": "1"}}', "metadata[k]"),
    ("application/json", b"[" * 100_000, None),
    ("text/plain", b"amount=1000&currency=eur", None),
    ("multipart/form-data; boundary=x", b"--x--", None),
    ("application/xml", b"<a/>", None),
]


@pytest.mark.parametrize(("content_type", "body", "param"), BODIES, ids=lambda value: str(value)[:40])
async def test_bodies_that_cannot_be_read_are_refused(api: ApiWorld, content_type, body, param):
    """400 naming the parameter where there is one; never a 500."""
    merchant = await api.merchant()
    before = await stored(api)
    headers = {"Content-Type": content_type, "Idempotency-Key": "k"}
    answer = await api.send("POST", "/v1/payment_intents", key=merchant.secret, body=body, headers=headers)
    assert (answer.status, answer.error["type"], answer.error.get("param")) == (400, "invalid_request_error", param)
    assert await stored(api) == before


async def test_a_body_over_the_limit_is_refused(api: ApiWorld):
    """413, whether its length is declared or not."""
    merchant = await api.merchant()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"description=" + b"x" * 600_000
    answer = await api.send("POST", "/v1/payment_intents", key=merchant.secret, body=body, headers=headers)
    assert (answer.status, answer.error["type"]) == (413, "invalid_request_error")
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:400_000], body[400_000:])) + b"0\r\n\r\n"
    headers |= {"Transfer-Encoding": "chunked"}
    answer = await api.send("POST", "/v1/payment_intents", key=merchant.secret, body=chunked, headers=headers)
    assert (answer.status, answer.error["type"]) == (413, "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/v1"), ("POST", "/v1/payment_intent"), ("PUT", "/v1/payment_intents"),
     ("PATCH", "/v1/customers/cus_1"), ("DELETE", "/v1/payment_intents/pi_1"), ("GET", "/v1/payment_intents/search"),
     ("GET", "/v1//payment_intents"),
     ("POST", "/v1/payment_intents/pi_1/explode"), ("GET", "/v1/" + "x" * 3000)],
)  # fmt: skip
async def test_an_address_that_does_not_exist_is_404(api: ApiWorld, method, path):
    """With a Request-Id, and the method and path in Stripe's words."""
    merchant = await api.merchant()
    answer = await api.send(method, path, key=merchant.secret)
    assert answer.status == 404
    assert answer.headers["request-id"].startswith("req_")
    assert answer.error["message"].startswith(f"Unrecognized request URL ({method}: ")


async def test_refunds_that_cannot_be_are_refused(api: ApiWorld):
    """Nothing named, nothing there, two that do not belong together, too much, nothing left."""
    merchant = await api.merchant()
    paid = (await api.post("/v1/payment_intents", merchant.secret, **PAY, payment_method="pm_card_visa", confirm=True)).json
    other = (await api.post("/v1/payment_intents", merchant.secret, **PAY, payment_method="pm_card_visa", confirm=True)).json
    for form, code, param in [
        ({}, "parameter_missing", "payment_intent"),
        ({"payment_intent": "pi_nowhere"}, "resource_missing", "payment_intent"),
        ({"charge": "ch_nowhere"}, "resource_missing", "charge"),
        ({"payment_intent": paid["id"], "charge": other["latest_charge"]}, "parameters_exclusive", "charge"),
        ({"payment_intent": paid["id"], "amount": 0}, "parameter_invalid_integer", "amount"),
        ({"payment_intent": paid["id"], "amount": 1001}, None, "amount"),
        ({"payment_intent": paid["id"], "reason": "because"}, None, "reason"),
        ({"payment_intent": paid["id"], "reverse_transfer": True}, "parameter_unknown", "reverse_transfer"),
    ]:
        answer = await api.post("/v1/refunds", merchant.secret, **form)
        assert (answer.status, answer.error.get("code"), answer.error.get("param")) == (400, code, param)
    assert (await api.post("/v1/refunds", merchant.secret, payment_intent=paid["id"])).status == 200
    again = await api.post("/v1/refunds", merchant.secret, payment_intent=paid["id"])
    assert (again.status, again.error["code"]) == (400, "charge_already_refunded")


async def test_captures_that_cannot_be_are_refused(api: ApiWorld):
    """More than was authorized, nothing, and a second time."""
    merchant = await api.merchant()
    held = (
        await api.post(
            "/v1/payment_intents",
            merchant.secret,
            **PAY,
            payment_method="pm_card_visa",
            confirm=True,
            capture_method="manual",
        )
    ).json
    path = f"/v1/payment_intents/{held['id']}/capture"
    for amount, status in ((0, 400), (1001, 400)):
        answer = await api.post(path, merchant.secret, amount_to_capture=amount)
        assert (answer.status, answer.error["param"]) == (status, "amount_to_capture")
    assert (await api.post(path, merchant.secret, amount_to_capture=400)).status == 200
    second = await api.post(path, merchant.secret)
    assert (second.status, second.error["code"]) == (400, "payment_intent_unexpected_state")
    assert (await api.post("/v1/payment_intents/pi_nowhere/capture", merchant.secret, amount_to_capture=1)).status == 404
