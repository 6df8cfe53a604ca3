"""The only place that builds objects and wires them: what is prepared before a start, and the body of each role.

A body builds what it needs inside its own loop, says that it is ready, and returns when it is told to stop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog
from msgspec import Struct

from guilder.api.app import Api
from guilder.api.openapi import document
from guilder.api.routes import registry
from guilder.api.services import Services
from guilder.challenge import ChallengeWay
from guilder.checkout import Page
from guilder.checkout import Services as Checkout
from guilder.config import Settings
from guilder.core.clock import SystemClock
from guilder.core.errors import Unavailable, missing
from guilder.core.ids import Ids
from guilder.customers import Customers, PaymentMethods, Personal, load_payment_methods
from guilder.db import Database, installation, schema
from guilder.db.clock_guard import ClockGuard
from guilder.db.sender import Sender, tidy_senders
from guilder.folder import Sandbox, listen_on, one_at_a_time, read_sandbox, write_private
from guilder.http_server import serve_http
from guilder.idempotency import tidy_keys
from guilder.jobs import Job, run_jobs
from guilder.ledger.accounts import Accounts
from guilder.ledger.book import Ledger
from guilder.ledger.expire import run_once as expire_transfers
from guilder.ledger.product import Books
from guilder.log import BATCH_MAX, TOPIC_EVENTS, Consumer, Handle, hold_partitions, tidy_log
from guilder.log.dead_letters import Letters
from guilder.merchants import Caller, Merchants, Terms
from guilder.merchants.store import live_mode_in_use as is_live
from guilder.metrics import Metrics
from guilder.network import NetworkSettings, serve
from guilder.orders import Services as Orders
from guilder.orders import attend_sessions, note_payments
from guilder.orders.attend import CONSUMER as ORDERS
from guilder.payments import expire_authorizations, expire_challenges, note_money, note_waiting, offer_refunds
from guilder.payments.execute import ROLE as EXECUTOR_ROLE
from guilder.payments.execute import Executor
from guilder.payments.load import Loader
from guilder.payments.offer import CONSUMER as REFUNDS
from guilder.payments.services import ExternalRisk
from guilder.payments.services import Services as Payments
from guilder.payments.store import Store
from guilder.payments.waiting import Waiting
from guilder.psp.announce import Announcer
from guilder.psp.connectors.configured import Configured, connectors, routes
from guilder.psp.exposed import expose
from guilder.psp.measure import Measures
from guilder.psp.store import LatencyKeeper
from guilder.risk import HttpRiskService, SignalSource, Velocity
from guilder.role import Body, Context, run_in_loop
from guilder.security import FileKeyProvider, PurposeKeys, make_key_file
from guilder.shapes.facts import BalanceTransactionFacts, PaymentMethodFacts
from guilder.terminal import Terminal
from guilder.vault import Vault, VaultClient, VaultServer, listen
from guilder.wallet.announce import announce_available
from guilder.wallet.chart import Chart
from guilder.wallet.release import run_once as release_funds
from guilder.wallet.store import balance_transactions
from guilder.webhooks import Allowed, Deliveries, Endpoints
from guilder.webhooks.deliver import Deliverer
from guilder.webhooks.disable import disable_failing
from guilder.webhooks.fan_out import CONSUMER as WEBHOOKS
from guilder.webhooks.fan_out import FanOut
from guilder.webhooks.tidy import call_off, tidy_deliveries

APP_ROLE: Final = "guilder_app"
VAULT_ROLE: Final = "guilder_vault"
READER_ROLE: Final = "guilder_reader"


class Pools(Struct, frozen=True, kw_only=True):
    """How many connections a process has: for plain statements, and for the hot ones. With 0 of one kind the other serves both."""

    plain: int
    hot: int


# All of `guilder up` may have 16 connections (DESIGN section 11), so each further API process takes some from the others. The first
# connection of two that waits is the one that counts, so more would bring nothing.
PAGE: Final = Pools(plain=0, hot=1)
POOLS: Final[Mapping[int, Mapping[str, Pools]]] = {
    1: {"api": Pools(plain=1, hot=2), "executor": Pools(plain=2, hot=2), "worker": Pools(plain=2, hot=0), "checkout": PAGE},
    2: {"api": Pools(plain=1, hot=1), "executor": Pools(plain=1, hot=2), "worker": Pools(plain=1, hot=0), "checkout": PAGE},
    3: {"api": Pools(plain=0, hot=1), "executor": Pools(plain=1, hot=2), "worker": Pools(plain=1, hot=0), "checkout": PAGE},
    4: {"api": Pools(plain=0, hot=1), "executor": Pools(plain=0, hot=1), "worker": Pools(plain=1, hot=0), "checkout": PAGE},
}
"""By the number of API processes."""
BESIDE: Final[Mapping[str, int]] = {"api": 1, "executor": 2, "worker": 1, "checkout": 1}
"""What a process has besides its pools: listeners, and the beats of senders."""
VAULT_CONNECTIONS: Final = 1
PREPARE_CONNECTIONS: Final = 1

SANDBOX_NAME: Final = "Sandbox"

WORKER_ROLE: Final = "worker"


def prepare(settings: Settings) -> None:
    """Everything between a running database and the first role: schema, keys, generation, sandbox merchant.

    Runs in a short-lived child of the supervisor. Safe to repeat.
    """
    run_in_loop(_prepare(settings))


async def _prepare(settings: Settings) -> None:
    dsn = address(settings)
    if not await schema.is_current(dsn):
        # Imported only where there is something to do: it costs 280 ms and 50 MB.
        from guilder.db.migrate import migrate

        ran = await migrate(dsn)
        structlog.get_logger().info("migrated", count=len(ran))
    _make_keys(settings)
    clock = SystemClock(settings.clock_file)
    ids = Ids(clock)
    database = await Database.connect(dsn, role=APP_ROLE, max_size=PREPARE_CONNECTIONS, name="prepare")
    try:
        begun = await installation.begin(database, settings.generation_file, clock, ids)
        if begun.behind:
            structlog.get_logger().error("database has missed starts; was it restored from a backup?", count=begun.behind)
        await _make_sandbox(settings, Merchants(database, PurposeKeys.of_file(settings.app_key_file), clock, ids))
    finally:
        await database.close()


def prepare_role(settings: Settings) -> None:
    """The same for `guilder run`, as far as one role may: the schema is only checked, keys and sandbox merchant are made.

    Several roles that start at the same moment do it one after the other. Raises WrongSchema.
    """
    run_in_loop(schema.check(address(settings)))
    with one_at_a_time(settings):
        _make_keys(settings)
        run_in_loop(_make_sandbox_alone(settings))


async def _make_sandbox_alone(settings: Settings) -> None:
    async with merchants(settings) as known:
        await _make_sandbox(settings, known)


def _make_keys(settings: Settings) -> None:
    for file in (settings.master_key_file, settings.app_key_file):
        make_key_file(file)


async def _make_sandbox(settings: Settings, known_merchants: Merchants) -> None:
    """The sandbox merchant and its test keys, once for each database."""
    known = read_sandbox(settings)
    if known is not None and await known_merchants.authenticate(known.secret_key) is not None:
        return
    merchant = await known_merchants.create(name=SANDBOX_NAME)
    _, secret = await known_merchants.create_key(merchant.id, livemode=False, kind="secret")
    _, publishable = await known_merchants.create_key(merchant.id, livemode=False, kind="publishable")
    write_private(
        settings.sandbox_file,
        Sandbox(account=merchant.id, secret_key=secret.reveal(), publishable_key=publishable.reveal()),
    )


def webhooks_allowed(settings: Settings) -> tuple[Allowed, Allowed]:
    """What webhooks may reach in test mode and in live mode."""
    return Allowed.of(settings.webhook_allow, livemode=False), Allowed.of(settings.webhook_allow, livemode=True)


def address(settings: Settings) -> str:
    """The database's address; there is one by the time anything is built."""
    if settings.database_url is None:
        raise ValueError("no database: set GUILDER_DATABASE_URL, or use `guilder up`, which brings one")
    return settings.database_url


@asynccontextmanager
async def merchants(settings: Settings) -> AsyncIterator[Merchants]:
    """The merchants, for a command."""
    clock = SystemClock(settings.clock_file)
    database = await Database.connect(address(settings), role=APP_ROLE, max_size=1, name="command")
    try:
        yield Merchants(database, PurposeKeys.of_file(settings.app_key_file), clock, Ids(clock))
    finally:
        await database.close()


async def live_mode_in_use(settings: Settings) -> bool:
    """Whether live mode is in use in this database, for a command. Raises WrongSchema, Unavailable."""
    await schema.check(address(settings))
    database = await Database.connect(address(settings), role=READER_ROLE, max_size=1, name="command")
    try:
        return await is_live(database)
    finally:
        await database.close()


class GuardedMerchants(Merchants):
    """The merchants of a process that accepts nothing while its clock differs from the database's."""

    def __init__(self, guard: ClockGuard, db: Database, keys: PurposeKeys, clock: SystemClock, ids: Ids) -> None:
        super().__init__(db, keys, clock, ids)
        self._guard = guard

    async def authenticate(self, secret: str) -> Caller | None:
        """As Merchants. Raises Unavailable while the clock cannot be believed."""
        if not self._guard.sound:
            raise Unavailable("this machine's clock differs from the database's")
        return await super().authenticate(secret)


class Rooms:
    """The objects that the roles which work on payments share, built in one process and closed in the reverse order."""

    def __init__(self, settings: Settings, context: Context, *, db: Database, hot: Database, may_reveal: bool) -> None:
        clock, ids = context.clock, context.ids
        keys = PurposeKeys.of_file(settings.app_key_file)
        self.clock = clock
        self.ids = ids
        self.keys = keys
        self.db = db
        self.hot = hot
        self.guard = ClockGuard(db, clock)
        self.vault = VaultClient(settings.vault_socket, may_reveal=may_reveal)
        self.merchants = GuardedMerchants(self.guard, db, keys, clock, ids)
        self.personal = Personal(db, keys, clock, ids)
        self.methods = PaymentMethods(db, self.vault, self.personal, clock, ids, raw_cards_live=settings.raw_cards_live)
        self.customers = Customers(db, self.methods, self.personal, keys, clock, ids)
        self.accounts = Accounts(db, clock, ids, Chart(self._overdraft_units).opening)
        self.store = Store(db, hot, self.accounts, clock)
        self.load = Loader(db, self.customers, self.methods, self._entries)
        self.waiting = Waiting(hot)
        self.risk = risk_service(settings, ids)
        self.payments = Payments(
            db=db,
            store=self.store,
            waiting=self.waiting,
            clock=clock,
            ids=ids,
            terms=self._terms,
            routes=routes(settings),
            signals=SignalSource(clock),
            load=self.load,
            payment_method=self._payment_method,
            checkout_url=settings.checkout_origin,
            fallback=settings.tuning.fallback,
            risk=None if self.risk is None else ExternalRisk(self.risk, settings.tuning.risk),
        )
        self.orders = Orders(
            db=db, payments=self.payments, methods=self.methods, personal=self.personal, keys=keys, clock=clock, ids=ids,
            checkout_url=settings.checkout_origin,
        )  # fmt: skip

    @classmethod
    async def open(
        cls, stack: AsyncExitStack, settings: Settings, context: Context, *, pools: Pools, may_reveal: bool = False,
    ) -> "Rooms":
        """Connect and build; whatever was opened is closed with the stack."""
        hot = await _pool(stack, settings, f"{context.name} hot", max_size=pools.hot, hot=True) if pools.hot else None
        db = await _pool(stack, settings, context.name, max_size=pools.plain) if hot is None or pools.plain else hot
        rooms = cls(settings, context, db=db, hot=hot or db, may_reveal=may_reveal)
        stack.push_async_callback(rooms.vault.close)
        stack.push_async_callback(rooms.methods.close)
        stack.push_async_callback(rooms.store.close)
        if rooms.risk is not None:
            stack.push_async_callback(rooms.risk.close)
        await rooms.guard.start()
        stack.push_async_callback(rooms.guard.close)
        return rooms

    async def _terms(self, account: str, livemode: bool) -> Terms:
        return await self.merchants.terms(account, livemode=livemode)

    async def _overdraft_units(self, account: str, livemode: bool) -> int:
        return (await self.merchants.terms(account, livemode=livemode)).overdraft_units

    async def _payment_method(self, account: str, livemode: bool, id_: str) -> PaymentMethodFacts:
        found = await load_payment_methods(self.hot, [(account, livemode, id_)])
        if id_ not in found:
            raise missing("payment_method", id_, param="payment_method")
        return found[id_]

    async def _entries(self, account: str, livemode: bool, ids: Collection[str]) -> Mapping[str, BalanceTransactionFacts]:
        return await balance_transactions(self.db, list(ids), merchant=account, livemode=livemode)


def risk_service(settings: Settings, ids: Ids) -> HttpRiskService | None:
    """The external risk service, where one is configured."""
    risk = settings.tuning.risk
    return None if risk.url is None else HttpRiskService(risk, settings.tuning.policy("risk-ask"), ids)


def _pools(settings: Settings, role: str) -> Pools:
    return POOLS[settings.api_processes][role]


async def _pool(
    stack: AsyncExitStack, settings: Settings, name: str, *, max_size: int, role: str = APP_ROLE, hot: bool = False,
) -> Database:
    database = await Database.connect(address(settings), role=role, max_size=max_size, hot=hot, name=name)
    stack.push_async_callback(database.close)
    return database


async def vault(settings: Settings, context: Context) -> None:
    """The vault: alone holds the master key and, in memory, the CVCs."""
    async with AsyncExitStack() as stack:
        database = await _pool(stack, settings, "vault", role=VAULT_ROLE, max_size=VAULT_CONNECTIONS)
        keeper = Vault(database, FileKeyProvider(settings.master_key_file), context.clock)
        server = VaultServer(keeper, listen(settings.vault_socket))
        stack.push_async_callback(server.close)
        await server.start()
        context.ready()
        await context.stop.wait()


async def network(settings: Settings, context: Context) -> None:
    """The sandbox bank world; it knows nothing of the rest."""
    bank = NetworkSettings(
        data=settings.network_dir,
        host=settings.network_host,
        clock_file=settings.clock_file,
        iso_port=settings.ports.network_iso,
        http_port=settings.ports.network_http,
        iso_listener=context.sockets.get("network_iso"),
        http_listener=context.sockets.get("network_http"),
    )
    await _until_told(context, serve(bank, ready=lambda _addresses: context.ready(), clock=context.clock))


async def executor(settings: Settings, context: Context) -> None:
    """The only sender: claims, executes, resumes."""
    async with AsyncExitStack() as stack:
        rooms = await Rooms.open(stack, settings, context, pools=_pools(settings, "executor"), may_reveal=True)
        beats = await _pool(stack, settings, "executor beat", max_size=1)
        executors: list[Executor] = []
        measured: dict[str, Measures] = {}

        def lost(before: str) -> None:
            executors[0].lost(before)
            context.leave_word(sender.id)

        sender = Sender(beats, rooms.clock, rooms.ids, role=EXECUTOR_ROLE, lost=lost)
        working = Executor(
            db=rooms.db, hot=rooms.hot, store=rooms.store, sender=sender, clock=rooms.clock, ids=rooms.ids, load=rooms.load,
            forget_cvc=rooms.vault.drop_cvc, checkout_url=settings.checkout_origin, tuning=settings.tuning,
            routes=routes(settings), up=lambda name: measured[name].is_up(), risk=rooms.risk,
        )
        executors.append(working)
        ways = connectors(
            settings, reveal=rooms.vault.reveal, clock=rooms.clock, ids=rooms.ids, late=working.late, recorder=working.record,
        )  # fmt: skip
        measured |= {way.connector.name: way.measures for way in ways}
        for way in ways:
            await way.connector.start()
            stack.push_async_callback(way.connector.close)
        expose(context.metrics, [way.measures for way in ways])
        await sender.start(context.predecessor)
        stack.push_async_callback(sender.close)
        context.leave_word(sender.id)
        context.ready()
        keeper = LatencyKeeper(rooms.db, [way.measures for way in ways])
        await _until_told(context, _while_sound(rooms.guard, lambda: _execute(settings, rooms, working, ways, keeper)))


async def _execute(
    settings: Settings, rooms: Rooms, working: Executor, ways: Sequence[Configured], keeper: LatencyKeeper,
) -> None:  # fmt: skip
    """Everything that an executor does; ends only by cancellation."""
    clock = rooms.clock
    modes = {route.connector: route.livemode for route in routes(settings)}

    async def accounts() -> Sequence[str]:
        return [merchant.id for merchant in await rooms.merchants.list()]

    announcer = Announcer(rooms.db, clock, rooms.ids, [way.measures for way in ways], modes=modes, accounts=accounts)
    jobs = (
        Job("announce_breakers", 0.5, announcer.run_once),
        Job("keep_latencies", 5.0, lambda: keeper.run_once(clock.now()), full=10_000),
        Job("forget_latencies", 3600.0, lambda: keeper.forget(clock.now()), full=100_000),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(working.run({way.connector.name: way.connector for way in ways}))
        group.create_task(run_jobs(jobs))


async def worker(settings: Settings, context: Context) -> None:
    """What is due by time rather than by request: releases, expiries, refunds that wait for money, housekeeping."""
    async with AsyncExitStack() as stack:
        rooms = await Rooms.open(stack, settings, context, pools=_pools(settings, "worker"))
        beats = await _pool(stack, settings, "worker beat", max_size=1)
        sender = Sender(beats, rooms.clock, rooms.ids, role=context.name, lost=lambda _before: context.leave_word(sender.id))
        await sender.start(context.predecessor)
        stack.push_async_callback(sender.close)
        context.leave_word(sender.id)
        context.ready()
        await _until_told(context, _while_sound(rooms.guard, lambda: _work(settings, rooms, sender, context.metrics)))


async def _work(settings: Settings, rooms: Rooms, sender: Sender, metrics: Metrics) -> None:
    """Everything that a worker does; ends only by cancellation."""

    async def personal(account: str, ids: Collection[str], livemode: bool) -> Mapping[str, Mapping[str, Any]]:
        return await rooms.personal.open_many(account, ids, livemode=livemode)

    deliverer = Deliverer(
        db=rooms.db, sender=sender, clock=rooms.clock, ids=rooms.ids, keys=rooms.keys, personal=personal,
        allowed=webhooks_allowed(settings), role=WORKER_ROLE, retry=settings.tuning.policy("webhook"),
    )  # fmt: skip
    async with asyncio.TaskGroup() as group:
        group.create_task(deliverer.run())
        group.create_task(run_jobs((*_jobs(settings, rooms, sender, metrics), *_webhook_jobs(settings, rooms, sender, deliverer))))


def _consumer(settings: Settings, rooms: Rooms, sender: Sender, name: str, handle: Handle) -> Consumer:
    return Consumer(
        rooms.db, rooms.clock, rooms.ids, name=name, topic=TOPIC_EVENTS, handle=handle, sender=lambda: sender.id,
        retry=settings.tuning.policy("consumer"),
    )  # fmt: skip


def _webhook_jobs(settings: Settings, rooms: Rooms, sender: Sender, deliverer: Deliverer) -> Sequence[Job]:
    db, clock, ids = rooms.db, rooms.clock, rooms.ids
    consumer = _consumer(settings, rooms, sender, WEBHOOKS, FanOut(clock).handle)

    async def hold() -> int:
        await hold_partitions(db, WEBHOOKS, sender.id, sender.epoch, role=WORKER_ROLE)
        return 0

    async def fan_out() -> int:
        count = await consumer.run_once()
        if count:
            deliverer.wake()
        return count

    return (
        Job("hold_webhook_partitions", 1.0, hold),
        Job("fan_out_events", 0.05, fan_out, full=BATCH_MAX // 2),
        Job("disable_failing_endpoints", 1.0, lambda: disable_failing(db, clock, ids)),
        Job("call_off_deliveries", 1.0, lambda: call_off(db)),
        Job("tidy_deliveries", 60.0, lambda: tidy_deliveries(db, clock.now())),
    )


def _jobs(settings: Settings, rooms: Rooms, sender: Sender, metrics: Metrics) -> Sequence[Job]:
    db, clock, ids = rooms.db, rooms.clock, rooms.ids
    consumer = _consumer(settings, rooms, sender, REFUNDS, note_money)
    news = _consumer(settings, rooms, sender, ORDERS, note_payments(clock))

    async def hold() -> int:
        for name in (REFUNDS, ORDERS):
            await hold_partitions(db, name, sender.id, sender.epoch, role=WORKER_ROLE)
        return 0

    async def note() -> int:
        await note_waiting(db)
        return 0

    async def release() -> int:
        return len(await release_funds(db, clock, ids))

    letters = Letters(db)
    letters.expose(metrics)
    return (
        Job("count_dead_letters", 10.0, letters.run_once, full=1_000_000_000),
        Job("hold_partitions", 1.0, hold),
        Job("consume_events", 0.25, consumer.run_once, full=BATCH_MAX // 2),
        Job("consume_orders", 0.25, news.run_once, full=BATCH_MAX // 2),
        Job("attend_sessions", 0.5, lambda: attend_sessions(rooms.orders)),
        Job("note_waiting_refunds", 60.0, note),
        Job("offer_refunds", 0.5, lambda: offer_refunds(rooms.payments)),
        Job("release_funds", 0.5, release),
        Job("announce_available", 0.5, lambda: announce_available(db, clock, ids)),
        Job("expire_authorizations", 0.5, lambda: expire_authorizations(rooms.payments)),
        Job("expire_challenges", 0.5, lambda: expire_challenges(rooms.payments)),
        Job("expire_transfers", 0.5, lambda: expire_transfers(db, clock, ids)),
        Job("tidy_log", 60.0, lambda: tidy_log(db, clock.now())),
        Job("tidy_keys", 60.0, lambda: tidy_keys(db, clock.now())),
        Job("tidy_senders", 60.0, lambda: tidy_senders(db, clock.now())),
    )


async def api(settings: Settings, context: Context) -> None:
    """The HTTP API."""
    async with AsyncExitStack() as stack:
        rooms = await Rooms.open(stack, settings, context, pools=_pools(settings, "api"))
        await rooms.waiting.start()
        stack.push_async_callback(rooms.waiting.close)
        ledger = Ledger(rooms.hot, rooms.accounts, rooms.clock)
        stack.push_async_callback(ledger.close)
        services = Services(
            db=rooms.db,
            hot=rooms.hot,
            clock=rooms.clock,
            ids=rooms.ids,
            keys=rooms.keys,
            merchants=rooms.merchants,
            vault=rooms.vault,
            customers=rooms.customers,
            methods=rooms.methods,
            personal=rooms.personal,
            payments=rooms.payments,
            books=Books(rooms.db, ledger, rooms.clock, rooms.ids),
            orders=rooms.orders,
            load=rooms.load,
            endpoints=Endpoints(rooms.db, rooms.keys, rooms.clock, rooms.ids, allowed=webhooks_allowed(settings)),
            deliveries=Deliveries(rooms.db, rooms.clock),
            terminal=Terminal(rooms.db, rooms.clock, rooms.ids),
        )
        stack.push_async_callback(services.close)
        routes = registry()
        listener = context.sockets.get("api") or listen_on(settings.host, settings.ports.api)
        app = Api(services, routes, document(routes))
        context.metrics.counter("http_requests", "Answers by status.", ("status",), app.counts)
        await serve_http(app, listener, clock=context.clock, ready=context.ready, stop=context.stop)


async def checkout(settings: Settings, context: Context) -> None:
    """The payment page and the way to the issuer's challenge, on an origin of their own."""
    async with AsyncExitStack() as stack:
        rooms = await Rooms.open(stack, settings, context, pools=_pools(settings, "checkout"))
        await rooms.waiting.start()
        stack.push_async_callback(rooms.waiting.close)
        services = Checkout(
            orders=rooms.orders, merchants=rooms.merchants, velocity=Velocity(rooms.clock), keys=rooms.keys, clock=rooms.clock,
            ids=rooms.ids, proxies=settings.proxies,
        )  # fmt: skip
        listener = context.sockets.get("checkout") or listen_on(settings.host, settings.ports.checkout)
        app = Page(services, ChallengeWay(rooms.payments))
        await serve_http(app, listener, clock=context.clock, ready=context.ready, stop=context.stop)


async def _while_sound(guard: ClockGuard, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do the work for as long as the clock can be believed, and again when it can be again."""
    while True:
        await guard.until(sound=True)
        working = asyncio.ensure_future(work())
        wrong = asyncio.ensure_future(guard.until(sound=False))
        try:
            await asyncio.wait({working, wrong}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
        finally:
            for task in (working, wrong):
                task.cancel()
            await asyncio.gather(working, wrong, return_exceptions=True)


async def _until_told(context: Context, work: Coroutine[Any, Any, None]) -> None:
    """Work until the role is told to stop, or until the work ends by itself, which is an error."""
    working = asyncio.ensure_future(work)
    told = asyncio.ensure_future(context.stop.wait())
    try:
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, told):
            task.cancel()
        await asyncio.gather(working, told, return_exceptions=True)


ROLES: Final[Mapping[str, Body]] = {
    "vault": vault, "network": network, "executor": executor, "worker": worker, "api": api, "checkout": checkout,
}  # fmt: skip
"""What `guilder up` and `guilder run` can start."""

NEED_DATABASE: Final = frozenset({"api", "vault", "executor", "worker", "checkout"})

SOCKETS: Final[Mapping[str, Sequence[str]]] = {"api": ("api",), "checkout": ("checkout",), "network": ("network_http", "network_iso")}
"""Which of the ports each role listens on; the supervisor opens them, so that no caller is refused during a restart."""


def counts(settings: Settings) -> dict[str, int]:
    """How many processes of each role `guilder up` starts."""
    return {role: settings.api_processes if role == "api" else 1 for role in ROLES}
