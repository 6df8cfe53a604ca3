"""What a buyer typed: read, checked, and turned into a card. Pure but for the instant that it is handed.

A problem is a key of the languages' texts, by the field that it stands beside. A card number or CVC is never shown again.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from msgspec import Struct

from guilder.core.clock import Micros
from guilder.core.errors import Refusal
from guilder.customers import NewCard
from guilder.orders import Buyer
from guilder.security import Pan, Secret
from guilder.vault import check_cvc, check_expiry, check_number, full_year

FIELDS_MAX: Final = 20
TEXT_CHARACTERS_MAX: Final = 200
POSTAL_CHARACTERS_MAX: Final = 20
# With blanks between all digits.
NUMBER_CHARACTERS_MAX: Final = 40
# Nobody keeps a card longer; an earlier date was mistyped.
PAST_YEARS_MAX: Final = 20

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_BLANKS: Final = re.compile(r"[\s\u00a0.-]+")
# 04/30, 4/30, 0430, 04/2030, 04 - 30
_EXPIRY: Final = re.compile(r"(\d{1,2})\s*[/.\s-]\s*(\d{4}|\d{2})|(\d{2})(\d{4}|\d{2})")
# A card number as people write it, wherever they have put it; shorter runs of digits are telephone numbers, of which some bear a
# right check digit by chance.
_CARD_NUMBER: Final = re.compile(r"(?<!\d)(?:\d[\s.-]?){13,18}\d(?!\d)")
_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f]")


class Typed(Struct, frozen=True, kw_only=True):
    """What may be shown again."""

    email: str = ""
    name: str = ""
    postal_code: str = ""


class Form(Struct, frozen=True, kw_only=True):
    """A submitted form: what it bears besides, what was typed, what is wrong with it, and the card when nothing is."""

    number: int
    token: str
    language: str | None
    typed: Typed
    problems: Mapping[str, str]
    card: NewCard | None = None
    buyer: Buyer | None = None


def read_form(body: bytes, now: Micros) -> Form:
    """A form as it came. Raises Refusal (400) for what no form of ours sends."""
    try:
        given = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError:
        raise Refusal("This is no form of this page.") from None
    texts = {name: _UNSEEN.sub("", given.get(name, "")).strip() for name in ("email", "name", "postal_code")}
    misplaced = dict.fromkeys((name for name, text in texts.items() if _bears_card_number(text)), "misplaced")
    typed = Typed(**{name: "" if name in misplaced else text for name, text in texts.items()})
    number = Pan(_BLANKS.sub("", given.get("number", ""))[:NUMBER_CHARACTERS_MAX])
    cvc = Secret(given.get("cvc", "").strip()[:NUMBER_CHARACTERS_MAX])
    month, year = _month_and_year(given.get("expiry", "").strip())
    missing = {name: f"{name}_missing" for name in ("number", "expiry", "cvc") if not given.get(name, "").strip()}
    problems = {**_texts(typed), **_card(number, month, year, cvc, now), **missing, **misplaced}
    try_number = given.get("try", "")
    form = {
        "number": int(try_number) if try_number.isascii() and try_number.isdigit() and len(try_number) <= 4 else 0,
        "token": given.get("token", ""), "language": given.get("lang"), "typed": typed, "problems": problems,
    }  # fmt: skip
    if problems:
        return Form(**form)  # type: ignore[arg-type]
    card = NewCard(number=number, exp_month=month, exp_year=full_year(year), cvc=cvc)
    buyer = Buyer(email=typed.email, name=typed.name, postal_code=typed.postal_code or None)
    return Form(**form, card=card, buyer=buyer)  # type: ignore[arg-type]


def is_email(text: str) -> bool:
    """Whether the form takes this as a mail address."""
    return len(text) <= TEXT_CHARACTERS_MAX and _EMAIL.fullmatch(text) is not None


def _bears_card_number(text: str) -> bool:
    """Whether a card number was typed where none belongs: the shop is told that field, and the page shows it again."""
    return any(check_number(Pan(_BLANKS.sub("", found))) is None for found in _CARD_NUMBER.findall(text))


def _texts(typed: Typed) -> dict[str, str]:
    problems = {}
    if not typed.email:
        problems["email"] = "email_missing"
    elif not _EMAIL.fullmatch(typed.email):
        problems["email"] = "email_wrong"
    if not typed.name:
        problems["name"] = "name_missing"
    for name, limit in (("email", TEXT_CHARACTERS_MAX), ("name", TEXT_CHARACTERS_MAX), ("postal_code", POSTAL_CHARACTERS_MAX)):
        if len(getattr(typed, name)) > limit:
            problems[name] = "too_long"
    return problems


def _card(number: Pan, month: int, year: int, cvc: Secret, now: Micros) -> dict[str, str]:
    problems = {}
    if check_number(number) is not None:
        problems["number"] = "number_wrong"
    if check_expiry(month, year, now) is not None:
        # A date that would be good some years later has passed; month 13 is none.
        past = check_expiry(month, year + PAST_YEARS_MAX, now) is None
        problems["expiry"] = "expiry_past" if past else "expiry_wrong"
    if check_cvc(cvc, number) is not None:
        problems["cvc"] = "cvc_wrong"
    return problems


def _month_and_year(text: str) -> tuple[int, int]:
    """(0, 0) for what is no date."""
    match = _EXPIRY.fullmatch(text)
    if match is None or not text.isascii():
        return 0, 0
    month, year = (match[1], match[2]) if match[1] else (match[3], match[4])
    return int(month), full_year(int(year))
