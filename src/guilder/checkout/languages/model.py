"""What a language of the page is."""

from collections.abc import Mapping

from msgspec import Struct

Texts = Mapping[str, str]


class Style(Struct, frozen=True):
    """How a language writes an amount."""

    thousands: str
    decimal: str
    symbol_first: bool


class Language(Struct, frozen=True, kw_only=True):
    """One language: its tag, its name in itself, how it writes amounts, and all texts of the page."""

    tag: str
    name: str
    style: Style
    texts: Texts
