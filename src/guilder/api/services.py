"""What the handlers work with; built once per process by bootstrap."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.customers import Customers, PaymentMethods, Personal, is_test_token, load_payment_methods, why_unusable
from guilder.db import Coalescer, Database
from guilder.db.replica import Replica
from guilder.ledger.product import Books
from guilder.merchants.merchants import Merchants
from guilder.orders import Services as Orders
from guilder.payments.load import Loader
from guilder.payments.services import Services as Payments
from guilder.psp import ReadNotification
from guilder.security import PurposeKeys
from guilder.shapes.facts import PaymentMethodFacts
from guilder.terminal import Terminal
from guilder.vault import VaultClient
from guilder.webhooks import Deliveries, Endpoints

# PaymentMethods that one statement reads for concurrent requests.
READ_MAX: Final = 100


class Services:
    """The dependencies of the handlers.

    Args:
        db: for reads and for the small transactions off the hot path.
        hot: for the reads on the way of every payment; its plans need no statistics.
        load: loads what `expand` asks for.
        payments: the dependencies of the verbs of payments.
        books: the ledger as a product of its own.
        orders: the dependencies of the verbs of orders.
        terminal: the readers at the merchants' tills.
        notifications: how those of each connector are read, by its name.
        replica: where lists may be read, None without one.
        must_be_writable: raises Unavailable while nothing may be stored; asked before anything but a read.
    """

    def __init__(
        self, *, db: Database, hot: Database, clock: Clock, ids: Ids, keys: PurposeKeys, merchants: Merchants, vault: VaultClient,
        customers: Customers, methods: PaymentMethods, personal: Personal, payments: Payments, books: Books, orders: Orders, load: Loader,
        endpoints: Endpoints, deliveries: Deliveries, terminal: Terminal, notifications: Mapping[str, ReadNotification],
        replica: Replica | None = None, must_be_writable: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.db = db
        self._hot = hot
        self.clock = clock
        self.ids = ids
        self.merchants = merchants
        self.authenticate = merchants.authenticate
        self.fingerprint = keys.fingerprint
        self.card_fingerprints = vault.fingerprint
        self.customers = customers
        self.methods = methods
        self.personal = personal
        self.payments = payments
        self.books = books
        self.orders = orders
        self.load = load
        self.endpoints = endpoints
        self.deliveries = deliveries
        self.terminal = terminal
        self.notifications = notifications
        self.replica = replica
        self.must_be_writable = must_be_writable
        self._read: Coalescer[tuple[str, bool, str], PaymentMethodFacts | None] = Coalescer(
            self._load_methods,
            limit=READ_MAX,
            keys=lambda _item: (),
        )

    async def close(self) -> None:
        """Finish the reads that are under way."""
        await self._read.close()

    async def payment_method(
        self, account: str, id_: str, *, livemode: bool, param: str = "payment_method"
    ) -> PaymentMethodFacts:
        """The PaymentMethod that a parameter names, for use: a stored one, or a new one for a test token.

        Concurrent requests share one statement. Raises Refusal (400) for one that does not exist or was detached.
        """
        if is_test_token(id_):
            return await self.methods.obtain(account, id_, livemode=livemode, param=param)
        found = await self._read.submit((account, livemode, id_))
        if found is None:
            raise await why_unusable(self.db, account, id_, livemode=livemode, param=param)
        return found

    async def _load_methods(self, wanted: Sequence[tuple[str, bool, str]]) -> list[PaymentMethodFacts | None]:
        """One statement for each merchant and mode: what comes back is told apart by id alone."""
        ids: dict[tuple[str, bool], set[str]] = {}
        for account, livemode, id_ in wanted:
            ids.setdefault((account, livemode), set()).add(id_)
        found = {
            (account, livemode): await load_payment_methods(self._hot, [(account, livemode, id_) for id_ in sorted(of_merchant)])
            for (account, livemode), of_merchant in ids.items()
        }
        return [found[account, livemode].get(id_) for account, livemode, id_ in wanted]
