"""What payments are asked to do, checked for shape and types already. Pure values; the verbs of the same names carry them out."""

from msgspec import UNSET, Struct, UnsetType

from guilder.shapes.facts import Metadata, PaymentMethodFacts


class CreatePayment(Struct, frozen=True, kw_only=True):
    """Make a payment, and with `confirm` try to take it at once. Amounts are minor units by ISO 4217."""

    amount: int
    currency: str
    confirm: bool = False
    payment_method: PaymentMethodFacts | None = None
    payment_method_types: tuple[str, ...] = ("card",)
    automatic_payment_methods: str | None = None
    capture_method: str = "automatic_async"
    customer: str | None = None
    description: str | None = None
    metadata: Metadata = ()
    personal: str | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    setup_future_usage: str | None = None
    return_url: str | None = None
    off_session: bool = False
    error_on_requires_action: bool = False
    request_three_d_secure: str = "automatic"
    checkout_session: str | None = None


class ConfirmPayment(Struct, frozen=True, kw_only=True):
    """Try to take a payment that exists. What is UNSET stays as it is."""

    payment: str
    client_secret: str | None = None
    payment_method: PaymentMethodFacts | UnsetType = UNSET
    capture_method: str | UnsetType = UNSET
    setup_future_usage: str | None | UnsetType = UNSET
    return_url: str | None | UnsetType = UNSET
    personal: str | None | UnsetType = UNSET
    off_session: bool = False
    error_on_requires_action: bool = False
    request_three_d_secure: str | UnsetType = UNSET
    # The Checkout Session that asks; a payment that belongs to one is confirmed by nobody else.
    checkout_session: str | None = None
    # Which confirmation this is to be, counted from 1; refused when another one has come before it. None for whichever.
    number: int | None = None


class UpdatePayment(Struct, frozen=True, kw_only=True):
    """Change a payment that is not under way; metadata and description at any time. None unsets, UNSET leaves alone.

    `metadata` holds only what the request named: a None value deletes the key; None as a whole clears all.
    """

    payment: str
    amount: int | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    payment_method: PaymentMethodFacts | None | UnsetType = UNSET
    payment_method_types: tuple[str, ...] | UnsetType = UNSET
    capture_method: str | UnsetType = UNSET
    customer: str | UnsetType = UNSET
    description: str | None | UnsetType = UNSET
    metadata: dict[str, str | None] | None | UnsetType = UNSET
    personal: str | None | UnsetType = UNSET
    statement_descriptor: str | None | UnsetType = UNSET
    statement_descriptor_suffix: str | None | UnsetType = UNSET
    setup_future_usage: str | None | UnsetType = UNSET
    request_three_d_secure: str | UnsetType = UNSET


class CapturePayment(Struct, frozen=True, kw_only=True):
    """Take some or all of an authorized amount; None takes all. What is not taken is released."""

    payment: str
    amount_to_capture: int | None = None
    metadata: dict[str, str | None] | None | UnsetType = UNSET
    statement_descriptor: str | None | UnsetType = UNSET
    statement_descriptor_suffix: str | None | UnsetType = UNSET


class CancelPayment(Struct, frozen=True, kw_only=True):
    """Give a payment up; an authorization is voided at the PSP first. `cancellation_reason` is Stripe's word."""

    payment: str
    cancellation_reason: str | None = None


class CreateRefund(Struct, frozen=True, kw_only=True):
    """Give money back; exactly one of payment and charge is given; None as amount gives back all that is left."""

    payment: str | None = None
    charge: str | None = None
    amount: int | None = None
    reason: str | None = None
    metadata: Metadata = ()


class UpdateRefund(Struct, frozen=True, kw_only=True):
    """Change a refund's metadata."""

    refund: str
    metadata: dict[str, str | None] | None | UnsetType = UNSET


class CancelRefund(Struct, frozen=True, kw_only=True):
    """Withdraw a refund; possible only while it waits for money and nothing was sent."""

    refund: str


class UpdateCharge(Struct, frozen=True, kw_only=True):
    """Change what may be changed of a charge."""

    charge: str
    description: str | None | UnsetType = UNSET
    metadata: dict[str, str | None] | None | UnsetType = UNSET
    customer: str | UnsetType = UNSET
    personal: str | None | UnsetType = UNSET
