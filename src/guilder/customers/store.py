"""The SQL of customers and PaymentMethods. No other file touches these two tables."""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from guilder.core.clock import Micros, epoch_seconds
from guilder.customers.model import Prepared
from guilder.db import Connection, Database, Record
from guilder.db.pages import Listing
from guilder.shapes.facts import CardFacts, CustomerFacts, Metadata, PaymentMethodFacts

_CUSTOMER: Final = "id, livemode, created_at, personal, metadata, default_payment_method, invoice_prefix, deleted_at"
_METHOD: Final = "id, account, livemode, card, customer, billing, metadata, allow_redisplay, created_at, detached_at"

CUSTOMERS: Final = Listing(table="customer", columns=_CUSTOMER, kind="customer")
PAYMENT_METHODS: Final = Listing(table="payment_method", columns=_METHOD, kind="PaymentMethod")

INSERT_CUSTOMER: Final = """
INSERT INTO customer (id, account, livemode, personal, email_lookup, metadata, default_payment_method, invoice_prefix, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
# The customers of some ids for one merchant and mode, deleted ones too.
SELECT_CUSTOMERS: Final = f"SELECT {_CUSTOMER} FROM customer WHERE id = ANY($1) AND account = $2 AND livemode = $3"

# Held by whoever changes a customer or what is attached to it; always taken before its PaymentMethods' locks.
LOCK_CUSTOMER: Final = f"SELECT {_CUSTOMER} FROM customer WHERE id = $1 AND account = $2 AND livemode = $3 FOR UPDATE"
UPDATE_CUSTOMER: Final = """
UPDATE customer SET personal = $2, email_lookup = CASE WHEN $6 THEN $3 ELSE email_lookup END, metadata = $4,
    default_payment_method = $5
WHERE id = $1
"""
DELETE_CUSTOMER: Final = """
UPDATE customer SET deleted_at = $2, email_lookup = NULL, default_payment_method = NULL WHERE id = $1
"""

# Many PaymentMethods at once. A repeated id is the same one: the insertion may be run again after a lost answer.
INSERT_METHODS: Final = """
INSERT INTO payment_method (id, account, livemode, card, billing, metadata, allow_redisplay, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::bytea[], $5::text[], $6::bytea[], $7::text[], $8::bigint[])
ON CONFLICT (id) DO NOTHING
"""
# Of any merchants: the caller compares.
SELECT_METHODS: Final = f"SELECT {_METHOD} FROM payment_method WHERE id = ANY($1)"
LOCK_METHOD: Final = f"SELECT {_METHOD} FROM payment_method WHERE id = $1 AND account = $2 AND livemode = $3 FOR UPDATE"
UPDATE_METHOD: Final = "UPDATE payment_method SET card = $2, billing = $3, metadata = $4, allow_redisplay = $5 WHERE id = $1"
ATTACH: Final = """
UPDATE payment_method SET customer = $2, attached_at = $3 WHERE id = $1 AND customer IS NULL AND detached_at IS NULL
"""
DETACH: Final = "UPDATE payment_method SET customer = NULL, detached_at = $2 WHERE id = $1 AND customer IS NOT NULL"
# All of a customer's, when it is deleted; locked in the order of their ids.
LOCK_METHODS_OF: Final = f"SELECT {_METHOD} FROM payment_method WHERE customer = $1 ORDER BY id FOR UPDATE"
DETACH_ALL: Final = "UPDATE payment_method SET customer = NULL, detached_at = $2 WHERE customer = $1"

_pack = msgspec.msgpack.encode
_metadata: msgspec.msgpack.Decoder[Metadata] = msgspec.msgpack.Decoder(Metadata)
_card: msgspec.msgpack.Decoder[CardFacts] = msgspec.msgpack.Decoder(CardFacts)


class StoredMethod(Struct, frozen=True):
    """A PaymentMethod as stored: whose it is, and whether it was detached and so cannot be used any more."""

    account: str
    facts: PaymentMethodFacts
    is_detached: bool


def customer_of(row: Record) -> CustomerFacts:
    """A row as facts."""
    return CustomerFacts(
        id=row["id"],
        livemode=row["livemode"],
        created=epoch_seconds(row["created_at"]),
        personal=row["personal"],
        metadata=_metadata.decode(row["metadata"]),
        default_payment_method=row["default_payment_method"],
        invoice_prefix=row["invoice_prefix"],
        deleted=row["deleted_at"] is not None,
    )


def method_of(row: Record) -> StoredMethod:
    """A row as facts."""
    facts = PaymentMethodFacts(
        id=row["id"],
        livemode=row["livemode"],
        created=epoch_seconds(row["created_at"]),
        card=_card.decode(row["card"]),
        customer=row["customer"],
        billing=row["billing"],
        metadata=_metadata.decode(row["metadata"]),
        allow_redisplay=row["allow_redisplay"],
    )
    return StoredMethod(row["account"], facts, row["detached_at"] is not None)


async def insert_customer(
    connection: Connection, account: str, customer: CustomerFacts, *, email_lookup: bytes | None, now: Micros,
) -> None:
    """Store a new customer."""
    await connection.execute(
        INSERT_CUSTOMER, customer.id, account, customer.livemode, customer.personal, email_lookup, _pack(customer.metadata),
        customer.default_payment_method, customer.invoice_prefix, now,
    )  # fmt: skip


async def select_customers(
    through: Connection | Database, account: str, ids: Collection[str], *, livemode: bool,
) -> dict[str, CustomerFacts]:
    """The customers that this merchant and mode has, by id, deleted ones too."""
    rows = await through.fetch(SELECT_CUSTOMERS, list(ids), account, livemode)
    return {row["id"]: customer_of(row) for row in rows}


async def lock_customer(connection: Connection, account: str, id_: str, *, livemode: bool) -> CustomerFacts | None:
    """A customer, deleted or not, that stays as it is until the transaction ends; None when there is none."""
    row = await connection.fetchrow(LOCK_CUSTOMER, id_, account, livemode)
    return None if row is None else customer_of(row)


async def update_customer(
    connection: Connection, customer: CustomerFacts, *, email_lookup: bytes | None, email_changes: bool,
) -> None:
    """Store what may change of a locked customer."""
    await connection.execute(
        UPDATE_CUSTOMER, customer.id, customer.personal, email_lookup, _pack(customer.metadata), customer.default_payment_method,
        email_changes,
    )  # fmt: skip


async def delete_customer(connection: Connection, id_: str, now: Micros) -> tuple[PaymentMethodFacts, ...]:
    """Mark a locked customer deleted and detach its PaymentMethods, which are returned as they were."""
    rows = await connection.fetch(LOCK_METHODS_OF, id_)
    await connection.execute(DETACH_ALL, id_, now)
    await connection.execute(DELETE_CUSTOMER, id_, now)
    return tuple(method_of(row).facts for row in rows)


async def insert_methods(through: Connection | Database, methods: Sequence[Prepared]) -> None:
    """Store new PaymentMethods."""
    await through.execute(
        INSERT_METHODS,
        [one.facts.id for one in methods],
        [one.account for one in methods],
        [one.facts.livemode for one in methods],
        [_pack(one.facts.card) for one in methods],
        [one.facts.billing for one in methods],
        [_pack(one.facts.metadata) for one in methods],
        [one.facts.allow_redisplay for one in methods],
        [one.created_at for one in methods],
    )


async def select_methods(through: Connection | Database, ids: Collection[str]) -> dict[str, StoredMethod]:
    """PaymentMethods by id, whoever they belong to."""
    return {row["id"]: method_of(row) for row in await through.fetch(SELECT_METHODS, list(ids))}


async def lock_method(connection: Connection, account: str, id_: str, *, livemode: bool) -> StoredMethod | None:
    """A PaymentMethod that stays as it is until the transaction ends; None when there is none."""
    row = await connection.fetchrow(LOCK_METHOD, id_, account, livemode)
    return None if row is None else method_of(row)


async def update_method(connection: Connection, method: PaymentMethodFacts) -> None:
    """Store what a merchant may change of a locked PaymentMethod."""
    await connection.execute(
        UPDATE_METHOD, method.id, _pack(method.card), method.billing, _pack(method.metadata), method.allow_redisplay,
    )


async def attach(connection: Connection, id_: str, customer: str, now: Micros) -> None:
    """Give a locked PaymentMethod to a customer."""
    await connection.execute(ATTACH, id_, customer, now)


async def detach(connection: Connection, id_: str, now: Micros) -> None:
    """Take a locked PaymentMethod from its customer, for ever."""
    await connection.execute(DETACH, id_, now)
