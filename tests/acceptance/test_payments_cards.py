"""Every test card, by its tokens and by its number, through every process: what the buyer's bank says is what the merchant reads."""

from collections.abc import Iterator
from typing import Any

import pytest
import stripe
from payments_system import Shop, running_shop
from sdk import client

pytestmark = pytest.mark.slow

# Name of the token after `pm_card_` or `tok_`, and the number that it stands for.
PAYING = {
    "visa": "4242424242424242", "visa_debit": "4000056655665556", "mastercard": "5555555555554444", "amex": "378282246310005",
    "discover": "6011111111111117", "jcb": "3566002020360505", "unionpay": "6200000000000005", "bypassPending": "4000000000000077",
    "cvcCheckFail": "4000000000000101", "avsZipFail": "4000000000000036", "riskLevelElevated": "4000000000009235",
    "threeDSecureOptional": "4000000000003055", "threeDSecureFrictionless": "4000000000003238",
    "threeDSecureOptionalProcessingError": "4000000000003097",
    "createDispute": "4000000000000259", "createDisputeProductNotReceived": "4000000000002685",
    "createDisputeInquiry": "4000000000001976", "createIssuerFraudRecord": "4000000000005423",
    "pendingRefund": "4000000000007726", "refundFail": "4000000000005126",
}  # fmt: skip
# The same, with `code` and `decline_code`.
DECLINED = {
    "visa_chargeDeclined": ("4000000000000002", "card_declined", "generic_decline"),
    "visa_chargeDeclinedInsufficientFunds": ("4000000000009995", "card_declined", "insufficient_funds"),
    "visa_chargeDeclinedLostCard": ("4000000000009987", "card_declined", "lost_card"),
    "visa_chargeDeclinedStolenCard": ("4000000000009979", "card_declined", "stolen_card"),
    "visa_chargeDeclinedVelocityLimitExceeded": ("4000000000006975", "card_declined", "card_velocity_exceeded"),
    "chargeDeclinedExpiredCard": ("4000000000000069", "expired_card", None),
    "chargeDeclinedIncorrectCvc": ("4000000000000127", "incorrect_cvc", None),
    "chargeDeclinedProcessingError": ("4000000000000119", "processing_error", None),
    "chargeCustomerFail": ("4000000000000341", "card_declined", "generic_decline"),
}
BLOCKED = {"radarBlock": "4100000000000019", "riskLevelHighest": "4000000000004954"}
BRANDS = frozenset({"mastercard", "amex", "discover", "jcb", "unionpay"})
PAY = {"amount": 2000, "currency": "eur", "confirm": True, "expand": ["latest_charge"]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def sdk(shop: Shop) -> stripe.StripeClient:
    """A client with the merchant's secret key."""
    return client(shop)


def ways(name: str, number: str) -> list[dict[str, Any]]:
    """The same card as a PaymentMethod token, as a card token, and as it is typed in."""
    card = {"number": number, "exp_month": 12, "exp_year": 2040, "cvc": "1234" if name == "amex" else "123"}
    return [
        {"payment_method": f"pm_card_{name}"},
        {"payment_method_data": {"type": "card", "card": {"token": f"tok_{name}"}}},
        {"payment_method_data": {"type": "card", "card": card, "billing_details": {"address": {"postal_code": "12345"}}}},
    ]


@pytest.mark.parametrize("name", PAYING)
def test_a_card_that_pays_pays_however_it_is_given(sdk: stripe.StripeClient, name: str) -> None:
    """Approved by the bank that issued it, and shown as what it is."""
    for way in ways(name, PAYING[name]):
        paid = sdk.v1.payment_intents.create({**PAY, **way})
        card = paid.latest_charge.payment_method_details.card
        assert (paid.status, card.last4) == ("succeeded", PAYING[name][-4:])
        assert card.brand == (name if name in BRANDS else "visa")
        assert card.checks.cvc_check == ("fail" if name == "cvcCheckFail" else "pass")
        assert paid.latest_charge.outcome.risk_level == ("elevated" if name == "riskLevelElevated" else "normal")
    assert card.checks.address_postal_code_check == ("fail" if name == "avsZipFail" else "pass")


@pytest.mark.parametrize("name", DECLINED)
def test_a_card_that_is_declined_says_why_however_it_is_given(sdk: stripe.StripeClient, name: str) -> None:
    """402 with code and decline code; the payment asks for another card, and the failed charge is kept."""
    number, code, decline_code = DECLINED[name]
    for way in ways(name, number):
        with pytest.raises(stripe.CardError) as raised:
            sdk.v1.payment_intents.create({**PAY, **way})
        error = raised.value.error
        assert (raised.value.http_status, error.code, error.to_dict().get("decline_code")) == (402, code, decline_code)
        assert (error.payment_intent.status, error.payment_intent.payment_method) == ("requires_payment_method", None)
        charge = sdk.v1.charges.retrieve(error.charge)
        assert (charge.status, charge.failure_code, charge.outcome.type) == ("failed", code, "issuer_declined")
        assert sdk.v1.balance_transactions.list({"source": charge.id}).data == []


@pytest.mark.parametrize("name", BLOCKED)
def test_a_card_that_is_too_risky_is_never_sent_to_the_bank(shop: Shop, sdk: stripe.StripeClient, name: str) -> None:
    """It reads as a decline; the outcome says that it was us."""
    for way in ways(name, BLOCKED[name]):
        with pytest.raises(stripe.CardError) as raised:
            sdk.v1.payment_intents.create({**PAY, **way})
        error = raised.value.error
        assert (error.code, error.decline_code) == ("card_declined", "fraudulent")
        charge = sdk.v1.charges.retrieve(error.charge)
        assert (charge.outcome.type, charge.outcome.risk_level, charge.outcome.network_status) == ("blocked", "highest", "not_sent_to_network")
        assert shop.rows("SELECT 1 FROM attempt WHERE payment = $1", error.payment_intent.id) == []


def test_a_card_that_fails_for_customers_attaches_and_is_declined_later(sdk: stripe.StripeClient) -> None:
    """chargeCustomerFail."""
    customer = sdk.v1.customers.create({"payment_method": "pm_card_chargeCustomerFail"})
    [method] = sdk.v1.customers.payment_methods.list(customer.id).data
    with pytest.raises(stripe.CardError):
        sdk.v1.payment_intents.create({**PAY, "customer": customer.id, "payment_method": method.id, "off_session": True})


@pytest.mark.parametrize(
    ("card", "code", "param"),
    [
        ({"number": "4242424242424241"}, "incorrect_number", "number"),
        ({"exp_month": 13}, "invalid_expiry_month", "exp_month"),
        ({"exp_year": 2020}, "invalid_expiry_year", "exp_year"),
        ({"cvc": "12"}, "invalid_cvc", "cvc"),
    ],
)
def test_a_card_that_cannot_be_is_refused_when_it_is_entered(sdk: stripe.StripeClient, card: dict[str, Any], code: str, param: str) -> None:
    """402 with the field's name, and nothing is kept."""
    whole = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"} | card
    with pytest.raises(stripe.CardError) as raised:
        sdk.v1.payment_methods.create({"type": "card", "card": whole})
    assert (raised.value.code, raised.value.param) == (code, f"card[{param}]")


def test_the_same_payment_takes_card_after_card_until_one_pays(sdk: stripe.StripeClient) -> None:
    """Each decline leaves its charge; the last card's leaves the payment succeeded, once."""
    payment = sdk.v1.payment_intents.create({"amount": 2000, "currency": "eur"})
    for name in DECLINED:
        with pytest.raises(stripe.CardError):
            sdk.v1.payment_intents.confirm(payment.id, {"payment_method": f"pm_card_{name}"})
    assert sdk.v1.payment_intents.confirm(payment.id, {"payment_method": "pm_card_visa"}).status == "succeeded"
    charges = sdk.v1.charges.list({"payment_intent": payment.id, "limit": 100}).data
    assert [charge.status for charge in charges] == ["succeeded"] + ["failed"] * len(DECLINED)
