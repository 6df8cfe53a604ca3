"""What connectors do alike: limits that an operator sets for each, cards from the vault, and callbacks that stop nobody."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from msgspec import Struct

from guilder.core.errors import GuilderError
from guilder.core.outcome import NotSent, Unknown
from guilder.psp.model import Operation, Order, Reason
from guilder.tuning import Breaking, Bulkhead, Timeouts, Tuning
from guilder.vault import Card, Reveal

log = structlog.get_logger("guilder.psp")

# Longest wait for the vault. It is a process on this machine and answers in a millisecond.
REVEAL_SECONDS: Final = 2.0
# Cards per call to the vault; it takes no more than 1,000.
REVEAL_LIST_MAX: Final = 500
# An instant to ask again that lies further ahead is none.
ASK_AGAIN_SECONDS_MAX: Final = 30 * 24 * 3600

RevealCards = Callable[[Sequence[Reveal]], Awaitable[Sequence[Card | None]]]
"""The vault's reveal: the cards in the order asked, None for one that it does not have. Raises GuilderError when it is down."""


class CommonLimits(Struct, frozen=True, kw_only=True):
    """Limits of one connector; tests shorten the waits. What an operator may set stands in tuning.py, with its reasons."""

    connect_seconds: float = Timeouts().connect_seconds
    answer_seconds: float = Timeouts().read_seconds
    queue_seconds: float = Timeouts().queue_seconds
    total_seconds: float = Timeouts().total_seconds
    reveal_seconds: float = REVEAL_SECONDS
    reveal_list_max: int = REVEAL_LIST_MAX
    payments_in_flight_max: int = Bulkhead().payments_max
    recovery_in_flight_max: int = Bulkhead().recovery_max
    breaker: Breaking = Breaking()


def limits_said(tuning: Tuning, connector: str) -> dict[str, Any]:
    """The fields of CommonLimits that the configuration sets for a connector."""
    said = tuning.connector(connector)
    waits = said.timeouts
    return {
        "connect_seconds": waits.connect_seconds, "answer_seconds": waits.read_seconds, "queue_seconds": waits.queue_seconds,
        "total_seconds": waits.total_seconds, "payments_in_flight_max": said.bulkhead.payments_max,
        "recovery_in_flight_max": said.bulkhead.recovery_max, "breaker": said.breaker,
    }  # fmt: skip


async def cards_of(reveal: RevealCards, orders: Sequence[Order], seconds: float) -> Sequence[Card | None] | None:
    """The cards of these orders in their order, by one call to the vault; None when it does not answer."""
    asked = [
        Reveal(account=one.account, livemode=one.livemode, payment_method_id=one.payment_method_id or "", with_cvc=one.send_cvc)
        for one in orders
    ]  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            return await reveal(asked)
    except (GuilderError, OSError) as error:  # TimeoutError is an OSError
        log.warning("psp_vault_failed", why=type(error).__name__, count=len(orders))
        return None


def lacks(order: Order, card: Card | None) -> Reason | None:
    """What an order that pays by a card cannot be sent without; None when nothing is missing."""
    if card is None:
        return Reason.NO_CARD
    if order.send_cvc and card.cvc is None and not card.cvc_spent:
        return Reason.NO_CVC
    return None


def not_taken(order: Order, reason: Reason) -> NotSent | Unknown:
    """The outcome of an order that was not taken in. One like it is under way already: then nothing can be proved."""
    if order.first and reason is not Reason.IN_PROGRESS:
        return NotSent(reason.value)
    return Unknown(reason.value)


def decline_code(
    always: Mapping[str, str], of: Mapping[tuple[Operation, str], str], operation: Operation, word: str,
) -> str | None:  # fmt: skip
    """What a definite refusal is called here, by a connector's tables; None when the PSP's word is not one for this operation."""
    return always.get(word) or of.get((operation, word))


def sensible_wait(seconds: int | None) -> int | None:
    """After how many seconds a PSP wants to be asked again; None where it names none, or none that makes sense."""
    return seconds if seconds is not None and 0 < seconds <= ASK_AGAIN_SECONDS_MAX else None


def call_back(callback: Callable[..., None], *arguments: object) -> None:
    """Call somebody else's callback: an error in it is theirs, is logged, and stops nothing here."""
    try:
        callback(*arguments)
    except Exception:
        log.exception("psp_callback_failed")
