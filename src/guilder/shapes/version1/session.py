"""Checkout Sessions and their line items, as JSON."""

from typing import Any

from guilder.shapes.facts import CheckoutSessionFacts, LineItemFacts
from guilder.shapes.units import to_wire
from guilder.shapes.version1.personal import Personal, address, record


def checkout_session(facts: CheckoutSessionFacts, personal: Personal) -> dict[str, Any]:
    """A Checkout Session in payment mode, its line items with it."""
    known = record(personal, facts.personal)
    total = to_wire(facts.amount_total, facts.currency)
    is_open = facts.status == "open"
    return {
        "id": facts.id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": facts.cancel_url,
        "client_reference_id": facts.client_reference_id,
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": facts.created,
        "currency": facts.currency,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {"after_submit": None, "shipping_address": None, "submit": None, "terms_of_service_acceptance": None},
        "customer": facts.customer,
        "customer_account": None,
        "customer_creation": None if facts.customer else "if_required",
        "customer_details": _details(known),
        "customer_email": known.get("customer_email"),
        "discounts": None,
        "expires_at": facts.expires_at,
        "invoice": None,
        "invoice_creation": None,
        "line_items": line_items(facts),
        "livemode": facts.livemode,
        "locale": facts.locale,
        "metadata": dict(facts.metadata),
        "mode": "payment",
        "origin_context": None,
        "payment_intent": facts.payment_intent,
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": facts.payment.request_three_d_secure}},
        "payment_method_types": ["card"],
        "payment_status": facts.payment_status,
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": facts.status,
        "submit_type": facts.submit_type,
        "subscription": None,
        "success_url": facts.success_url,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": facts.url if is_open else None,
        "wallet_options": None,
    }


def _details(known: Any) -> dict[str, Any] | None:
    """What is known of the buyer: what they typed, or at least the address that the merchant gave."""
    details = known.get("customer_details")
    if not details and not known.get("customer_email"):
        return None
    details = details or {"email": known.get("customer_email")}
    return {
        "address": address(details.get("address")),
        "business_name": None,
        "email": details.get("email"),
        "individual_name": None,
        "name": details.get("name"),
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }


def line_items(facts: CheckoutSessionFacts) -> dict[str, Any]:
    """All its line items as a list: there are never more than one page holds."""
    return {
        "object": "list",
        "data": [line_item(facts, item) for item in facts.line_items],
        "has_more": False,
        "url": f"/v1/checkout/sessions/{facts.id}/line_items",
    }


def line_item(facts: CheckoutSessionFacts, item: LineItemFacts) -> dict[str, Any]:
    """One line, with the price that was made for it."""
    amount = to_wire(item.unit_amount * item.quantity, facts.currency)
    unit = to_wire(item.unit_amount, facts.currency)
    return {
        "id": item.id,
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": facts.currency,
        "description": item.name,
        "metadata": {},
        "price": {
            "id": item.price,
            "object": "price",
            "active": False,
            "billing_scheme": "per_unit",
            "created": facts.created,
            "currency": facts.currency,
            "custom_unit_amount": None,
            "livemode": facts.livemode,
            "lookup_key": None,
            "metadata": {},
            "nickname": None,
            "product": item.product,
            "recurring": None,
            "tax_behavior": "unspecified",
            "tiers_mode": None,
            "transform_quantity": None,
            "type": "one_time",
            "unit_amount": unit,
            "unit_amount_decimal": str(unit),
        },
        "quantity": item.quantity,
    }
