"""Whether a card can be: pure. The order of the checks is the order in which Stripe reports what is wrong."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from guilder.core.clock import Micros, epoch_seconds
from guilder.core.errors import Refusal
from guilder.security import Pan, Secret
from guilder.vault.bins import brand_of
from guilder.vault.model import CardRefused

MONTHS: Final = 12
# No issuer prints a date further ahead; whoever types one has mistyped it.
EXPIRY_YEARS_MAX: Final = 50
# A year below this was typed with two digits, as cards print it.
TWO_DIGITS: Final = 100
CENTURY: Final = 2000

MESSAGES: Final[Mapping[str, str]] = {
    "invalid_number": "The card number is not a valid credit card number.",
    "incorrect_number": "Your card number is incorrect.",
    "invalid_expiry_month": "Your card's expiration month is invalid.",
    "invalid_expiry_year": "Your card's expiration year is invalid.",
    "invalid_cvc": "Your card's security code is invalid.",
}


def full_year(year: int) -> int:
    """A year as four digits: 34 is 2034."""
    return year + CENTURY if 0 <= year < TWO_DIGITS else year


def check_number(number: Pan) -> CardRefused | None:
    """Whether a card may bear this number: digits, the check digit, a length that its scheme issues."""
    digits = number.reveal()
    if not (digits.isascii() and digits.isdigit()):
        return CardRefused("invalid_number", "number")
    if not number.luhn_valid or len(digits) not in brand_of(digits).lengths:
        return CardRefused("incorrect_number", "number")
    return None


def check_expiry(month: int, year: int, now: Micros) -> CardRefused | None:
    """Whether a card with this date can be in use now; it is good to the end of its month (UTC)."""
    today = datetime.fromtimestamp(epoch_seconds(now), UTC)
    if not 1 <= month <= MONTHS:
        return CardRefused("invalid_expiry_month", "exp_month")
    year = full_year(year)
    if not today.year <= year <= today.year + EXPIRY_YEARS_MAX:
        return CardRefused("invalid_expiry_year", "exp_year")
    if year == today.year and month < today.month:
        return CardRefused("invalid_expiry_month", "exp_month")
    return None


def check_cvc(cvc: Secret | None, number: Pan) -> CardRefused | None:
    """Whether the CVC has as many digits as the card's scheme prints. None means that none was given."""
    if cvc is None:
        return None
    digits = cvc.reveal()
    if digits.isascii() and digits.isdigit() and len(digits) in brand_of(number.reveal()).cvc_digits:
        return None
    return CardRefused("invalid_cvc", "cvc")


def check_card(number: Pan, month: int, year: int, cvc: Secret | None, now: Micros) -> CardRefused | None:
    """The first thing that is wrong with a card as entered; None when it may be kept."""
    return check_number(number) or check_expiry(month, year, now) or check_cvc(cvc, number)


def refusal(refused: CardRefused, prefix: str = "card") -> Refusal:
    """The API's error for a card that was not kept; `prefix` is the parameter that held it, as `payment_method_data[card]`."""
    return Refusal(
        MESSAGES[refused.code],
        status=402,
        type="card_error",
        code=refused.code,
        param=f"{prefix}[{refused.field}]",
    )
