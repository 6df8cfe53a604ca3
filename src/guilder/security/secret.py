"""Values that must not be printed. Their `repr` is masked, and unmasking is one call that is easy to search for: reveal().

Secret    a key, a password, a CVC
Pan       a card number as somebody typed it; it may be wrong, and says so
"""

import hmac
from typing import Final, NoReturn

from guilder.core.card_numbers import LAST_DIGITS, PAN_DIGITS_MAX, PAN_DIGITS_MIN, luhn_valid

IIN_DIGITS: Final = 6
MASKED_IIN_DIGITS_MIN: Final = 15


class Secret:
    """A string that shows itself only to those who call reveal(). Compared in constant time; cannot be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Never put it into a message, a log field or an exception."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(errors="surrogatepass"), other._value.encode(errors="surrogatepass"))

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


class Pan(Secret):
    """A card number. Blanks and hyphens between the digits are dropped, as cards print them; nothing else is mended."""

    __slots__ = ()

    def __init__(self, value: str) -> None:
        super().__init__(value.replace(" ", "").replace("-", ""))

    def __repr__(self) -> str:
        if not self.is_number:
            return "Pan(***)"
        # Of a short number, six and four digits would leave next to nothing to guess (PCI SSC FAQ 1091).
        return f"Pan({self.iin if len(self._value) >= MASKED_IIN_DIGITS_MIN else ''}***{self.last4})"

    __str__ = __repr__

    @property
    def is_number(self) -> bool:
        """Whether it is nothing but so many digits as a card may have."""
        value = self._value
        return PAN_DIGITS_MIN <= len(value) <= PAN_DIGITS_MAX and value.isascii() and value.isdigit()

    @property
    def luhn_valid(self) -> bool:
        """Whether it could be a card: digits, a length that exists, the right check digit."""
        return self.is_number and luhn_valid(self._value)

    @property
    def iin(self) -> str:
        """The issuer identification number: the first six digits, which may be shown."""
        return self._value[:IIN_DIGITS]

    @property
    def last4(self) -> str:
        """The last four digits, which may be shown."""
        return self._value[-LAST_DIGITS:]
