"""Amounts as the buyer's language writes them. Pure; integers only."""

from collections.abc import Mapping
from typing import Final

from guilder.checkout.languages import LANGUAGES
from guilder.core.money import format_minor

NO_BREAK: Final = "\u00a0"


SYMBOLS: Final[Mapping[str, str]] = {
    "usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "krw": "₩", "ils": "₪", "vnd": "₫", "brl": "R$", "cad": "CA$",
    "aud": "A$", "nzd": "NZ$", "hkd": "HK$", "mxn": "MX$", "cny": "CN¥",
}  # fmt: skip
"""Where one symbol says which money it is; others are written by their code."""


def shown(amount_minor: int, currency: str, language: str) -> str:
    """1050 eur is €10.50 in English and 10,50 € in German, with blanks that do not break."""
    style = LANGUAGES[language].style
    plain = format_minor(amount_minor, currency)
    number = plain.translate({ord(","): style.thousands, ord("."): style.decimal})
    symbol = SYMBOLS.get(currency)
    if symbol is None:
        code = currency.upper()
        return f"{code}{NO_BREAK}{number}" if style.symbol_first else f"{number}{NO_BREAK}{code}"
    return f"{symbol}{number}" if style.symbol_first else f"{number}{NO_BREAK}{symbol}"
