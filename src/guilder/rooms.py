"""Rooms: the objects that the roles which work on payments share, and their connections to the database.

Built by bootstrap, once in each process, and closed in the reverse order.
"""

from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from typing import Final

from msgspec import Struct

from guilder.config import Settings
from guilder.core.clock import Clock, SystemClock
from guilder.core.errors import Unavailable, missing
from guilder.core.ids import Ids
from guilder.customers import Customers, PaymentMethods, Personal, load_payment_methods
from guilder.db import Database
from guilder.db.clock_guard import ClockGuard
from guilder.db.quarantine import Quarantine
from guilder.ledger.accounts import Accounts
from guilder.log import Backlog
from guilder.merchants import Caller, Merchants, Terms
from guilder.orders import Services as Orders
from guilder.payments.load import Loader
from guilder.payments.services import ExternalRisk
from guilder.payments.services import Services as Payments
from guilder.payments.store import Store
from guilder.payments.waiting import Waiting
from guilder.psp.connectors.configured import routes, rules
from guilder.risk import HttpRiskService, SignalSource
from guilder.role import Context
from guilder.security import PurposeKeys
from guilder.shapes.facts import BalanceTransactionFacts, PaymentMethodFacts
from guilder.vault import VaultClient
from guilder.wallet.chart import Chart
from guilder.wallet.store import balance_transactions

APP_ROLE: Final = "guilder_app"
VAULT_ROLE: Final = "guilder_vault"
READER_ROLE: Final = "guilder_reader"


class Pools(Struct, frozen=True, kw_only=True):
    """How many connections a process has: for plain statements, and for the hot ones. With 0 of one kind the other serves both."""

    plain: int
    hot: int


def address(settings: Settings) -> str:
    """The database's address; there is one by the time anything is built."""
    if settings.database_url is None:
        raise ValueError("no database: set GUILDER_DATABASE_URL, or use `guilder up`, which brings one")
    return settings.database_url


async def pool(
    stack: AsyncExitStack, settings: Settings, name: str, *, max_size: int, role: str = APP_ROLE, hot: bool = False,
) -> Database:
    """Connections to the database, closed with the stack."""
    database = await Database.connect(address(settings), role=role, max_size=max_size, hot=hot, name=name)
    stack.push_async_callback(database.close)
    return database


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
        self.quarantine = Quarantine(db)
        self.vault = VaultClient(settings.vault_socket, may_reveal=may_reveal)
        self.merchants = GuardedMerchants(self.guard, db, keys, clock, ids)
        self.personal = Personal(db, keys, clock, ids)
        self.methods = PaymentMethods(db, self.vault, self.personal, clock, ids, raw_cards_live=settings.raw_cards_live)
        self.customers = Customers(db, self.methods, self.personal, keys, clock, ids)
        self.accounts = Accounts(db, clock, ids, Chart(self._overdraft_units).opening)
        self.store = Store(db, hot, self.accounts, clock)
        self.load = Loader(db, self.customers, self.methods, self._entries)
        self.waiting = Waiting(hot)
        self.backlog = Backlog(db, settings.outbox_max)
        self.risk = risk_service(settings, ids, clock)
        self.payments = Payments(
            db=db,
            store=self.store,
            waiting=self.waiting,
            clock=clock,
            ids=ids,
            terms=self._terms,
            routes=routes(settings),
            rules=rules(settings),
            signals=SignalSource(clock),
            load=self.load,
            payment_method=self._payment_method,
            checkout_url=settings.checkout_origin,
            backlog=self.backlog,
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
        hot = await pool(stack, settings, f"{context.name} hot", max_size=pools.hot, hot=True) if pools.hot else None
        db = await pool(stack, settings, context.name, max_size=pools.plain) if hot is None or pools.plain else hot
        rooms = cls(settings, context, db=db, hot=hot or db, may_reveal=may_reveal)
        stack.push_async_callback(rooms.vault.close)
        stack.push_async_callback(rooms.methods.close)
        stack.push_async_callback(rooms.store.close)
        if rooms.risk is not None:
            stack.push_async_callback(rooms.risk.close)
            rooms.risk.expose(context.metrics)
        for guard in (rooms.guard, rooms.quarantine):
            await guard.start()
            stack.push_async_callback(guard.close)
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


def risk_service(settings: Settings, ids: Ids, clock: Clock) -> HttpRiskService | None:
    """The external risk service, where one is configured."""
    risk = settings.tuning.risk
    return None if risk.url is None else HttpRiskService(risk, settings.tuning.policy("risk-ask"), ids, clock)
