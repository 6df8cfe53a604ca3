"""Reading what a merchant has: payments, charges and refunds, one or a page, as facts. Reads only; nothing is locked."""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from guilder.core.errors import missing
from guilder.db import Connection, Database
from guilder.db.pages import Listing, Page, fetch_page
from guilder.shapes.facts import ChargeFacts, Facts, PaymentIntentFacts, RefundFacts

_PAYMENTS: Final = Listing(table="payment", columns="facts", kind="payment_intent")
_CHARGES: Final = Listing(table="charge", columns="facts", kind="charge")
_REFUNDS: Final = Listing(table="refund", columns="facts", kind="refund")

_payment = msgspec.msgpack.Decoder(PaymentIntentFacts).decode
_charge = msgspec.msgpack.Decoder(ChargeFacts).decode
_refund = msgspec.msgpack.Decoder(RefundFacts).decode

# By primary key; an object of another account or mode does not exist for the caller.
_FIND: Final = "SELECT id, facts FROM {table} WHERE id = ANY($1) AND account = $2 AND livemode = $3"

_FIND_ALL: Final = """
SELECT i.number, o.facts FROM unnest($1::text[], $2::text[], $3::boolean[]) WITH ORDINALITY i(id, account, livemode, number)
CROSS JOIN LATERAL (
    SELECT z.facts FROM {table} z WHERE z.id = i.id AND z.account = i.account AND z.livemode = i.livemode OFFSET 0) o
"""

# What an embedded list of refunds shows, and one more to know whether there are more.
_EMBEDDED_MAX: Final = 11


async def payments_by_id(
    db: Database | Connection, account: str, livemode: bool, ids: Collection[str]
) -> dict[str, PaymentIntentFacts]:
    """The payments that exist, by id."""
    rows = await db.fetch(_FIND.format(table="payment"), list(ids), account, livemode)
    return {row["id"]: _payment(row["facts"]) for row in rows}


async def charges_by_id(db: Database | Connection, account: str, livemode: bool, ids: Collection[str]) -> dict[str, ChargeFacts]:
    """The charges that exist, by id."""
    rows = await db.fetch(_FIND.format(table="charge"), list(ids), account, livemode)
    return {row["id"]: _charge(row["facts"]) for row in rows}


async def refunds_by_id(db: Database | Connection, account: str, livemode: bool, ids: Collection[str]) -> dict[str, RefundFacts]:
    """The refunds that exist, by id."""
    rows = await db.fetch(_FIND.format(table="refund"), list(ids), account, livemode)
    return {row["id"]: _refund(row["facts"]) for row in rows}


async def objects_by_id(db: Database, wanted: Sequence[tuple[str, str, bool]]) -> list[Facts | None]:
    """Payments and refunds of any accounts by (id, account, livemode), in their order; None for what does not exist. Two statements."""
    found: list[Facts | None] = [None] * len(wanted)
    columns = [[one[place] for one in wanted] for place in range(3)]
    for row in await db.fetch(_FIND_ALL.format(table="payment"), *columns):
        found[row["number"] - 1] = _payment(row["facts"])
    if None in found:
        for row in await db.fetch(_FIND_ALL.format(table="refund"), *columns):
            found[row["number"] - 1] = _refund(row["facts"])
    return found


async def refunds_of_charges(
    db: Database | Connection, account: str, livemode: bool, charges: Collection[str]
) -> dict[str, RefundFacts]:
    """The newest refunds of each of these charges, by id: as many as an embedded list shows, and one more."""
    rows = await db.fetch(
        "SELECT r.id, r.facts FROM unnest($1::text[]) c CROSS JOIN LATERAL ("
        "SELECT id, facts FROM refund WHERE charge = c AND account = $2 AND livemode = $3 ORDER BY id DESC LIMIT $4) r",
        list(charges),
        account,
        livemode,
        _EMBEDDED_MAX,
    )
    return {row["id"]: _refund(row["facts"]) for row in rows}


async def retrieve_payment(
    db: Database, account: str, livemode: bool, id_: str, *, param: str | None = None
) -> PaymentIntentFacts:
    """One payment. Raises Refusal: 404, or 400 when the id came as the named parameter."""
    found = await payments_by_id(db, account, livemode, (id_,))
    if id_ not in found:
        raise missing("payment_intent", id_, param=param)
    return found[id_]


async def retrieve_charge(db: Database, account: str, livemode: bool, id_: str, *, param: str | None = None) -> ChargeFacts:
    """One charge. Raises Refusal: 404, or 400 when the id came as the named parameter."""
    found = await charges_by_id(db, account, livemode, (id_,))
    if id_ not in found:
        raise missing("charge", id_, param=param)
    return found[id_]


async def retrieve_refund(db: Database, account: str, livemode: bool, id_: str, *, param: str | None = None) -> RefundFacts:
    """One refund. Raises Refusal: 404, or 400 when the id came as the named parameter."""
    found = await refunds_by_id(db, account, livemode, (id_,))
    if id_ not in found:
        raise missing("refund", id_, param=param)
    return found[id_]


async def list_payments(
    db: Database,
    account: str,
    livemode: bool,
    page: Page,
    *,
    customer: str | None = None,
) -> tuple[Sequence[PaymentIntentFacts], bool]:
    """A page of payments, newest first, and whether there are more."""
    where = [("customer = ?", customer)] if customer is not None else []
    rows, more = await fetch_page(db, _PAYMENTS, page, account=account, livemode=livemode, where=where)
    return [_payment(row["facts"]) for row in rows], more


async def list_charges(
    db: Database,
    account: str,
    livemode: bool,
    page: Page,
    *,
    customer: str | None = None,
    payment: str | None = None,
) -> tuple[Sequence[ChargeFacts], bool]:
    """A page of charges, newest first, and whether there are more."""
    where = [(f"{name} = ?", value) for name, value in (("customer", customer), ("payment", payment)) if value is not None]
    rows, more = await fetch_page(db, _CHARGES, page, account=account, livemode=livemode, where=where)
    return [_charge(row["facts"]) for row in rows], more


async def list_refunds(
    db: Database,
    account: str,
    livemode: bool,
    page: Page,
    *,
    charge: str | None = None,
    payment: str | None = None,
) -> tuple[Sequence[RefundFacts], bool]:
    """A page of refunds, newest first, and whether there are more."""
    where = [(f"{name} = ?", value) for name, value in (("charge", charge), ("payment", payment)) if value is not None]
    rows, more = await fetch_page(db, _REFUNDS, page, account=account, livemode=livemode, where=where)
    return [_refund(row["facts"]) for row in rows], more
