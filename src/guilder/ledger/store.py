"""The ledger's SQL: the only file that reads its tables; all writing is done by the functions of 0005_ledger.sql."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from guilder.core.clock import Micros
from guilder.db import Connection, Database, Record
from guilder.db.pages import LIMIT_MAX, Listing, Page, fetch_page
from guilder.ledger.columns import Columns
from guilder.ledger.model import (
    AccountKey,
    Balance,
    Booked,
    Code,
    Kind,
    LedgerAccount,
    Refused,
    RevenueLine,
    StoredTransfer,
    TrialLine,
)

Source = Database | Connection

# Open accounts, or find those that exist.
OPEN: Final = "SELECT number, id FROM ledger_open($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"

# Book a batch; the exceptions come back, and where and when the rest was stored.
BOOK: Final = """
SELECT ords, results, last_index, created_at FROM ledger_book($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""

# Let pending transfers expire whose time limit has passed.
EXPIRE: Final = "SELECT ledger_expire($1, $2, $3)"

# The modes in which a pending transfer's time limit has passed since the last look.
EXPIRING: Final = """
SELECT h.livemode FROM ledger_head h
WHERE EXISTS (SELECT FROM ledger_transfer t
              WHERE t.livemode = h.livemode AND t.expires_at > h.expired_to AND t.expires_at <= greatest($1, h.last_at))
"""

# The modes in which an account of a day up to this one is still open.
CLOSING: Final = """
SELECT h.livemode FROM ledger_head h
WHERE EXISTS (SELECT FROM ledger_account a
              WHERE a.day > 0 AND a.day <= $1 AND a.closed_at IS NULL AND a.successor IS NOT NULL AND a.livemode = h.livemode)
"""

ACCOUNT_COLUMNS: Final = (
    "number, id, account, livemode, owner, kind, currency, day, debits_pending, debits_posted, credits_pending, credits_posted, "
    "debits_limited, credits_limited, overdraft, created_at, closed_at, description, metadata"
)

# One account of a merchant, with what stands on it now.
ACCOUNT: Final = f"SELECT {ACCOUNT_COLUMNS} FROM ledger_account_balance WHERE id = $1 AND account = $2 AND livemode = $3"

# Accounts by id, without what stands on them.
NUMBERS: Final = "SELECT id, number, kind, currency FROM ledger_account WHERE id = ANY ($1) AND account = $2 AND livemode = $3"

ACCOUNTS: Final = Listing(table="ledger_account_balance", columns=ACCOUNT_COLUMNS, kind="ledger account")

# A transfer as shown: accounts by id, and what resolved it.
TRANSFER_COLUMNS: Final = """
    t.index, t.id, t.account, t.livemode, d.id AS debit, c.id AS credit, t.amount, t.currency, t.kind, t.code, t.fact, t.linked,
    t.created_at, t.pending_id, t.reference, t.expires_at, r.id AS resolved_by
"""
TRANSFER_JOINS: Final = """
    CROSS JOIN LATERAL (SELECT z.id FROM ledger_account z WHERE z.number = t.debit OFFSET 0) d
    CROSS JOIN LATERAL (SELECT z.id FROM ledger_account z WHERE z.number = t.credit OFFSET 0) c
    LEFT JOIN LATERAL (SELECT z.id FROM ledger_transfer z WHERE z.pending_id = t.id AND t.kind = 1 OFFSET 0) r ON true
"""

# Transfers by id.
TRANSFERS: Final = f"""
SELECT {TRANSFER_COLUMNS} FROM ledger_transfer t {TRANSFER_JOINS}
WHERE t.id = ANY ($1) AND t.account = $2 AND t.livemode = $3
"""

# All transfers about these charges and refunds, in the order of the book.
BY_REFERENCE: Final = f"""
SELECT {TRANSFER_COLUMNS} FROM ledger_transfer t {TRANSFER_JOINS}
WHERE t.reference = ANY ($1) AND t.account = $2 AND t.livemode = $3 ORDER BY t.index
"""

# The transfers of one account on one side of a place in the book ($3 index, $4 time), up to a time ($5). The balance rows say
# which flushes touched the account, one row each, and which transfers of them did so; so no more flushes are needed than
# transfers are wanted, plus the one that the place is in.
STATEMENT: Final = """
WITH flush AS MATERIALIZED (
    SELECT b.*
    FROM (SELECT g AS chunk FROM generate_series((SELECT s.first_chunk FROM ledger_standing s WHERE s.number = $1),
                                                 (SELECT s.last_chunk FROM ledger_standing s WHERE s.number = $1)) g
          ORDER BY g {order}) c
    CROSS JOIN LATERAL (
        SELECT z.chunk, z.created_at, z.base, z.index, z.places FROM ledger_balance z
        WHERE z.chunk = c.chunk AND z.number = $1 AND z.created_at {up_to} $4 AND z.created_at {down_to} $5
        ORDER BY z.created_at {order} LIMIT $6 + 1) b
    ORDER BY c.chunk {order}, b.created_at {order} LIMIT $6 + 1
), found AS (
    SELECT t.* FROM flush f CROSS JOIN LATERAL (
        SELECT z.* FROM unnest(f.places) AS p(place)
        CROSS JOIN LATERAL (SELECT y.* FROM ledger_transfer y WHERE y.index = f.base + p.place AND y.livemode = $2 OFFSET 0) z
        UNION ALL
        SELECT z.* FROM ledger_transfer z
        WHERE f.places IS NULL AND z.index > f.base AND z.index <= f.index AND z.livemode = $2 AND $1 IN (z.debit, z.credit)
    ) t
    WHERE t.index {beyond} $3 ORDER BY t.index {order} LIMIT $6
)
SELECT {columns} FROM found t {joins} ORDER BY t.index {order}
"""

# The same for all accounts of a merchant: the flushes that touched any of them, and of those its own transfers. Chunk by chunk,
# so that a merchant with many accounts is not looked through from end to end.
TRANSFERS_OF: Final = """
WITH flush AS MATERIALIZED (
    SELECT b.*
    FROM (SELECT g AS chunk
          FROM generate_series((SELECT min(a.first_chunk) FROM ledger_account_balance a WHERE a.account = $1 AND a.livemode = $2),
                               (SELECT max(a.last_chunk) FROM ledger_account_balance a WHERE a.account = $1 AND a.livemode = $2)) g
          ORDER BY g {order}) c
    CROSS JOIN LATERAL (
        SELECT DISTINCT f.base, f.index FROM ledger_account_balance a
        CROSS JOIN LATERAL (
            SELECT z.base, z.index FROM ledger_balance z
            WHERE z.chunk = c.chunk AND z.number = a.number AND z.created_at {up_to} $4 AND z.created_at {down_to} $5
            ORDER BY z.created_at {order} LIMIT $6 + 1) f
        WHERE a.account = $1 AND a.livemode = $2 AND c.chunk BETWEEN a.first_chunk AND a.last_chunk
        ORDER BY f.index {order} LIMIT $6 + 1) b
    ORDER BY c.chunk {order}, b.index {order} LIMIT $6 + 1
), found AS (
    SELECT t.* FROM flush f CROSS JOIN LATERAL (
        SELECT z.* FROM ledger_transfer z
        WHERE z.index > f.base AND z.index <= f.index AND z.livemode = $2 AND z.account = $1 AND z.index {beyond} $3
        ORDER BY z.index {order} LIMIT $6
    ) t
    ORDER BY t.index {order} LIMIT $6
)
SELECT {columns} FROM found t {joins} ORDER BY t.index {order}
"""

# A merchant's transfers among the next ones of the book: all that is needed where the book is mostly this merchant's.
NEAR: Final = """
SELECT {columns} FROM (
    SELECT z.* FROM ledger_transfer z
    WHERE z.livemode = $2 AND z.account = $1 AND z.index {beyond} $3 AND z.index {near} AND z.created_at {up_to} $4
      AND z.created_at {down_to} $5
    ORDER BY z.index {order} LIMIT $6
) t {joins} ORDER BY t.index {order}
"""
# Transfers of the book that NEAR looks at, 5 ms of work.
NEAR_MAX: Final = 20_000

_NEWEST_FIRST: Final = {
    "up_to": "<=", "down_to": ">=", "beyond": "<", "order": "DESC",
    "near": f">= least($3, (SELECT h.last_index FROM ledger_head h WHERE h.livemode = $2) + 1) - {NEAR_MAX}",
}  # fmt: skip
_OLDEST_FIRST: Final = {"up_to": ">=", "down_to": "<=", "beyond": ">", "order": "ASC", "near": f"<= $3 + {NEAR_MAX}"}
_SHOWN: Final = {"columns": TRANSFER_COLUMNS, "joins": TRANSFER_JOINS}
LISTS: Final = {
    (sql, newest_first): sql.format(**(_NEWEST_FIRST if newest_first else _OLDEST_FIRST), **_SHOWN)
    for sql in (STATEMENT, TRANSFERS_OF, NEAR)
    for newest_first in (True, False)
}

# The place of a transfer in its book.
PLACE: Final = "SELECT index, created_at FROM ledger_transfer WHERE id = $1 AND account = $2 AND livemode = $3"

# What stood on an account at a moment, and how far the book has come: later moments are not decided yet.
BALANCE_AT: Final = """
SELECT least($2, h.last_at) AS as_of, b.debits_pending, b.debits_posted, b.credits_pending, b.credits_posted FROM ledger_account a
JOIN ledger_head h ON h.livemode = a.livemode
LEFT JOIN LATERAL ledger_balance_at(a.number, $2) b ON true
WHERE a.number = $1
"""

# A merchant's books by currency and kind of account.
TRIAL_BALANCE: Final = """
SELECT currency, kind, sum(debits_posted)::bigint AS debits_posted, sum(credits_posted)::bigint AS credits_posted,
       sum(debits_pending)::bigint AS debits_pending, sum(credits_pending)::bigint AS credits_pending
FROM ledger_account_balance WHERE account = $1 AND livemode = $2 GROUP BY currency, kind ORDER BY currency, kind
"""

# The operator's revenue by day, currency and merchant.
REVENUE: Final = """
SELECT day, currency, account, amount FROM ledger_revenue
WHERE livemode = $1 AND ($2::text IS NULL OR account = $2) AND day BETWEEN $3 AND $4 ORDER BY day, currency, account
"""

LAST_PLACE: Final = 2**63 - 1


class NewAccount(Struct, frozen=True, kw_only=True):
    """An account to be opened under its key, unless that has one."""

    id: str
    key: AccountKey
    debits_limited: bool = False
    credits_limited: bool = False
    overdraft: int = 0
    successor: int | None = None
    description: str | None = None
    metadata: bytes | None = None


class Span(Struct, frozen=True, kw_only=True):
    """Which transfers of a list, at most `limit`.

    Args:
        beyond: index and time of the transfer that the list goes on from (itself excluded); None for an end of the book.
        newest_first: newest first, so `beyond` means older; else oldest first.
        since, until: booked between these instants, both included.
    """

    limit: int
    beyond: tuple[int, int] | None = None
    newest_first: bool = True
    since: int = 0
    until: int = 2**63 - 1


class Opened(NamedTuple):
    """An account's number and id; the id is not the proposed one when the key had an account already."""

    number: int
    id: str


class Named(NamedTuple):
    """What transfers need of an account that is named by its id."""

    number: int
    kind: str
    currency: str


async def open_accounts(db: Source, livemode: bool, accounts: Sequence[NewAccount], *, now: Micros) -> list[Opened]:
    """Open accounts of one mode; those whose key is taken are found instead, unchanged. In order; safe to repeat."""
    rows = await db.fetch(
        OPEN, livemode, now, [new.id for new in accounts], [new.key.account for new in accounts],
        [new.key.owner for new in accounts], [new.key.kind for new in accounts], [new.key.currency for new in accounts],
        [new.key.day for new in accounts], [new.debits_limited for new in accounts], [new.credits_limited for new in accounts],
        [new.overdraft for new in accounts], [new.successor for new in accounts], [new.description for new in accounts],
        [new.metadata for new in accounts],
    )  # fmt: skip
    return [Opened(*row) for row in rows]


async def book(db: Source, livemode: bool, columns: Columns, *, now: Micros) -> Booked:
    """Book a batch of one mode in one statement."""
    row = await db.fetchrow(BOOK, livemode, now, *columns)
    ords, results, last_index, created_at = row  # type: ignore[misc]
    refused = tuple(Refused(ord_ - 1, Code(result)) for ord_, result in zip(ords or (), results or (), strict=True))
    return Booked(last_index, created_at, refused)


async def expiring(db: Source, *, now: Micros) -> list[bool]:
    """The modes in which a pending transfer may be due to expire. A look: no lock, nothing is written."""
    return [row["livemode"] for row in await db.fetch(EXPIRING, now)]


async def closing(db: Source, *, day: int) -> list[bool]:
    """The modes that have an account of this day or one before it to close. A look: no lock, nothing is written."""
    return [row["livemode"] for row in await db.fetch(CLOSING, day)]


async def expire(db: Source, livemode: bool, ids: Sequence[str], *, now: Micros) -> int:
    """Let at most one pending transfer per id expire; returns how many did."""
    return int(await db.fetchval(EXPIRE, livemode, now, ids))


async def account(db: Source, id_: str, *, merchant: str, livemode: bool) -> LedgerAccount | None:
    """One account of a merchant with what stands on it now."""
    row = await db.fetchrow(ACCOUNT, id_, merchant, livemode)
    return None if row is None else _account(row)


async def accounts_page(
    db: Database,
    page: Page,
    *,
    merchant: str,
    livemode: bool,
    kind: str | None = None,
    currency: str | None = None,
) -> tuple[list[LedgerAccount], bool]:
    """A page of a merchant's accounts, newest first, and whether there are more."""
    where = [(f"{name} = ?", value) for name, value in (("kind", kind), ("currency", currency)) if value is not None]
    rows, more = await fetch_page(db, ACCOUNTS, page, account=merchant, livemode=livemode, where=where)
    return [_account(row) for row in rows], more


async def named(db: Source, ids: Iterable[str], *, merchant: str, livemode: bool) -> dict[str, Named]:
    """The accounts of a merchant with these ids; who is not there does not exist for it."""
    rows = await db.fetch(NUMBERS, list(ids), merchant, livemode)
    return {row["id"]: Named(row["number"], row["kind"], row["currency"]) for row in rows}


async def transfers(db: Source, ids: Iterable[str], *, merchant: str, livemode: bool) -> dict[str, StoredTransfer]:
    """A merchant's transfers with these ids."""
    return {row["id"]: _transfer(row) for row in await db.fetch(TRANSFERS, list(ids), merchant, livemode)}


async def transfers_about(db: Source, references: Iterable[str], *, merchant: str, livemode: bool) -> list[StoredTransfer]:
    """A merchant's transfers about these charges and refunds, in the order in which they were booked."""
    return [_transfer(row) for row in await db.fetch(BY_REFERENCE, list(references), merchant, livemode)]


async def place(db: Source, transfer_id: str, *, merchant: str, livemode: bool) -> tuple[int, Micros] | None:
    """Where in the book a merchant's transfer stands, and when it was booked: a cursor of statements."""
    row = await db.fetchrow(PLACE, transfer_id, merchant, livemode)
    return None if row is None else (row["index"], row["created_at"])


async def statement(db: Source, number: int, span: Span, *, livemode: bool) -> list[StoredTransfer]:
    """The transfers that touched an account."""
    return await _listed(db, STATEMENT, number, span, livemode)


async def transfers_of(db: Source, merchant: str, span: Span, *, livemode: bool) -> list[StoredTransfer]:
    """The transfers of a merchant."""
    near = await _listed(db, NEAR, merchant, span, livemode)
    return near if len(near) == span.limit else await _listed(db, TRANSFERS_OF, merchant, span, livemode)


async def _listed(db: Source, sql: str, whose: int | str, span: Span, livemode: bool) -> list[StoredTransfer]:
    index, at = span.beyond or ((LAST_PLACE, LAST_PLACE) if span.newest_first else (0, 0))
    near, far = (min(at, span.until), span.since) if span.newest_first else (max(at, span.since), span.until)
    rows = await db.fetch(LISTS[sql, span.newest_first], whose, livemode, index, near, far, min(span.limit, LIMIT_MAX + 1))
    return [_transfer(row) for row in rows]


async def balance_at(db: Source, number: int, at: int) -> Balance | None:
    """What stood on an account at a moment. A moment that the book has not reached is answered for the book's newest one."""
    row = await db.fetchrow(BALANCE_AT, number, at)
    if row is None:
        return None
    return Balance(
        as_of=row["as_of"], debits_pending=row["debits_pending"] or 0, debits_posted=row["debits_posted"] or 0,
        credits_pending=row["credits_pending"] or 0, credits_posted=row["credits_posted"] or 0,
    )  # fmt: skip


async def trial_balance(db: Source, *, merchant: str, livemode: bool) -> list[TrialLine]:
    """A merchant's books by currency and kind; per currency debits equal credits."""
    return [TrialLine(**dict(row.items())) for row in await db.fetch(TRIAL_BALANCE, merchant, livemode)]


async def revenue(db: Source, *, livemode: bool, since_day: int, until_day: int, merchant: str | None = None) -> list[RevenueLine]:
    """What the operator earned on the UTC days (since 1970) from since_day to until_day, both included."""
    return [RevenueLine(**dict(row.items())) for row in await db.fetch(REVENUE, livemode, merchant, since_day, until_day)]


def _account(row: Record) -> LedgerAccount:
    fields = dict(row.items())
    key = AccountKey(*(fields.pop(name) for name in ("account", "livemode", "owner", "kind", "currency", "day")))
    return LedgerAccount(key=key, **fields)


def _transfer(row: Record) -> StoredTransfer:
    fields = dict(row.items())
    return StoredTransfer(**{**fields, "kind": Kind(fields["kind"])})
