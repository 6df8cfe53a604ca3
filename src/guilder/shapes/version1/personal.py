"""Personal data beside the facts: records by id, opened by whoever owns them. An erased record shows as nulls."""

from collections.abc import Mapping
from typing import Any, Final

Record = Mapping[str, Any]
Personal = Mapping[str, Record]
"""Record id -> the opened record. An id that is missing here was erased, or may not be seen."""

NOTHING: Final[Record] = {}


def record(personal: Personal, id_: str | None) -> Record:
    """The opened record of this id, empty when there is none."""
    return personal.get(id_, NOTHING) if id_ is not None else NOTHING


def address(value: Record | None) -> dict[str, Any] | None:
    """An address with all six members, or null."""
    if not value:
        return None
    return {
        "city": value.get("city"),
        "country": value.get("country"),
        "line1": value.get("line1"),
        "line2": value.get("line2"),
        "postal_code": value.get("postal_code"),
        "state": value.get("state"),
    }


def shipping(value: Record | None) -> dict[str, Any] | None:
    """Shipping as a payment shows it, or null."""
    if not value:
        return None
    return {
        "address": address(value.get("address")) or address({"line1": None}),
        "carrier": value.get("carrier"),
        "name": value.get("name") or "",
        "phone": value.get("phone"),
        "tracking_number": value.get("tracking_number"),
    }


def billing_details(value: Record) -> dict[str, Any]:
    """billing_details, always an object and always with an address, as Stripe shows it."""
    return {
        "address": address(value.get("address")) or address({"line1": None}),
        "email": value.get("email"),
        "name": value.get("name"),
        "phone": value.get("phone"),
        "tax_id": value.get("tax_id"),
    }
