"""What may be done with customers and PaymentMethods: pure."""

from typing import Final

from guilder.core.errors import Refusal
from guilder.shapes.facts import PaymentMethodFacts

UNEXPECTED: Final = "payment_method_unexpected_state"


def check_customer(method: PaymentMethodFacts, customer: str | None, *, param: str = "payment_method") -> None:
    """Refuse a PaymentMethod that belongs to another customer than the one it is used for."""
    if method.customer is None or method.customer == customer:
        return
    if customer is None:
        raise Refusal(
            f"The provided PaymentMethod {method.id} belongs to the Customer {method.customer}. "
            "Please include the Customer in the `customer` parameter.",
            code=UNEXPECTED,
            param=param,
        )
    raise Refusal(
        f"The provided PaymentMethod {method.id} does not belong to the Customer {customer} but to another one. "
        "Use a PaymentMethod of this Customer, or one that is not attached.",
        code=UNEXPECTED,
        param=param,
    )


def already_attached() -> Refusal:
    """The refusal to attach what another customer has."""
    return Refusal("The payment method you provided has already been attached to a customer.", code=UNEXPECTED)


def used_up(param: str | None = None) -> Refusal:
    """The refusal of a PaymentMethod that was detached."""
    return Refusal(
        "This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, "
        "and may not be used again.",
        code=UNEXPECTED,
        param=param,
    )


def not_attached() -> Refusal:
    """The refusal to detach what no customer has."""
    return Refusal(
        "The payment method you provided is not attached to a customer so detachment is impossible.", code=UNEXPECTED,
    )


def not_savable() -> Refusal:
    """The refusal to keep what is used once."""
    return Refusal("A psp_page PaymentMethod cannot be attached to a customer: it holds nothing to be charged again.", code=UNEXPECTED)


def not_saved() -> Refusal:
    """The refusal to change what no customer has."""
    return Refusal("You must save this PaymentMethod to a customer before you can update it.", code=UNEXPECTED)


def not_of_customer(payment_method: str, param: str) -> Refusal:
    """The refusal of a default that the customer does not have."""
    return Refusal(
        f"The customer does not have a payment method with the ID {payment_method}. "
        "The payment method must be attached to the customer.",
        code="resource_missing",
        param=param,
    )


def raw_cards_refused(param: str) -> Refusal:
    """The refusal of card numbers in live mode."""
    return Refusal(
        "Sending credit card numbers directly to the API is generally unsafe, and is not enabled for live keys. "
        "Let the payer enter the card on the payment page, or allow it with GUILDER_RAW_CARDS_LIVE.",
        param=param,
    )
