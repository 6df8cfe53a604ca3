"""The parameters of /v1/checkout/sessions. What is not listed is refused by name, above all what would touch money."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from guilder.api.params import EpochSeconds, Id, ListParams, Metadata, PageParams, Params, ShortText, Text
from guilder.api.payment_params import CaptureMethod, Currency, MethodOptions, Url, Usage
from guilder.api.personal import Shipping
from guilder.orders.model import LINES_MAX

# What a card form can hold of a name; Stripe's limit.
NAME_CHARACTERS_MAX = 250
# Stripe's limit.
REFERENCE_CHARACTERS_MAX = 200
QUANTITY_MAX = 999_999

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
Locale = Literal[
    "auto", "bg", "cs", "da", "de", "el", "en", "en-GB", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA", "hr", "hu", "id", "it", "ja",
    "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sk", "sl", "sv", "th", "tr", "vi", "zh", "zh-HK", "zh-TW",
]  # fmt: skip


class ProductData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sold. Pictures are accepted and not shown: the page loads nothing from elsewhere."""

    name: Name
    description: Text | UnsetType | None = UNSET
    images: Annotated[tuple[Url, ...], Meta(max_length=8)] = ()
    metadata: Metadata = UNSET


class PriceData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one of it costs, in the currency's smallest unit."""

    currency: Currency
    unit_amount: int
    product_data: ProductData


class Feature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that the page does not do; clients say by themselves that they do not want it."""

    enabled: bool


class LineItem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the order."""

    price_data: PriceData
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)] = 1
    adjustable_quantity: Feature | UnsetType | None = UNSET


class PaymentData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the PaymentIntent is made with."""

    capture_method: CaptureMethod | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    metadata: Metadata = UNSET
    receipt_email: ShortText | UnsetType | None = UNSET
    setup_future_usage: Usage | UnsetType | None = UNSET
    shipping: Shipping | UnsetType | None = UNSET
    statement_descriptor: ShortText | UnsetType | None = UNSET
    statement_descriptor_suffix: ShortText | UnsetType | None = UNSET


class Create(Params, frozen=True, kw_only=True):
    """What a buyer is asked to pay."""

    success_url: Url
    line_items: Annotated[tuple[LineItem, ...], Meta(min_length=1, max_length=LINES_MAX)]
    mode: Literal["payment"]
    allow_promotion_codes: bool | UnsetType | None = UNSET
    automatic_tax: Feature | UnsetType | None = UNSET
    cancel_url: Url | UnsetType | None = UNSET
    client_reference_id: Annotated[str, Meta(max_length=REFERENCE_CHARACTERS_MAX)] | UnsetType | None = UNSET
    currency: Currency | UnsetType = UNSET
    customer: Id | UnsetType | None = UNSET
    customer_creation: Literal["if_required"] | UnsetType | None = UNSET
    customer_email: ShortText | UnsetType | None = UNSET
    expires_at: EpochSeconds | UnsetType = UNSET
    invoice_creation: Feature | UnsetType | None = UNSET
    locale: Locale | UnsetType | None = UNSET
    metadata: Metadata = UNSET
    payment_intent_data: PaymentData | UnsetType | None = UNSET
    payment_method_options: MethodOptions | UnsetType | None = UNSET
    payment_method_types: Annotated[tuple[Literal["card"], ...], Meta(max_length=10)] | UnsetType = UNSET
    phone_number_collection: Feature | UnsetType | None = UNSET
    billing_address_collection: Literal["auto"] | UnsetType | None = UNSET
    submit_type: Literal["auto", "book", "donate", "pay"] | UnsetType | None = UNSET
    tax_id_collection: Feature | UnsetType | None = UNSET
    ui_mode: Literal["hosted_page", "hosted"] | UnsetType | None = UNSET


class Update(Params, frozen=True, kw_only=True):
    """Changes of a session."""

    metadata: Metadata = UNSET


class Listed(ListParams, frozen=True, kw_only=True):
    """Which sessions."""

    customer: Id | UnsetType = UNSET
    payment_intent: Id | UnsetType = UNSET
    status: Literal["open", "complete", "expired"] | UnsetType = UNSET


class LinesListed(PageParams, frozen=True, kw_only=True):
    """Which of a session's line items."""
