"""Amounts and currencies at the API's edge."""

import pytest

from guilder.api import amounts
from guilder.core.currencies import CURRENCIES
from guilder.core.errors import Refusal
from guilder.shapes.units import step


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        (50, "usd", 50),
        (99_999_999, "usd", 99_999_999),
        (50, "jpy", 50),
        (500, "ugx", 5),
        (500, "mga", 50_000),
        (1500, "kwd", 1500),
    ],
)
def test_payable_amounts_become_minor_units(amount: int, currency: str, minor: int) -> None:
    """From the minimum to eight digits."""
    assert amounts.payable(amount, currency) == minor


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (0, "usd", "parameter_invalid_integer"),
        (-1, "usd", "parameter_invalid_integer"),
        (49, "usd", "amount_too_small"),
        (29, "gbp", "amount_too_small"),
        (17_499, "huf", "amount_too_small"),
        (100_000_000, "usd", "amount_too_large"),
        (10**30, "usd", "amount_too_large"),
        (150, "isk", "parameter_invalid_integer"),
        (501, "ugx", "parameter_invalid_integer"),
        (1501, "kwd", "parameter_invalid_integer"),
    ],
)
def test_other_amounts_are_refused(amount: int, currency: str, code: str) -> None:
    """Each with its code, all naming the amount."""
    with pytest.raises(Refusal) as refused:
        amounts.payable(amount, currency)
    assert (refused.value.facts.code, refused.value.facts.param) == (code, "amount")


def test_currencies_are_read_in_any_case_and_unknown_ones_refused() -> None:
    """ISO 4217 is frozen in the code."""
    assert amounts.currency("EuR") == "eur"
    for wrong in ("xyz", "euro", "", "e" * 5000, "€"):
        with pytest.raises(Refusal) as refused:
            amounts.currency(wrong)
        assert refused.value.facts.param == "currency"
        assert len(refused.value.facts.message) < 2_000


@pytest.mark.parametrize("currency", sorted(CURRENCIES))
def test_every_currency_has_a_payable_range(currency: str) -> None:
    """Its minimum is a multiple of its step and below the maximum."""
    least = -(-amounts.MINIMUMS.get(currency, amounts.MINIMUM_ELSE) // step(currency)) * step(currency)
    assert amounts.payable(least, currency) > 0
