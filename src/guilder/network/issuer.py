"""Issuers: card accounts with balances, and the checks that a bank makes before it says yes. No I/O, no clock."""

from enum import Enum
from functools import lru_cache
from time import gmtime
from typing import Final

from msgspec import Struct

from guilder.core.clock import DAY, SECOND
from guilder.iso8583 import Authenticated, Checked, Code
from guilder.network.currencies import BY_LETTERS, BY_NUMBER

# What an ordinary account holds of every currency, in major units: enough for hundreds of thousands of payments of
# the largest size, so that only a card made for it runs out.
ORDINARY_OPENING_MAJOR: Final = 10_000_000_000_000
CVC_LENGTH: Final = 3
AMEX_CVC_LENGTH: Final = 4


class Refunds(Enum):
    """What becomes of a refund to this card."""

    AT_ONCE = "at_once"
    PENDING = "pending"  # answered "in progress", approved later
    RETURNED = "returned"  # approved, comes back later


class Wants(Enum):
    """When the issuer declines an authorization without proof of an authentication ("soft decline")."""

    NEVER = "never"
    ON_SESSION = "on_session"  # a charge of a card on file passes: it counts as set up
    ALWAYS = "always"


class Terms(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an issuer holds true of an account. None means that any value passes that check."""

    code: str = Code.APPROVED  # anything else declines every purchase with it
    opening_major: int = ORDINARY_OPENING_MAJOR
    expiry: str | None = None  # YYMM
    cvc: str | None = None
    postal_code: str | None = None
    cvc_length: int = CVC_LENGTH
    cvc_fails: bool = False
    postal_code_fails: bool = False
    available_at_once: bool = False
    refunds: Refunds = Refunds.AT_ONCE
    # 3-D Secure: when it is wanted, and what becomes of it (DE 48 tag SR). A card that is not enrolled is "attempted".
    wants_authentication: Wants = Wants.NEVER
    authentication: str = Authenticated.ATTEMPTED


class Account(Struct, kw_only=True):
    """A card account. It has a balance in every currency; `held` is the part of it that authorizations block.

    Only `books.apply` moves money, so that the file and the memory always tell the same.
    """

    name: str  # stands in the truth file in place of the number
    masked: str
    terms: Terms
    posted: dict[str, int] = {}
    held: dict[str, int] = {}

    def balance(self, currency: str) -> int:
        """What the account holds of a currency, in minor units, holds included."""
        posted = self.posted.get(currency)
        if posted is None:
            posted = self.terms.opening_major * 10 ** BY_NUMBER[BY_LETTERS[currency]].decimals
            self.posted[currency] = posted
        return posted

    def available(self, currency: str) -> int:
        """What can be spent."""
        return self.balance(currency) - self.held.get(currency, 0)

    def move(self, currency: str, amount_minor: int) -> None:
        """Add to the balance; a negative amount takes from it."""
        self.posted[currency] = self.balance(currency) + amount_minor

    def hold(self, currency: str, amount_minor: int) -> None:
        """Block an amount; a negative one frees it."""
        self.held[currency] = self.held.get(currency, 0) + amount_minor


class Entered(Struct, frozen=True):
    """What came besides the number: what the buyer entered (None where nothing came), and whether it is proved to be him."""

    expiry: str
    cvc: str | None
    postal_code: str | None
    proved: bool = False
    merchant_initiated: bool = False


class Verdict(Struct, frozen=True):
    """The issuer's answer: response code, and the two checks as one text (CVC, postcode), such as "PN"."""

    code: str
    checks: str


def judge(account: Account, entered: Entered, *, currency: str, amount_minor: int, now: int) -> Verdict:
    """What the issuer says to a purchase or an authorization. Moves nothing."""
    terms = account.terms
    cvc = _check_cvc(terms, entered.cvc)
    checks = cvc + _check_postal_code(terms, entered.postal_code)
    if _wants_authentication(terms, entered):
        code = Code.WANTS_AUTHENTICATION
    elif terms.code != Code.APPROVED:
        code = terms.code
    elif entered.expiry < month_of(now // DAY) or terms.expiry not in (None, entered.expiry):
        code = Code.EXPIRED_CARD
    elif cvc == Checked.FAIL and not terms.cvc_fails:
        code = Code.WRONG_CVC
    elif amount_minor > account.available(currency):
        code = Code.INSUFFICIENT_FUNDS
    else:
        code = Code.APPROVED
    return Verdict(code, checks)


def _wants_authentication(terms: Terms, entered: Entered) -> bool:
    if entered.proved or terms.wants_authentication is Wants.NEVER:
        return False
    return terms.wants_authentication is Wants.ALWAYS or not entered.merchant_initiated


@lru_cache(maxsize=8)
def month_of(day: int) -> str:
    """The month of a day (counted since 1970), as expiries are written: YYMM."""
    date = gmtime(day * (DAY // SECOND))
    return f"{date.tm_year % 100:02d}{date.tm_mon:02d}"


def _check_cvc(terms: Terms, cvc: str | None) -> str:
    if cvc is None:
        return Checked.NOT_GIVEN
    if terms.cvc_fails:
        return Checked.FAIL
    if terms.cvc is not None:
        return Checked.PASS if cvc == terms.cvc else Checked.FAIL
    return Checked.PASS if len(cvc) == terms.cvc_length and cvc.isdigit() else Checked.FAIL


def _check_postal_code(terms: Terms, postal_code: str | None) -> str:
    if postal_code is None:
        return Checked.NOT_GIVEN
    if terms.postal_code_fails or terms.postal_code not in (None, postal_code):
        return Checked.FAIL
    return Checked.PASS


def luhn_check_digit(payload: str) -> str:
    """The digit that makes a number of these digits pass Luhn."""
    total = 0
    for index, char in enumerate(reversed(payload)):
        digit = int(char) * (2 if index % 2 == 0 else 1)
        total += digit - 9 if digit > 9 else digit
    return str(-total % 10)


def passes_luhn(number: str) -> bool:
    """Whether a number's last digit is its check digit."""
    return number[:-1].isdigit() and luhn_check_digit(number[:-1]) == number[-1]
