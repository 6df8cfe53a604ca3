"""Money: an integer of minor units and a currency; never a float, never negative (direction is which account is debited)."""

from typing import Final

from msgspec import Struct

from guilder.core.currencies import CURRENCIES

SYMBOLS: Final = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


class Money(Struct, frozen=True, order=True):
    """An amount, such as Money(1050, "eur") for 10.50 EUR."""

    amount_minor: int
    currency: str

    @property
    def with_symbol(self) -> str:
        """As messages for merchants write it: $10.50, and 10.50 KWD where we have no symbol."""
        symbol = SYMBOLS.get(self.currency)
        return f"{symbol}{format_minor(self.amount_minor, self.currency)}" if symbol else str(self)

    def __str__(self) -> str:
        return f"{format_minor(self.amount_minor, self.currency)} {self.currency.upper()}"


def format_minor(amount_minor: int, currency: str) -> str:
    """Minor units as people write them: 1050 eur is 10.50, 500 jpy is 500, 1500 kwd is 1.500."""
    exponent = CURRENCIES[currency].exponent
    sign, digits = ("-" if amount_minor < 0 else ""), str(abs(amount_minor))
    if exponent == 0:
        return f"{sign}{int(digits):,}"
    digits = digits.rjust(exponent + 1, "0")
    return f"{sign}{int(digits[:-exponent]):,}.{digits[-exponent:]}"


def share(amount_minor: int, basis_points: int) -> int:
    """So many hundredths of a percent of an amount, rounded half up to a whole minor unit."""
    return (amount_minor * basis_points + 5_000) // 10_000
