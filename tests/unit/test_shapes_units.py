"""The table between ISO 4217's minor units and the integers of Stripe's wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guilder.core.currencies import CURRENCIES
from guilder.shapes.units import from_wire, smallest_fee_minor, step, to_wire


@pytest.mark.parametrize(
    ("wire", "currency", "minor"),
    [(1050, "eur", 1050), (500, "jpy", 500), (500, "ugx", 5), (500, "isk", 5), (500, "mga", 50_000), (1500, "kwd", 1500)],
)
def test_wire_amounts_become_minor_units(wire: int, currency: str, minor: int) -> None:
    """And back."""
    assert from_wire(wire, currency) == minor
    assert to_wire(minor, currency) == wire


@given(st.integers(1, 10**9), st.sampled_from(sorted(CURRENCIES)))
def test_nothing_is_lost_on_the_way_in_and_out(amount: int, currency: str) -> None:
    """For every amount that the API accepts in any currency."""
    amount -= amount % step(currency)
    assert to_wire(from_wire(amount, currency), currency) == amount


def test_a_fraction_of_an_ariary_is_rounded_half_up() -> None:
    """Only a fee can have one; fees are best rounded to what the wire can tell apart."""
    assert [to_wire(minor, "mga") for minor in (149, 150, -149, -150, 0)] == [1, 2, -1, -2, 0]
    assert (smallest_fee_minor("mga"), smallest_fee_minor("eur")) == (100, 1)
