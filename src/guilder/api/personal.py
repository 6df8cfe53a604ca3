"""Personal details in requests: addresses, shipping, billing_details; what of them goes into the sealed records."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from guilder.api.call import Call
from guilder.api.params import ShortText
from guilder.api.text import check_email


class Address(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A postal address."""

    city: ShortText | None = None
    country: ShortText | None = None
    line1: ShortText | None = None
    line2: ShortText | None = None
    postal_code: ShortText | None = None
    state: ShortText | None = None


class Shipping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a payment's goods go."""

    address: Address
    name: ShortText
    carrier: ShortText | None = None
    phone: ShortText | None = None
    tracking_number: ShortText | None = None


class CustomerShipping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a customer's goods go."""

    address: Address
    name: ShortText
    phone: ShortText | None = None


class BillingDetails(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who pays. What is not named stays as it is; an empty value unsets."""

    address: Address | UnsetType | None = UNSET
    email: ShortText | UnsetType | None = UNSET
    name: ShortText | UnsetType | None = UNSET
    phone: ShortText | UnsetType | None = UNSET
    tax_id: ShortText | UnsetType | None = UNSET


def plain(value: Any) -> Any:
    """A parameter as it stands in a sealed record: structs as dicts without what has no value, nothing at all as None."""
    if not isinstance(value, Struct):
        return value
    fields = {name: plain(one) for name, one in asdict(value).items()}
    return {name: one for name, one in fields.items() if one is not None} or None


def named(**fields: Any) -> dict[str, Any]:
    """The fields that the request named, None for those that it unset."""
    return {name: plain(value) for name, value in fields.items() if value is not UNSET}


def billing(details: BillingDetails | UnsetType, param: str) -> dict[str, Any]:
    """The billing details that the request named. Raises Refusal (400) for a mail address that cannot be."""
    if details is UNSET:
        return {}
    check_email(details.email, f"{param}[email]")
    return named(**asdict(details))


async def sealed_for_payment(call: Call, before: str | None, fields: Mapping[str, Any]) -> str | None:
    """The record of a payment after the request named these fields: the old one when nothing changes, else a new one.

    Stored before the payment is, in a commit of its own: a payment may point only to what is there.
    """
    personal = call.services.personal
    return await personal.changed(call.account, before, fields, livemode=call.livemode)


PAYMENT_FIELDS: Final = ("receipt_email", "shipping")
"""What the personal record of a payment holds."""
