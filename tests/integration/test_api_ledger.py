"""The ledger as a product of its own, over HTTP."""

import json

import pytest
import pytest_asyncio
from api_world import ApiWorld, Merchant, api_world, database_name, fresh_database

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with (
        fresh_database(server, database_name("ledger_http")) as dsn,
        api_world(dsn, tmp_path_factory.mktemp("api")) as world,
    ):
        yield world


async def account(api: ApiWorld, merchant: Merchant, **form) -> str:
    return (await api.post("/v1/ledger/accounts", merchant.secret, **{"currency": "eur", **form}))["id"]


async def post_json(api: ApiWorld, merchant: Merchant, path: str, value: object, **headers: str):
    headers = {"Content-Type": "application/json", **headers}
    return await api.send("POST", path, key=merchant.secret, body=json.dumps(value).encode(), headers=headers)


async def test_a_transfer_moves_money_between_own_accounts(api: ApiWorld):
    """Booked when the answer is there; the same id again is the same transfer."""
    merchant = await api.merchant()
    cash, sales = await account(api, merchant, description="Cash", metadata={"a": "1"}), await account(api, merchant)
    form = {"id": "t-1", "debit": cash, "credit": sales, "amount": 1000, "code": 7, "reference": "invoice 1"}
    made = await api.post("/v1/ledger/transfers", merchant.secret, **form)
    assert (made["object"], made["amount"], made["currency"], made["kind"], made["reference"]) == (
        "ledger.transfer", 1000, "eur", "posted", "invoice 1",
    )  # fmt: skip
    again = await api.post("/v1/ledger/transfers", merchant.secret, **form)
    assert (again.json, again.headers["idempotent-replayed"]) == (made.json, "true")
    other = await api.post("/v1/ledger/transfers", merchant.secret, **{**form, "amount": 5})
    assert (other.status, other.error["code"]) == (400, "exists_with_different_amount")
    assert (await api.get("/v1/ledger/transfers/t-1", merchant.secret)).json == made.json
    shown = (await api.get(f"/v1/ledger/accounts/{cash}", merchant.secret)).json
    assert (shown["balance"]["debits_posted"], shown["description"], shown["metadata"]) == (1000, "Cash", {"a": "1"})
    balance = (await api.get(f"/v1/ledger/accounts/{sales}/balance", merchant.secret)).json
    assert (balance["credits_posted"], balance["debits_posted"]) == (1000, 0)
    before = (await api.get(f"/v1/ledger/accounts/{sales}/balance", merchant.secret, at=made["created"] - 10)).json
    assert before["credits_posted"] == 0
    at = (await api.get(f"/v1/ledger/accounts/{sales}/balance", merchant.secret, at=made["created"])).json
    assert at["credits_posted"] == 1000
    for query in ({}, {"ledger_account": cash}):
        assert [one["id"] for one in (await api.get("/v1/ledger/transfers", merchant.secret, **query))["data"]] == ["t-1"]
    assert {one["id"] for one in (await api.get("/v1/ledger/accounts", merchant.secret))["data"]} == {cash, sales}


async def test_a_reservation_is_posted_in_part_or_voided(api: ApiWorld):
    """Two phases; a second resolution is refused by its code."""
    merchant = await api.merchant()
    cash, sales = await account(api, merchant), await account(api, merchant)
    for id_ in ("hold-1", "hold-2"):
        await api.post("/v1/ledger/transfers", merchant.secret, id=id_, debit=cash, credit=sales, amount=100, kind="pending")
    posted = await api.post("/v1/ledger/transfers", merchant.secret, id="p", kind="post", pending_transfer="hold-1", amount=40)
    assert (posted["kind"], posted["amount"], posted["pending_transfer"]) == ("post", 40, "hold-1")
    voided = await api.post("/v1/ledger/transfers", merchant.secret, id="v", kind="void", pending_transfer="hold-2")
    assert voided["kind"] == "void"
    twice = await api.post("/v1/ledger/transfers", merchant.secret, id="w", kind="void", pending_transfer="hold-2")
    assert (twice.status, twice.error["code"]) == (400, "pending_transfer_already_voided")
    shown = (await api.get(f"/v1/ledger/accounts/{cash}", merchant.secret))["balance"]
    assert shown == {"credits_pending": 0, "credits_posted": 0, "debits_pending": 0, "debits_posted": 40}
    assert (await api.get("/v1/ledger/transfers/hold-1", merchant.secret))["resolved_by"] == "p"


async def test_a_list_says_of_each_what_became_of_it(api: ApiWorld):
    """Linked ones stand or fall together, the others by themselves."""
    merchant = await api.merchant()
    limited = await account(api, merchant, debits_limited=True)
    cash, sales = await account(api, merchant), await account(api, merchant)
    transfers = [
        {"id": "a", "debit": cash, "credit": sales, "amount": 10},
        {"id": "b", "debit": cash, "credit": sales, "amount": 10, "linked": True},
        {"id": "c", "debit": limited, "credit": sales, "amount": 10},
        {"id": "d", "debit": cash, "credit": sales, "amount": 10},
    ]
    answer = await post_json(api, merchant, "/v1/ledger/transfers", {"transfers": transfers})
    assert [(one["id"], one["result"]) for one in answer["data"]] == [
        ("a", "created"), ("b", "linked_event_failed"), ("c", "exceeds_credits"), ("d", "created"),
    ]  # fmt: skip
    assert [one["transfer"] and one["transfer"]["amount"] for one in answer["data"]] == [10, None, None, 10]
    form = await api.post("/v1/ledger/transfers", merchant.secret, transfers=transfers[:1])
    assert form["data"][0]["result"] == "exists"


async def test_a_large_list_is_booked_at_once(api: ApiWorld):
    """8,189 at most; one more is refused, and nothing of it is stored."""
    merchant = await api.merchant()
    cash, sales = await account(api, merchant), await account(api, merchant)
    transfers = [{"id": f"t{number}", "debit": cash, "credit": sales, "amount": 1} for number in range(8_190)]
    too_many = await post_json(api, merchant, "/v1/ledger/transfers", {"transfers": transfers})
    assert (too_many.status, too_many.error["param"]) == (400, "transfers")
    answer = await post_json(api, merchant, "/v1/ledger/transfers", {"transfers": transfers[:-1]})
    assert {one["result"] for one in answer["data"]} == {"created"}
    assert (await api.get(f"/v1/ledger/accounts/{cash}", merchant.secret))["balance"]["debits_posted"] == 8_189


async def test_without_an_id_the_key_makes_it_safe_to_repeat(api: ApiWorld):
    """The id follows from the idempotency key, also one that we made."""
    merchant = await api.merchant()
    cash, sales = await account(api, merchant), await account(api, merchant)
    form = {"debit": cash, "credit": sales, "amount": 10}
    first = await api.post("/v1/ledger/transfers", merchant.secret, **form, idempotency_key="k")
    again = await api.post("/v1/ledger/transfers", merchant.secret, **form, idempotency_key="k")
    assert again["id"] == first["id"]
    made = await api.post("/v1/ledger/transfers", merchant.secret, **form)
    retried = await api.post("/v1/ledger/transfers", merchant.secret, **form, idempotency_key=made.headers["idempotency-key"])
    assert retried["id"] == made["id"] != first["id"]
    opened = await api.post("/v1/ledger/accounts", merchant.secret, currency="eur", idempotency_key="a")
    same = await api.post("/v1/ledger/accounts", merchant.secret, currency="eur", idempotency_key="a")
    assert same["id"] == opened["id"]
    other = await api.post("/v1/ledger/accounts", merchant.secret, currency="usd", idempotency_key="a")
    assert (other.status, other.error["type"]) == (400, "idempotency_error")


async def test_a_repeat_under_its_key_says_that_it_is_one(api: ApiWorld):
    """Single transfers, lists and accounts, in either encoding, with the client's ids and without."""
    merchant = await api.merchant()
    cash, sales = await account(api, merchant), await account(api, merchant)
    one = {"debit": cash, "credit": sales, "amount": 10}
    for number, (path, form) in enumerate([
        ("/v1/ledger/accounts", {"currency": "eur", "description": "Float"}),
        ("/v1/ledger/transfers", one),
        ("/v1/ledger/transfers", {**one, "id": "mine"}),
        ("/v1/ledger/transfers", {"transfers": [one, {**one, "id": "listed"}]}),
    ]):  # fmt: skip
        key = f"key-{number}"
        first = await api.post(path, merchant.secret, **form, idempotency_key=key)
        again = await api.post(path, merchant.secret, **form, idempotency_key=key)
        as_json = await post_json(api, merchant, path, form, **{"Idempotency-Key": key})
        assert (first.status, "idempotent-replayed" in first.headers) == (200, False)
        for repeat in (again, as_json):
            assert (repeat.status, repeat.headers["idempotent-replayed"], repeat.headers["idempotency-key"]) == (200, "true", key)
        if "transfers" not in form:
            assert again.body == first.body == as_json.body
    opened = await api.post("/v1/ledger/accounts", merchant.secret, currency="eur")
    named = opened.headers["idempotency-key"]
    again = await api.post("/v1/ledger/accounts", merchant.secret, currency="eur", idempotency_key=named)
    assert (again["id"], again.headers["idempotent-replayed"]) == (opened["id"], "true")


async def test_a_key_of_the_ledger_serves_one_request(api: ApiWorld):
    """With other parameters, broken ones, or at another address it is an idempotency_error, and nothing is stored."""
    merchant = await api.merchant()
    cash, sales = await account(api, merchant), await account(api, merchant)
    one = {"debit": cash, "credit": sales, "amount": 10}
    assert (await api.post("/v1/ledger/transfers", merchant.secret, **one, idempotency_key="k")).status == 200
    assert (await api.post("/v1/customers", merchant.secret, idempotency_key="c")).status == 200
    for path, form, key in [
        ("/v1/ledger/transfers", {**one, "amount": 11}, "k"),
        ("/v1/ledger/transfers", {"transfers": [{**one, "id": "a"}]}, "k"),
        ("/v1/ledger/transfers", {**one, "amount": "many"}, "k"),
        ("/v1/ledger/transfers", {**one, "surprise": 1}, "k"),
        ("/v1/ledger/accounts", {"currency": "eur"}, "k"),
        ("/v1/customers", {}, "k"),
        ("/v1/ledger/transfers", one, "c"),
        ("/v1/ledger/accounts", {"currency": "eur"}, "c"),
    ]:
        answer = await api.post(path, merchant.secret, **form, idempotency_key=key)
        assert (answer.status, answer.error["type"]) == (400, "idempotency_error"), (path, form)
    assert (await api.get(f"/v1/ledger/accounts/{cash}", merchant.secret))["balance"]["debits_posted"] == 10
    made = await api.post("/v1/ledger/transfers", merchant.secret, **one)
    changed = await api.post("/v1/ledger/transfers", merchant.secret, **{**one, "amount": 1}, idempotency_key=made.headers["idempotency-key"])
    assert (changed.status, changed.error["type"]) == (400, "idempotency_error")


async def test_an_id_of_the_clients_own_counts_for_more_than_the_key(api: ApiWorld):
    """The same id is the same transfer under any key, with other contents refused by the ledger's code; another id is another one."""
    merchant = await api.merchant()
    one = {"id": "a", "debit": await account(api, merchant), "credit": await account(api, merchant), "amount": 10}
    for key, id_, amount, code, replayed in [
        ("k", "a", 10, None, False), ("k", "a", 10, None, True), ("l", "a", 10, None, True),
        ("k", "a", 11, "exists_with_different_amount", False), ("k", "b", 10, None, False),
    ]:  # fmt: skip
        answer = await api.post("/v1/ledger/transfers", merchant.secret, **{**one, "id": id_, "amount": amount}, idempotency_key=key)
        assert (answer.json.get("error", {}).get("code"), "idempotent-replayed" in answer.headers) == (code, replayed)


async def test_a_refused_transfer_leaves_its_key_free(api: ApiWorld):
    """Nothing was booked, so the key may carry the mended request, and the same one when there is money."""
    merchant = await api.merchant()
    cash, sales = await account(api, merchant), await account(api, merchant, debits_limited=True)
    short = {"debit": sales, "credit": cash, "amount": 10}
    for wrong in ({**short, "amount": 0}, {**short, "debit": "lac_nowhere"}, short):
        answer = await api.post("/v1/ledger/transfers", merchant.secret, **wrong, idempotency_key="k")
        assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    await api.post("/v1/ledger/transfers", merchant.secret, debit=cash, credit=sales, amount=10)
    paid = await api.post("/v1/ledger/transfers", merchant.secret, **short, idempotency_key="k")
    assert (paid.status, "idempotent-replayed" in paid.headers) == (200, False)


async def test_transfers_that_cannot_be_are_refused(api: ApiWorld):
    """By parameter, or by the ledger's own code."""
    merchant = await api.merchant()
    cash, sales, dollars = (
        await account(api, merchant),
        await account(api, merchant),
        await account(api, merchant, currency="usd"),
    )
    good = {"debit": cash, "credit": sales, "amount": 10}
    for form, code, param in [
        ({**good, "amount": 0}, "parameter_invalid_integer", "amount"),
        ({**good, "amount": -1}, "parameter_invalid_integer", "amount"),
        ({**good, "amount": "1.0"}, "parameter_invalid_integer", "amount"),
        ({**good, "amount": 10**19}, "parameter_invalid_integer", "amount"),
        ({"debit": cash, "credit": sales}, "parameter_missing", "amount"),
        ({"credit": sales, "amount": 1}, "parameter_missing", "debit"),
        ({**good, "debit": "lac_nowhere"}, "resource_missing", "debit"),
        ({**good, "credit": cash}, "accounts_must_be_different", "credit"),
        ({**good, "credit": dollars}, "accounts_must_have_the_same_currency", "credit"),
        ({**good, "currency": "usd"}, None, "debit"),
        ({**good, "id": "not an id"}, None, "id"),
        ({**good, "kind": "later"}, None, "kind"),
        ({**good, "fact": True}, "parameter_unknown", "fact"),
        ({**good, "transfers": [good]}, "parameters_exclusive", "transfers"),
        ({"transfers": [good, {**good, "amount": 0}]}, "parameter_invalid_integer", "transfers[1][amount]"),
        ({"transfers": [{**good, "surprise": 1}]}, "parameter_unknown", "transfers[0][surprise]"),
        ({"kind": "post", "pending_transfer": "nowhere"}, "pending_transfer_not_found", "pending_transfer"),
        ({**good, "code": 40_000}, "parameter_invalid_integer", "code"),
        ({**good, "reference": "x" * 200}, None, "reference"),
    ]:
        answer = await api.post("/v1/ledger/transfers", merchant.secret, **form)
        assert (answer.status, answer.error.get("code"), answer.error.get("param")) == (400, code, param), form
    for form, param in [({}, "currency"), ({"currency": "xyz"}, "currency"), ({"currency": "eur", "overdraft": 5}, "overdraft")]:
        answer = await api.post("/v1/ledger/accounts", merchant.secret, **form)
        assert (answer.status, answer.error["param"]) == (400, param)


async def test_the_systems_accounts_can_be_read_and_not_booked_on(api: ApiWorld):
    """A payment's entries are there for the merchant to see; the books balance."""
    merchant = await api.merchant()
    await api.post(
        "/v1/payment_intents", merchant.secret, amount=2000, currency="eur", payment_method="pm_card_visa", confirm=True
    )
    accounts = (await api.get("/v1/ledger/accounts", merchant.secret))["data"]
    pending = next(one for one in accounts if one["kind"] == "pending")
    assert (pending["balance"]["credits_posted"] - pending["balance"]["debits_posted"], pending["day"] % 86_400) == (1970, 0)
    assert [one["id"] for one in (await api.get("/v1/ledger/accounts", merchant.secret, kind="pending"))["data"]] == [
        pending["id"]
    ]
    own = await account(api, merchant)
    answer = await api.post("/v1/ledger/transfers", merchant.secret, debit=pending["id"], credit=own, amount=1)
    assert (answer.status, answer.error["param"]) == (400, "debit")
    entries = (await api.get("/v1/ledger/transfers", merchant.secret, ledger_account=pending["id"]))["data"]
    assert sorted(one["amount"] for one in entries) == [30, 2000]
    assert (await api.get(f"/v1/ledger/transfers/{entries[0]['id']}", merchant.secret)).json == entries[0]
    trial = (await api.get("/v1/ledger/trial_balance", merchant.secret)).json
    assert trial["balanced"]
    assert [total["currency"] for total in trial["totals"]] == ["eur"]
    revenue = (await api.get("/v1/ledger/revenue", merchant.secret)).json
    assert [(one["amount"], one["currency"]) for one in revenue["data"]] == [(30, "eur")]


async def test_statements_page_in_both_directions(api: ApiWorld):
    """By the ids of transfers; a wrong cursor is refused by name."""
    merchant = await api.merchant()
    cash, sales = await account(api, merchant), await account(api, merchant)
    transfers = [{"id": f"t{number}", "debit": cash, "credit": sales, "amount": 1} for number in range(5)]
    await post_json(api, merchant, "/v1/ledger/transfers", {"transfers": transfers})
    for query in ({}, {"ledger_account": cash}):
        first = await api.get("/v1/ledger/transfers", merchant.secret, limit=2, **query)
        assert ([one["id"] for one in first["data"]], first["has_more"]) == (["t4", "t3"], True)
        rest = await api.get("/v1/ledger/transfers", merchant.secret, starting_after="t3", **query)
        assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (["t2", "t1", "t0"], False)
        back = await api.get("/v1/ledger/transfers", merchant.secret, ending_before="t2", limit=1, **query)
        assert ([one["id"] for one in back["data"]], back["has_more"]) == (["t3"], True)
    wrong = await api.get("/v1/ledger/transfers", merchant.secret, starting_after="nowhere")
    assert (wrong.status, wrong.error["param"]) == (400, "starting_after")
