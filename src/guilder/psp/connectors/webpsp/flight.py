"""One order on its way, from submit to delivery and, where its answer is late, beyond."""

from collections.abc import Callable
from typing import Final

import structlog

from guilder.core.clock import Micros
from guilder.core.crash import crash_point
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.psp.breaker import Breaker
from guilder.psp.model import Deliver, Operation, Order, Permit, Reason

# Reasons that speak for an outage of the PSP. Those not listed are our own doing and count neither way.
_FAILURES: Final = frozenset({
    Reason.CONNECT, Reason.TIMEOUT, Reason.RESET, Reason.UNREADABLE, Reason.MISMATCH, Reason.PSP_ERROR, Reason.RATE_LIMITED
})  # fmt: skip

Key = tuple[Operation, str]
"""What is under way once at most: an operation under its reference."""


def log() -> structlog.stdlib.BoundLogger:
    """The connector's log."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("guilder.psp.webpsp")
    return logger


def call_back(callback: Callable[..., None], *arguments: object) -> None:
    """Call somebody else's callback: an error in it is theirs, is logged, and stops nothing here."""
    try:
        callback(*arguments)
    except Exception:  # noqa: BLE001 - one broken callback must not keep the others from their answers
        log().exception("psp_callback_failed")


class Flight:
    """One order, delivered once. A wire.Parcel."""

    __slots__ = ("_on_leaving", "breaker", "deliver", "delivered", "fenced", "order", "permit", "replaced", "sent_at", "written")

    def __init__(
        self, order: Order, permit: Permit, deliver: Deliver, *, breaker: Breaker, on_leaving: Callable[["Flight"], None],
    ) -> None:  # fmt: skip
        self.order = order
        self.permit = permit
        self.deliver = deliver
        self.breaker = breaker
        self._on_leaving = on_leaving
        self.written = False
        self.fenced = False
        self.delivered = False
        # The same request has been sent anew: what is still to come is that one's answer.
        self.replaced = False
        self.sent_at = Micros(0)

    @property
    def key(self) -> Key:
        """What this order is under way as."""
        return self.order.operation, self.order.reference

    def leave(self) -> bool:
        """Whether it is still wanted and its sender may still send."""
        if self.delivered:
            return False
        try:
            permitted = self.permit(self.order)
        except Exception:  # noqa: BLE001 - whoever cannot tell whether we may send has not permitted it
            log().exception("psp_permit_failed", attempt=self.order.attempt_id)
            permitted = False
        self.fenced = not permitted
        return permitted

    def leaves(self) -> None:
        """Its first byte goes out now."""
        self.written = True
        self._on_leaving(self)

    def left(self) -> None:
        """It is out."""
        crash_point("send.after", self.order.operation)

    def give_up(self, reason: Reason, now: float) -> None:
        """Deliver it without an answer: NotSent only if it is proved that no byte of its attempt ever left."""
        proved = self.order.first and not self.written
        self.finish(NotSent(reason.value) if proved else Unknown(reason.value), now)

    def finish(self, outcome: Outcome | NotFound, now: float) -> None:
        """Deliver it, once."""
        if self.delivered:
            return
        self.delivered = True
        match outcome:
            case Unknown(reason=reason) | NotSent(reason=reason):
                if reason in _FAILURES:
                    self.breaker.failed(now)
            case _:
                self.breaker.succeeded(now)
        call_back(self.deliver, self.order, outcome)

    def is_plain(self, outcome: Outcome | NotFound) -> bool:
        """Whether its attempt's row says all that there is to tell: a first request, definitely answered."""
        return self.order.first and not self.delivered and isinstance(outcome, Approved | Declined)
