"""The only place that builds objects and wires them: what is prepared before a start, and the body of each role.

A body builds what it needs inside its own loop, says that it is ready, and returns when it is told to stop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog

from guilder import kafka
from guilder.api.app import Api
from guilder.api.openapi import document
from guilder.api.routes import registry
from guilder.api.services import Services
from guilder.challenge import ChallengeWay, PageWay
from guilder.checkout import Page
from guilder.checkout import Services as Checkout
from guilder.config import Settings
from guilder.core.clock import SystemClock
from guilder.core.ids import Ids
from guilder.db import Database, installation, schema
from guilder.db.guard import Guard
from guilder.db.replica import Replica
from guilder.db.sender import Sender, tidy_senders
from guilder.folder import Sandbox, listen_on, one_at_a_time, read_sandbox, webpsp_account, write_private
from guilder.http_server import serve_http
from guilder.idempotency import tidy_keys
from guilder.jobs import Job, run_jobs
from guilder.ledger.book import Ledger
from guilder.ledger.expire import run_once as expire_transfers
from guilder.ledger.product import Books
from guilder.log import BATCH_MAX, TOPIC_EVENTS, Consumer, Handle, Outbox, hold_partitions, tidy_log
from guilder.log.dead_letters import Letters
from guilder.log.manage import begin_stream
from guilder.merchants import Merchants
from guilder.merchants.store import live_mode_in_use as is_live
from guilder.metrics import Metrics
from guilder.network import NetworkSettings, WebMerchant, serve
from guilder.orders import attend_sessions, note_payments
from guilder.orders.attend import CONSUMER as ORDERS
from guilder.payments import expire_authorizations, expire_challenges, note_money, note_waiting, offer_refunds
from guilder.payments.execute import ROLE as EXECUTOR_ROLE
from guilder.payments.execute import Executor
from guilder.payments.offer import CONSUMER as REFUNDS
from guilder.payments.ways import Ways
from guilder.psp.announce import Announcer
from guilder.psp.connectors import webpsp
from guilder.psp.connectors.configured import Configured, connectors, notification_readers, routes, rules
from guilder.psp.exposed import expose
from guilder.psp.measure import Measures
from guilder.psp.notifications import tidy_notifications
from guilder.psp.store import LatencyKeeper
from guilder.risk import Velocity
from guilder.role import Body, Context, run_in_loop, until_told
from guilder.rooms import APP_ROLE, READER_ROLE, VAULT_ROLE, Pools, Rooms, address, pool
from guilder.security import FileKeyProvider, PurposeKeys, Secret, make_key_file
from guilder.terminal import Terminal
from guilder.vault import Vault, VaultServer, listen
from guilder.wallet.announce import announce_available
from guilder.wallet.release import run_once as release_funds
from guilder.webhooks import Allowed, Deliveries, Endpoints
from guilder.webhooks.deliver import Deliverer
from guilder.webhooks.disable import disable_failing
from guilder.webhooks.fan_out import CONSUMER as WEBHOOKS
from guilder.webhooks.fan_out import FanOut
from guilder.webhooks.tidy import call_off, tidy_deliveries

# All of `guilder up` may have 16 connections (DESIGN section 11), so each further API process takes some from the others. The first
# connection of two that waits is the one that counts, so more would bring nothing.
PAGE: Final = Pools(plain=0, hot=1)
POOLS: Final[Mapping[int, Mapping[str, Pools]]] = {
    1: {"api": Pools(plain=1, hot=2), "executor": Pools(plain=2, hot=2), "worker": Pools(plain=0, hot=2), "checkout": PAGE},
    2: {"api": Pools(plain=1, hot=1), "executor": Pools(plain=1, hot=2), "worker": Pools(plain=0, hot=1), "checkout": PAGE},
    3: {"api": Pools(plain=0, hot=1), "executor": Pools(plain=1, hot=2), "worker": Pools(plain=0, hot=1), "checkout": PAGE},
    4: {"api": Pools(plain=0, hot=1), "executor": Pools(plain=0, hot=1), "worker": Pools(plain=0, hot=1), "checkout": PAGE},
}
"""By the number of API processes."""
BESIDE: Final[Mapping[str, int]] = {"api": 1, "executor": 2, "worker": 1, "checkout": 1}
"""What a process has besides its pools: listeners, and the beats of senders."""
VAULT_CONNECTIONS: Final = 1
PREPARE_CONNECTIONS: Final = 1
# Of each API process, at the replica.
REPLICA_CONNECTIONS: Final = 2

SANDBOX_NAME: Final = "Sandbox"

WORKER_ROLE: Final = "worker"


def prepare(settings: Settings) -> None:
    """Everything between a running database and the first role: schema, keys, generation, sandbox merchant.

    Runs in a short-lived child of the supervisor. Safe to repeat.
    """
    kafka.check(settings)
    run_in_loop(_prepare(settings))


async def _prepare(settings: Settings) -> None:
    dsn = address(settings)
    rules(settings)
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
            await begin_stream(database, ids)
        await _make_sandbox(settings, Merchants(database, PurposeKeys.of_file(settings.app_key_file), clock, ids))
    finally:
        await database.close()


def prepare_role(settings: Settings) -> None:
    """The same for `guilder run`, as far as one role may: the schema is only checked, keys and sandbox merchant are made.

    Several roles that start at the same moment do it one after the other. Raises WrongSchema.
    """
    kafka.check(settings)
    rules(settings)
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


def _pools(settings: Settings, role: str) -> Pools:
    return POOLS[settings.api_processes][role]


async def vault(settings: Settings, context: Context) -> None:
    """The vault: alone holds the master key and, in memory, the CVCs."""
    async with AsyncExitStack() as stack:
        database = await pool(stack, settings, "vault", role=VAULT_ROLE, max_size=VAULT_CONNECTIONS)
        keeper = Vault(database, FileKeyProvider(settings.master_key_file), context.clock)
        server = VaultServer(keeper, listen(settings.vault_socket))
        stack.push_async_callback(server.close)
        await server.start()
        context.ready()
        await context.stop.wait()


async def network(settings: Settings, context: Context) -> None:
    """The sandbox bank world; it knows nothing of the rest."""
    account = webpsp_account(settings, context.ids.secret)
    bank = NetworkSettings(
        data=settings.network_dir,
        host=settings.network_host,
        clock_file=settings.clock_file,
        iso_port=settings.ports.network_iso,
        http_port=settings.ports.network_http,
        iso_listener=context.sockets.get("network_iso"),
        http_listener=context.sockets.get("network_http"),
        web=WebMerchant(
            api_key=account.api_key, signing_secret=account.signing_secret, notify_url=f"{settings.api_url}/psp/{webpsp.NAME}",
        ),
    )
    await until_told(context, serve(bank, ready=lambda _addresses: context.ready(), clock=context.clock))


async def executor(settings: Settings, context: Context) -> None:
    """The only sender: claims, executes, resumes."""
    async with AsyncExitStack() as stack:
        rooms = await Rooms.open(stack, settings, context, pools=_pools(settings, "executor"), may_reveal=True)
        beats = await pool(stack, settings, "executor beat", max_size=1)
        executors: list[Executor] = []
        measured: dict[str, Measures] = {}

        def lost(before: str) -> None:
            executors[0].lost(before)
            context.leave_word(sender.id)

        sender = Sender(beats, rooms.clock, rooms.ids, role=EXECUTOR_ROLE, lost=lost)
        working = Executor(
            db=rooms.db, hot=rooms.hot, store=rooms.store, sender=sender, clock=rooms.clock, ids=rooms.ids, load=rooms.load,
            forget_cvc=rooms.vault.drop_cvc, checkout_url=settings.checkout_origin, log=kafka.log(settings, rooms.db, rooms.clock),
            risk=rooms.risk,
            ways=Ways(
                settings.tuning, rooms.clock, routes=routes(settings), rules=rules(settings),
                up=lambda name, operation: measured[name].is_up(operation, asyncio.get_running_loop().time()),
                lets_through=lambda name, operation: measured[name].lets_through(operation, asyncio.get_running_loop().time()),
            ),
        )  # fmt: skip
        executors.append(working)
        ways = connectors(
            settings, web_key=Secret(webpsp_account(settings, rooms.ids.secret).api_key), reveal=rooms.vault.reveal, clock=rooms.clock,
            ids=rooms.ids, late=working.late, recorder=working.record,
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
        await until_told(context, _while_sound(rooms, lambda: _execute(settings, rooms, working, ways, keeper)))
        await working.leave()


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
        beats = await pool(stack, settings, "worker beat", max_size=1)
        sender = Sender(beats, rooms.clock, rooms.ids, role=context.name, lost=lambda _before: context.leave_word(sender.id))
        await sender.start(context.predecessor)
        stack.push_async_callback(sender.close)
        context.leave_word(sender.id)
        context.ready()
        counting = asyncio.create_task(run_jobs([_counts_generations(settings, rooms)]))
        stack.callback(counting.cancel)
        await until_told(context, _while_sound(rooms, lambda: _work(settings, rooms, sender, context.metrics)))


def _counts_generations(settings: Settings, rooms: Rooms) -> Job:
    """Also in quarantine, so that the next look compares with the newest number."""

    async def raised() -> int:
        begun = await installation.raise_generation(rooms.db, settings.generation_file, rooms.clock)
        if begun.behind:
            await begin_stream(rooms.db, rooms.ids)
        return 0

    return Job("raise_generation", installation.RAISE_SECONDS, raised)


async def _work(settings: Settings, rooms: Rooms, sender: Sender, metrics: Metrics) -> None:
    """Everything that a worker does; ends only by cancellation."""

    async def personal(account: str, ids: Collection[str], livemode: bool) -> Mapping[str, Mapping[str, Any]]:
        return await rooms.personal.open_many(account, ids, livemode=livemode)

    deliverer = Deliverer(
        db=rooms.db, sender=sender, clock=rooms.clock, ids=rooms.ids, keys=rooms.keys, personal=personal,
        allowed=webhooks_allowed(settings), role=WORKER_ROLE, retry=settings.tuning.policy("webhook"),
    )  # fmt: skip
    log = kafka.log(settings, rooms.db, rooms.clock) or Outbox(rooms.db)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:

        def consumer(name: str, handle: Handle) -> Consumer:
            opened = log.reader(name, TOPIC_EVENTS, lambda: sender.id)
            stack.push_async_callback(opened.close)
            return Consumer(
                rooms.db, rooms.clock, rooms.ids, reader=opened, handle=handle, retry=settings.tuning.policy("consumer"),
            )  # fmt: skip

        deliverer.traffic.expose(metrics)
        jobs = (*_jobs(rooms, sender, consumer, metrics), *_webhook_jobs(rooms, sender, deliverer, consumer))
        group.create_task(deliverer.run())
        group.create_task(run_jobs(jobs))


def _webhook_jobs(rooms: Rooms, sender: Sender, deliverer: Deliverer, consume: Callable[[str, Handle], Consumer]) -> Sequence[Job]:
    db, clock, ids = rooms.db, rooms.clock, rooms.ids
    consumer = consume(WEBHOOKS, FanOut(clock).handle)

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
        Job("count_deliveries", 10.0, deliverer.traffic.run_once),
        Job("call_off_deliveries", 1.0, lambda: call_off(db)),
        Job("tidy_deliveries", 60.0, lambda: tidy_deliveries(db, clock.now())),
    )


def _jobs(rooms: Rooms, sender: Sender, consume: Callable[[str, Handle], Consumer], metrics: Metrics) -> Sequence[Job]:
    db, clock, ids = rooms.db, rooms.clock, rooms.ids
    consumer = consume(REFUNDS, note_money)
    news = consume(ORDERS, note_payments(clock))

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
        Job("tidy_notifications", 60.0, lambda: tidy_notifications(db, clock.now())),
        Job("tidy_senders", 60.0, lambda: tidy_senders(db, clock.now())),
    )


def _replica(stack: AsyncExitStack, settings: Settings) -> Replica | None:
    """The replica that lists may be read from, closed with the stack."""
    if settings.replica_url is None:
        return None
    db = Database.later(settings.replica_url, role=APP_ROLE, max_size=REPLICA_CONNECTIONS, name="api replica")
    stack.push_async_callback(db.close)
    return Replica(db)


async def _begin_to_accept(stack: AsyncExitStack, rooms: Rooms) -> None:
    """What a process needs that accepts payments: to hear of outcomes, and to know when the log takes no more."""
    await rooms.waiting.start()
    stack.push_async_callback(rooms.waiting.close)
    await rooms.backlog.start()
    stack.push_async_callback(rooms.backlog.close)


async def api(settings: Settings, context: Context) -> None:
    """The HTTP API."""
    async with AsyncExitStack() as stack:
        rooms = await Rooms.open(stack, settings, context, pools=_pools(settings, "api"))
        await _begin_to_accept(stack, rooms)
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
            notifications=notification_readers(Secret(webpsp_account(settings, rooms.ids.secret).signing_secret)),
            replica=_replica(stack, settings),
            must_be_writable=rooms.quarantine.refuse,
        )
        stack.push_async_callback(services.close)
        routes = registry()
        listener = context.sockets.get("api") or listen_on(settings.host, settings.ports.api)
        app = Api(services, routes, document(routes))
        app.answered.expose(context.metrics)
        await serve_http(app, listener, clock=context.clock, ready=context.ready, stop=context.stop)


async def checkout(settings: Settings, context: Context) -> None:
    """The payment page and the way to the issuer's challenge, on an origin of their own."""
    async with AsyncExitStack() as stack:
        rooms = await Rooms.open(stack, settings, context, pools=_pools(settings, "checkout"))
        await _begin_to_accept(stack, rooms)
        services = Checkout(
            orders=rooms.orders, customers=rooms.customers, merchants=rooms.merchants, velocity=Velocity(rooms.clock), keys=rooms.keys,
            clock=rooms.clock, ids=rooms.ids, proxies=settings.proxies, must_be_writable=rooms.quarantine.refuse,
        )  # fmt: skip
        listener = context.sockets.get("checkout") or listen_on(settings.host, settings.ports.checkout)
        app = Page(services, ChallengeWay(rooms.payments), PageWay(rooms.payments))
        app.answered.expose(context.metrics)
        await serve_http(app, listener, clock=context.clock, ready=context.ready, stop=context.stop)


async def _while_sound(rooms: Rooms, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do the work for as long as clock and database can be believed, and again when they can be again."""
    guards: Sequence[Guard] = (rooms.guard, rooms.quarantine)
    while True:
        for guard in guards:
            await guard.until(sound=True)
        if not all(guard.sound for guard in guards):
            continue
        working = asyncio.ensure_future(work())
        wrong = [asyncio.ensure_future(guard.until(sound=False)) for guard in guards]
        try:
            await asyncio.wait({working, *wrong}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
        finally:
            for task in (working, *wrong):
                task.cancel()
            await asyncio.gather(working, *wrong, return_exceptions=True)


ROLES: Final[Mapping[str, Body]] = {
    "vault": vault, "network": network, "relay": kafka.relay, "executor": executor, "worker": worker, "api": api, "checkout": checkout,
}  # fmt: skip
"""What `guilder up` and `guilder run` can start."""

NEED_DATABASE: Final = frozenset({"api", "vault", "relay", "executor", "worker", "checkout"})

SOCKETS: Final[Mapping[str, Sequence[str]]] = {"api": ("api",), "checkout": ("checkout",), "network": ("network_http", "network_iso")}
"""Which of the ports each role listens on; the supervisor opens them, so that no caller is refused during a restart."""


def counts(settings: Settings) -> dict[str, int]:
    """How many processes of each role `guilder up` starts."""
    special = {"api": settings.api_processes, "relay": 0 if settings.kafka is None else 1}
    return {role: special.get(role, 1) for role in ROLES}
