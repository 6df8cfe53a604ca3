"""The connector: lists of orders in, callbacks out, no task per order.

An order's way: breaker and bulkhead at submit; its card, for all orders of one turn of the loop in one call to the vault;
its frame; the queue of its lane; permission, asked in the same step that writes; the answer. Orders are counted from submit
to delivery, and whatever goes wrong on the way ends in exactly one callback.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from guilder.core.clock import SECOND, Clock
from guilder.iso8583 import FrameError, Mti, encode
from guilder.psp.connectors.cardnet.lane import Flight, Lane, log
from guilder.psp.connectors.cardnet.link import Uniform
from guilder.psp.connectors.cardnet.requests import WITH_CARD, Stamp, UnfitOrder, message_type, request_of
from guilder.psp.connectors.cardnet.settings import CardnetSettings, Limits
from guilder.psp.connectors.shared import RevealCards, call_back, cards_of, lacks, not_taken
from guilder.psp.measure import Measures
from guilder.psp.model import (
    RECOVERY,
    STAN_MAX,
    ContractClass,
    Declares,
    Deliver,
    Late,
    Operation,
    Order,
    Permit,
    Reason,
    Recorder,
    transmission_time,
)
from guilder.vault import Card

NAME: Final = "cardnet"
DAY_SECONDS: Final = 86_400

DECLARES: Final = Declares(
    contract_class=ContractClass.KEY_QUERY_VOID,
    idempotency_window_seconds=DAY_SECONDS,
    partial_capture=True,
    multiple_capture=False,
    currencies=None,
    three_d_secure=True,
    remembers_reversals=True,
    finality_horizon_seconds=DAY_SECONDS,
)
"""What docs/iso8583.md promises."""


def _midpoint() -> float:
    return 0.5


class Cardnet:
    """Guilder's connection to a card acquirer over ISO 8583. Implements psp.Connector.

    Args:
        uniform: draws from [0, 1), for waits with jitter.
        name: what attempts, routes and logs call it: there may be several, each to an acquirer of its own.
        measures: where it counts; its own, which nobody reads, when None.
    """

    def __init__(
        self,
        settings: CardnetSettings,
        *,
        reveal: RevealCards,
        clock: Clock,
        late: Late,
        recorder: Recorder | None = None,
        limits: Limits | None = None,
        uniform: Uniform = _midpoint,
        name: str = NAME,
        measures: Measures | None = None,
    ) -> None:
        self._settings = settings
        self._name = name
        self._limits = limits = limits or Limits()
        self._reveal = reveal
        self._clock = clock
        self._recorder = recorder
        self._uniform = uniform
        self._closed = False
        self._stan = 0
        self._entered: list[Flight] = []
        self._refused: list[tuple[Order, Deliver, Reason]] = []
        self._turn_due = False
        self._revealing: set[asyncio.Task[None]] = set()
        self._measures = measures or Measures(name)
        self._watches = {operation: self._measures.watch(operation, limits.breaker) for operation in Operation}
        self._payments = self._lane("payments", limits.payments_in_flight_max, late)
        self._recovery = self._lane("recovery", limits.recovery_in_flight_max, late)
        self._measures.reachable = partial(getattr, self._payments, "is_up")
        for lane, most in ((self._payments, limits.payments_in_flight_max), (self._recovery, limits.recovery_in_flight_max)):
            self._measures.in_flight[lane.name] = (partial(getattr, lane, "under_way"), most)

    def _lane(self, name: str, in_flight_max: int, late: Late) -> Lane:
        return Lane(
            name,
            self._settings,
            limits=self._limits,
            in_flight_max=in_flight_max,
            clock=self._clock,
            late=late,
            recorder=self._recorder,
            reachable=self._on_reachable,
            uniform=self._uniform,
            connecting=self._measures.connecting,
        )

    @property
    def name(self) -> str:
        """Cardnet, or what it was given."""
        return self._name

    @property
    def declares(self) -> Declares:
        """Keys for 24 hours, queries, voids; partial capture once; all currencies; 3-D Secure."""
        return DECLARES

    async def start(self) -> None:
        """Begin to connect both lanes; does not wait for the acquirer."""
        self._payments.start()
        self._recovery.start()

    def submit(self, orders: Sequence[Order], permit: Permit, deliver: Deliver) -> None:
        """See psp.Connector.submit."""
        now = asyncio.get_running_loop().time()
        for order in orders:
            reason = self._admit(order, permit, deliver, now)
            if reason is not None:
                self._refused.append((order, deliver, reason))
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    async def close(self) -> None:
        """Deliver what is under way and end the connections."""
        self._closed = True
        self._entered.clear()
        for task in self._revealing:
            task.cancel()
        await asyncio.gather(*self._revealing, return_exceptions=True)
        await self._payments.close()
        await self._recovery.close()
        self._turn()

    def _admit(self, order: Order, permit: Permit, deliver: Deliver, now: float) -> Reason | None:
        """Take an order in, or say why not."""
        if self._closed:
            return Reason.CLOSED
        try:
            mti = message_type(order)
        except UnfitOrder:
            return Reason.UNFIT
        lane = self._recovery if order.operation in RECOVERY else self._payments
        if not lane.has_room:
            return Reason.BULKHEAD
        stamp = self._stamp(order)
        key = (Mti.ANSWERS[mti], order.reference, stamp.transmitted_at, self._settings.acquirer)
        if lane.holds_key(key):
            return Reason.IN_PROGRESS
        watch = self._watches[order.operation]
        if not watch.breaker.allows(now):
            return Reason.BREAKER_OPEN
        flight = Flight(order, permit, deliver, lane=lane, watch=watch, key=key, stamp=stamp, now=now)
        lane.enter(flight)
        self._entered.append(flight)
        return None

    def _stamp(self, order: Order) -> Stamp:
        """DE 7 and 11: those of the attempt; an inquiry's own, so that the answer to an earlier one is not taken for its."""
        if order.operation is not Operation.QUERY:
            return Stamp(order.transmitted_at, order.stan)
        self._stan = self._stan % STAN_MAX + 1
        return Stamp(transmission_time(self._clock.now() // SECOND), f"{self._stan:06d}")

    def _turn(self) -> None:
        """All that was submitted in one turn of the loop: what needs no card goes on, the rest asks the vault, once."""
        self._turn_due = False
        refused, self._refused = self._refused, []
        entered, self._entered = self._entered, []
        for order, deliver, reason in refused:
            call_back(deliver, order, not_taken(order, reason))
        self._send((flight, None) for flight in entered if flight.order.operation not in WITH_CARD)
        waiting = [flight for flight in entered if flight.order.operation in WITH_CARD]
        for start in range(0, len(waiting), self._limits.reveal_list_max):
            task = asyncio.get_running_loop().create_task(self._with_cards(waiting[start : start + self._limits.reveal_list_max]))
            self._revealing.add(task)
            task.add_done_callback(self._revealing.discard)

    async def _with_cards(self, flights: Sequence[Flight]) -> None:
        """Have the cards of these orders revealed, and send them."""
        cards = await cards_of(self._reveal, [flight.order for flight in flights], self._limits.reveal_seconds)
        if cards is None:
            for flight in flights:
                flight.lane.give_up(flight, Reason.VAULT)
            return
        self._send(zip(flights, cards, strict=True))

    def _send(self, flights: Iterable[tuple[Flight, Card | None]]) -> None:
        """Make the frames of these orders and queue them in their lanes."""
        ready: dict[Lane, list[Flight]] = {}
        for flight, card in flights:
            reason = self._prepare(flight, card)
            if reason is None:
                ready.setdefault(flight.lane, []).append(flight)
            else:
                flight.lane.give_up(flight, reason)
        for lane, batch in ready.items():
            lane.send(batch)

    def _prepare(self, flight: Flight, card: Card | None) -> Reason | None:
        """Make an order's frame, or say why it has none."""
        order = flight.order
        if order.operation in WITH_CARD and (missing := lacks(order, card)) is not None:
            return missing
        try:
            message = request_of(order, flight.stamp, card, self._settings)
            flight.frame = encode(message.mti, message.fields)
        except (UnfitOrder, FrameError) as error:
            log().error("psp_order_unfit", attempt=order.attempt_id, why=str(error))
            return Reason.UNFIT
        if self._recorder is not None:
            flight.message = message
        return None

    def _on_reachable(self) -> None:
        """A lane has signed on: breakers that are open may try again now."""
        now = asyncio.get_running_loop().time()
        for watch in self._watches.values():
            watch.breaker.sign_of_life(now)
