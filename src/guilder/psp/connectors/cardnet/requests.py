"""Orders as messages: which message each operation is, and what stands in its fields. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from msgspec import Struct

from guilder.core.currencies import CURRENCIES
from guilder.core.errors import GuilderError
from guilder.iso8583 import Message, Mti, OriginalData, Processing, Tag, fit, pack_original, pack_tags
from guilder.psp.connectors.cardnet.settings import CardnetSettings
from guilder.psp.model import Operation, Order, Original
from guilder.vault import Card

# DE 22 and DE 25 of a payment over the internet: the buyer typed the card into a page; electronic commerce.
ENTRY_MODE_ECOMMERCE: Final = "812"
CONDITION_ECOMMERCE: Final = "59"
# The same at a till: the chip was read; card and buyer were there.
ENTRY_MODE_CHIP: Final = "051"
CONDITION_NORMAL: Final = "00"
# The longest postcode of any country has 10 characters; more is not worth an issuer's look.
POSTAL_CODE_MAX: Final = 10
MERCHANT_WIDTH: Final = 15
NAME_WIDTH: Final = 40
TERMINAL_WIDTH: Final = 8

MESSAGE_TYPES: Final[Mapping[Operation, str]] = {
    Operation.AUTHORIZE: Mti.AUTHORIZATION,
    Operation.AUTHENTICATE: Mti.AUTHORIZATION,
    Operation.PURCHASE: Mti.PURCHASE,
    Operation.CAPTURE: Mti.CAPTURE,
    Operation.VOID: Mti.VOID,
    Operation.REFUND: Mti.PURCHASE,
    Operation.REVERSAL: Mti.REVERSAL,
    Operation.QUERY: Mti.INQUIRY,
}
"""The message of each operation that this connector does; a refund is a purchase message with its own processing code, and an
authentication an authorization's."""

WITH_CARD: Final = frozenset({Operation.AUTHORIZE, Operation.PURCHASE, Operation.AUTHENTICATE})
"""Operations that carry the card."""


class UnfitOrder(GuilderError):
    """This order cannot be made into a message. The text holds no card data."""


class Stamp(Struct, frozen=True):
    """DE 7 and DE 11 of a message. An inquiry has its own; all else has those that were fixed at accept."""

    transmitted_at: str
    stan: str


def message_type(order: Order) -> str:
    """The MTI of an order. Raises UnfitOrder for what this connector does not do."""
    if order.operation is Operation.REVERSAL and order.repeat:
        return Mti.REVERSAL_REPEAT
    mti = MESSAGE_TYPES.get(order.operation)
    if mti is None:
        raise UnfitOrder(f"cardnet does not do {order.operation}")
    return mti


def request_of(order: Order, stamp: Stamp, card: Card | None, settings: CardnetSettings) -> Message:
    """The message of an order. Raises UnfitOrder; what it holds is in the clear: only `describe` may show it."""
    mti = message_type(order)
    if order.operation in WITH_CARD:
        return Message(mti, _card_fields(order, stamp, card, settings))
    if order.operation is Operation.QUERY:
        return Message(mti, _inquiry_fields(order, stamp, settings))
    return Message(mti, _following_fields(order, stamp, settings))


def _card_fields(order: Order, stamp: Stamp, card: Card | None, settings: CardnetSettings) -> dict[int, str]:
    if card is None:
        raise UnfitOrder(f"{order.operation} without a card")
    tags = {Tag.PSP_KEY: order.psp_key}
    if order.send_cvc and card.cvc is not None:
        tags[Tag.CVC] = card.cvc.reveal()
    if card.postal_code and (postal_code := fit(card.postal_code, POSTAL_CODE_MAX).strip()):
        tags[Tag.POSTAL_CODE] = postal_code
    if order.proof:
        tags[Tag.AUTHENTICATION] = order.proof
    if order.merchant_initiated:
        tags[Tag.MERCHANT_INITIATED] = "1"
    if order.returns_to:
        tags[Tag.RETURNS_TO] = order.returns_to
    if order.wants_challenge:
        tags[Tag.WANTS_CHALLENGE] = "1"
    return {
        2: card.number.reveal(),
        3: Processing.AUTHENTICATION if order.operation is Operation.AUTHENTICATE else Processing.PURCHASE,
        4: f"{order.amount_minor:012d}",
        7: stamp.transmitted_at,
        11: stamp.stan,
        12: stamp.transmitted_at[4:],
        14: f"{card.exp_year % 100:02d}{card.exp_month:02d}",
        18: settings.merchant_category,
        22: ENTRY_MODE_CHIP if order.card_present else ENTRY_MODE_ECOMMERCE,
        25: CONDITION_NORMAL if order.card_present else CONDITION_ECOMMERCE,
        32: settings.acquirer,
        37: order.reference,
        41: _fit(settings.terminal, TERMINAL_WIDTH),
        42: _fit(order.psp_merchant, MERCHANT_WIDTH),
        43: _fit(order.descriptor, NAME_WIDTH),
        48: pack_tags(tags),
        49: _currency_number(order.currency),
    }


def _following_fields(order: Order, stamp: Stamp, settings: CardnetSettings) -> dict[int, str]:
    """A capture, void, refund or reversal: names its original twice, so that the acquirer can compare."""
    original = _original(order)
    return {
        3: Processing.REFUND if order.operation is Operation.REFUND else Processing.PURCHASE,
        4: f"{order.amount_minor:012d}",
        7: stamp.transmitted_at,
        11: stamp.stan,
        12: stamp.transmitted_at[4:],
        32: settings.acquirer,
        37: order.reference,
        41: _fit(settings.terminal, TERMINAL_WIDTH),
        42: _fit(order.psp_merchant, MERCHANT_WIDTH),
        48: pack_tags({Tag.PSP_KEY: order.psp_key, Tag.ORIGINAL: original.reference}),
        49: _currency_number(order.currency),
        90: _original_data(original, settings),
    }


def _inquiry_fields(order: Order, stamp: Stamp, settings: CardnetSettings) -> dict[int, str]:
    original = _original(order)
    return {
        7: stamp.transmitted_at,
        11: stamp.stan,
        12: stamp.transmitted_at[4:],
        32: settings.acquirer,
        37: original.reference,
        90: _original_data(original, settings),
    }


def _original(order: Order) -> Original:
    if order.original is None:
        raise UnfitOrder(f"{order.operation} without its original")
    return order.original


def _original_data(original: Original, settings: CardnetSettings) -> str:
    mti = MESSAGE_TYPES.get(original.operation)
    if mti is None:
        raise UnfitOrder(f"cardnet never made a {original.operation}")
    return pack_original(
        OriginalData(mti=mti, stan=original.stan, transmitted=original.transmitted_at, acquirer=settings.acquirer)
    )


def _currency_number(currency: str) -> str:
    known = CURRENCIES.get(currency)
    if known is None:
        raise UnfitOrder("the currency is not one of ISO 4217")
    return known.number


# Terminals, merchants and descriptors repeat from order to order; nothing personal may come in here.
_fit = lru_cache(maxsize=1_024)(fit)
