"""How a decline reads to the buyer and to the merchant: Stripe's codes and sentences (docs/errors.md lists them)."""

from collections.abc import Mapping
from typing import Final

from guilder.core.errors import ErrorFacts
from guilder.core.outcome import Declined

CODES_OF_THEIR_OWN: Final = frozenset({"expired_card", "incorrect_cvc", "processing_error", "incorrect_number", "authentication_required"})
"""These stand in `code`; every other decline is `card_declined` with its `decline_code`."""

GENERIC: Final = "generic_decline"
MESSAGES: Final[Mapping[str, str]] = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "incorrect_number": "Your card number is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
    "card_velocity_exceeded": "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
}
NOT_CHARGED: Final = "The payment could not be sent to the card network. Nothing was charged; try again."
AUTHENTICATION_FAILED: Final = (
    "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new PaymentMethod to attempt to "
    "fulfill this PaymentIntent again."
)
AUTHENTICATION_UNAVAILABLE: Final = (
    "Your card was declined. The bank wants to see the buyer, and could not be asked to. Nothing was charged; try again."
)
ATTEMPT_EXPIRED: Final = (
    "The buyer did not finish the authentication in time. Nothing was charged; provide a payment method and confirm again."
)
PAGE_EXPIRED: Final = (
    "The buyer did not pay at the payment provider's page in time. Nothing was charged; provide a payment method and confirm again."
)
PAGE_FAILED: Final = (
    "The buyer left the payment provider's page without paying. Nothing was charged; provide a payment method and confirm again."
)
NOT_PAID_IN_TIME: Final = "The bank did not answer in time. The payment is not made and is being undone; nothing will be charged."
UNDONE: Final = "The payment could not be completed. Nothing was charged; try again."


def message_of(code: str) -> str:
    """The sentence for a decline code."""
    return MESSAGES.get(code, "Your card was declined.")


def card_error(declined: Declined, charge: str | None) -> ErrorFacts:
    """The API error of a decline."""
    own = declined.code in CODES_OF_THEIR_OWN
    return ErrorFacts(
        type="card_error", message=message_of(declined.code), code=declined.code if own else "card_declined",
        decline_code=None if own and declined.code != "authentication_required" else declined.code, charge=charge,
        advice_code=declined.advice, network_decline_code=declined.network_code,
    )  # fmt: skip


def nothing_charged(message: str) -> ErrorFacts:
    """The API error of a payment that certainly moved nothing, through no decision of the issuer."""
    return ErrorFacts(type="card_error", message=message, code="processing_error")


def is_a_decline(error: ErrorFacts) -> bool:
    """Whether somebody has said no; not where the payment could not be sent or was undone: that tells nothing about the card."""
    return (error.code, error.charge) != ("processing_error", None)
