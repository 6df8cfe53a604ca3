"""The official stripe-python, unmodified, with nothing but the base address changed."""

import asyncio

import pytest
import pytest_asyncio
import stripe
from api_world import ApiWorld, api_world, database_name, fresh_database

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("sdk")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


async def client(api: ApiWorld) -> stripe.StripeClient:
    """An SDK client of a merchant of its own."""
    merchant = await api.merchant()
    bases = dict.fromkeys(("api", "files", "connect", "meter_events"), api.base)
    return stripe.StripeClient(merchant.secret, base_addresses=bases, max_network_retries=0)


async def run(method, *arguments):
    """The SDK's calls block, so they run in a thread beside the server's loop."""
    return await asyncio.to_thread(method, *arguments)


async def test_a_payment_from_customer_to_refund(api: ApiWorld):
    """The objects are typed, nested and complete enough for the SDK."""
    sdk = await client(api)
    customer = await run(sdk.v1.customers.create, {"name": "Ada", "email": "ada@example.com"})
    method = await run(sdk.v1.payment_methods.attach, "pm_card_visa", {"customer": customer.id})
    paid = await run(
        sdk.v1.payment_intents.create,
        {
            "amount": 1999,
            "currency": "eur",
            "customer": customer.id,
            "payment_method": method.id,
            "confirm": True,
            "off_session": True,
            "metadata": {"order": "7"},
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "expand": ["latest_charge.balance_transaction", "customer"],
        },
    )
    assert isinstance(paid, stripe.PaymentIntent)
    assert isinstance(paid.latest_charge, stripe.Charge)
    assert isinstance(paid.latest_charge.balance_transaction, stripe.BalanceTransaction)
    assert (paid.status, paid.customer.name, paid.latest_charge.balance_transaction.net) == ("succeeded", "Ada", 1969)
    refund = await run(sdk.v1.refunds.create, {"payment_intent": paid.id, "amount": 500})
    assert isinstance(refund, stripe.Refund)
    assert (refund.status, refund.amount) == ("succeeded", 500)
    balance = await run(sdk.v1.balance.retrieve)
    assert balance.pending[0].amount == 1469
    account = await run(sdk.v1.accounts.retrieve_current)
    assert account.id.startswith("acct_")


async def test_a_decline_is_a_card_error_with_everything_in_it(api: ApiWorld):
    """code, decline_code, param-free, the PaymentIntent and the request's id."""
    sdk = await client(api)
    with pytest.raises(stripe.CardError) as raised:
        await run(
            sdk.v1.payment_intents.create,
            {
                "amount": 1999,
                "currency": "eur",
                "payment_method": "pm_card_visa_chargeDeclinedInsufficientFunds",
                "confirm": True,
            },
        )
    error = raised.value
    assert (error.http_status, error.code, error.error.decline_code) == (402, "card_declined", "insufficient_funds")
    assert error.error.payment_intent.status == "requires_payment_method"
    assert error.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("kind", "status", "call"),
    [
        (stripe.InvalidRequestError, 400, lambda sdk: sdk.v1.payment_intents.create({"amount": 1, "currency": "eur"})),
        (stripe.InvalidRequestError, 404, lambda sdk: sdk.v1.payment_intents.retrieve("pi_nowhere")),
        (stripe.InvalidRequestError, 404, lambda sdk: sdk.v1.subscriptions.list()),
        (stripe.CardError, 402, lambda sdk: sdk.v1.payment_methods.create(
            {"type": "card", "card": {"number": "4242424242424241", "exp_month": 1, "exp_year": 2040}})),
    ],
)  # fmt: skip
async def test_refusals_become_the_sdks_own_errors(api: ApiWorld, kind, status, call):
    """By status and type."""
    sdk = await client(api)
    with pytest.raises(kind) as raised:
        await run(call, sdk)
    assert raised.value.http_status == status


async def test_wrong_keys_and_reused_keys_have_errors_of_their_own(api: ApiWorld):
    """AuthenticationError, PermissionError, IdempotencyError."""
    merchant = await api.merchant()
    bases = {"api": api.base}
    pay = {"amount": 1000, "currency": "eur"}
    with pytest.raises(stripe.AuthenticationError):
        await run(stripe.StripeClient("sk_test_nobody", base_addresses=bases).v1.balance.retrieve)
    with pytest.raises(stripe.PermissionError):
        await run(stripe.StripeClient(merchant.publishable, base_addresses=bases).v1.balance.retrieve)
    sdk = stripe.StripeClient(merchant.secret, base_addresses=bases)
    first = await run(sdk.v1.payment_intents.create, pay, {"idempotency_key": "k"})
    again = await run(sdk.v1.payment_intents.create, pay, {"idempotency_key": "k"})
    assert again.id == first.id
    assert again.last_response.headers["idempotent-replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        await run(sdk.v1.payment_intents.create, {**pay, "amount": 2000}, {"idempotency_key": "k"})


async def test_lists_page_by_themselves(api: ApiWorld):
    """The url of a list is followed until there is nothing more; in both directions."""
    sdk = await client(api)
    made = [(await run(sdk.v1.payment_intents.create, {"amount": 1000 + n, "currency": "eur"})).id for n in range(7)]
    listed = await run(lambda: [one.id for one in sdk.v1.payment_intents.list({"limit": 3}).auto_paging_iter()])
    assert listed == made[::-1]
    events = await run(
        lambda: [one.type for one in sdk.v1.events.list({"limit": 2, "types": ["payment_intent.created"]}).auto_paging_iter()]
    )
    assert events == ["payment_intent.created"] * 7


async def test_manual_capture_update_and_cancel(api: ApiWorld):
    """The other verbs, and an empty text that unsets."""
    sdk = await client(api)
    form = {"amount": 1999, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True, "capture_method": "manual"}
    held = await run(sdk.v1.payment_intents.create, form)
    taken = await run(sdk.v1.payment_intents.capture, held.id, {"amount_to_capture": 999})
    assert (taken.status, taken.amount_received) == ("succeeded", 999)
    held = await run(sdk.v1.payment_intents.create, {**form, "description": "x", "metadata": {"a": "1"}})
    changed = await run(sdk.v1.payment_intents.update, held.id, {"description": "", "metadata": {"a": ""}})
    assert (changed.description, changed.metadata.to_dict()) == (None, {})
    gone = await run(sdk.v1.payment_intents.cancel, held.id)
    assert gone.status == "canceled"


async def test_our_own_resources_are_within_the_sdks_reach(api: ApiWorld):
    """By raw_request, deserialised to objects with their fields."""
    sdk = await client(api)
    answer = await run(lambda: sdk.raw_request("post", "/v1/ledger/accounts", currency="eur"))
    opened = sdk.deserialize(answer, api_mode="V1")
    assert (opened["object"], opened["currency"]) == ("ledger.account", "eur")
    trial = sdk.deserialize(await run(lambda: sdk.raw_request("get", "/v1/ledger/trial_balance")), api_mode="V1")
    assert trial["balanced"] is True


async def test_the_module_style_works_too(api: ApiWorld):
    """stripe.api_base and stripe.api_key, as older code has it, with objects that act."""
    merchant = await api.merchant()

    def flow():
        options = {"api_key": merchant.secret}
        stripe.api_base, before = api.base, stripe.api_base
        try:
            made = stripe.PaymentIntent.create(amount=1999, currency="eur", payment_method_types=["card"], **options)
            done = made.confirm(payment_method="pm_card_visa")
            customer = stripe.Customer.create(name="Ada", **options)
            customer.delete()
            return done, stripe.Customer.retrieve(customer.id, **options)
        finally:
            stripe.api_base = before

    done, customer = await run(flow)
    assert (done.status, customer.deleted) == ("succeeded", True)
