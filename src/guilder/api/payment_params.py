"""The parameters of /v1/payment_intents. What is not listed is refused by name, above all what would touch money."""

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from guilder.api.cards import PaymentMethodData
from guilder.api.params import Id, Ignored, ListParams, Metadata, Params, ShortText, Text
from guilder.api.personal import Shipping

Currency = Annotated[str, Meta(max_length=10, description="Three-letter ISO 4217 code, in any case.")]
Usage = Literal["on_session", "off_session"]
CaptureMethod = Literal["automatic", "automatic_async", "manual"]
MethodTypes = Annotated[tuple[Literal["card", "card_present", "psp_page"], ...], Meta(max_length=10)]
Url = Annotated[str, Meta(max_length=2_048)]

DEFAULT_CAPTURE_METHOD: Final = "automatic_async"


class AutomaticMethods(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the payment takes whatever methods are set up; cards, here."""

    enabled: bool
    allow_redirects: Literal["always", "never"] | UnsetType = UNSET


class CardOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for cards only."""

    request_three_d_secure: Literal["any", "automatic", "challenge"] | UnsetType = UNSET


class MethodOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for one kind of method only."""

    card: CardOptions | UnsetType | None = UNSET


def three_d_secure(options: MethodOptions | UnsetType | None) -> str | UnsetType:
    """What is asked of the issuer; UNSET when the request says nothing of it."""
    return options.card.request_three_d_secure if options and options.card else UNSET


class _Confirming(Params, frozen=True, kw_only=True):
    """What create and confirm share."""

    payment_method: Id | UnsetType | None = UNSET
    payment_method_data: PaymentMethodData | UnsetType = UNSET
    payment_method_options: MethodOptions | UnsetType | None = UNSET
    capture_method: CaptureMethod | UnsetType = UNSET
    setup_future_usage: Usage | UnsetType | None = UNSET
    receipt_email: ShortText | UnsetType | None = UNSET
    shipping: Shipping | UnsetType | None = UNSET
    return_url: Url | UnsetType | None = UNSET
    off_session: bool = False
    error_on_requires_action: bool = False
    use_stripe_sdk: Ignored = UNSET
    radar_options: Ignored = UNSET


class Create(_Confirming, frozen=True, kw_only=True):
    """A new payment."""

    amount: int
    currency: Currency
    confirm: bool = False
    automatic_payment_methods: AutomaticMethods | UnsetType | None = UNSET
    payment_method_types: MethodTypes | UnsetType | None = UNSET
    payment_method_configuration: Ignored = UNSET
    confirmation_method: Literal["automatic", "manual"] | UnsetType = UNSET
    customer: Id | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    metadata: Metadata = UNSET
    statement_descriptor: ShortText | UnsetType | None = UNSET
    statement_descriptor_suffix: ShortText | UnsetType | None = UNSET


class Confirm(_Confirming, frozen=True, kw_only=True):
    """A try to take a payment."""

    client_secret: ShortText | UnsetType = UNSET
    payment_method_types: MethodTypes | UnsetType | None = UNSET


class Update(Params, frozen=True, kw_only=True):
    """Changes of a payment that is not under way."""

    amount: int | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET
    payment_method: Id | UnsetType | None = UNSET
    payment_method_data: PaymentMethodData | UnsetType = UNSET
    payment_method_options: MethodOptions | UnsetType | None = UNSET
    payment_method_types: MethodTypes | UnsetType = UNSET
    payment_method_configuration: Ignored = UNSET
    capture_method: CaptureMethod | UnsetType = UNSET
    customer: Id | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    metadata: Metadata = UNSET
    receipt_email: ShortText | UnsetType | None = UNSET
    shipping: Shipping | UnsetType | None = UNSET
    statement_descriptor: ShortText | UnsetType | None = UNSET
    statement_descriptor_suffix: ShortText | UnsetType | None = UNSET
    setup_future_usage: Usage | UnsetType | None = UNSET


class Capture(Params, frozen=True, kw_only=True):
    """What to take of an authorized amount."""

    amount_to_capture: int | UnsetType = UNSET
    metadata: Metadata = UNSET
    statement_descriptor: ShortText | UnsetType | None = UNSET
    statement_descriptor_suffix: ShortText | UnsetType | None = UNSET


class Cancel(Params, frozen=True, kw_only=True):
    """Why a payment is given up."""

    cancellation_reason: Literal["abandoned", "duplicate", "fraudulent", "requested_by_customer"] | UnsetType | None = UNSET


class Retrieve(Params, frozen=True, kw_only=True):
    """A publishable key needs the payment's client secret."""

    client_secret: ShortText | UnsetType = UNSET


class Listed(ListParams, frozen=True, kw_only=True):
    """Which payments."""

    customer: Id | UnsetType = UNSET
