"""One order on its way, from submit to delivery and, where its answer is late, beyond."""

import asyncio
from collections.abc import Callable

import structlog

from guilder.core.clock import Clock, Micros
from guilder.core.crash import crash_point
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.psp.connectors.shared import call_back
from guilder.psp.measure import Watch
from guilder.psp.model import Deliver, Operation, Order, Permit, Reason

Key = tuple[Operation, str]
"""What is under way once at most: an operation under its reference."""


def log() -> structlog.stdlib.BoundLogger:
    """The connector's log."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("guilder.psp.webpsp")
    return logger


class Flight:
    """One order, delivered once. A wire.Parcel."""

    __slots__ = (
        "_clock", "_on_leaving", "deliver", "delivered", "held", "left_at", "order", "permit", "sent_at", "submitted_at", "task",
        "watch",
    )  # fmt: skip

    def __init__(
        self, order: Order, permit: Permit, deliver: Deliver, *, watch: Watch, clock: Clock, now: float,
        on_leaving: Callable[["Flight"], None],
    ) -> None:  # fmt: skip
        self.order = order
        self.permit = permit
        self.deliver = deliver
        self.watch = watch
        self._clock = clock
        self._on_leaving = on_leaving
        self.submitted_at = now
        # The last time that it was written, by the loop's clock; None while no byte has left.
        self.left_at: float | None = None
        # Why it was held back when its turn came.
        self.held: Reason | None = None
        self.delivered = False
        # What sends it and reads its answer, once that has begun.
        self.task: asyncio.Task[None] | None = None
        self.sent_at = Micros(0)

    @property
    def written(self) -> bool:
        """Whether a byte of it may have left."""
        return self.left_at is not None

    @property
    def key(self) -> Key:
        """What this order is under way as."""
        return self.order.operation, self.order.reference

    def leave(self) -> bool:
        """Whether it is still wanted, in time, and its sender may still send."""
        if self.delivered:
            return False
        if self.order.first and self.order.send_by is not None and self._clock.now() >= self.order.send_by:
            self.held = Reason.EXPIRED
            return False
        try:
            permitted = self.permit(self.order)
        except Exception:  # noqa: BLE001 - whoever cannot tell whether we may send has not permitted it
            log().exception("psp_permit_failed", attempt=self.order.attempt_id)
            permitted = False
        if not permitted:
            self.held = Reason.FENCED
        return permitted

    def leaves(self) -> None:
        """Its first byte goes out now."""
        self.left_at = asyncio.get_running_loop().time()
        self._on_leaving(self)

    def left(self) -> None:
        """It is out."""
        crash_point("send.after", self.order.operation)

    def give_up(self, reason: Reason, now: float) -> None:
        """Deliver it without an answer: NotSent only if it is proved that no byte of its attempt ever left."""
        proved = self.order.first and not self.written
        self.finish(NotSent(reason.value) if proved else Unknown(reason.value), now)

    def finish(self, outcome: Outcome | NotFound, now: float, *, answered: bool = False) -> None:
        """Deliver it, once; `answered`: its PSP said something, whatever that was."""
        if self.delivered:
            return
        self.delivered = True
        self.watch.ended(outcome, now, submitted=self.submitted_at, left=self.left_at, answered=answered)
        call_back(self.deliver, self.order, outcome)

    def is_plain(self, outcome: Outcome | NotFound) -> bool:
        """Whether its attempt's row says all that there is to tell: a first request, definitely answered."""
        return self.order.first and not self.delivered and isinstance(outcome, Approved | Declined)
