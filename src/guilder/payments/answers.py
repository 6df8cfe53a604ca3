"""Answers: what is stored under an idempotency key, and how a caller waits for it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from msgspec.structs import replace

from guilder.core.errors import ErrorFacts, Refusal
from guilder.payments.model import Change, Key
from guilder.shapes.expand import DEPTH_MAX, wanted
from guilder.shapes.facts import SHAPE, Answer, Facts, PaymentIntentFacts

Load = Callable[[set[tuple[str, str]]], Awaitable[Mapping[str, Facts]]]
"""Loads (object, id) pairs of one account and mode; what does not exist is left out."""

OK: Final = 200
PAYMENT_REQUIRED: Final = 402


def success(root: Facts, expand: tuple[str, ...]) -> Answer:
    """The answer that shows an object. What `expand` asks for is put in by `complete`."""
    return Answer(SHAPE, OK, root, None, expand)


def failure(root: PaymentIntentFacts, error: ErrorFacts, status: int = PAYMENT_REQUIRED) -> Answer:
    """The answer that shows an error, and the payment beside it."""
    return Answer(SHAPE, status, root, error)


def refused(refusal: Refusal) -> Answer:
    """A refusal that depends on state, as it is stored with its key."""
    return Answer(SHAPE, refusal.status, None, refusal.facts)


def expand_of(key: Key | None) -> tuple[str, ...]:
    """The expand list that came with a key."""
    return key.expand if key else ()


async def complete(change: Change, load: Load) -> Change:
    """The change with the objects in its answer that `expand` asks for: its own first, the others loaded."""
    answer = change.answer
    if answer is None or not answer.expand or answer.root is None:
        return change
    own: dict[str, Facts] = {change.payment.id: change.payment}
    own.update((charge.facts.id, charge.facts) for charge in change.charges)
    own.update((refund.facts.id, refund.facts) for refund in change.refunds)
    own.update((entry.facts.id, entry.facts) for entry in change.balance_transactions)
    included = await included_in(answer.root, answer.expand, own, load)
    return replace(change, answer=replace(answer, included=included))


async def included_in(root: Facts, expand: tuple[str, ...], own: Mapping[str, Facts], load: Load) -> tuple[Facts, ...]:
    """The objects that `expand` puts in place of ids, from those at hand and from the database."""
    found: dict[str, Facts] = {}
    for _ in range(DEPTH_MAX):
        missing = wanted((root,), expand, found)
        missing = {pair for pair in missing if pair[1] not in found}
        at_hand = {id_: own[id_] for _, id_ in missing if id_ in own}
        loaded = await load({pair for pair in missing if pair[1] not in at_hand}) if len(at_hand) < len(missing) else {}
        if not at_hand and not loaded:
            break
        found.update(at_hand)
        found.update(loaded)
    return tuple(found.values())
