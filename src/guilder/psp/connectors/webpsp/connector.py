"""The connector: lists of orders in, callbacks out.

An order's way: breaker and bulkhead at submit; its card, for all orders of one turn of the loop in one call to the vault;
a connection; permission, asked in the step that writes; the answer. Whatever goes wrong on the way ends in exactly one
callback. An answer that comes after the wait is told as late, until the request is given up or sent anew.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from guilder.core.clock import Clock, Micros, sleep
from guilder.core.ensure import present
from guilder.core.outcome import Approved, Declined, NotFound
from guilder.core.tasks import Tasks
from guilder.psp.connectors.shared import RevealCards, call_back, cards_of, lacks, not_taken
from guilder.psp.connectors.webpsp.answers import is_rate_limit, outcome_of, shown
from guilder.psp.connectors.webpsp.flight import Flight, Key, log
from guilder.psp.connectors.webpsp.requests import Call, UnfitOrder, call_of, check, wants_card
from guilder.psp.connectors.webpsp.settings import Limits, WebpspSettings
from guilder.psp.connectors.webpsp.wire import Answer, Broken, Wire
from guilder.psp.measure import Measures
from guilder.psp.model import (
    RECOVERY,
    ContractClass,
    Declares,
    Deliver,
    Direction,
    Exchange,
    Late,
    Operation,
    Order,
    Permit,
    Reason,
    Recorder,
)
from guilder.vault import Card

NAME: Final = "webpsp"
DAY_SECONDS: Final = 86_400
# The wait after 429 where the PSP names none.
RATE_LIMIT_WAIT_SECONDS: Final = 1.0

DECLARES: Final = Declares(
    contract_class=ContractClass.KEY_QUERY_VOID,
    idempotency_window_seconds=DAY_SECONDS,
    partial_capture=True,
    multiple_capture=False,
    currencies=None,
    three_d_secure=False,
    remembers_reversals=True,
    finality_horizon_seconds=DAY_SECONDS,
    own_page=True,
    card_present=False,
)
"""What docs/webpsp.md promises."""



class Webpsp:
    """Guilder's connection to the web PSP. Implements psp.Connector.

    Args:
        measures: where it counts; its own, which nobody reads, when None.
    """

    def __init__(
        self, settings: WebpspSettings, *, reveal: RevealCards, clock: Clock, late: Late, recorder: Recorder | None = None,
        limits: Limits | None = None, measures: Measures | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._limits = limits = limits or Limits()
        self._reveal = reveal
        self._clock = clock
        self._tell_late = late
        self._recorder = recorder
        self._closed = False
        self._wires: tuple[Wire, Wire] | None = None
        self._entered: list[Flight] = []
        self._refused: list[tuple[Order, Deliver, Reason]] = []
        self._turn_due = False
        self._flights: set[Flight] = set()
        self._in_flight = {False: 0, True: 0}  # by whether it recovers
        self._under_way: dict[Key, Flight] = {}
        self._late: dict[Key, Flight] = {}
        self._tasks = Tasks(NAME)
        self._measures = measures or Measures(NAME)
        self._watches = {operation: self._measures.watch(operation, limits.breaker) for operation in Operation}
        lanes = (("payments", False, limits.payments_in_flight_max), ("recovery", True, limits.recovery_in_flight_max))
        self._measures.in_flight |= {name: (partial(self._in_flight.__getitem__, recovers), most) for name, recovers, most in lanes}

    @property
    def name(self) -> str:
        """Webpsp."""
        return NAME

    @property
    def declares(self) -> Declares:
        """Keys for 24 hours, queries, voids; partial capture once; all currencies; a page of its own; no 3-D Secure of ours."""
        return DECLARES

    async def start(self) -> None:
        """Make the pools; connections are made when they are needed."""
        limits, connected = self._limits, self._measures.connecting.record
        self._wires = (
            Wire(self._settings, limits, limits.connections_max, connected),
            Wire(self._settings, limits, limits.recovery_connections_max, connected),
        )

    def submit(self, orders: Sequence[Order], permit: Permit, deliver: Deliver) -> None:
        """See psp.Connector.submit."""
        now = _now()
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
        for flight in list(self._flights):
            self._end(flight, Reason.RESET if flight.written else Reason.CLOSED)
        await self._tasks.cancel()
        self._turn()
        for wire in self._wires or ():
            await wire.close()

    # --- admission ------------------------------------------------------------------------------------------------------

    def _admit(self, order: Order, permit: Permit, deliver: Deliver, now: float) -> Reason | None:
        """Take an order in, or say why not."""
        if self._closed:
            return Reason.CLOSED
        try:
            check(order)
        except UnfitOrder:
            return Reason.UNFIT
        recovers = order.operation in RECOVERY
        limit = self._limits.recovery_in_flight_max if recovers else self._limits.payments_in_flight_max
        if self._in_flight[recovers] >= limit:
            return Reason.BULKHEAD
        watch = self._watches[order.operation]
        flight = Flight(order, permit, deliver, watch=watch, clock=self._clock, now=now, on_leaving=self._on_leaving)
        if order.operation is not Operation.QUERY and flight.key in self._under_way:
            return Reason.IN_PROGRESS
        if not watch.breaker.allows(now):
            return Reason.BREAKER_OPEN
        self._in_flight[recovers] += 1
        self._flights.add(flight)
        self._under_way[flight.key] = flight
        if (before := self._late.get(flight.key)) is not None:
            self._drop(before)
        self._entered.append(flight)
        asyncio.get_running_loop().call_later(self._limits.total_seconds, self._too_late, flight)
        return None

    def _turn(self) -> None:
        """All that was submitted in one turn of the loop: what needs no card goes on, the rest asks the vault, once."""
        self._turn_due = False
        refused, self._refused = self._refused, []
        entered, self._entered = self._entered, []
        for order, deliver, reason in refused:
            call_back(deliver, order, not_taken(order, reason))
        entered = [flight for flight in entered if not flight.delivered]
        for flight in entered:
            if not wants_card(flight.order):
                flight.task = self._tasks.spawn(self._fly(flight, None))
        waiting = [flight for flight in entered if wants_card(flight.order)]
        for start in range(0, len(waiting), self._limits.reveal_list_max):
            self._tasks.spawn(self._with_cards(waiting[start : start + self._limits.reveal_list_max]))

    async def _with_cards(self, flights: Sequence[Flight]) -> None:
        """Have the cards of these orders revealed, and send them."""
        cards = await cards_of(self._reveal, [flight.order for flight in flights], self._limits.reveal_seconds)
        if cards is None:
            for flight in flights:
                self._end(flight, Reason.VAULT)
            return
        for flight, card in zip(flights, cards, strict=True):
            missing = lacks(flight.order, card)
            if missing is not None:
                self._end(flight, missing)
            else:
                flight.task = self._tasks.spawn(self._fly(flight, card))

    # --- the call -------------------------------------------------------------------------------------------------------

    async def _fly(self, flight: Flight, card: Card | None) -> None:
        """Send one order and deliver what comes of it."""
        try:
            call = call_of(flight.order, card)
        except UnfitOrder as error:
            log().error("psp_order_unfit", attempt=flight.order.attempt_id, why=str(error))
            self._end(flight, Reason.UNFIT)
            return
        try:
            self._answered(flight, call, await self._ask(flight, call))
        except Broken as broken:
            self._tell(flight, call, None)
            self._end(flight, _why(flight, broken.reason))
        except Exception:  # whatever goes wrong on the way ends in a callback
            log().exception("psp_call_failed", attempt=flight.order.attempt_id)
            self._end(flight, _why(flight, Reason.PSP_ERROR))
        finally:
            # Where it was late, nothing comes any more.
            if self._late.get(flight.key) is flight:
                del self._late[flight.key]

    async def _ask(self, flight: Flight, call: Call) -> Answer:
        """Ask until there is an answer that is none of "too many requests", as long as somebody waits for it. Raises Broken.

        Sent again it is the same request under the same key, so it has one effect.
        """
        wire = present(self._wires, "a connector was started")[flight.order.operation in RECOVERY]
        while True:
            answer = await wire.ask(call, flight)
            if flight.delivered or not is_rate_limit(answer.status, answer.body):
                return answer
            # Nobody waits for longer than for an answer; the card is not to be held in memory for as long as the PSP names.
            await sleep(min(answer.retry_after or RATE_LIMIT_WAIT_SECONDS, self._limits.answer_seconds))
            if flight.delivered:
                return answer

    def _on_leaving(self, flight: Flight) -> None:
        """Its first byte leaves: its answer is awaited from now on."""
        if flight.sent_at:
            return
        flight.sent_at = self._clock.now()
        asyncio.get_running_loop().call_later(self._limits.answer_seconds, self._too_late, flight)

    def _too_late(self, flight: Flight) -> None:
        """Nobody waits any longer; what comes now is late. What has not left by now never leaves."""
        if flight.delivered or flight not in self._flights:
            return
        if flight.written:
            self._late[flight.key] = flight
            self._make_room(recovers=flight.order.operation in RECOVERY)
        self._end(flight, _why(flight, Reason.TIMEOUT))

    def _make_room(self, *, recovers: bool) -> None:
        """Requests whose answers are late hold half of the connections at most: the oldest are dropped, and settled by asking."""
        most = self._limits.recovery_connections_max if recovers else self._limits.connections_max
        late = [flight for flight in self._late.values() if (flight.order.operation in RECOVERY) is recovers]
        for flight in late[: max(0, len(late) - most // 2)]:
            self._drop(flight)

    def _drop(self, flight: Flight) -> None:
        """Wait for its late answer no longer, and give its connection up."""
        del self._late[flight.key]
        if flight.task is not None:
            flight.task.cancel()

    def _answered(self, flight: Flight, call: Call, answer: Answer) -> None:
        outcome = outcome_of(flight.order, answer.status, answer.body)
        if not flight.is_plain(outcome):
            self._tell(flight, call, answer)
        if not flight.delivered:
            self._leave(flight)
            flight.finish(outcome, _now(), answered=True)
            return
        if self._late.get(flight.key) is flight:
            flight.watch.late(read=_now() - (flight.left_at or flight.submitted_at))
            if isinstance(outcome, Approved | Declined | NotFound):
                call_back(self._tell_late, flight.order, outcome)

    def _end(self, flight: Flight, reason: Reason) -> None:
        self._leave(flight)
        flight.give_up(reason, _now())

    def _leave(self, flight: Flight) -> None:
        """It is delivered, or about to be: its place is free."""
        if flight not in self._flights:
            return
        self._flights.discard(flight)
        self._in_flight[flight.order.operation in RECOVERY] -= 1
        if self._under_way.get(flight.key) is flight:
            del self._under_way[flight.key]

    # --- bookkeeping ----------------------------------------------------------------------------------------------------

    def _tell(self, flight: Flight, call: Call, answer: Answer | None) -> None:
        """Hand the masked messages to the recorder: the request, where it was written, and the answer."""
        if self._recorder is None or not flight.sent_at:
            return
        self._record(flight, Direction.SENT, call.masked, flight.sent_at)
        if answer is not None:
            self._record(flight, Direction.RECEIVED, shown(answer.status, answer.body), self._clock.now())

    def _record(self, flight: Flight, direction: Direction, text: str, at: Micros) -> None:
        if self._recorder is not None:
            call_back(self._recorder, Exchange(flight.order.attempt_id, direction, text, at))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _why(flight: Flight, reason: Reason) -> Reason:
    """What is said of a request that has no answer: before its first byte, everything was a matter of connecting."""
    if flight.held is not None:
        return flight.held
    return reason if flight.written else Reason.CONNECT
