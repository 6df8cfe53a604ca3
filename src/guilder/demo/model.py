"""The demo's nouns: what is done, what was to happen, and what did."""

from collections.abc import Callable

from msgspec import Struct

from guilder.demo.bank import Bank
from guilder.demo.inbox import Inbox
from guilder.demo.shop import Shop


class Told(Struct, frozen=True):
    """What happened, in the same words as what was to happen, and the payment that it happened to."""

    happened: str
    payment: str = ""


class Stage(Struct, frozen=True):
    """What every act has at hand."""

    shop: Shop
    bank: Bank
    inbox: Inbox


class Act(Struct, frozen=True, kw_only=True):
    """One thing that a merchant does.

    Args:
        amount: as people write it.
        expected: what is to happen; the act went well when it happened in just these words.
        beside: it waits for long, so it is done beside the others.
        closing: it looks back at all others, so it is done when they are over.
    """

    group: str
    what: str
    amount: str
    expected: str
    do: Callable[[Stage], Told]
    beside: bool = False
    closing: bool = False


class Done(Struct, frozen=True, kw_only=True):
    """An act that is over."""

    group: str
    what: str
    amount: str
    expected: str
    happened: str
    payment: str
    seconds: float

    @property
    def well(self) -> bool:
        """Whether what was to happen did."""
        return self.happened == self.expected
