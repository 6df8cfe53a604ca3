"""The shop: the official stripe package with nothing changed but the address, and its answers in a few words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from guilder.core.money import Money, format_minor

if TYPE_CHECKING:
    import stripe


ADDRESSES: Final = ("api", "connect", "files", "meter_events")
"""Every base address of the SDK. One that is not set stays Stripe's, and requests to it would bring the secret key there."""


class Shop:
    """A merchant's account, reached with its secret key."""

    def __init__(self, address: str, secret_key: str) -> None:
        import stripe

        self._stripe = stripe
        addresses: Any = dict.fromkeys(ADDRESSES, address)
        self.client: stripe.StripeClient = stripe.StripeClient(secret_key, base_addresses=addresses)

    def pay(self, amount: int, currency: str, card: str, *, key: str | None = None, **more: Any) -> "stripe.PaymentIntent":
        """Make a payment and take it at once. Raises stripe.StripeError."""
        params: Any = {
            "amount": amount,
            "currency": currency,
            "payment_method": card,
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "expand": ["latest_charge.balance_transaction"],
            "metadata": {"shop": "demo"},
            **more,
        }
        options: Any = {"idempotency_key": key} if key else {}
        return self.client.v1.payment_intents.create(params, options)

    def outcome(self, amount: int, currency: str, card: str, **more: Any) -> tuple[str, str]:
        """Pay; what became of it in a few words (a decline by its codes), and the payment's id."""
        try:
            intent = self.pay(amount, currency, card, **more)
        except self._stripe.CardError as error:
            payment = error.error.payment_intent if error.error else None
            return declined(error), str(payment["id"]) if payment else ""
        return paid(intent), intent.id

    def refusal(self, amount: int, currency: str, card: str, **more: Any) -> str:
        """Pay what is to be refused; the error's type."""
        try:
            return self.pay(amount, currency, card, **more).status
        except self._stripe.StripeError as error:
            return str(error.error.type if error.error else error)

    def refund(self, payment: str, amount: int | None) -> "stripe.Refund":
        """Give an amount back; None for all that is left."""
        params: Any = {"payment_intent": payment} if amount is None else {"payment_intent": payment, "amount": amount}
        return self.client.v1.refunds.create(params)

    def order(self, amount: int, home: str) -> "stripe.checkout.Session":
        """An order over this many cents, to be paid at the payment page; the buyer comes back to `home`."""
        line: Any = {"price_data": {"currency": "eur", "unit_amount": amount, "product_data": {"name": "Coffee"}}, "quantity": 1}
        params: Any = {"mode": "payment", "line_items": [line], "success_url": f"{home}?session={{CHECKOUT_SESSION_ID}}"}
        return self.client.v1.checkout.sessions.create(params)

    def ordered(self, session: str) -> tuple[str, str, int]:
        """What became of an order in a few words, its payment's id, and how many charges were tried."""
        found: Any = self.client.v1.checkout.sessions.retrieve(session)
        tries = self.client.v1.charges.list({"payment_intent": found.payment_intent}).data if found.payment_intent else []
        return f"{found.status} and {found.payment_status}", str(found.payment_intent), len(tries)

    def till(self, amount: int, currency: str) -> tuple[str, str]:
        """A simulated reader that asks for a card; its id, and the payment's."""
        address: Any = {"line1": "Damrak 1", "city": "Amsterdam", "country": "NL", "postal_code": "1012"}
        location = self.client.v1.terminal.locations.create({"display_name": "Demo shop", "address": address})
        reader = self.client.v1.terminal.readers.create({"registration_code": "simulated-wpe", "location": location.id})
        params: Any = {"amount": amount, "currency": currency, "payment_method_types": ["card_present"]}
        intent = self.client.v1.payment_intents.create(params)
        self.client.v1.terminal.readers.process_payment_intent(reader.id, {"payment_intent": intent.id})
        return reader.id, intent.id

    def hold_card(self, reader: str) -> str:
        """Hold a card to a reader; what it says when the payment has ended."""
        shown: Any = self.client.v1.test_helpers.terminal.readers.present_payment_method(reader)
        return f"{shown.action.status} {shown.action.failure_code or ''}".strip()

    def make_card(self, number: str) -> str:
        """Make a payment method of a card number; its id, or why it was refused."""
        params: Any = {"type": "card", "card": {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"}}
        try:
            return self.client.v1.payment_methods.create(params).id
        except self._stripe.CardError as error:
            return declined(error)

    def subscribe(self, url: str) -> tuple[str, str]:
        """Have every event sent to this address; the endpoint's id, and the secret that they are signed with."""
        made = self.client.v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
        return made.id, str(made.secret)

    def unsubscribe(self, endpoint: str) -> None:
        """Have nothing sent there any more."""
        self.client.v1.webhook_endpoints.delete(endpoint)

    def balance(self) -> dict[str, tuple[int, int]]:
        """By currency: what is available, and what is pending; minor units by ISO 4217."""
        found = self.client.v1.balance.retrieve()
        available = {one.currency: one.amount for one in found.available}
        pending = {one.currency: one.amount for one in found.pending}
        currencies = sorted(available.keys() | pending.keys())
        return {currency: (available.get(currency, 0), pending.get(currency, 0)) for currency in currencies}

    def trial_balance(self) -> Mapping[str, Any]:
        """The merchant's books: what both sides of them come to, by currency."""
        answer: Mapping[str, Any] = self.client.raw_request("get", "/v1/ledger/trial_balance").data
        return answer


def paid(intent: "stripe.PaymentIntent") -> str:
    """A payment's state, and what of it reaches the merchant."""
    charge: Any = intent.latest_charge
    entry = charge.balance_transaction if charge is not None else None
    if entry is None:
        return intent.status
    when = ", available at once" if entry.status == "available" else ""
    return f"{intent.status}, net {format_minor(entry.net, intent.currency)}{when}"


def declined(error: Any) -> str:
    """A decline by its code and decline code."""
    said = error.error
    return f"{said.code} {said.decline_code}" if said.decline_code else str(said.code)


def written(amount: int, currency: str) -> str:
    """An amount as people write it."""
    return str(Money(amount, currency))


def net_of(amount: int, currency: str, basis_points: int) -> str:
    """What is left of an amount after a fee that is rounded half up, as people write it."""
    fee = (amount * basis_points + 5_000) // 10_000
    return format_minor(amount - fee, currency)
