"""The one table between ISO 4217's minor units (facts, books, PSPs) and the integers that Stripe's wire uses.

They are the same for all but three currencies. Stripe counts Icelandic krona and Ugandan shilling in hundredths that do
not exist (5 UGX is 500 and the last two digits are always 0), and Malagasy ariary without the hundredths that ISO
lists. A fifth rule only refuses: amounts in a currency with three decimals end in 0.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from guilder.core.currencies import CURRENCIES


class Scale(Struct, frozen=True):
    """wire amount * `down` = minor units * `up`; one of the two is 1."""

    up: int = 1
    down: int = 1


SPECIAL: Final[Mapping[str, Scale]] = {
    "isk": Scale(up=100),
    "ugx": Scale(up=100),
    "mga": Scale(down=100),
}


def to_wire(amount_minor: int, currency: str) -> int:
    """What the API shows of an amount; an ariary's fraction, which only a fee can have, is rounded half up."""
    scale = SPECIAL.get(currency)
    if scale is None:
        return amount_minor
    if scale.down == 1:
        return amount_minor * scale.up
    magnitude = (abs(amount_minor) + scale.down // 2) // scale.down
    return magnitude if amount_minor >= 0 else -magnitude


def step(currency: str) -> int:
    """The wire amounts of a charge must be multiples of this: 100 where the hundredths do not exist, 10 with three decimals."""
    scale = SPECIAL.get(currency)
    if scale is not None and scale.up > 1:
        return scale.up
    return 10 if CURRENCIES[currency].exponent == 3 else 1


def from_wire(amount: int, currency: str) -> int:
    """The minor units of a wire amount that is a multiple of `step`."""
    scale = SPECIAL.get(currency)
    return amount if scale is None else amount * scale.down // scale.up


def smallest_fee_minor(currency: str) -> int:
    """The minor units that the wire can tell apart: fees are best rounded to a multiple of this, so that sums agree."""
    scale = SPECIAL.get(currency)
    return 1 if scale is None else scale.down
