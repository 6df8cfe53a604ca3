"""Orders as requests: method, path, key and document. Pure. What a document holds is in the clear: only `masked` may be shown."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from guilder.core.clock import SECOND
from guilder.core.errors import GuilderError
from guilder.psp.model import Operation, Order
from guilder.vault import Card

API: Final = "/web/v1"
# The longest postcode of any country has 10 characters.
POSTAL_CODE_MAX: Final = 10
NEW_PAYMENTS: Final = frozenset({Operation.AUTHORIZE, Operation.PURCHASE})
_FOLLOWING: Final[Mapping[Operation, str]] = {
    Operation.CAPTURE: "captures",
    Operation.VOID: "voids",
    Operation.REFUND: "refunds",
    Operation.REVERSAL: "reversals",
}


class UnfitOrder(GuilderError):
    """This order cannot be made into a request. The text holds no card data."""


class Call(Struct, frozen=True):
    """One request. `key` is its idempotency key; None for a question. `masked` is what may be shown of it."""

    method: str
    path: str
    masked: str
    body: bytes = b""
    key: str | None = None

    def __repr__(self) -> str:
        """Without the document."""
        return f"Call({self.masked})"


def wants_card(order: Order) -> bool:
    """Whether a card goes with it."""
    return order.operation in NEW_PAYMENTS and order.own_page is None


def check(order: Order) -> None:
    """Raises UnfitOrder for what this connector does not do."""
    if order.operation is Operation.AUTHENTICATE or order.proof is not None or order.card_present:
        raise UnfitOrder(f"webpsp does no {order.operation} with 3-D Secure of ours or at a till")
    if order.operation not in NEW_PAYMENTS and order.original is None:
        raise UnfitOrder(f"{order.operation} without its original")


def call_of(order: Order, card: Card | None) -> Call:
    """The request of an order. Raises UnfitOrder."""
    check(order)
    if order.operation in NEW_PAYMENTS:
        return _payment(order, card)
    original = order.original.reference if order.original else ""
    if order.operation is Operation.QUERY:
        path = f"{API}/operations/{original}"
        return Call("GET", path, f"GET {path}")
    document = {"reference": order.reference, "payment": original, "amount": order.amount_minor, "currency": order.currency}
    # A reversal has a key of its own: its attempt's is that of the request which it undoes.
    key = f"{order.psp_key}-reversal" if order.operation is Operation.REVERSAL else order.psp_key
    return _post(f"{API}/{_FOLLOWING[order.operation]}", document, document, key)


def _payment(order: Order, card: Card | None) -> Call:
    document: dict[str, Any] = {
        "reference": order.reference, "amount": order.amount_minor, "currency": order.currency,
        "capture": order.operation is Operation.PURCHASE, "descriptor": order.descriptor, "metadata": {"attempt": order.attempt_id},
    }  # fmt: skip
    if order.merchant_initiated:
        document["merchant_initiated"] = True
    if order.own_page is not None:
        page = {"returns_to": order.own_page.returns_to, "expires_at": order.own_page.closes_at // SECOND}
        # The way back is a secret: whoever knows it may walk it.
        return _post(f"{API}/payments", document | {"page": page}, document | {"page": page | {"returns_to": "***"}}, order.psp_key)
    if card is None:
        raise UnfitOrder(f"{order.operation} without a card")
    shown = {"number": f"***{card.number.last4}", "exp_month": card.exp_month, "exp_year": card.exp_year}
    entered: dict[str, Any] = shown | {"number": card.number.reveal()}
    if order.send_cvc and card.cvc is not None:
        entered["cvc"] = card.cvc.reveal()
        shown["cvc"] = "***"
    if card.postal_code:
        entered["postal_code"] = card.postal_code[:POSTAL_CODE_MAX]
    return _post(f"{API}/payments", document | {"card": entered}, document | {"card": shown}, order.psp_key)


def _post(path: str, document: dict[str, Any], shown: dict[str, Any], key: str) -> Call:
    return Call("POST", path, f"POST {path} {msgspec.json.encode(shown).decode()}", msgspec.json.encode(document), key)
