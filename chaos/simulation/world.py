"""The world of one seed: time as a list of what happens next, a wire that loses, delays and doubles, clients who repeat."""

import heapq
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from random import Random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from chaos.simulation.bank import Bank
from chaos.simulation.checks import check, check_end
from chaos.simulation.executor import Died, Executor
from chaos.simulation.store import Store, Violation
from guilder.core.clock import HOUR, SECOND, Micros
from guilder.core.ensure import InvariantBroken
from guilder.core.errors import Refusal
from guilder.core.ids import Ids
from guilder.core.outcome import NotFound, Outcome
from guilder.idempotency.model import Claim
from guilder.payments.begin import Try, follow, take
from guilder.payments.cancel import given_up, void
from guilder.payments.model import Change, Key, Payment, Terms
from guilder.payments.refund import offered
from guilder.payments.refunds import counted
from guilder.payments.states import PAYMENT, PaymentEvent, PaymentState, after, allows
from guilder.payments.store import KEY_TAKEN
from guilder.psp.model import Operation, Order
from guilder.psp.router import Choice
from guilder.shapes.facts import CardFacts, PaymentIntentFacts, PaymentMethodFacts, RefundFacts, encode

START: Final = 1_767_225_600 * SECOND
ACCOUNT: Final = "acct_simulated"
CARD: Final = CardFacts("visa", "4242", 12, 2040, "fingerprint", iin="424242")
CURRENCIES: Final = ("eur", "jpy", "kwd")
PAYMENTS: Final = 4
# For so long things go wrong; then everybody answers, and all must come to rest.
TROUBLE_SECONDS: Final = 90.0
# By then whatever was late on the wire has arrived, and every client has had its say.
WIRE_SECONDS: Final = 600.0
STEP_SECONDS: Final = 12
PATIENCE: Final = 200 * HOUR
EVENTS_MAX: Final = 60_000
ABOUT_OTHERS: Final = (Operation.QUERY, Operation.REVERSAL)
# The share of requests that the question about them overtakes.
OVERTAKEN: Final = 0.03


class Time:
    """Two clocks: what happens next is ordered by the real one; business time can be moved ahead, as `guilder clock` does."""

    def __init__(self) -> None:
        self._real = START
        self._ahead = 0

    def now(self) -> Micros:
        """Business time."""
        return Micros(self._real + self._ahead)

    def real(self) -> Micros:
        """The time in which things take their time."""
        return Micros(self._real)

    def boot(self) -> float:
        """For leases: real seconds."""
        return (self._real - START) / SECOND

    def reach(self, instant: int) -> None:
        """Real time has come to this."""
        self._real = max(self._real, instant)

    def move(self, instant: int) -> None:
        """Business time moves ahead to this, if it is not beyond it."""
        self._ahead = max(self._ahead, instant - self._real)


class Request(Struct, frozen=True):
    """What a client asked for under a key: it repeats it as it is."""

    key: str
    what: str
    payment: str
    amount: int
    currency: str = "eur"
    manual: bool = False

    @property
    def fingerprint(self) -> bytes:
        """What a second request under the key is compared by."""
        return f"{self.what} {self.payment} {self.amount} {self.currency}".encode()


class World:
    """Everything of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.clock = Time()
        self.ids = Ids(self.clock, Random(seed).randbytes)
        self.store = Store(self.clock)
        self.bank = Bank(Random(seed + 1))
        self.calm = False
        self.told: dict[str, set[bytes]] = {}
        self.requests: list[Request] = []
        self.sends: Counter[str] = Counter()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._done = 0
        self._silent_to = 0
        # Requests that arrive right after the PSP has said that it does not know them, by reference; chance of their own.
        self._overtaken: dict[str, list[Callable[[], None]]] = {}
        self._after_not_found = Random(seed + 2)
        self.executors = [Executor(self, "a"), Executor(self, "b")]

    # --- time ------------------------------------------------------------------------------------------------------------

    def at(self, instant: int, action: Callable[[], None]) -> None:
        """At this instant."""
        heapq.heappush(self._events, (instant, next(self._numbers), action))

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """So much later."""
        self.at(self.clock.real() + round(seconds * SECOND), action)

    def run_to(self, instant: int) -> None:
        """Let happen what happens until then."""
        while self._events and self._events[0][0] <= instant:
            at, _, action = heapq.heappop(self._events)
            self.clock.reach(at)
            self._done += 1
            if self._done > EVENTS_MAX:
                raise Violation(f"I18 it does not come to rest: {list(self.store.rows.values())[:3]}")
            action()
        self.clock.reach(instant)

    # --- what goes wrong -------------------------------------------------------------------------------------------------

    def luck(self, probability: float) -> bool:
        """Whether something that goes wrong so often does so now."""
        return not self.calm and self.chance.random() < probability

    def may_die(self) -> None:
        """A recovery point: the process that passes it may die there."""
        if self.luck(0.02):
            raise Died

    def unreachable(self) -> bool:
        """Whether no connection to the PSP comes up."""
        return self.luck(0.03)

    def replace(self, dead: Executor) -> None:
        """The supervisor starts another."""
        self.executors.remove(dead)
        self.later(0.2, lambda: self.executors.append(Executor(self, dead.name)))

    def fall_silent(self) -> None:
        """The PSP answers nobody for a while."""
        if self.luck(0.5):
            self._silent_to = self.clock.real() + self.chance.randint(5, 60) * SECOND

    def waits_in_queue(self) -> float:
        """How long a frame waits for its connection: the right to send is asked for when it leaves."""
        return self.chance.uniform(0.5, 3.0) if self.luck(0.08) else 0.0

    def stand_still(self) -> None:
        """A process is stopped for longer than its lease, or for less."""
        for executor in self.executors:
            if self.luck(0.5):
                executor.paused_until = self.clock.real() + self.chance.randint(1, 20) * SECOND
        if not self.calm:
            self.later(self.chance.uniform(10, 40), self.stand_still)

    # --- the wire --------------------------------------------------------------------------------------------------------

    def send(self, order: Order, executor: Executor) -> int:
        """A request leaves; what becomes of it is chance."""
        number = next(self._numbers)
        if self.store.senders[executor.claim_of(order)[0]].lost:
            raise Violation(f"I17 {order.operation} {order.reference} leaves under a claim that another has taken over")
        self.sends[order.reference] += order.operation not in ABOUT_OTHERS
        for _ in range(2 if self.luck(0.05) else 1):
            if self.luck(0.06) or self._silent_to > self.clock.real():
                continue
            late = self.chance.uniform(9, 400) if self.luck(0.06) else self.chance.uniform(0.01, 0.3)
            if order.operation not in ABOUT_OTHERS and not self.calm and self._after_not_found.random() < OVERTAKEN:
                self._overtaken.setdefault(order.reference, []).append(lambda: self._arrives(number, order, executor))
            else:
                self.later(late, lambda: self._arrives(number, order, executor))
        return number

    def _arrives(self, number: int, order: Order, executor: Executor) -> None:
        if order.operation is Operation.QUERY:
            for arrive in self._overtaken.pop(order.reference, ()):
                self.later(self._after_not_found.uniform(0.01, 1.5), arrive)
        outcome: Outcome | NotFound = self.bank.carry_out(order)
        if self.luck(0.08) or self._silent_to > self.clock.real():
            return
        late = self.chance.uniform(9, 60) if self.luck(0.06) else self.chance.uniform(0.01, 0.3)
        for _ in range(2 if self.luck(0.03) else 1):
            executor.work(lambda: executor.answered(number, order, outcome), late)

    def commit(self, change: Change) -> str | None:
        """A flush whose answer may be lost: then it is decided again on what stands."""
        stored = self.store.flush(change)
        check(self, change.payment.id)
        return "stale" if stored is None and self.luck(0.02) else stored

    # --- clients ---------------------------------------------------------------------------------------------------------

    def shop(self) -> None:
        """All of the clients' work, by chance spread over the time of trouble."""
        for number in range(PAYMENTS):
            request = Request(
                f"key-{number}", "pay", self.ids.new("pi"), self.chance.randint(1_000, 90_000) * 10 + number,
                self.chance.choice(CURRENCIES), self.chance.random() < 0.4,
            )  # fmt: skip
            self._ask_often(request, self.chance.uniform(0, TROUBLE_SECONDS / 2))
        for number in range(PAYMENTS * 3):
            self.later(self.chance.uniform(5, TROUBLE_SECONDS), lambda number=number: self._follow(f"key-follow-{number}"))  # type: ignore[misc]

    def _ask_often(self, request: Request, seconds: float) -> None:
        """A client repeats under its key: at once, later, and when nobody expects it any more."""
        self.requests.append(request)
        for wait in (0.0, *(self.chance.uniform(0, 60) for _ in range(self.chance.randint(0, 3)))):
            self.later(seconds + wait, lambda: self.ask(request))

    def _follow(self, key: str) -> None:
        """Something about a payment that is there: capture, cancel or refund."""
        known = list(self.store.payments)
        if not known:
            return
        payment = self.store.read(self.chance.choice(known))
        state, charge = PaymentState(payment.facts.status), payment.charge
        if allows(PAYMENT, state, PaymentEvent.CAPTURE_SENT):
            what = self.chance.choice(("capture", "capture", "void"))
            self._ask_often(Request(key, what, payment.facts.id, self.chance.randint(1, payment.facts.amount_capturable)), 0)
        elif charge is not None and charge.facts.captured:
            # Clicked by several people at once, each of whom sees the same amount left.
            left = max(charge.facts.amount_captured - charge.refunded, 1)
            self._ask_often(Request(key, "refund", payment.facts.id, self.chance.randint(max(left // 2, 1), left)), 0)
        elif state is PaymentState.PROCESSING:
            self._ask_often(Request(key, "give up", payment.facts.id, 0), 0)

    def ask(self, request: Request) -> None:
        """The API: the key first, then the plan on the payment as it stands, then whatever answer there is."""
        row = self.store.keys.get(request.key)
        if row is not None:
            self.tell(request)
            return
        for _ in range(10):
            change = self._plan(request)
            if change is None:
                return
            stored = self.store.flush(change)
            if stored is None:
                check(self, change.payment.id)
                self.later(self.chance.uniform(1, 30), lambda: self.tell(request))
            if stored in (None, KEY_TAKEN) or (stored or "").startswith("funds"):
                return

    def tell(self, request: Request) -> None:
        """What stands under the key is what was told before, to whoever asks."""
        row = self.store.keys[request.key]
        if row.answer is not None:
            answers = self.told.setdefault(request.key, set())
            answers.add(encode(row.answer))
            if len(answers) > 1:
                raise Violation(f"I9 the key {request.key} was answered in {len(answers)} ways")

    def _claim(self, request: Request) -> Claim:
        return Claim(account=ACCOUNT, livemode=False, key=request.key, fingerprint=request.fingerprint, request_id=f"req_{request.key}")

    def _plan(self, request: Request) -> Change | None:
        now, key = self.clock.now(), Key(request.key, f"req_{request.key}")
        if request.what == "pay":
            return self._new(request, key, now)
        payment = self.store.read(request.payment)
        claim, state = self._claim(request), PaymentState(payment.facts.status)
        match request.what:
            case "capture" if allows(PAYMENT, state, PaymentEvent.CAPTURE_SENT) and self.store.slot_free(request.payment):
                amount = min(request.amount, payment.facts.amount_capturable)
                attempt = follow(payment, Operation.CAPTURE, amount, key, now=now, ids=self.ids)
                facts = replace(payment.facts, status=after(PAYMENT, state, PaymentEvent.CAPTURE_SENT))
                return replace(self._change(payment, facts, claim), attempts=(attempt,))
            case "void" if allows(PAYMENT, state, PaymentEvent.CANCEL_SENT) and self.store.slot_free(request.payment):
                return void(payment, claim, key, None, now=now, ids=self.ids)
            case "give up":
                with suppress(Refusal):
                    return given_up(payment, claim, key, None, now=now, ids=self.ids)
            case "refund":
                return self._refund(payment, request, key, claim, now)
        return None

    def _new(self, request: Request, key: Key, now: int) -> Change:
        facts = PaymentIntentFacts(
            id=request.payment, livemode=False, created=now // SECOND, amount=request.amount, currency=request.currency,
            status="requires_payment_method", client_secret="secret", capture_method="manual" if request.manual else "automatic",
        )  # fmt: skip
        try_ = Try(
            payment_method=PaymentMethodFacts(id="pm_1", livemode=False, created=0, card=CARD), choice=Choice("cardnet", "M1", "first"),
            terms=Terms(1, 150), send_cvc=False,
        )  # fmt: skip
        facts, attempt = take(facts, try_, key, account=ACCOUNT, now=now, ids=self.ids)
        return Change(
            account=ACCOUNT, livemode=False, payment=facts, expected=None, claim=self._claim(request), confirmations=1, attempts=(attempt,),
        )  # fmt: skip

    def _refund(self, payment: Payment, request: Request, key: Key, claim: Claim, now: int) -> Change | None:
        charge = payment.charge
        if charge is None or charge.facts.amount_captured - charge.refunded - charge.refunding < request.amount:
            return None
        facts = RefundFacts(
            id=self.ids.new("re"), livemode=False, created=0, amount=request.amount, currency=payment.facts.currency, status="pending",
            charge=charge.facts.id, payment_intent=payment.facts.id,
        )  # fmt: skip
        change = replace(
            self._change(payment, payment.facts, claim),
            charges=(counted(charge, refunded=charge.refunded, refunding=charge.refunding + request.amount),),
        )  # fmt: skip
        return offered(change, payment, facts, key, created=True, now=now, ids=self.ids)

    @staticmethod
    def _change(payment: Payment, facts: PaymentIntentFacts, claim: Claim | None) -> Change:
        return Change(
            account=ACCOUNT, livemode=False, payment=facts, expected=payment.version, claim=claim, confirmations=payment.confirmations,
        )  # fmt: skip


def simulate(seed: int) -> World:
    """One seed, to its end. Raises Violation, or InvariantBroken by the product's own guards."""
    world = World(seed)
    world.shop()
    world.stand_still()
    world.later(world.chance.uniform(0, TROUBLE_SECONDS), world.fall_silent)
    world.run_to(START + round(TROUBLE_SECONDS * SECOND))
    world.calm = True
    world.bank.declines = world.bank.errors = world.bank.wrong = 0.0
    # Requests that are still on the wire arrive; then business time moves to whatever is due next.
    world.run_to(START + round(WIRE_SECONDS * SECOND))
    limit = world.clock.now() + PATIENCE
    while world.store.rows:
        if world.clock.now() > limit:
            raise Violation(f"I18 still open after days: {list(world.store.rows.values())[:3]}")
        world.clock.move(min(row.retry_at for row in world.store.rows.values()))
        world.run_to(world.clock.real() + STEP_SECONDS * SECOND)
    check_end(world)
    return world


def verdict(seed: int) -> str:
    """What is wrong with a seed; empty when nothing is."""
    try:
        simulate(seed)
    except (Violation, InvariantBroken) as found:
        return f"{type(found).__name__}: {found}"
    return ""
