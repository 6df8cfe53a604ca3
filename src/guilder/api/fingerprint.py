"""The fingerprint of a request: what a second request under the same key is compared by.

An HMAC over method, path and canonical parameters. Parameters are the tree that forms and JSON share, so that a retry in
the other encoding is the same request. A card number is replaced by the vault's keyed fingerprint, a CVC is left out.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from guilder.api.forms import Tree
from guilder.security import Pan

# Where card data stands in a request.
_CARDS: Final = (("card",), ("card_present",), ("payment_method_data", "card"))

_canonical = msgspec.json.Encoder(order="deterministic").encode

CardFingerprints = Callable[[Sequence[Pan]], Awaitable[list[str]]]


def _card(tree: Tree) -> tuple[tuple[str, ...], Tree] | None:
    """The place and the members of the card in the request, if it holds one."""
    for path in _CARDS:
        node: Any = tree
        for step in path:
            node = node.get(step) if isinstance(node, dict) else None
        if isinstance(node, dict):
            return path, node
    return None


async def fingerprint_of(
    method: str,
    path: str,
    tree: Tree,
    *,
    keyed: Callable[[bytes], bytes],
    card_fingerprints: CardFingerprints,
) -> bytes:
    """The request's fingerprint. Raises Unavailable when it holds a card and the vault does not answer."""
    found = _card(tree)
    if found is not None:
        place, card = found
        card = {name: value for name, value in card.items() if name != "cvc"}
        number = card.get("number")
        if isinstance(number, str) and Pan(number).is_number:
            card["number"] = (await card_fingerprints([Pan(number)]))[0]
        tree = _replaced(tree, place, card)
    return keyed(_canonical((method, path, tree)))


def _replaced(tree: Tree, place: tuple[str, ...], value: Any) -> Tree:
    """The tree with another value at this place; the given one is left as it is."""
    head, rest = place[0], place[1:]
    return {**tree, head: _replaced(tree[head], rest, value) if rest else value}


def fingerprint_of_bytes(method: str, path: str, body: bytes, keyed: Callable[[bytes], bytes]) -> bytes:
    """The fingerprint of a body that cannot be read: it equals that of no request that was ever accepted."""
    return keyed(_canonical((method, path, "unreadable")) + body)
