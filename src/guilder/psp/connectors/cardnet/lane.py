"""One link and the orders that are under way on it: room, matching of answers, deadlines, and what is late.

There are two lanes, so that new payments can never crowd out the questions and reversals that settle old ones.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from guilder.core.clock import Clock, Micros
from guilder.core.crash import crash_point
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.iso8583 import Message, describe
from guilder.psp.connectors.cardnet.answers import outcome_of
from guilder.psp.connectors.cardnet.link import Link, LinkOwner, Uniform
from guilder.psp.connectors.cardnet.requests import Stamp
from guilder.psp.connectors.cardnet.settings import CardnetSettings, Limits
from guilder.psp.connectors.shared import call_back
from guilder.psp.measure import Histogram, Watch
from guilder.psp.model import Deliver, Direction, Exchange, Late, Order, Permit, Reason, Recorder

Key = tuple[str, str, str, str]
"""What an answer is matched by: its message type, DE 37, DE 7 and DE 32."""


def log() -> structlog.stdlib.BoundLogger:
    """The connector's log."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("guilder.psp.cardnet")
    return logger


class Flight:
    """One order on its way, from submit to delivery; the parcel of its frame."""

    __slots__ = (
        "deadline", "deliver", "ends", "frame", "key", "lane", "left_at", "message", "order", "permit", "sent_at", "stamp", "submitted_at",
        "watch", "written",
    )  # fmt: skip

    def __init__(
        self,
        order: Order,
        permit: Permit,
        deliver: Deliver,
        *,
        lane: "Lane",
        watch: Watch,
        key: Key,
        stamp: Stamp,
        now: float,
    ) -> None:
        self.order = order
        self.permit = permit
        self.deliver = deliver
        self.lane = lane
        self.watch = watch
        self.key = key
        self.stamp = stamp
        self.submitted_at = self.left_at = now
        self.deadline = now + lane.limits.queue_seconds
        self.ends = now + lane.limits.total_seconds
        self.frame: bytes | None = None
        # Kept in memory until delivery only: it holds the card. Told to the recorder masked, if at all.
        self.message: Message | None = None
        self.sent_at = Micros(0)
        self.written = False

    def leave(self) -> bytes | None:
        """The frame, if it is still wanted and its sender may still send."""
        if not self.lane.holds(self):
            return None
        if self.order.first and self.order.send_by is not None and self.lane.business_time() >= self.order.send_by:
            self.lane.give_up(self, Reason.EXPIRED)
            return None
        try:
            permitted = self.permit(self.order)
        except Exception:  # noqa: BLE001 - whoever cannot tell whether we may send has not permitted it
            log().exception("psp_permit_failed", attempt=self.order.attempt_id)
            permitted = False
        if not permitted:
            self.lane.give_up(self, Reason.FENCED)
            return None
        return self.frame

    def left(self) -> None:
        """Its first byte is out: from now on it can only be answered or unknown."""
        self.lane.wrote(self)


class Lane:
    """A link with a bulkhead. Used from one event loop."""

    def __init__(
        self,
        name: str,
        settings: CardnetSettings,
        *,
        limits: Limits,
        in_flight_max: int,
        clock: Clock,
        late: Late,
        recorder: Recorder | None,
        reachable: Callable[[], None],
        uniform: Uniform,
        connecting: Histogram,
    ) -> None:
        self.name = name
        self.limits = limits
        self.business_time = clock.now
        self._in_flight_max = in_flight_max
        self._clock = clock
        self._tell_late = late
        self._recorder = recorder
        self._flights: dict[Key, Flight] = {}
        self._late: dict[Key, Flight] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        owner = LinkOwner(
            connected=connecting.record, up=reachable, refused=self._on_refused, lost=self._on_lost, received=self._on_message,
        )  # fmt: skip
        self._link = Link(name, settings, limits, clock, owner, uniform)

    def start(self) -> None:
        """Begin to connect."""
        self._link.start()

    async def close(self) -> None:
        """Deliver all that is under way and end the connection."""
        await self._link.close()
        self._link.drain()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for flight in list(self._flights.values()):
            self.give_up(flight, Reason.RESET if flight.written else Reason.CLOSED)

    @property
    def is_up(self) -> bool:
        """Whether frames can flow."""
        return self._link.is_up

    @property
    def under_way(self) -> int:
        """How many orders are in it."""
        return len(self._flights)

    @property
    def has_room(self) -> bool:
        """Whether one more order may come in."""
        return len(self._flights) < self._in_flight_max

    def holds_key(self, key: Key) -> bool:
        """Whether the same request is under way already: its answer belongs to the one before."""
        return key in self._flights

    def enter(self, flight: Flight) -> None:
        """Take an order in, whose key is not held and for which there is room."""
        self._flights[flight.key] = flight
        self._late.pop(flight.key, None)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self.limits.sweep_seconds, self._sweep)

    def holds(self, flight: Flight) -> bool:
        """Whether the order has not been delivered yet."""
        return self._flights.get(flight.key) is flight

    def send(self, flights: Iterable[Flight]) -> None:
        """Queue orders whose frames are made."""
        self._link.send(flights)

    def wrote(self, flight: Flight) -> None:
        """The order's first byte has been written: its answer is awaited from now on."""
        crash_point("send.after", flight.order.operation)
        flight.written = True
        flight.frame = None
        flight.left_at = asyncio.get_running_loop().time()
        flight.deadline = min(flight.left_at + self.limits.answer_seconds, flight.ends)
        if self._recorder is not None:
            flight.sent_at = self._clock.now()

    def give_up(self, flight: Flight, reason: Reason) -> None:
        """Deliver an order that has no answer: NotSent only if it is proved that no byte of its attempt ever left."""
        if flight.written or not flight.order.first:
            self.finish(flight, Unknown(reason.value))
        else:
            self.finish(flight, NotSent(reason.value))

    def finish(self, flight: Flight, outcome: Outcome | NotFound, answer: Message | None = None) -> None:
        """Deliver an order, once."""
        if not self.holds(flight):
            return
        del self._flights[flight.key]
        if self._recorder is not None and not (flight.order.first and isinstance(outcome, (Approved, Declined))):
            self._tell(flight, answer)
        flight.frame = flight.message = None
        now = asyncio.get_running_loop().time()
        flight.watch.ended(
            outcome, now, submitted=flight.submitted_at, left=flight.left_at if flight.written else None, answered=answer is not None,
        )  # fmt: skip
        call_back(flight.deliver, flight.order, outcome)

    def _on_message(self, message: Message) -> None:
        fields = message.fields
        key = (message.mti, fields.get(37, ""), fields.get(7, ""), fields.get(32, ""))
        flight = self._flights.get(key)
        if flight is not None:
            self.finish(flight, outcome_of(flight.order, message), message)
            return
        flight = self._late.pop(key, None)
        if flight is None:
            log().info("psp_answer_unasked", mti=message.mti, reference=key[1])
            return
        flight.watch.late(read=asyncio.get_running_loop().time() - flight.left_at)
        self._tell(flight, message)
        outcome = outcome_of(flight.order, message)
        if isinstance(outcome, (Approved, Declined, NotFound)):
            call_back(self._tell_late, flight.order, outcome)

    def _on_refused(self) -> None:
        """No connection came up: what waits for one has waited long enough."""
        self._link.drain()
        for flight in [flight for flight in self._flights.values() if flight.frame is not None]:
            self.give_up(flight, Reason.CONNECT)

    def _on_lost(self, reason: Reason) -> None:
        """The answers to what was written cannot come any more."""
        self._late.clear()
        for flight in [flight for flight in self._flights.values() if flight.written]:
            self.give_up(flight, reason)

    def _sweep(self) -> None:
        """Give up what has waited too long; its answer is remembered as late."""
        self._sweeping = None
        now = asyncio.get_running_loop().time()
        for flight in [flight for flight in self._flights.values() if flight.deadline <= now]:
            if flight.written:
                self._late[flight.key] = flight
                self.give_up(flight, Reason.TIMEOUT)
            elif flight.frame is None:
                self.give_up(flight, Reason.VAULT)
            else:
                self.give_up(flight, Reason.BULKHEAD if self._link.is_up else Reason.CONNECT)
        while len(self._late) > self.limits.late_max:
            del self._late[next(iter(self._late))]
        if self._flights and self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self.limits.sweep_seconds, self._sweep)

    def _tell(self, flight: Flight, answer: Message | None) -> None:
        """Hand the masked messages to the recorder: the request, where it was written and not told yet, and the answer."""
        if self._recorder is None:
            return
        if flight.written and flight.message is not None:
            call_back(self._recorder, Exchange(flight.order.attempt_id, Direction.SENT, describe(flight.message), flight.sent_at))
        if answer is not None:
            call_back(self._recorder, Exchange(flight.order.attempt_id, Direction.RECEIVED, describe(answer), self._clock.now()))
