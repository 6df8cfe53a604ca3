"""PaymentMethods and Customers, as JSON."""

from typing import Any

from guilder.shapes.facts import CardFacts, CustomerFacts, PaymentMethodFacts
from guilder.shapes.version1.personal import Personal, address, billing_details, record
from guilder.shapes.version1.terminal import card_present


def checks(card: CardFacts) -> dict[str, Any]:
    """What the issuer said of the card data."""
    return {
        "address_line1_check": card.line1_check,
        "address_postal_code_check": card.postal_code_check,
        "cvc_check": card.cvc_check,
    }


def payment_method(facts: PaymentMethodFacts, personal: Personal) -> dict[str, Any]:
    """A PaymentMethod of type card, of type card_present, or of type psp_page."""
    card = facts.card
    if card.own_page:
        return {
            "id": facts.id,
            "object": "payment_method",
            "allow_redisplay": facts.allow_redisplay,
            "billing_details": billing_details(record(personal, facts.billing)),
            "created": facts.created,
            "customer": facts.customer,
            "customer_account": None,
            "livemode": facts.livemode,
            "metadata": dict(facts.metadata),
            "psp_page": {},
            "type": "psp_page",
        }
    if card.read_method is not None:
        return {
            "id": facts.id,
            "object": "payment_method",
            "allow_redisplay": facts.allow_redisplay,
            "billing_details": billing_details(record(personal, facts.billing)),
            "card_present": card_present(card),
            "created": facts.created,
            "customer": facts.customer,
            "customer_account": None,
            "livemode": facts.livemode,
            "metadata": dict(facts.metadata),
            "type": "card_present",
        }
    return {
        "id": facts.id,
        "object": "payment_method",
        "allow_redisplay": facts.allow_redisplay,
        "billing_details": billing_details(record(personal, facts.billing)),
        "card": {
            "brand": card.brand,
            "checks": checks(card),
            "country": card.country,
            "display_brand": card.brand,
            "exp_month": card.exp_month,
            "exp_year": card.exp_year,
            "fingerprint": card.fingerprint,
            "funding": card.funding,
            "generated_from": None,
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        "created": facts.created,
        "customer": facts.customer,
        "customer_account": None,
        "livemode": facts.livemode,
        "metadata": dict(facts.metadata),
        "type": "card",
    }


def customer(facts: CustomerFacts, personal: Personal) -> dict[str, Any]:
    """A Customer, or what is left of a deleted one."""
    if facts.deleted:
        return {"id": facts.id, "object": "customer", "deleted": True}
    known = record(personal, facts.personal)
    return {
        "id": facts.id,
        "object": "customer",
        "address": address(known.get("address")),
        "balance": 0,
        "created": facts.created,
        "currency": facts.currency,
        "default_source": None,
        "delinquent": False,
        "description": known.get("description"),
        "discount": None,
        "email": known.get("email"),
        "invoice_prefix": facts.invoice_prefix or None,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": facts.default_payment_method,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": facts.livemode,
        "metadata": dict(facts.metadata),
        "name": known.get("name"),
        "next_invoice_sequence": 1,
        "phone": known.get("phone"),
        "preferred_locales": known.get("preferred_locales") or [],
        "shipping": _shipping(known.get("shipping")),
        "tax_exempt": known.get("tax_exempt") or "none",
        "test_clock": None,
    }


def _shipping(value: Any) -> dict[str, Any] | None:
    """A customer's shipping has no carrier and no tracking number."""
    if not value:
        return None
    return {
        "address": address(value.get("address")) or address({"line1": None}),
        "name": value.get("name") or "",
        "phone": value.get("phone"),
    }
