"""Amounts and currencies at the API's edge: Stripe's integers in, minor units by ISO 4217 out (the table is shapes.units)."""

from collections.abc import Mapping
from typing import Final

from guilder.core.currencies import CURRENCIES
from guilder.core.errors import Refusal
from guilder.core.money import format_minor
from guilder.shapes.units import from_wire, step, to_wire

# Stripe's: eight digits.
AMOUNT_MAX: Final = 99_999_999

# Stripe's published minimums, as the wire writes them: below these the fixed cost of a card payment eats the payment.
MINIMUMS: Final[Mapping[str, int]] = {
    "aed": 200, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250, "eur": 50, "gbp": 30, "hkd": 400,
    "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50, "pln": 200, "ron": 200, "sek": 300,
    "sgd": 50, "thb": 1000, "usd": 50,
}  # fmt: skip
# For currencies that have no published minimum: about half a unit, which is never more than Stripe asks for.
MINIMUM_ELSE: Final = 50


def currency(value: str) -> str:
    """The currency in lower case. Raises Refusal (400, param currency) for one that ISO 4217 does not list."""
    code = value.lower()
    if code not in CURRENCIES:
        known = ", ".join(sorted(CURRENCIES))
        raise Refusal(f"Invalid currency: {value[:20]}. Known currencies: {known}", param="currency")
    return code


def whole(amount: int, param: str) -> int:
    """A positive amount. Raises Refusal (parameter_invalid_integer) for zero and below."""
    if amount < 1:
        raise Refusal(
            "Invalid positive integer: an amount is at least 1 in the currency's smallest unit.",
            code="parameter_invalid_integer",
            param=param,
        )
    return amount


def minor(amount: int, code: str, param: str) -> int:
    """A positive wire amount as minor units; the last digits must be 0 where the currency has none."""
    whole(amount, param)
    if amount > AMOUNT_MAX:
        raise Refusal(
            f"Amount must be no more than {_money(AMOUNT_MAX - AMOUNT_MAX % step(code), code)}.",
            code="amount_too_large",
            param=param,
        )
    if amount % step(code):
        raise Refusal(
            f"Invalid integer: amounts in {code} must be divisible by {step(code)}.",
            code="parameter_invalid_integer",
            param=param,
        )
    return from_wire(amount, code)


def payable(amount: int, code: str) -> int:
    """The amount of a payment as minor units: within the limits that hold for charging a card."""
    units = minor(amount, code, "amount")
    least = -(-MINIMUMS.get(code, MINIMUM_ELSE) // step(code)) * step(code)
    if amount < least:
        raise Refusal(f"Amount must be at least {_money(least, code)}.", code="amount_too_small", param="amount")
    return units


def total(units: int, code: str) -> int:
    """The sum of an order in minor units, within the limits that hold for charging a card."""
    wire = to_wire(units, code)
    if wire > AMOUNT_MAX:
        raise Refusal(f"The total must be no more than {_money(AMOUNT_MAX, code)}.", code="amount_too_large", param="line_items")
    least = -(-MINIMUMS.get(code, MINIMUM_ELSE) // step(code)) * step(code)
    if wire < least:
        raise Refusal(f"The total must be at least {_money(least, code)}.", code="amount_too_small", param="line_items")
    return units


def _money(amount: int, code: str) -> str:
    return f"{format_minor(from_wire(amount, code), code)} {code.upper()}"
