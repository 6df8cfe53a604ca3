"""What fell back on the way to an attempt: stored with it, so that the payment tells it."""

from msgspec import Struct


class Fallen(Struct, frozen=True, array_like=True):
    """What fell back on the way to this attempt, and what it may fall back to.

    Args:
        tried: connectors that this confirm was at before, where nothing was moved.
        declined: those of them that were asked and said no: they are asked once, however long the payment waits.
        notes: what happened instead of the usual, for people.
        waits: without a buyer, so it may wait for a PSP until its `execute_by`.
        asks_risk: the external risk service has not answered yet; nothing is sent before it has.
    """

    tried: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    waits: bool = False
    asks_risk: bool = False
    declined: tuple[str, ...] = ()
