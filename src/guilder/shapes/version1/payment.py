"""PaymentIntents, Charges and Refunds, as JSON."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from guilder.core.errors import ErrorFacts
from guilder.shapes.facts import ChargeFacts, PaymentIntentFacts, RefundFacts, ThreeDSecureFacts
from guilder.shapes.units import SPECIAL, to_wire
from guilder.shapes.version1.customer import checks, payment_method
from guilder.shapes.version1.personal import Personal, billing_details, record, shipping
from guilder.shapes.version1.terminal import charged_present

_NETWORK_STATUS: Final[Mapping[str, str]] = {
    "authorized": "approved_by_network",
    "manual_review": "approved_by_network",
    "issuer_declined": "declined_by_network",
    "blocked": "not_sent_to_network",
    "invalid": "not_sent_to_network",
}
_SELLER_MESSAGE: Final[Mapping[str, str]] = {
    "authorized": "Payment complete.",
    "manual_review": "The payment was approved and waits for a review.",
    "blocked": "Guilder blocked this payment before it was sent to the bank.",
    "invalid": "The card data cannot be right, so nothing was sent to the bank.",
}
_UNAVAILABLE: Final = {"status": "unavailable"}


def error(facts: ErrorFacts) -> dict[str, Any]:
    """The members of an error that are there, and only those: the schema knows no nulls here."""
    members: dict[str, Any] = {}
    for name in ("advice_code", "charge", "code", "decline_code", "message", "network_decline_code", "param", "type"):
        value = getattr(facts, name)
        if value is not None:
            members[name] = value
    return members


def payment_intent(facts: PaymentIntentFacts, personal: Personal) -> dict[str, Any]:
    """A PaymentIntent."""
    if facts.currency in SPECIAL:
        facts = replace(
            facts,
            amount=to_wire(facts.amount, facts.currency),
            amount_capturable=to_wire(facts.amount_capturable, facts.currency),
            amount_received=to_wire(facts.amount_received, facts.currency),
        )
    known = record(personal, facts.personal)
    shown: dict[str, Any] = {
        "id": facts.id,
        "object": "payment_intent",
        "amount": facts.amount,
        "amount_capturable": facts.amount_capturable,
        "amount_details": {"tip": {}},
        "amount_received": facts.amount_received,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": _automatic(facts.automatic_payment_methods),
        "canceled_at": facts.canceled_at,
        "cancellation_reason": facts.cancellation_reason,
        "capture_method": facts.capture_method,
        "client_secret": facts.client_secret,
        "confirmation_method": facts.confirmation_method,
        "created": facts.created,
        "currency": facts.currency,
        "customer": facts.customer,
        "customer_account": None,
        "description": facts.description,
        "excluded_payment_method_types": None,
        "last_payment_error": _last_error(facts, personal) if facts.last_payment_error is not None else None,
        "latest_charge": facts.latest_charge,
        "livemode": facts.livemode,
        "metadata": dict(facts.metadata),
        "next_action": _next_action(facts) if facts.next_action_url is not None else None,
        "on_behalf_of": None,
        "payment_method": facts.payment_method,
        "payment_method_configuration_details": None,
        "payment_method_options": _method_options(facts),
        "payment_method_types": facts.payment_method_types,
        "processing": {"card": {}, "type": "card"} if facts.status == "processing" and _by_card(facts) else None,
        "receipt_email": known.get("receipt_email"),
        "review": None,
        "setup_future_usage": facts.setup_future_usage,
        "shipping": shipping(known.get("shipping")),
        "source": None,
        "statement_descriptor": facts.statement_descriptor,
        "statement_descriptor_suffix": facts.statement_descriptor_suffix,
        "status": facts.status,
        "transfer_data": None,
        "transfer_group": None,
    }
    if facts.in_doubt:
        shown["guilder"] = {"in_doubt": True}
    return shown


def _by_card(facts: PaymentIntentFacts) -> bool:
    return "card" in facts.payment_method_types


def _method_options(facts: PaymentIntentFacts) -> dict[str, Any]:
    """What holds for one kind of method only, for each kind that the payment takes."""
    options: dict[str, Any] = {}
    if "card" in facts.payment_method_types:
        options["card"] = {
            "installments": None,
            "mandate_options": None,
            "network": None,
            "request_three_d_secure": facts.request_three_d_secure,
        }
    if "card_present" in facts.payment_method_types:
        options["card_present"] = {"request_extended_authorization": False, "request_incremental_authorization_support": False}
    return options


def _automatic(allow_redirects: str | None) -> dict[str, Any] | None:
    if allow_redirects is None:
        return None
    return {"allow_redirects": allow_redirects or "always", "enabled": True}


def _next_action(facts: PaymentIntentFacts) -> dict[str, Any]:
    return {
        "redirect_to_url": {"return_url": facts.return_url, "url": facts.next_action_url},
        "type": "redirect_to_url",
    }


def _last_error(facts: PaymentIntentFacts, personal: Personal) -> dict[str, Any]:
    """The last failure, with the PaymentMethod that failed, which has left the PaymentIntent itself."""
    members = error(facts.last_payment_error) if facts.last_payment_error is not None else {}
    if facts.failed_payment_method is not None:
        members["payment_method"] = payment_method(facts.failed_payment_method, personal)
    return members


def charge(facts: ChargeFacts, personal: Personal) -> dict[str, Any]:
    """A Charge."""
    if facts.currency in SPECIAL:
        facts = replace(
            facts,
            amount=to_wire(facts.amount, facts.currency),
            amount_captured=to_wire(facts.amount_captured, facts.currency),
            amount_refunded=to_wire(facts.amount_refunded, facts.currency),
        )
    known = record(personal, facts.personal)
    paid = facts.status == "succeeded"
    return {
        "id": facts.id,
        "object": "charge",
        "amount": facts.amount,
        "amount_captured": facts.amount_captured,
        "amount_refunded": facts.amount_refunded,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": facts.balance_transaction,
        "billing_details": billing_details(record(personal, facts.billing)),
        "calculated_statement_descriptor": facts.statement_descriptor,
        "captured": facts.captured,
        "created": facts.created,
        "currency": facts.currency,
        "customer": facts.customer,
        "description": facts.description,
        "dispute": None,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": facts.failure_code,
        "failure_message": facts.failure_message,
        "fraud_details": {},
        "livemode": facts.livemode,
        "metadata": dict(facts.metadata),
        "on_behalf_of": None,
        "outcome": _outcome(facts),
        "paid": paid,
        "payment_intent": facts.payment_intent,
        "payment_method": facts.payment_method,
        "payment_method_details": _method_details(facts, paid=paid),
        "receipt_email": known.get("receipt_email"),
        "receipt_number": None,
        "receipt_url": None,
        "refunded": facts.refunded,
        "review": None,
        "shipping": shipping(known.get("shipping")),
        "source": None,
        "source_transfer": None,
        "statement_descriptor": facts.statement_descriptor,
        "statement_descriptor_suffix": facts.statement_descriptor_suffix,
        "status": facts.status,
        "transfer_data": None,
        "transfer_group": None,
    }


def _method_details(facts: ChargeFacts, *, paid: bool) -> dict[str, Any]:
    if facts.card.own_page:
        return {"psp_page": {}, "type": "psp_page"}
    if facts.card.read_method is not None:
        return {"card_present": charged_present(facts, paid=paid), "type": "card_present"}
    return {"card": _card_details(facts, paid=paid), "type": "card"}


def _outcome(facts: ChargeFacts) -> dict[str, Any]:
    """What came of it, in the words that clients read on a charge."""
    declined = f"The bank returned the decline code `{facts.outcome_reason or 'generic_decline'}`."
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": facts.network_decline_code,
        "network_status": _NETWORK_STATUS.get(facts.outcome_type, "not_sent_to_network"),
        "reason": facts.outcome_reason,
        "risk_level": facts.risk_level,
        "risk_score": facts.risk_score,
        "seller_message": _SELLER_MESSAGE.get(facts.outcome_type, declined),
        "type": facts.outcome_type,
    }


# The one version of 3-D Secure that the sandbox's scheme speaks.
_THREE_D_SECURE_VERSION: Final = "2.2.0"


def _three_d_secure(facts: ThreeDSecureFacts) -> dict[str, Any]:
    """payment_method_details.card.three_d_secure."""
    unproved = facts.result in ("failed", "not_supported", "processing_error")
    return {
        "authentication_flow": facts.flow,
        "electronic_commerce_indicator": facts.indicator,
        "exemption_indicator": None,
        "result": facts.result,
        "result_reason": _WHY_UNPROVED.get(facts.result) if unproved else None,
        "transaction_id": facts.transaction_id,
        "version": None if facts.result == "not_supported" else _THREE_D_SECURE_VERSION,
    }


_WHY_UNPROVED: Final = {"not_supported": "card_not_enrolled", "processing_error": "protocol_error", "failed": "rejected"}


def _card_details(facts: ChargeFacts, *, paid: bool) -> dict[str, Any]:
    """payment_method_details.card: the card as it was when it was charged."""
    card = facts.card
    details: dict[str, Any] = {
        "amount_authorized": facts.amount if paid else None,
        "authorization_code": facts.authorization_code,
        "brand": card.brand,
    }
    if facts.capture_before is not None:
        details["capture_before"] = facts.capture_before
    details |= {
        "checks": checks(card),
        "country": card.country,
        "exp_month": card.exp_month,
        "exp_year": card.exp_year,
        "extended_authorization": {"status": "disabled"},
        "fingerprint": card.fingerprint,
        "funding": card.funding,
        "incremental_authorization": _UNAVAILABLE,
        "installments": None,
        "last4": card.last4,
        "mandate": None,
        "multicapture": _UNAVAILABLE,
        "network": card.brand,
        "network_token": {"used": False},
        "network_transaction_id": facts.network_transaction_id,
        "overcapture": {"maximum_amount_capturable": facts.amount, "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": _three_d_secure(facts.three_d_secure) if facts.three_d_secure is not None else None,
        "wallet": None,
    }
    return details


def refund(facts: RefundFacts, _personal: Personal) -> dict[str, Any]:
    """A Refund; members that have nothing to say are left out, the schema has no null for them."""
    card = {"reference_status": "available", "reference_type": "acquirer_reference_number", "type": "refund"}
    if facts.reference is None:
        card["reference_status"] = "pending"
    else:
        card["reference"] = facts.reference
    shown: dict[str, Any] = {
        "id": facts.id,
        "object": "refund",
        "amount": to_wire(facts.amount, facts.currency),
        "balance_transaction": facts.balance_transaction,
        "charge": facts.charge,
        "created": facts.created,
        "currency": facts.currency,
        "destination_details": {"card": card, "type": "card"},
        "metadata": dict(facts.metadata),
        "payment_intent": facts.payment_intent,
        "reason": facts.reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": facts.status,
        "transfer_reversal": None,
    }
    for name in ("failure_balance_transaction", "failure_reason", "pending_reason"):
        value = getattr(facts, name)
        if value is not None:
            shown[name] = value
    return shown
