"""The facts that events, stored answers and log entries hold, and that the payment tables repeat (DESIGN section 10).

A fact struct is an array on the wire, so it is small; it is therefore never changed: fields are only ever appended,
each with a default, and whatever changes the rendered bytes gets a new shape version (SHAPE). Personal data (names,
addresses, mails) is never in a fact: `personal` fields hold the id of the sealed record that owns it.

Instants here are epoch seconds, as the API shows them. Amounts are minor units by ISO 4217.
"""

from typing import Final

import msgspec
from msgspec import Struct

from guilder.core.errors import ErrorFacts

SHAPE: Final = 1
"""The shape version that new facts are stored under. Older versions are rendered by the code that they were stored for."""

Metadata = tuple[tuple[str, str], ...]
"""Metadata as pairs in the order in which the merchant sent them."""


class CardFacts(Struct, frozen=True, array_like=True):
    """What may be known of a card outside the vault."""

    brand: str
    last4: str
    exp_month: int
    exp_year: int
    fingerprint: str
    funding: str = "credit"
    country: str | None = "US"
    iin: str | None = None
    cvc_check: str | None = None
    postal_code_check: str | None = None
    line1_check: str | None = None
    # How a reader read it, as contact_emv; None for a card that was typed in. Makes the PaymentMethod a card_present one.
    read_method: str | None = None
    # There is no card: the buyer enters one at the PSP's own page. Makes the PaymentMethod a psp_page one.
    own_page: bool = False


class ThreeDSecureFacts(Struct, frozen=True, array_like=True):
    """How the buyer was authenticated for a charge."""

    result: str  # authenticated | attempt_acknowledged | failed | not_supported | processing_error
    flow: str | None = None  # challenge | frictionless
    indicator: str | None = None
    transaction_id: str | None = None


class PaymentMethodFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="payment_method"):
    """A PaymentMethod. `billing` is the personal record of billing_details."""

    id: str
    livemode: bool
    created: int
    card: CardFacts
    customer: str | None = None
    billing: str | None = None
    metadata: Metadata = ()
    allow_redisplay: str = "unspecified"


class CustomerFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="customer"):
    """A Customer. `personal` holds name, email, phone, address, shipping, description, preferred_locales, tax_exempt."""

    id: str
    livemode: bool
    created: int
    personal: str | None = None
    metadata: Metadata = ()
    default_payment_method: str | None = None
    currency: str | None = None
    invoice_prefix: str = ""
    deleted: bool = False


class PaymentIntentFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="payment_intent"):
    """A PaymentIntent. `personal` holds receipt_email, shipping."""

    id: str
    livemode: bool
    created: int
    amount: int
    currency: str
    status: str
    client_secret: str
    capture_method: str = "automatic_async"
    confirmation_method: str = "automatic"
    amount_capturable: int = 0
    amount_received: int = 0
    payment_method: str | None = None
    payment_method_types: tuple[str, ...] = ("card",)
    automatic_payment_methods: str | None = None  # allow_redirects, "" when enabled without a word about it
    customer: str | None = None
    description: str | None = None
    metadata: Metadata = ()
    personal: str | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    setup_future_usage: str | None = None
    return_url: str | None = None
    latest_charge: str | None = None
    last_payment_error: ErrorFacts | None = None
    # The PaymentMethod that failed, shown inside last_payment_error after it has left payment_method.
    failed_payment_method: PaymentMethodFacts | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    next_action_url: str | None = None
    request_three_d_secure: str = "automatic"
    # Rendered under "guilder": what Stripe has no field for.
    in_doubt: bool = False
    # The Checkout Session that it was made for: only that confirms, changes and gives it up.
    checkout_session: str | None = None


class ChargeFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="charge"):
    """A Charge: one per authorization attempt that got an answer. `billing` and `personal` point to sealed records."""

    id: str
    livemode: bool
    created: int
    amount: int
    currency: str
    status: str  # succeeded | failed
    payment_intent: str
    payment_method: str | None
    card: CardFacts
    captured: bool = False
    amount_captured: int = 0
    amount_refunded: int = 0
    refunded: bool = False
    balance_transaction: str | None = None
    customer: str | None = None
    description: str | None = None
    metadata: Metadata = ()
    billing: str | None = None
    personal: str | None = None  # receipt_email, shipping of the payment
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    decline_code: str | None = None
    network_decline_code: str | None = None
    outcome_type: str = "authorized"  # authorized | manual_review | issuer_declined | blocked | invalid
    outcome_reason: str | None = None
    risk_level: str = "normal"
    risk_score: int = 0
    authorization_code: str | None = None
    network_transaction_id: str | None = None
    capture_before: int | None = None
    connector: str = ""
    overcaptured: bool = False
    three_d_secure: ThreeDSecureFacts | None = None
    # The till: which reader took the card, and where it stands.
    reader: str | None = None
    location: str | None = None


class RefundFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="refund"):
    """A Refund."""

    id: str
    livemode: bool
    created: int
    amount: int
    currency: str
    status: str  # pending | requires_action | succeeded | failed | canceled
    charge: str
    payment_intent: str
    reason: str | None = None
    metadata: Metadata = ()
    balance_transaction: str | None = None
    failure_balance_transaction: str | None = None
    failure_reason: str | None = None
    pending_reason: str | None = None
    reference: str | None = None


class BalanceTransactionFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="balance_transaction"):
    """A BalanceTransaction. `available` says whether its day's release row existed when this was read."""

    id: str
    created: int
    amount: int  # negative for refunds
    fee: int
    currency: str
    type: str  # charge | refund | refund_failure | ...
    source: str | None
    available_on: int
    reporting_category: str
    description: str | None = None
    fee_description: str | None = "Guilder processing fee"
    available: bool = False


class BalanceFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="balance"):
    """A merchant's balance: (currency, minor units) pairs, sorted by currency."""

    livemode: bool
    available: tuple[tuple[str, int], ...]
    pending: tuple[tuple[str, int], ...]


class LocationFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="terminal.location"):
    """A place where readers stand: the merchant's own address, so nothing personal."""

    id: str
    livemode: bool
    created: int
    display_name: str
    address: tuple[tuple[str, str], ...] = ()
    metadata: Metadata = ()
    phone: str | None = None
    deleted: bool = False


class ReaderActionFacts(Struct, frozen=True, array_like=True):
    """What a reader is doing, or did last."""

    id: str
    status: str  # in_progress | succeeded | failed
    payment_intent: str
    failure_code: str | None = None
    failure_message: str | None = None


class ReaderFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="terminal.reader"):
    """A card reader."""

    id: str
    livemode: bool
    created: int
    device_type: str
    serial_number: str
    label: str
    location: str | None = None
    metadata: Metadata = ()
    action: ReaderActionFacts | None = None
    deleted: bool = False


class WebhookEndpointFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="webhook_endpoint"):
    """A WebhookEndpoint. `sealed` is its signing secret as it is stored, in the answers that show it, and nowhere else."""

    id: str
    livemode: bool
    created: int
    url: str
    enabled_events: tuple[str, ...]
    status: str  # enabled | disabled
    api_version: str | None = None
    description: str | None = None
    metadata: Metadata = ()
    sealed: bytes = b""
    deleted: bool = False
    # Rendered under "guilder": what Stripe has no field for.
    disabled_reason: str | None = None
    previous_secret_until: int | None = None
    # Those of enabled_events that nothing is sent of yet.
    not_sent_yet: tuple[str, ...] = ()


class PspBreakerFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="psp_breaker"):
    """The circuit breaker of one operation at one PSP, as it was when it opened or closed."""

    id: str  # connector and operation
    livemode: bool
    connector: str
    operation: str
    state: str  # open | closed
    changed: int


class LineItemFacts(Struct, frozen=True, array_like=True):
    """One line of a Checkout Session; `unit_amount` times `quantity` is its amount."""

    id: str
    price: str
    product: str
    name: str
    unit_amount: int
    quantity: int
    description: str | None = None
    product_metadata: Metadata = ()


class OrderedPaymentFacts(Struct, frozen=True, array_like=True):
    """What the PaymentIntent of a Checkout Session is to be made with (`payment_intent_data`, `payment_method_options`)."""

    capture_method: str = "automatic_async"
    description: str | None = None
    metadata: Metadata = ()
    personal: str | None = None  # receipt_email, shipping
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    setup_future_usage: str | None = None
    request_three_d_secure: str = "automatic"


class CheckoutSessionFacts(Struct, frozen=True, array_like=True, tag_field="object", tag="checkout.session"):
    """A Checkout Session. `personal` holds customer_email (the merchant's) and customer_details (the buyer's)."""

    id: str
    livemode: bool
    created: int
    currency: str
    amount_total: int
    line_items: tuple[LineItemFacts, ...]
    status: str  # open | complete | expired
    payment_status: str  # unpaid | paid
    expires_at: int
    success_url: str
    url: str
    cancel_url: str | None = None
    client_reference_id: str | None = None
    customer: str | None = None
    personal: str | None = None
    locale: str | None = None
    metadata: Metadata = ()
    submit_type: str | None = None
    payment_intent: str | None = None
    payment: OrderedPaymentFacts = OrderedPaymentFacts()


Facts = (
    PaymentIntentFacts
    | ChargeFacts
    | RefundFacts
    | PaymentMethodFacts
    | CustomerFacts
    | BalanceTransactionFacts
    | BalanceFacts
    | WebhookEndpointFacts
    | CheckoutSessionFacts
    | LocationFacts
    | ReaderFacts
    | PspBreakerFacts
)
"""Any object that an event or an answer may hold; the tag is Stripe's `object`."""


class EventFacts(Struct, frozen=True, array_like=True):
    """What an event row stores beside its columns: the object as it was, and on *.updated the previous values as JSON."""

    shape: int
    object: Facts
    previous: bytes = b""


class Answer(Struct, frozen=True, array_like=True):
    """A stored API answer: the bytes are made from it each time, always the same.

    `root` is what was answered, or, beside an `error`, the PaymentIntent that the error carries. `included` are the
    objects that `expand` put in place of ids.
    """

    shape: int
    status: int
    root: Facts | None = None
    error: ErrorFacts | None = None
    expand: tuple[str, ...] = ()
    included: tuple[Facts, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(Answer)
_events = msgspec.msgpack.Decoder(EventFacts)


def encode(value: Answer | EventFacts) -> bytes:
    """Facts as the bytes that are stored."""
    return _encoder.encode(value)


def decode_answer(data: bytes) -> Answer:
    """The answer that was stored."""
    return _answers.decode(data)


def decode_event(data: bytes) -> EventFacts:
    """The event's facts that were stored."""
    return _events.decode(data)
