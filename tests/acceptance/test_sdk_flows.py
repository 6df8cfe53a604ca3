"""The official stripe-python, unmodified, through every flow of the API at a whole running system."""

import secrets
from collections.abc import Iterator

import pytest
import stripe
from payments_system import Shop, running_shop
from sdk import BASES, Checked, client, validator

pytestmark = pytest.mark.slow

PAY = {"amount": 2000, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
HOLD = PAY | {"capture_method": "manual"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system; each flow keeps to objects of its own."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def sdk(shop: Shop) -> stripe.StripeClient:
    """A client with the merchant's secret key."""
    return client(shop)


@pytest.fixture
def customer(sdk: stripe.StripeClient) -> stripe.Customer:
    """A customer of this test's own, so that lists show nothing else."""
    return sdk.v1.customers.create({"name": "Ada", "email": f"{secrets.token_hex(6)}@example.com"})


# --- PaymentIntents -------------------------------------------------------------------------------------------------


def test_a_payment_is_taken_in_one_request(sdk: stripe.StripeClient) -> None:
    """The canonical call, and everything that its answer shows when it is expanded."""
    paid = sdk.v1.payment_intents.create({
        **PAY, "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}, "metadata": {"order": "7"},
        "description": "Seven", "receipt_email": "ada@example.com", "statement_descriptor_suffix": "SEVEN",
        "shipping": {"name": "Ada", "address": {"line1": "1 Main St", "city": "London", "country": "GB", "postal_code": "N1"}},
        "expand": ["latest_charge.balance_transaction", "payment_method"],
    })  # fmt: skip
    assert (paid.status, paid.amount_received, paid.amount_capturable) == ("succeeded", 2000, 0)
    assert isinstance(paid.payment_method, stripe.PaymentMethod)
    charge = paid.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (charge.paid, charge.captured, charge.amount_captured, charge.refunded) == (True, True, 2000, False)
    assert (charge.outcome.type, charge.outcome.network_status) == ("authorized", "approved_by_network")
    assert (charge.payment_method_details.card.last4, charge.payment_method_details.card.checks.cvc_check) == ("4242", "pass")
    assert charge.metadata.to_dict() == {"order": "7"}
    assert (charge.balance_transaction.net, charge.balance_transaction.fee) == (1970, 30)
    assert paid.shipping.address.city == "London"
    assert sdk.v1.payment_intents.retrieve(paid.id).receipt_email == "ada@example.com"


def test_a_payment_goes_through_its_states_one_by_one(sdk: stripe.StripeClient, customer: stripe.Customer) -> None:
    """requires_payment_method, requires_confirmation, succeeded; updates in between."""
    payment = sdk.v1.payment_intents.create({"amount": 1000, "currency": "usd", "metadata": {"a": "1", "b": "2"}})
    assert (payment.status, payment.payment_method, payment.next_action) == ("requires_payment_method", None, None)
    changed = sdk.v1.payment_intents.update(
        payment.id, {"amount": 1500, "currency": "eur", "customer": customer.id, "metadata": {"a": "", "c": "3"}, "description": "x"}
    )
    assert (changed.amount, changed.currency, changed.customer, changed.description) == (1500, "eur", customer.id, "x")
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    assert sdk.v1.payment_intents.update(payment.id, {"metadata": "", "description": ""}).metadata.to_dict() == {}
    method = sdk.v1.payment_methods.create({"type": "card", "card": {"token": "tok_mastercard"}})
    assert sdk.v1.payment_intents.update(payment.id, {"payment_method": method.id}).status == "requires_confirmation"
    done = sdk.v1.payment_intents.confirm(payment.id, {"expand": ["customer"]})
    assert (done.status, done.amount_received, done.customer.id) == ("succeeded", 1500, customer.id)
    for forbidden in ({"amount": 900}, {"currency": "usd"}, {"payment_method": "pm_card_visa"}):
        with pytest.raises(stripe.InvalidRequestError) as raised:
            sdk.v1.payment_intents.update(payment.id, forbidden)
        assert raised.value.code == "payment_intent_unexpected_state"
    assert sdk.v1.payment_intents.update(payment.id, {"metadata": {"after": "all"}}).metadata.to_dict() == {"after": "all"}


@pytest.mark.parametrize(("part", "taken"), [(None, 2000), (2000, 2000), (700, 700)])
def test_an_authorization_is_captured(sdk: stripe.StripeClient, part: int | None, taken: int) -> None:
    """Whole or in part; the rest is let go without a refund, and the books show what was taken and nothing else."""
    held = sdk.v1.payment_intents.create({**HOLD, "expand": ["latest_charge"]})
    assert (held.status, held.amount_capturable, held.latest_charge.captured) == ("requires_capture", 2000, False)
    assert held.latest_charge.balance_transaction is None
    assert held.latest_charge.payment_method_details.card.capture_before - held.created in range(7 * 86_400 - 5, 7 * 86_400 + 6)
    params = {"expand": ["latest_charge.balance_transaction"]} | ({} if part is None else {"amount_to_capture": part})
    done = sdk.v1.payment_intents.capture(held.id, params)
    assert (done.status, done.amount_received, done.amount_capturable, done.amount) == ("succeeded", taken, 0, 2000)
    charge = done.latest_charge
    assert (charge.captured, charge.amount_captured, charge.amount_refunded, charge.refunded) == (True, taken, 0, False)
    assert charge.balance_transaction.amount == taken
    assert [one.type for one in sdk.v1.balance_transactions.list({"source": charge.id})] == ["charge"]
    with pytest.raises(stripe.InvalidRequestError) as raised:
        sdk.v1.payment_intents.capture(held.id)
    assert raised.value.code == "payment_intent_unexpected_state"


def test_more_than_was_authorized_cannot_be_captured(sdk: stripe.StripeClient) -> None:
    """400 with the parameter's name, and the authorization stands as before."""
    held = sdk.v1.payment_intents.create(HOLD)
    with pytest.raises(stripe.InvalidRequestError) as raised:
        sdk.v1.payment_intents.capture(held.id, {"amount_to_capture": 2001})
    assert (raised.value.http_status, raised.value.param) == (400, "amount_to_capture")
    assert sdk.v1.payment_intents.retrieve(held.id).amount_capturable == 2000
    sdk.v1.payment_intents.cancel(held.id)


def test_a_payment_is_canceled_from_every_state_that_allows_it(sdk: stripe.StripeClient) -> None:
    """An authorization is voided first; what has succeeded or is canceled cannot be."""
    for params in ({"amount": 2000, "currency": "eur"}, {**PAY, "confirm": False}, HOLD):
        payment = sdk.v1.payment_intents.create(params)
        gone = sdk.v1.payment_intents.cancel(payment.id, {"cancellation_reason": "requested_by_customer"})
        assert (gone.status, gone.cancellation_reason, gone.amount_capturable) == ("canceled", "requested_by_customer", 0)
        assert gone.canceled_at >= gone.created
        with pytest.raises(stripe.InvalidRequestError) as raised:
            sdk.v1.payment_intents.cancel(payment.id)
        assert raised.value.code == "payment_intent_unexpected_state"
    with pytest.raises(stripe.InvalidRequestError) as raised:
        sdk.v1.payment_intents.cancel(sdk.v1.payment_intents.create(PAY).id)
    assert raised.value.code == "payment_intent_unexpected_state"


def test_payments_are_listed_page_by_page_in_both_directions(sdk: stripe.StripeClient, customer: stripe.Customer) -> None:
    """Newest first; a page stays what it was when newer ones come."""
    create = sdk.v1.payment_intents.create
    made = [create({"amount": 1000 + number, "currency": "eur", "customer": customer.id}).id for number in range(12)]
    pages = sdk.v1.payment_intents.list({"customer": customer.id, "limit": 5})
    assert (len(pages.data), pages.has_more, pages.url) == (5, True, "/v1/payment_intents")
    made.append(create({"amount": 5000, "currency": "eur", "customer": customer.id}).id)
    assert [one.id for one in pages.auto_paging_iter()] == made[11::-1]
    before = sdk.v1.payment_intents.list({"customer": customer.id, "limit": 3, "ending_before": made[4]})
    assert [one.id for one in before.data] == [made[7], made[6], made[5]]
    assert [one.id for one in before.auto_paging_iter()] == made[5:]
    expanded = sdk.v1.payment_intents.list({"customer": customer.id, "limit": 2, "expand": ["data.customer"]})
    assert {one.customer.id for one in expanded.data} == {customer.id}
    oldest = sdk.v1.payment_intents.retrieve(made[0])
    for filter_, count in (({"gte": oldest.created}, 13), ({"lt": oldest.created}, 0)):
        found = sdk.v1.payment_intents.list({"customer": customer.id, "created": filter_, "limit": 100})
        assert len(found.data) == count


@pytest.mark.parametrize(
    ("params", "param"),
    [({"limit": 101}, "limit"), ({"limit": 0}, "limit"), ({"starting_after": "pi_nowhere"}, "starting_after"), ({"expand": ["data.amount"]}, "expand")],
)
def test_a_list_that_cannot_be_is_refused(sdk: stripe.StripeClient, params: dict[str, object], param: str) -> None:
    """400 with the parameter's name."""
    with pytest.raises(stripe.InvalidRequestError) as raised:
        sdk.v1.payment_intents.list(params)  # type: ignore[arg-type]
    assert (raised.value.http_status, (raised.value.param or "")[: len(param)]) == (400, param)


@pytest.mark.parametrize(
    ("currency", "amount", "fee"),
    [("eur", 2000, 30), ("usd", 1033, 15), ("jpy", 500, 8), ("kwd", 10_000, 150), ("isk", 20_000, 300), ("huf", 50_000, 750), ("gbp", 30, 0)],
)
def test_amounts_come_back_as_they_were_sent(sdk: stripe.StripeClient, currency: str, amount: int, fee: int) -> None:
    """With 0, 2 and 3 decimals, and Stripe's special cases: payment, charge, balance transaction and refund alike."""
    paid = sdk.v1.payment_intents.create({**PAY, "currency": currency, "amount": amount, "expand": ["latest_charge.balance_transaction"]})
    entry = paid.latest_charge.balance_transaction
    assert (paid.amount_received, paid.currency, entry.amount, entry.currency, entry.fee) == (amount, currency, amount, currency, fee)
    back = sdk.v1.refunds.create({"payment_intent": paid.id})
    assert (back.amount, back.currency, back.status) == (amount, currency, "succeeded")


# --- refunds and charges --------------------------------------------------------------------------------------------


def test_a_payment_is_refunded_in_parts_until_nothing_is_left(sdk: stripe.StripeClient) -> None:
    """By payment and by charge; over-refunds are refused by parameter, refunds of nothing by code."""
    paid = sdk.v1.payment_intents.create(PAY)
    first = sdk.v1.refunds.create({
        "payment_intent": paid.id, "amount": 500, "reason": "requested_by_customer", "metadata": {"why": "size"},
        "expand": ["charge", "balance_transaction"],
    })  # fmt: skip
    assert (first.status, first.amount, first.reason) == ("succeeded", 500, "requested_by_customer")
    assert (first.charge.amount_refunded, first.charge.refunded, first.balance_transaction.net) == (500, False, -500)
    with pytest.raises(stripe.InvalidRequestError) as raised:
        sdk.v1.refunds.create({"payment_intent": paid.id, "amount": 1501})
    assert (raised.value.param, raised.value.code) == ("amount", None)
    second = sdk.v1.refunds.create({"charge": paid.latest_charge})
    assert (second.amount, second.payment_intent) == (1500, paid.id)
    charge = sdk.v1.charges.retrieve(paid.latest_charge, {"expand": ["refunds"]})
    assert (charge.refunded, charge.amount_refunded, [one.id for one in charge.refunds.data]) == (True, 2000, [second.id, first.id])
    with pytest.raises(stripe.InvalidRequestError) as raised:
        sdk.v1.refunds.create({"payment_intent": paid.id})
    assert raised.value.code == "charge_already_refunded"
    for by in ({"payment_intent": paid.id}, {"charge": paid.latest_charge}):
        assert [one.id for one in sdk.v1.refunds.list(by).auto_paging_iter()] == [second.id, first.id]
    assert sdk.v1.refunds.update(first.id, {"metadata": {"why": ""}}).metadata.to_dict() == {}
    assert sdk.v1.refunds.retrieve(first.id).metadata.to_dict() == {}
    with pytest.raises(stripe.InvalidRequestError):
        sdk.v1.refunds.cancel(first.id)


def test_what_was_not_captured_cannot_be_refunded(sdk: stripe.StripeClient) -> None:
    """An authorization is canceled instead; a declined payment has nothing to give back."""
    held = sdk.v1.payment_intents.create(HOLD)
    unpaid = sdk.v1.payment_intents.create({"amount": 2000, "currency": "eur"})
    for payment in (held, unpaid):
        with pytest.raises(stripe.InvalidRequestError) as raised:
            sdk.v1.refunds.create({"payment_intent": payment.id})
        assert raised.value.code == "payment_intent_unexpected_state"
        sdk.v1.payment_intents.cancel(payment.id)


def test_charges_are_listed_and_changed(sdk: stripe.StripeClient, customer: stripe.Customer) -> None:
    """Each try leaves its charge, the failed ones too; description, metadata and receipt address can be changed."""
    payment = sdk.v1.payment_intents.create({"amount": 2000, "currency": "eur", "customer": customer.id})
    with pytest.raises(stripe.CardError):
        sdk.v1.payment_intents.confirm(payment.id, {"payment_method": "pm_card_visa_chargeDeclined"})
    paid = sdk.v1.payment_intents.confirm(payment.id, {"payment_method": "pm_card_visa"})
    found = list(sdk.v1.charges.list({"payment_intent": payment.id}).auto_paging_iter())
    assert [(one.status, one.paid) for one in found] == [("succeeded", True), ("failed", False)]
    assert [one.id for one in sdk.v1.charges.list({"customer": customer.id}).data] == [one.id for one in found]
    changed = sdk.v1.charges.update(paid.latest_charge, {"description": "y", "metadata": {"k": "v"}, "receipt_email": "a@example.com"})
    assert (changed.description, changed.metadata.to_dict(), changed.receipt_email) == ("y", {"k": "v"}, "a@example.com")


# --- customers and payment methods ----------------------------------------------------------------------------------


def test_a_customer_is_kept_changed_listed_and_deleted(sdk: stripe.StripeClient, customer: stripe.Customer) -> None:
    """By mail address too; what is deleted still says so."""
    changed = sdk.v1.customers.update(customer.id, {"name": "Grace", "phone": "+44", "metadata": {"tier": "gold"}, "address": {"city": "Paris"}})
    assert (changed.name, changed.address.city, changed.metadata.to_dict()) == ("Grace", "Paris", {"tier": "gold"})
    assert [one.id for one in sdk.v1.customers.list({"email": customer.email}).data] == [customer.id]
    assert sdk.v1.customers.delete(customer.id).deleted is True
    assert sdk.v1.customers.retrieve(customer.id).deleted is True
    assert sdk.v1.customers.list({"email": customer.email}).data == []
    with pytest.raises(stripe.InvalidRequestError):
        sdk.v1.payment_intents.create({**PAY, "customer": customer.id})


def test_a_card_is_kept_with_its_customer_and_paid_with_again(sdk: stripe.StripeClient, customer: stripe.Customer) -> None:
    """Attach, list, default, off-session payment without a CVC, update, detach; detached for ever."""
    card = {"number": "5555555555554444", "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    method = sdk.v1.payment_methods.create({"type": "card", "card": card, "billing_details": {"name": "Ada", "address": {"postal_code": "N1"}}})
    assert (method.card.brand, method.card.last4, method.card.funding, method.customer) == ("mastercard", "4444", "credit", None)
    assert sdk.v1.payment_methods.attach(method.id, {"customer": customer.id}).customer == customer.id
    sdk.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})
    shown = sdk.v1.customers.retrieve(customer.id, {"expand": ["invoice_settings.default_payment_method"]})
    assert shown.invoice_settings.default_payment_method.id == method.id
    assert [one.id for one in sdk.v1.customers.payment_methods.list(customer.id).data] == [method.id]
    assert sdk.v1.customers.payment_methods.retrieve(customer.id, method.id).id == method.id
    assert [one.id for one in sdk.v1.payment_methods.list({"customer": customer.id, "type": "card"}).data] == [method.id]
    for _ in range(2):
        paid = sdk.v1.payment_intents.create({**PAY, "payment_method": method.id, "customer": customer.id, "off_session": True})
        assert paid.status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError):
        sdk.v1.payment_intents.create({**PAY, "payment_method": method.id})
    updated = sdk.v1.payment_methods.update(method.id, {"card": {"exp_year": 2041}, "metadata": {"home": "yes"}})
    assert (updated.card.exp_year, updated.metadata.to_dict()) == (2041, {"home": "yes"})
    assert sdk.v1.payment_methods.detach(method.id).customer is None
    assert sdk.v1.payment_methods.list({"customer": customer.id}).data == []
    with pytest.raises(stripe.InvalidRequestError):
        sdk.v1.payment_methods.attach(method.id, {"customer": customer.id})


# --- events, balance, ledger ----------------------------------------------------------------------------------------


def test_every_transition_has_its_events(sdk: stripe.StripeClient) -> None:
    """In their order, each as the object was then, with the request that made it."""
    key = secrets.token_hex(12)
    held = sdk.v1.payment_intents.create(HOLD, {"idempotency_key": key})
    sdk.v1.payment_intents.capture(held.id, {"amount_to_capture": 1200})
    refund = sdk.v1.refunds.create({"payment_intent": held.id, "amount": 200})
    sdk.v1.refunds.update(refund.id, {"metadata": {"n": "1"}})
    shown = [(event, event.data.object.to_dict()) for event in sdk.v1.events.list({"limit": 100}).auto_paging_iter()]
    ours = [event for event, of in reversed(shown) if held.id in (of["id"], of.get("payment_intent"))]
    assert [event.type for event in ours] == [
        "payment_intent.created", "charge.succeeded", "payment_intent.amount_capturable_updated", "charge.captured",
        "payment_intent.succeeded", "refund.created", "charge.refunded", "refund.updated", "charge.refund.updated", "refund.updated",
        "charge.refund.updated",
    ]  # fmt: skip
    assert ours[0].request.idempotency_key == key
    assert ours[0].data.object["status"] in ("processing", "requires_confirmation", "requires_payment_method")
    assert ours[3].data.object["amount_captured"] == 1200
    assert ours[-2].data.previous_attributes.to_dict() == {"metadata": {"n": None}}
    first = sdk.v1.events.retrieve(ours[0].id)
    assert (first.type, first.data.object.id) == ("payment_intent.created", held.id)
    found = sdk.v1.events.list({"type": "charge.*", "limit": 5})
    assert {event.type.partition(".")[0] for event in found.data} == {"charge"}


def test_the_balance_is_the_sum_of_its_transactions(sdk: stripe.StripeClient) -> None:
    """Pending and available together, by currency; what bypasses pending is available at once."""
    before = {one.currency: one.amount for one in sdk.v1.balance.retrieve().available}
    paid = sdk.v1.payment_intents.create({**PAY, "payment_method": "pm_card_bypassPending", "currency": "chf"})
    sdk.v1.refunds.create({"payment_intent": paid.id, "amount": 300})
    balance = sdk.v1.balance.retrieve()
    available = {one.currency: one.amount for one in balance.available}
    assert available["chf"] - before.get("chf", 0) == 1970 - 300
    entries = list(sdk.v1.balance_transactions.list({"currency": "chf", "limit": 100}).auto_paging_iter())
    pending = {one.currency: one.amount for one in balance.pending}
    assert sum(entry.net for entry in entries) == available["chf"] + pending.get("chf", 0)
    [charged] = sdk.v1.balance_transactions.list({"source": paid.latest_charge, "expand": ["data.source"]}).data
    assert (charged.type, charged.status, charged.source.id, charged.reporting_category) == ("charge", "available", paid.latest_charge, "charge")
    assert sdk.v1.balance_transactions.retrieve(charged.id).net == 1970


def test_the_ledger_is_a_product_of_its_own(sdk: stripe.StripeClient) -> None:
    """Accounts, transfers, chains, reservations, balances as of a time and statements through raw_request."""

    def ask(method: str, path: str, **params: object) -> stripe.StripeObject:
        return sdk.deserialize(sdk.raw_request(method, f"/v1/ledger/{path}", **params), api_mode="V1")

    till, goods = (ask("post", "accounts", currency="eur", description=name, metadata={"n": name}) for name in ("till", "goods"))
    wallet = ask("post", "accounts", currency="eur", debits_limited=True)
    sold = ask("post", "transfers", debit=till.id, credit=goods.id, amount=500, currency="eur", reference="order 7")
    assert (sold.object, sold.amount, ask("get", f"transfers/{sold.id}").reference) == ("ledger.transfer", 500, "order 7")
    with pytest.raises(stripe.InvalidRequestError) as raised:
        ask("post", "transfers", debit=wallet.id, credit=goods.id, amount=1, currency="eur")
    assert raised.value.code == "exceeds_credits"
    chain = ask("post", "transfers", transfers=[
        {"debit": goods.id, "credit": wallet.id, "amount": 50, "currency": "eur", "linked": True},
        {"debit": wallet.id, "credit": till.id, "amount": 51, "currency": "eur"},
        {"debit": goods.id, "credit": wallet.id, "amount": 20, "currency": "eur"},
    ])  # fmt: skip
    assert [one.result for one in chain.data] == ["linked_event_failed", "exceeds_credits", "created"]
    held = ask("post", "transfers", debit=wallet.id, credit=till.id, amount=20, currency="eur", kind="pending")
    posted = ask("post", "transfers", kind="post", pending_transfer=held.id, amount=5)
    assert posted.pending_transfer == held.id
    standing = ask("get", f"accounts/{wallet.id}/balance")
    assert (standing.credits_posted, standing.debits_posted, standing.debits_pending) == (20, 5, 0)
    newest = ask("get", "transfers", ledger_account=wallet.id, limit=2)
    older = ask("get", "transfers", ledger_account=wallet.id, limit=2, starting_after=newest.data[-1].id)
    assert ([one.id for one in newest.data], newest.has_more, len(older.data)) == ([posted.id, held.id], True, 1)
    assert ask("get", "trial_balance").balanced is True
    sdk.v1.payment_intents.create(PAY)
    assert {line.currency: line.amount > 0 for line in ask("get", "revenue").data}["eur"]
    assert ask("get", "accounts", kind="available").data[0].owner is not None


# --- errors ---------------------------------------------------------------------------------------------------------


def test_a_decline_is_a_card_error_that_says_everything(sdk: stripe.StripeClient) -> None:
    """And the same payment takes another card."""
    payment = sdk.v1.payment_intents.create({"amount": 2000, "currency": "eur"})
    with pytest.raises(stripe.CardError) as raised:
        sdk.v1.payment_intents.confirm(payment.id, {"payment_method": "pm_card_visa_chargeDeclinedInsufficientFunds"})
    error = raised.value
    assert (error.http_status, error.code, error.error.decline_code, error.error.type) == (402, "card_declined", "insufficient_funds", "card_error")
    assert error.user_message == "Your card has insufficient funds."
    left = error.error.payment_intent
    assert (left.status, left.payment_method, left.last_payment_error.payment_method.card.last4) == ("requires_payment_method", None, "9995")
    assert error.error.charge == left.latest_charge
    failed = sdk.v1.charges.retrieve(error.error.charge)
    assert (failed.status, failed.failure_code, failed.outcome.type, failed.outcome.reason) == ("failed", "card_declined", "issuer_declined", "insufficient_funds")
    paid = sdk.v1.payment_intents.confirm(payment.id, {"payment_method": "pm_card_visa"})
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)


def test_each_kind_of_refusal_is_the_sdks_own_error(shop: Shop, sdk: stripe.StripeClient) -> None:
    """By status: 400, 401, 403, 404; each with the request's id."""
    publishable = client(shop, shop.line["publishable_key"])
    for kind, status, call in (
        (stripe.InvalidRequestError, 400, lambda: sdk.v1.payment_intents.create({"amount": 2000})),
        (stripe.InvalidRequestError, 400, lambda: sdk.v1.payment_intents.create({**PAY, "transfer_data": {"destination": "acct_1"}})),
        (stripe.InvalidRequestError, 404, lambda: sdk.v1.payment_intents.retrieve("pi_nowhere")),
        (stripe.InvalidRequestError, 404, lambda: sdk.v1.subscriptions.list()),
        (stripe.AuthenticationError, 401, lambda: client(shop, "sk_test_nobody").v1.balance.retrieve()),
        (stripe.AuthenticationError, 401, lambda: client(shop, "sk_live_nobody").v1.balance.retrieve()),
        (stripe.PermissionError, 403, lambda: publishable.v1.balance.retrieve()),
        (stripe.PermissionError, 403, lambda: publishable.v1.payment_intents.create(PAY)),
        (stripe.PermissionError, 403, lambda: publishable.v1.refunds.list()),
    ):
        with pytest.raises(kind) as raised:
            call()
        assert (raised.value.http_status, type(raised.value)) == (status, kind)
        assert raised.value.request_id.startswith("req_")


def test_a_browser_confirms_with_the_publishable_key_and_the_client_secret(shop: Shop, sdk: stripe.StripeClient) -> None:
    """It sees what its buyer may see."""
    publishable = client(shop, shop.line["publishable_key"])
    payment = sdk.v1.payment_intents.create({"amount": 2000, "currency": "eur", "metadata": {"secret": "margin"}})
    method = publishable.v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    with pytest.raises(stripe.InvalidRequestError):
        publishable.v1.payment_intents.retrieve(payment.id)
    seen = publishable.v1.payment_intents.retrieve(payment.id, {"client_secret": payment.client_secret})
    assert (seen.id, "metadata" in seen.to_dict()) == (payment.id, False)
    params = {"client_secret": payment.client_secret, "payment_method": method.id}
    assert publishable.v1.payment_intents.confirm(payment.id, params).status == "succeeded"


def test_a_key_is_one_request_for_ever(sdk: stripe.StripeClient) -> None:
    """The same answer for the same request, a decline included; an IdempotencyError for any other."""
    key, declined = secrets.token_hex(12), secrets.token_hex(12)
    first, again = (sdk.v1.payment_intents.create(PAY, {"idempotency_key": key}) for _ in range(2))
    assert (first.id, first.last_response.body) == (again.id, again.last_response.body)
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.last_response.headers
    errors = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as raised:
            sdk.v1.payment_intents.create({**PAY, "payment_method": "pm_card_visa_chargeDeclined"}, {"idempotency_key": declined})
        errors.append(raised.value.http_body)
    assert errors[0] == errors[1]
    for call in (
        lambda: sdk.v1.payment_intents.create({**PAY, "amount": 2001}, {"idempotency_key": key}),
        lambda: sdk.v1.customers.create({"name": "Ada"}, {"idempotency_key": key}),
        lambda: sdk.v1.payment_intents.create({"amount": -1, "currency": "eur"}, {"idempotency_key": key}),
    ):
        with pytest.raises(stripe.IdempotencyError) as refused:
            call()
        assert refused.value.http_status == 400


def test_the_older_module_style_works_as_well(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """stripe.api_base and stripe.api_key, and objects that act by themselves."""
    monkeypatch.setattr(stripe, "api_base", shop.line["api"])
    monkeypatch.setattr(stripe, "api_key", shop.line["secret_key"])
    payment = stripe.PaymentIntent.create(amount=2000, currency="eur", capture_method="manual", payment_method_types=["card"])
    assert payment.confirm(payment_method="pm_card_visa").status == "requires_capture"
    assert payment.capture().status == "succeeded"
    assert stripe.Refund.create(payment_intent=payment.id).status == "succeeded"
    assert stripe.Account.retrieve().charges_enabled is True
    assert stripe.Balance.retrieve().object == "balance"


@pytest.mark.needs("stripe schemas")
def test_every_kind_of_object_has_the_published_shape(shop: Shop, sdk: stripe.StripeClient) -> None:
    """The checks of this module really look: each kind has passed them here at the latest."""
    Checked.seen.clear()
    paid = sdk.v1.payment_intents.create(PAY)
    customer = sdk.v1.customers.create({"name": "Ada", "payment_method": "pm_card_visa"})
    refund = sdk.v1.refunds.create({"payment_intent": paid.id})
    sdk.v1.charges.retrieve(paid.latest_charge)
    sdk.v1.payment_methods.retrieve(paid.payment_method)
    sdk.v1.balance_transactions.retrieve(refund.balance_transaction)
    sdk.v1.events.retrieve(sdk.v1.events.list().data[0].id)
    sdk.v1.balance.retrieve()
    sdk.v1.accounts.retrieve_current()
    sdk.v1.customers.delete(customer.id)
    with pytest.raises(stripe.CardError):
        sdk.v1.payment_intents.create({**PAY, "payment_method": "pm_card_visa_chargeDeclined"})
    kinds = {"payment_intent", "customer", "refund", "charge", "payment_method", "balance_transaction", "event", "balance", "account", "error"}
    assert kinds <= set(Checked.seen)
    assert validator() is not None
    assert set(BASES) >= {"api", "files", "connect"}
