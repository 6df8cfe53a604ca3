"""A payments room with everything real but the PSP: PostgreSQL, the ledger, the log, an executor; and a PSP that answers as told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest

from guilder.config import OUTBOX_MAX
from guilder.core.clock import ManualClock, sleep
from guilder.core.errors import Refusal
from guilder.core.ids import Ids
from guilder.core.outcome import Approved, NotFound, NotSent, Outcome, Unknown
from guilder.db.migrate import migrate
from guilder.db.pool import Database
from guilder.db.sender import Sender
from guilder.idempotency.model import Claim, Result
from guilder.ledger.accounts import Accounts
from guilder.log import Backlog
from guilder.merchants.model import Terms
from guilder.payments.execute import Executor
from guilder.payments.services import ExternalRisk, Services
from guilder.payments.store import Store
from guilder.payments.waiting import Waiting
from guilder.payments.ways import LetsThrough, Ways
from guilder.psp.model import ContractClass, Declares, Deliver, Operation, Order, Permit, Reason
from guilder.psp.router import Route, Rule
from guilder.risk import SignalSource
from guilder.shapes.facts import CardFacts, PaymentIntentFacts, PaymentMethodFacts
from guilder.tuning import Tuning
from guilder.wallet.chart import Chart
from standby import Pair

ACCOUNT = "acct_00000000000000000000test"
DECLARES = Declares(
    contract_class=ContractClass.KEY_QUERY_VOID, idempotency_window_seconds=24 * 3600, partial_capture=True, multiple_capture=False,
    currencies=None, three_d_secure=True, remembers_reversals=True, finality_horizon_seconds=48 * 3600,
)  # fmt: skip

Answer = Callable[[Order], Outcome | NotFound | None]
"""What the PSP says to an order; None for nothing at all (the order stays in hand)."""


class ScriptedPsp:
    """A connector whose answers the test writes. Keeps every order that it was given, in order."""

    declares = DECLARES

    def __init__(self, name: str = "cardnet") -> None:
        self.name = name
        self.orders: list[Order] = []
        self.answer: Answer = lambda order: Approved(order.reference, "123456")
        self.held: list[tuple[Order, Deliver]] = []

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to close."""

    def submit(self, orders: Sequence[Order], permit: Permit, deliver: Deliver) -> None:
        """Answer each order in the next turn of the loop, as a network would."""
        asyncio.get_running_loop().call_soon(self._answer, list(orders), permit, deliver)

    def _answer(self, orders: list[Order], permit: Permit, deliver: Deliver) -> None:
        for order in orders:
            if not permit(order):
                deliver(order, NotSent(Reason.FENCED.value) if order.first else Unknown(Reason.FENCED.value))
                continue
            self.orders.append(order)
            outcome = self.answer(order)
            if outcome is None:
                self.held.append((order, deliver))
            else:
                deliver(order, outcome)

    def sent(self, operation: Operation) -> list[Order]:
        """The orders of one operation so far."""
        return [order for order in self.orders if order.operation is operation]


class PaymentsWorld:
    """What the tests hold in their hands."""

    account = ACCOUNT

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.clock = ManualClock()
        self.tuning = Tuning()
        self.risk: ExternalRisk | None = None
        self.routes = [Route(connector="cardnet", psp_merchant="M1", livemode=False, declares=DECLARES)]
        self.rules: list[Rule] = []
        self.up: set[str] = set()
        self.lets_through: LetsThrough | None = None
        self.connectors: dict[str, ScriptedPsp] = {}
        self.ids = Ids(self.clock)
        self.psp = ScriptedPsp()
        self.terms = Terms(price_version=1, basis_points=150, overdraft_units=1000)
        self.forgotten: list[str] = []
        self._requests = count(1)

    async def start(self) -> None:
        """Connect everything."""
        self.db = await Database.connect(self.dsn, role="guilder_app", max_size=4, name="test")
        self.hot = await Database.connect(self.dsn, role="guilder_app", max_size=2, hot=True, name="test hot")
        self.beats = await Database.connect(self.dsn, role="guilder_app", max_size=1, name="test beats")

        async def terms(_account: str, _livemode: bool) -> Terms:
            return self.terms

        async def overdraft(_account: str, _livemode: bool) -> int:
            return self.terms.overdraft_units

        self.accounts = Accounts(self.db, self.clock, self.ids, Chart(overdraft).opening)
        self.store = Store(self.db, self.hot, self.accounts, self.clock)
        self.waiting = Waiting(self.hot)
        await self.waiting.start()

        def load(_account: str, _livemode: bool):
            async def nothing(_wanted):
                return {}

            return nothing

        async def payment_method(_account: str, _livemode: bool, id_: str) -> PaymentMethodFacts:
            return self.card(id=id_)

        self.services = Services(
            db=self.db, store=self.store, waiting=self.waiting, clock=self.clock, ids=self.ids, terms=terms,
            routes=self.routes, rules=self.rules,
            signals=SignalSource(self.clock), load=load, payment_method=payment_method, checkout_url="http://checkout",
            backlog=Backlog(self.db, OUTBOX_MAX), fallback=self.tuning.fallback, risk=self.risk,
        )  # fmt: skip
        self.executor, self.sender, self._running = await self.new_executor()

    async def new_executor(self) -> tuple[Executor, Sender, asyncio.Task]:
        """One more executor with a sender of its own, running."""
        executors: list[Executor] = []
        sender = Sender(self.beats, RealClock(self.clock), self.ids, role="executor", lost=lambda id_: executors[0].lost(id_))
        executors.append(
            Executor(
                db=self.db, hot=self.hot, store=self.store, sender=sender, clock=self.clock, ids=self.ids, load=self.services.load,
                forget_cvc=self._forget_cvc, checkout_url="http://checkout", risk=self.risk.service if self.risk else None,
                ways=Ways(
                    self.tuning, self.clock, routes=self.routes, rules=self.rules, up=lambda *asked: self.is_up(*asked),
                    lets_through=self.lets_through,
                ),
            )  # fmt: skip
        )
        await sender.start()
        return executors[0], sender, asyncio.create_task(executors[0].run({"cardnet": self.psp} | self.connectors))

    def is_up(self, connector: str, _operation: Operation) -> bool:
        """Whether payments that wait elsewhere may come."""
        return connector in self.up

    async def pause(self) -> None:
        """The executor claims nothing more, and goes on to beat."""
        await self.end_work()
        if self.executor._claiming is not None:
            await asyncio.wait({self.executor._claiming})

    async def end_work(self) -> None:
        """As `pause`, but a claim that is under way goes on."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def go_on(self) -> None:
        """The executor works again."""
        self._running = asyncio.create_task(self.executor.run({"cardnet": self.psp} | self.connectors))

    async def _forget_cvc(self, payment_methods: Sequence[str]) -> None:
        self.forgotten.extend(payment_methods)

    async def close(self) -> None:
        """Stop everything."""
        await self.end_work()
        await self.sender.close()
        await self.waiting.close()
        await self.store.close()
        for db in (self.db, self.hot, self.beats):
            await db.close()

    def claim(
        self, key: str | None = None, *, fingerprint: bytes = b"same", expand: tuple[str, ...] = (), deadline: int | None = None,
    ) -> Claim:
        """The claim of a fresh request; give a key to repeat one."""
        number = next(self._requests)
        return Claim(
            account=ACCOUNT, livemode=False, key=key or f"key-{number}", fingerprint=fingerprint, request_id=f"req_{number}",
            expand=expand, deadline=deadline,
        )  # fmt: skip

    def card(self, **changes) -> PaymentMethodFacts:
        """A payment method that needs no vault, because the PSP here never looks at it."""
        card = CardFacts("visa", "4242", 12, 2040, "fingerprint", iin="424242")
        fields = {"id": self.ids.new("pm"), "livemode": False, "created": self.clock.now() // 1_000_000, "card": card, **changes}
        return PaymentMethodFacts(**fields)

    async def until(self, condition, seconds: float = 10.0):
        """Wait until the condition holds (it may be a coroutine function); fails the test after so long."""
        for _ in range(int(seconds / 0.02)):
            value = condition()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                return value
            await sleep(0.02)
        pytest.fail("waited too long")

    async def payment(self, id_: str) -> PaymentIntentFacts:
        """The payment as it stands."""
        found = await self.store.read(id_, ACCOUNT, False)
        assert found is not None
        return found.facts

    async def event_types(self) -> list[str]:
        """The types of the account's events, oldest first."""
        return [row["type"] for row in await self.db.fetch("SELECT type FROM event WHERE account = $1 ORDER BY number", ACCOUNT)]

    async def books_agree(self) -> None:
        """Trial balance zero, wallet = ledger = balance transactions, charges' refunds within their captures."""
        assert await self.db.fetch("SELECT * FROM wallet_difference") == []


class RealClock(ManualClock):
    """Business time of the test's clock, boot time of the machine: heartbeats are real."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def now(self):
        return self._clock.now()

    def boot(self) -> float:
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def payments_world(dsn: str, change: Callable[[PaymentsWorld], None] = lambda _world: None) -> AsyncIterator[PaymentsWorld]:
    world = PaymentsWorld(dsn)
    change(world)
    await world.start()
    try:
        yield world
    finally:
        await world.close()


@pytest.fixture
async def world(database: str) -> AsyncIterator[PaymentsWorld]:
    """A running payments room on a fresh database."""
    async with payments_world(database) as running:
        yield running


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A primary with our schema, and a synchronous standby that has it."""
    made = Pair()
    try:
        await made.start()
        await migrate(made.primary.dsn())
        yield made
    finally:
        made.close()


def refusal_code(error: Refusal) -> str | None:
    """The wire code of a refusal."""
    return error.facts.code


def root(result: Result):
    """The object that an answer shows."""
    return result.answer.root
