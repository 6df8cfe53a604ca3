"""Card numbers where none belongs: in a message, a log line, an id. Everything that people are shown passes this.

A number is taken for a card's when its length exists and its check digit is right (ISO/IEC 7812-1).
"""

import re
from typing import Final

# ISO/IEC 7812: a primary account number has at most 19 digits; no scheme issues fewer than 12.
PAN_DIGITS_MIN: Final = 12
PAN_DIGITS_MAX: Final = 19
LAST_DIGITS: Final = 4
MASK: Final = "***"

# The digit that remains of a doubled one: 7 * 2 = 14 -> 1 + 4 = 5.
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

# Runs of digits, and digits with one blank or hyphen between them, wherever people and forms put those.
_RUN: Final = re.compile(r"[0-9]{12,}")
_SPACED: Final = re.compile(r"[0-9](?:[ -]?[0-9]){11,}")
_GROUP: Final = re.compile(r"[0-9]+")



def luhn_valid(digits: str) -> bool:
    """Whether the last digit is the right check digit (ISO/IEC 7812-1 annex B); False for anything but ASCII digits."""
    if not (digits.isascii() and digits.isdigit()):
        return False
    values = [ord(character) - 48 for character in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


def mask_card_numbers(text: str) -> str:
    """The text with the last four digits only of whatever may be a card number."""
    return _SPACED.sub(_masked_groups, _RUN.sub(_masked_run, text))


def _masked_run(match: re.Match[str]) -> str:
    digits = match.group()
    if len(digits) > PAN_DIGITS_MAX:
        # Raw frames glue fields together; no plain number is that long.
        return MASK
    # As it stands, or behind the length that ISO 8583 writes before it.
    for number in (digits, digits[2:] if digits[:2] == str(len(digits) - 2) else ""):
        if _is_card(number):
            return _short(number)
    return digits


def _masked_groups(match: re.Match[str]) -> str:
    """Groups of digits with the card number among them masked: an expiry or a CVC may stand right beside it."""
    text = match.group()
    groups = list(_GROUP.finditer(text))
    for first, begin in enumerate(groups):
        number, found, end = "", "", 0
        for group in groups[first:]:
            number += group.group()
            if len(number) > PAN_DIGITS_MAX:
                break
            if _is_card(number):
                found, end = number, group.end()
        if found:
            return text[: begin.start()] + _short(found) + mask_card_numbers(text[end:])
    return text


def _is_card(digits: str) -> bool:
    # A card number begins with 2 to 9; instants in microseconds begin with 1 and stay readable.
    return PAN_DIGITS_MIN <= len(digits) <= PAN_DIGITS_MAX and digits[0] in "23456789" and luhn_valid(digits)


def _short(number: str) -> str:
    return f"{MASK}{number[-LAST_DIGITS:]}"
