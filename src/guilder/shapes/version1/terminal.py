"""Readers and the places where they stand, as JSON."""

from typing import Any

from guilder.shapes.facts import CardFacts, ChargeFacts, LocationFacts, ReaderActionFacts, ReaderFacts
from guilder.shapes.version1.personal import Personal

_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")


def location(facts: LocationFacts, _personal: Personal) -> dict[str, Any]:
    """A terminal.location, or what is left of a deleted one."""
    if facts.deleted:
        return {"id": facts.id, "object": "terminal.location", "deleted": True}
    known = dict(facts.address)
    shown: dict[str, Any] = {
        "id": facts.id,
        "object": "terminal.location",
        "address": {name: known.get(name) for name in _ADDRESS},
        "display_name": facts.display_name,
        "livemode": facts.livemode,
        "metadata": dict(facts.metadata),
    }
    if facts.phone is not None:
        shown["phone"] = facts.phone
    return shown


def reader(facts: ReaderFacts, _personal: Personal) -> dict[str, Any]:
    """A terminal.reader, or what is left of a deleted one. The simulated ones are always there."""
    if facts.deleted:
        return {
            "id": facts.id, "object": "terminal.reader", "deleted": True, "device_type": facts.device_type,
            "serial_number": facts.serial_number,
        }  # fmt: skip
    return {
        "id": facts.id,
        "object": "terminal.reader",
        "action": _action(facts.action) if facts.action is not None else None,
        "device_sw_version": "",
        "device_type": facts.device_type,
        "ip_address": "0.0.0.0",  # noqa: S104 - what a simulated reader shows; nothing binds to it
        "label": facts.label,
        "last_seen_at": None,
        "livemode": facts.livemode,
        "location": facts.location,
        "metadata": dict(facts.metadata),
        "serial_number": facts.serial_number,
        "status": "online",
    }


def _action(facts: ReaderActionFacts) -> dict[str, Any]:
    return {
        "failure_code": facts.failure_code,
        "failure_message": facts.failure_message,
        "process_payment_intent": {"payment_intent": facts.payment_intent},
        "status": facts.status,
        "type": "process_payment_intent",
    }


def card_present(card: CardFacts) -> dict[str, Any]:
    """The card of a PaymentMethod that a reader has read."""
    return {
        "brand": card.brand,
        "brand_product": None,
        "cardholder_name": None,
        "country": card.country,
        "exp_month": card.exp_month,
        "exp_year": card.exp_year,
        "fingerprint": card.fingerprint,
        "funding": card.funding,
        "last4": card.last4,
        "networks": {"available": [card.brand], "preferred": None},
        "offline": None,
        "preferred_locales": None,
        "read_method": card.read_method,
    }


def charged_present(facts: ChargeFacts, *, paid: bool) -> dict[str, Any]:
    """payment_method_details.card_present: the card as it was when it was charged."""
    card = facts.card
    details: dict[str, Any] = {
        "amount_authorized": facts.amount if paid else None,
        "brand": card.brand,
        "brand_product": None,
        "cardholder_name": None,
        "country": card.country,
        "emv_auth_data": None,
        "exp_month": card.exp_month,
        "exp_year": card.exp_year,
        "fingerprint": card.fingerprint,
        "funding": card.funding,
        "generated_card": None,
        "incremental_authorization_supported": False,
        "last4": card.last4,
        "network": card.brand,
        "network_transaction_id": facts.network_transaction_id,
        "offline": {"stored_at": None, "type": None},
        "overcapture_supported": False,
        "preferred_locales": None,
        "read_method": card.read_method,
        "receipt": None,
    }
    if facts.capture_before is not None:
        details["capture_before"] = facts.capture_before
    if facts.reader is not None:
        details["reader"] = facts.reader
    if facts.location is not None:
        details["location"] = facts.location
    return details
