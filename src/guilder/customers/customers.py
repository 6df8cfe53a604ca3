"""Customers: who a merchant knows. What is personal of them is in sealed records, of which they name the newest."""

from collections.abc import Collection
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from guilder.core.clock import Clock, epoch_seconds
from guilder.core.ensure import ensure
from guilder.core.errors import missing
from guilder.core.ids import Ids
from guilder.customers import store
from guilder.customers.model import CUSTOMER_FIELDS, Change, CreateCustomer, CustomerCreated, CustomerDeleted, UpdateCustomer
from guilder.customers.payment_methods import PaymentMethods
from guilder.customers.personal import Personal
from guilder.customers.rules import not_of_customer
from guilder.db import Connection, Database
from guilder.db.pages import Page, fetch_page
from guilder.security import PurposeKeys
from guilder.shapes.facts import CustomerFacts
from guilder.shapes.metadata import merged

DEFAULT_PARAM: Final = "invoice_settings[default_payment_method]"
# Eight characters of 32: what Stripe draws for a customer that brings none. Not unique, only unlikely to meet.
PREFIX_CHARACTERS: Final = 8
PREFIX_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Customers:
    """Makes, changes and finds customers. One per process."""

    def __init__(
        self, db: Database, methods: PaymentMethods, personal: Personal, keys: PurposeKeys, clock: Clock, ids: Ids,
    ) -> None:
        self._db = db
        self._methods = methods
        self._personal = personal
        self._keys = keys
        self._clock = clock
        self._ids = ids

    async def create(self, connection: Connection, account: str, command: CreateCustomer, *, livemode: bool) -> CustomerCreated:
        """Make a customer. Announce customer.created, and payment_method.attached when one was attached with it.

        Raises Refusal (400): the PaymentMethod does not exist, is another customer's, was detached; the default is not that one.
        """
        ensure(command.personal.keys() <= CUSTOMER_FIELDS, "unknown personal fields", fields=sorted(command.personal))
        default = command.default_payment_method
        if default is not None and default != command.payment_method:
            raise not_of_customer(default, DEFAULT_PARAM)
        now = self._clock.now()
        customer = CustomerFacts(
            id=self._ids.new("cus"),
            livemode=livemode,
            created=epoch_seconds(now),
            personal=await self._personal.keep(account, command.personal, livemode=livemode, connection=connection),
            metadata=command.metadata,
            default_payment_method=default,
            invoice_prefix=command.invoice_prefix or self._prefix(),
        )
        lookup = self._lookup(account, command.personal.get("email"), livemode=livemode)
        await store.insert_customer(connection, account, customer, email_lookup=lookup, now=now)
        if command.payment_method is None:
            return CustomerCreated(customer)
        if await store.lock_method(connection, account, command.payment_method, livemode=livemode) is None:
            raise missing("PaymentMethod", command.payment_method, param="payment_method")
        attached = await self._methods.attach(connection, account, command.payment_method, customer.id, livemode=livemode)
        return CustomerCreated(customer, attached.payment_method)

    async def update(
        self, connection: Connection, account: str, command: UpdateCustomer, *, livemode: bool,
    ) -> Change[CustomerFacts]:
        """Change a customer. Announce customer.updated when something changed.

        Raises Refusal: no such customer (404); the default is not attached to it, too much metadata (400).
        """
        ensure(command.personal.keys() <= CUSTOMER_FIELDS, "unknown personal fields", fields=sorted(command.personal))
        before = await store.lock_customer(connection, account, command.customer, livemode=livemode)
        if before is None or before.deleted:
            raise missing("customer", command.customer)
        default = command.default_payment_method
        if default is UNSET:
            default = before.default_payment_method
        elif default is not None:
            await self._check_default(connection, before.id, default)
        after = replace(
            before,
            personal=await self._personal.changed(
                account, before.personal, command.personal, livemode=livemode, connection=connection,
            ),
            metadata=merged(before.metadata, command.metadata),
            default_payment_method=default,
        )
        if after != before:
            await store.update_customer(
                connection,
                after,
                email_lookup=self._lookup(account, command.personal.get("email"), livemode=livemode),
                email_changes="email" in command.personal,
            )
        return Change(before, after)

    async def delete(self, connection: Connection, account: str, id_: str, *, livemode: bool) -> CustomerDeleted:
        """Delete a customer; it stays as a name for what it paid. Announce customer.deleted and payment_method.detached.

        Raises Refusal (404): there is none, or it is deleted already.
        """
        before = await store.lock_customer(connection, account, id_, livemode=livemode)
        if before is None or before.deleted:
            raise missing("customer", id_)
        attached = await store.delete_customer(connection, id_, self._clock.now())
        return CustomerDeleted(
            before,
            replace(before, deleted=True, default_payment_method=None),
            tuple(replace(method, customer=None) for method in attached),
        )

    async def retrieve(self, account: str, id_: str, *, livemode: bool, param: str | None = None) -> CustomerFacts:
        """A customer; a deleted one says so. Raises Refusal: 404, or 400 when the id came as the named parameter."""
        found = (await self.load(account, [id_], livemode=livemode)).get(id_)
        if found is None:
            raise missing("customer", id_, param=param)
        return found

    async def require(self, account: str, id_: str, *, livemode: bool, param: str = "customer") -> CustomerFacts:
        """A customer that is not deleted, for a parameter that names one. Raises Refusal (400)."""
        found = await self.retrieve(account, id_, livemode=livemode, param=param)
        if found.deleted:
            raise missing("customer", id_, param=param)
        return found

    async def email(self, account: str, id_: str, *, livemode: bool) -> str | None:
        """A customer's mail address; None where it has none, also when the customer is deleted or was never there."""
        found = (await self.load(account, [id_], livemode=livemode)).get(id_)
        if found is None or found.deleted:
            return None
        return (await self._personal.open(account, found.personal, livemode=livemode)).get("email")

    async def load(
        self, account: str, ids: Collection[str], *, livemode: bool, connection: Connection | None = None,
    ) -> dict[str, CustomerFacts]:
        """The customers that exist, by id, deleted ones too: for `expand`."""
        return await store.select_customers(connection or self._db, account, ids, livemode=livemode)

    async def list(
        self, account: str, page: Page, *, livemode: bool, email: str | None = None,
    ) -> tuple[list[CustomerFacts], bool]:
        """A page of customers, newest first, and whether there are more. `email` must match to the letter.

        Raises Refusal (400) for a wrong cursor.
        """
        where: list[tuple[str, object]] = [("(deleted_at IS NULL AND ?)", True)]
        if email is not None:
            where.append(("email_lookup = ?", self._lookup(account, email, livemode=livemode)))
        rows, more = await fetch_page(self._db, store.CUSTOMERS, page, account=account, livemode=livemode, where=where)
        return [store.customer_of(row) for row in rows], more

    async def _check_default(self, connection: Connection, customer: str, method: str) -> None:
        found = (await store.select_methods(connection, [method])).get(method)
        if found is None or found.facts.customer != customer:
            raise not_of_customer(method, DEFAULT_PARAM)

    def _lookup(self, account: str, email: object, *, livemode: bool) -> bytes | None:
        return self._keys.lookup("email", account, str(livemode), str(email)) if email else None

    def _prefix(self) -> str:
        bits = self._ids.bits(5 * PREFIX_CHARACTERS)
        return "".join(PREFIX_ALPHABET[(bits >> shift) & 31] for shift in range(0, 5 * PREFIX_CHARACTERS, 5))
