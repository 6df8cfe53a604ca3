"""The only place that builds objects and wires them: what is prepared before a start, and the body of each role.

A body builds what it needs inside its own loop, says that it is ready, and returns when it is told to stop.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from guilder.config import Settings
from guilder.core.clock import SystemClock
from guilder.core.ids import Ids
from guilder.db import Database, installation, schema
from guilder.folder import Sandbox, read_sandbox, write_private
from guilder.merchants import Merchants
from guilder.network import NetworkSettings, serve
from guilder.role import Body, Context, run_in_loop
from guilder.security import FileKeyProvider, PurposeKeys, make_key_file
from guilder.vault import Vault, VaultServer, listen

APP_ROLE: Final = "guilder_app"
VAULT_ROLE: Final = "guilder_vault"

# Connections of each process; all of `guilder up` may have 16 (DESIGN section 11).
VAULT_CONNECTIONS: Final = 1
PREPARE_CONNECTIONS: Final = 1

SANDBOX_NAME: Final = "Sandbox"


def prepare(settings: Settings) -> None:
    """Everything between a running database and the first role: schema, keys, generation, sandbox merchant.

    Runs in a short-lived child of the supervisor. Safe to repeat.
    """
    run_in_loop(_prepare(settings))


async def _prepare(settings: Settings) -> None:
    dsn = address(settings)
    if not await schema.is_current(dsn):
        # Imported only where there is something to do: it costs 280 ms and 50 MB.
        from guilder.db.migrate import migrate  # noqa: PLC0415

        ran = await migrate(dsn)
        structlog.get_logger().info("migrated", count=len(ran))
    for file in (settings.master_key_file, settings.app_key_file):
        make_key_file(file)
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


def address(settings: Settings) -> str:
    """The database's address; there is one by the time anything is built."""
    if settings.database_url is None:
        raise ValueError("no database: set GUILDER_DATABASE_URL, or use `guilder up`, which brings one")
    return settings.database_url


async def check(settings: Settings) -> None:
    """Raise WrongSchema unless the database has this version's schema: `run` only looks, `up` and `migrate` change it."""
    await schema.check(address(settings))


@asynccontextmanager
async def merchants(settings: Settings) -> AsyncIterator[Merchants]:
    """The merchants, for a command."""
    clock = SystemClock(settings.clock_file)
    database = await Database.connect(address(settings), role=APP_ROLE, max_size=1, name="command")
    try:
        yield Merchants(database, PurposeKeys.of_file(settings.app_key_file), clock, Ids(clock))
    finally:
        await database.close()


async def vault(settings: Settings, context: Context) -> None:
    """The vault: alone holds the master key and, in memory, the CVCs."""
    async with AsyncExitStack() as stack:
        database = await _pool(stack, settings, "vault", role=VAULT_ROLE, max_size=VAULT_CONNECTIONS)
        server = VaultServer(Vault(database, FileKeyProvider(settings.master_key_file), context.clock), listen(settings.vault_socket))
        stack.push_async_callback(server.close)
        await server.start()
        context.ready()
        await context.stop.wait()


async def network(settings: Settings, context: Context) -> None:
    """The sandbox bank world; it knows nothing of the rest."""
    bank = NetworkSettings(
        data=settings.network_dir, host=settings.network_host, iso_port=settings.ports.network_iso, http_port=settings.ports.network_http,
        clock_file=settings.clock_file,
        iso_listener=context.sockets.get("network_iso"), http_listener=context.sockets.get("network_http"),
    )
    serving = asyncio.ensure_future(serve(bank, ready=lambda _addresses: context.ready(), clock=context.clock))
    told = asyncio.ensure_future(context.stop.wait())
    await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if context.stop.is_set():
        serving.cancel()
        await asyncio.wait({serving})
    else:
        await serving


async def _pool(
    stack: AsyncExitStack, settings: Settings, name: str, *, max_size: int, role: str = APP_ROLE, hot: bool = False,
) -> Database:
    database = await Database.connect(address(settings), role=role, max_size=max_size, hot=hot, name=name)
    stack.push_async_callback(database.close)
    return database


ROLES: Final[Mapping[str, Body]] = {"vault": vault, "network": network}
"""What `guilder up` and `guilder run` can start."""

NEED_DATABASE: Final = frozenset({"api", "vault", "executor", "worker"})

SOCKETS: Final[Mapping[str, Sequence[str]]] = {"api": ("api",), "network": ("network_http", "network_iso")}
"""Which of the ports each role listens on; the supervisor opens them, so that no caller is refused during a restart."""


def counts(settings: Settings) -> dict[str, int]:
    """How many processes of each role `guilder up` starts."""
    return {role: settings.api_processes if role == "api" else 1 for role in ROLES}
