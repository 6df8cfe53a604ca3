"""Documents as messages: what a request to the web PSP means to the scheme behind it. Pure.

DE 7 of the message is the request's idempotency key: under it the acquirer's rule for repeated messages (same key and
reference: the stored answer, for a day) is the PSP's idempotency window.
"""

from collections.abc import Mapping
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from guilder.iso8583 import Message, Mti, Processing, Tag, fit, pack_tags
from guilder.network.currencies import BY_LETTERS

ACQUIRER: Final = "42010000002"
"""The code (DE 32) under which this PSP is known to the scheme."""

# The longest key; UUIDs have 36 characters.
KEY_CHARACTERS_MAX: Final = 64
# DE 4 has twelve digits.
AMOUNT_MAX: Final = 10**12 - 1
NO_STAN: Final = "000000"
ENTRY_MODE_ECOMMERCE: Final = "812"
NAME_WIDTH: Final = 40
POSTAL_CODE_MAX: Final = 10

T = TypeVar("T")
Reference = Annotated[str, Meta(pattern="^[0-9A-Z]{12}$")]
Amount = Annotated[int, Meta(ge=1, le=AMOUNT_MAX)]


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A card as the buyer entered it."""

    number: Annotated[str, Meta(pattern="^[0-9]{12,19}$")]
    exp_month: Annotated[int, Meta(ge=1, le=12)]
    exp_year: Annotated[int, Meta(ge=2000, le=2099)]
    cvc: Annotated[str, Meta(pattern="^[0-9]{3,4}$")] | None = None
    postal_code: str | None = None

    def __repr__(self) -> str:
        """Without the card."""
        return "Card(...)"


class HostedPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let the buyer enter his card at the PSP: where he is sent back to, and until when (epoch seconds)."""

    returns_to: Annotated[str, Meta(pattern="^https?://", max_length=2_048)]
    expires_at: int


class NewPayment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /web/v1/payments: exactly one of card and page."""

    reference: Reference
    amount: Amount
    currency: str
    capture: bool = True
    card: Card | None = None
    page: HostedPage | None = None
    merchant_initiated: bool = False
    descriptor: str = ""
    metadata: dict[str, str] = {}


class Following(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /web/v1/captures, /voids, /refunds, /reversals: what acts on a payment, named by the reference that it was made with."""

    reference: Reference
    payment: Reference
    amount: Amount
    currency: str


class WrongDocument(Exception):
    """A request that cannot be read; the text says what would be right, and never what stood there."""


def read_payment(body: bytes) -> NewPayment:
    """A new payment. Raises WrongDocument."""
    new = _decoded(body, NewPayment)
    if (new.card is None) == (new.page is None):
        raise WrongDocument("say either `card` or `page`")
    _check_currency(new.currency)
    return new


def read_following(body: bytes) -> Following:
    """What acts on a payment. Raises WrongDocument."""
    following = _decoded(body, Following)
    _check_currency(following.currency)
    return following


def payment_message(new: NewPayment, card: Card, key: str) -> Message:
    """The purchase or authorization of a payment with this card."""
    tags = {Tag.PSP_KEY: key}
    if card.cvc is not None:
        tags[Tag.CVC] = card.cvc
    if card.postal_code and (postal_code := fit(card.postal_code, POSTAL_CODE_MAX).strip()):
        tags[Tag.POSTAL_CODE] = postal_code
    if new.merchant_initiated:
        tags[Tag.MERCHANT_INITIATED] = "1"
    return Message(Mti.PURCHASE if new.capture else Mti.AUTHORIZATION, {
        2: card.number, 3: Processing.PURCHASE, 4: f"{new.amount:012d}", 7: key, 11: NO_STAN,
        14: f"{card.exp_year % 100:02d}{card.exp_month:02d}", 22: ENTRY_MODE_ECOMMERCE, 32: ACQUIRER, 37: new.reference,
        43: fit(new.descriptor, NAME_WIDTH), 48: pack_tags(tags), 49: BY_LETTERS[new.currency],
    })  # fmt: skip


def page_message(new: NewPayment, key: str) -> Message:
    """What stands for the opening of a page where a message is wanted: nothing of it goes to the scheme."""
    return Message(Mti.PURCHASE if new.capture else Mti.AUTHORIZATION, {
        3: Processing.PURCHASE, 4: f"{new.amount:012d}", 7: key, 32: ACQUIRER, 37: new.reference, 49: BY_LETTERS[new.currency],
    })  # fmt: skip


def following_message(kind: str, following: Following, key: str) -> Message:
    """The capture, void, refund or reversal."""
    return Message(_MESSAGES[kind], {
        3: Processing.REFUND if kind == "refunds" else Processing.PURCHASE, 4: f"{following.amount:012d}", 7: key, 11: NO_STAN,
        32: ACQUIRER, 37: following.reference, 48: pack_tags({Tag.PSP_KEY: key, Tag.ORIGINAL: following.payment}),
        49: BY_LETTERS[following.currency],
    })  # fmt: skip


def inquiry_message(reference: str) -> Message:
    """The question what became of an operation."""
    return Message(Mti.INQUIRY, {7: NO_STAN, 11: NO_STAN, 32: ACQUIRER, 37: reference})


_MESSAGES: Final[Mapping[str, str]] = {
    "captures": Mti.CAPTURE, "voids": Mti.VOID, "refunds": Mti.PURCHASE, "reversals": Mti.REVERSAL,
}  # fmt: skip
FOLLOWING: Final = frozenset(_MESSAGES)
"""The collections of what acts on a payment."""


def _decoded(body: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise WrongDocument(str(error)) from None
    except msgspec.MsgspecError:
        raise WrongDocument("the body must be a JSON object") from None


def _check_currency(currency: str) -> None:
    if currency not in BY_LETTERS:
        raise WrongDocument("`currency` must be a code of ISO 4217 in lower case")
