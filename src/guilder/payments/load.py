"""Loading what `expand` asks for: objects of several rooms by their ids, for one account and mode."""

from collections.abc import Awaitable, Callable, Collection, Mapping

from guilder.customers import Customers, PaymentMethods
from guilder.db import Connection, Database
from guilder.payments.answers import Load
from guilder.payments.read import charges_by_id, payments_by_id, refunds_by_id, refunds_of_charges
from guilder.shapes.facts import BalanceTransactionFacts, Facts

Entries = Callable[[str, bool, Collection[str]], Awaitable[Mapping[str, BalanceTransactionFacts]]]
"""(account, livemode, ids) -> the balance transactions that exist, by id."""


class Loader:
    """Gives the loader of an account and mode. One per process; holds nothing.

    Args:
        entries: the wallet's balance transactions by id.
    """

    def __init__(self, db: Database, customers: Customers, methods: PaymentMethods, entries: Entries) -> None:
        self._db = db
        self._customers = customers
        self._methods = methods
        self._entries = entries

    def __call__(self, account: str, livemode: bool, connection: Connection | None = None) -> Load:
        """Loads (object, id) pairs; what does not exist for this account and mode is left out.

        Args:
            connection: the caller's open transaction, which must be used inside it: whoever holds one connection and
                waits for another can wait for ever.
        """

        async def load(wanted: set[tuple[str, str]]) -> Mapping[str, Facts]:
            by_kind: dict[str, list[str]] = {}
            for kind, id_ in sorted(wanted):
                by_kind.setdefault(kind, []).append(id_)
            found: dict[str, Facts] = {}
            for kind, ids in by_kind.items():
                found.update(await self._one_kind(kind, ids, account, livemode, connection))
            return found

        return load

    async def _one_kind(
        self,
        kind: str,
        ids: list[str],
        account: str,
        livemode: bool,
        connection: Connection | None,
    ) -> Mapping[str, Facts]:
        through = connection or self._db
        found: Mapping[str, Facts] = {}
        match kind:
            case "payment_intent":
                found = await payments_by_id(through, account, livemode, ids)
            case "charge":
                found = await charges_by_id(through, account, livemode, ids)
            case "refund":
                found = await refunds_by_id(through, account, livemode, ids)
            case "charge.refunds":
                found = await refunds_of_charges(through, account, livemode, [id_.partition(":")[2] for id_ in ids])
            case "customer":
                found = await self._customers.load(account, ids, livemode=livemode, connection=connection)
            case "payment_method":
                found = await self._methods.load(account, ids, livemode=livemode, connection=connection)
            case "balance_transaction":
                # Never inside a transaction: only payments point to balance transactions.
                found = await self._entries(account, livemode, ids)
        return found
