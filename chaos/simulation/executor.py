"""An executor of the simulation: it does what payments/execute.py and outcomes.py do around the same decisions, and can die or stand still.

It has no window for how much a PSP is handed at once: the few payments of a seed would never fill it.
"""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from chaos.simulation.store import Claimed, Store
from guilder.core.clock import SECOND
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.db.sender import Sender
from guilder.payments.model import OpenSlot
from guilder.payments.recheck import may_be_news, reopened
from guilder.payments.resume import believed, next_step, resend
from guilder.payments.settle import settle
from guilder.payments.settling import Settling
from guilder.payments.states import AttemptState
from guilder.payments.store import ATTEMPT_MOVED
from guilder.payments.ways import Ways
from guilder.psp.model import ContractClass, Declares, Operation, Order
from guilder.tuning import Tuning

if TYPE_CHECKING:
    from chaos.simulation.world import World

CONNECTOR: Final = "cardnet"
WINDOW_SECONDS: Final = 24 * 3600
HORIZON_SECONDS: Final = 24 * 3600
DECLARES: Final = Declares(
    contract_class=ContractClass.KEY_QUERY_VOID, idempotency_window_seconds=WINDOW_SECONDS, partial_capture=True, multiple_capture=False,
    currencies=None, three_d_secure=False, remembers_reversals=True, finality_horizon_seconds=HORIZON_SECONDS,
)  # fmt: skip
ANSWER_SECONDS: Final = 8.0
BEAT_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.5
TIDY_SECONDS: Final = 5.0
DECISIONS_MAX: Final = 20


class Wire:
    """What the product asks of a connector beside its wire, which is world.py's."""

    declares = DECLARES


class Died(Exception):
    """SIGKILL: everything in memory is gone."""


def at_once(work: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("it waits")


class Executor:
    """One process. `name` tells it apart; a successor is a new object."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.paused_until = 0
        self.in_hand: dict[tuple[str, str], Claimed] = {}
        # Orders on the wire: their answer is awaited until the timeout, and late after it.
        self.awaited: dict[int, Order] = {}
        wire: Any = Wire()
        self._ways = Ways(Tuning(), world.clock)
        self._ways.connect({CONNECTOR: wire})
        store: Any = world.store
        self.sender = Sender(store, world.clock, world.ids, role="executor", lost=self._lost)
        self.work(self.beat)
        self.work(self.poll)
        self.work(self.tidy)

    @property
    def store(self) -> Store:
        """The database."""
        return self.world.store

    def work(self, step: Any, seconds: float = 0.0) -> None:
        """Do this later, if we live then, and when we do not stand still."""

        def run() -> None:
            if not self.alive:
                return
            if self.paused_until > self.world.clock.real():
                self.world.at(self.paused_until, run)
                return
            try:
                step()
            except Died:
                self.alive = False
                self.world.replace(self)

        self.world.later(seconds, run)

    def beat(self) -> None:
        """The real one: renew, look at the others, take over."""
        at_once(self.sender.beat())
        self.work(self.beat, BEAT_SECONDS)

    def _lost(self, _before: str) -> None:
        self.in_hand.clear()

    def tidy(self) -> None:
        """What is ours without a call in hand goes back."""
        self.store.set_free(self.sender.id, [attempt for attempt, _ in self.in_hand])
        self.work(self.tidy, TIDY_SECONDS)

    def poll(self) -> None:
        """Claim, and hand over."""
        if self.sender.id and self.sender.may_send(self.sender.id):
            self.store.hold(self.sender.id, 16)
            claimed = self.store.claim(self.sender.id, self.sender.epoch)
            if claimed:
                self.world.may_die()
            for one in claimed:
                self._begin(one)
        self.work(self.poll, POLL_SECONDS)

    def _begin(self, one: Claimed) -> None:
        self.in_hand[one.attempt.id, one.open.slot] = one
        step = next_step(one.attempt, one.open.state, one.open.tries, self.world.clock.now())
        if isinstance(step, Order):
            self._ways.sent_first(CONNECTOR, int(step.first))
            self._submit(replace(step, sender_epoch=(one.sender, one.open.slot)))
        else:
            self._settle(one, one.attempt.operation, step)

    # --- the connector ---------------------------------------------------------------------------------------------------

    def _submit(self, order: Order) -> None:
        wait = self.world.waits_in_queue()
        if wait:
            self.work(lambda: self._write(order), wait)
        else:
            self._write(order)

    def _write(self, order: Order) -> None:
        sender, _slot = self.claim_of(order)
        if not self.sender.may_send(sender):
            self._deliver(order, NotSent("fenced") if order.first else Unknown("fenced"))
        elif self.world.unreachable():
            self._deliver(order, NotSent("connect") if order.first else Unknown("connect"))
        else:
            number = self.world.send(order, self)
            self.awaited[number] = order
            self.work(lambda: self._timed_out(number), ANSWER_SECONDS)
            self.world.may_die()

    def _timed_out(self, number: int) -> None:
        order = self.awaited.pop(number, None)
        if order is not None:
            self._deliver(order, Unknown("timeout"))

    def answered(self, number: int, order: Order, outcome: Outcome | NotFound) -> None:
        """An answer has come over the wire, in time or late; twice is once."""
        if not self.alive:
            return
        outcome = believed(order, outcome)
        if self.awaited.pop(number, None) is not None:
            self.world.may_die()
            self._deliver(order, outcome)
        elif isinstance(outcome, Approved | Declined) and order.operation is not Operation.REVERSAL:
            attempt = self.store.attempts[order.attempt_id]
            sender, slot = self.claim_of(order)
            given_up = OpenSlot(slot, attempt.id, AttemptState.IN_DOUBT, None, 0)
            self._settle(Claimed(attempt, given_up, sender, 0), order.operation, outcome)

    def _deliver(self, order: Order, outcome: Outcome | NotFound) -> None:
        _sender, slot = self.claim_of(order)
        one = self.in_hand.get((order.attempt_id, slot))
        if one is None:
            if isinstance(outcome, Approved | Declined) and order.operation is not Operation.REVERSAL:
                self.answered(-1, order, outcome)
            return
        if isinstance(outcome, NotFound) and one.open.state == AttemptState.IN_DOUBT:
            again = resend(one.attempt, DECLARES, self.world.clock.now())
            if again is not None and self._ways.may_resend(CONNECTOR, one.open.tries, self.world.ids.uniform):
                self._submit(replace(again, sender_epoch=order.sender_epoch))
                return
        self._settle(one, order.operation, outcome)

    @staticmethod
    def claim_of(order: Order) -> tuple[str, str]:
        """The claim that an order goes out under: sender id and slot."""
        found: Any = order.sender_epoch
        return found[0], found[1]

    # --- the outcome -----------------------------------------------------------------------------------------------------

    def _settle(self, one: Claimed, asked: Operation, outcome: Outcome | NotFound) -> None:
        self.world.may_die()
        for _ in range(DECISIONS_MAX):
            if self._settle_once(one, asked, outcome):
                break
        else:
            self._note(one, outcome)
        key = (one.attempt.id, one.open.slot)
        if self.in_hand.get(key) is one:
            del self.in_hand[key]
        self.world.may_die()

    def _settle_once(self, one: Claimed, asked: Operation, outcome: Outcome | NotFound) -> bool:
        attempt = self.store.attempts[one.attempt.id]
        payment = self.store.read(attempt.payment)
        open_ = next((slot for slot in payment.open_slots if slot.attempt == attempt.id), None)
        if open_ is None:
            if not may_be_news(payment, attempt, asked, outcome):
                return True
            self.world.commit(reopened(payment, attempt, self.world.clock.now()))
            return False
        if not isinstance(outcome, Approved | Declined) and open_.sender != one.sender:
            return True
        stored = self.world.commit(settle(self._settling(one, attempt.id, open_, asked), outcome))
        if stored not in (None, "stale", ATTEMPT_MOVED):
            raise RuntimeError(f"an outcome cannot be booked: {stored}")
        return stored is None

    def _settling(self, one: Claimed, attempt_id: str, open_: OpenSlot, asked: Operation) -> Settling:
        attempt = self.store.attempts[attempt_id]
        return Settling(
            payment=self.store.read(attempt.payment), attempt=attempt, open=open_, asked=asked, now=self.world.clock.now(),
            ids=self.world.ids, reporter=one.sender, origin="http://checkout", authenticates=False,
            horizon=self._ways.horizon(attempt, one.since), schedule=self._ways.schedule(CONNECTOR),
        )  # fmt: skip

    def _note(self, one: Claimed, outcome: Outcome | NotFound) -> None:
        if isinstance(outcome, Approved | Declined):
            self.store.note(one.attempt.id, outcome, self.world.clock.now() + 60 * SECOND)
