"""The wallet's SQL: the only file that reads its tables; booking and releasing are done by the functions of 0006_wallet.sql."""

from collections.abc import Sequence
from typing import Final

from guilder.core.clock import DAY, SECOND, Micros, epoch_seconds
from guilder.db import Connection, Database, Record
from guilder.db.pages import Listing, Page, fetch_page
from guilder.ledger.columns import Columns
from guilder.ledger.model import Code, Refused
from guilder.shapes.facts import BalanceFacts, BalanceTransactionFacts
from guilder.wallet.model import Difference, Receivable, Release

Source = Database | Connection

REPORTING_CATEGORIES: Final = {"adjustment": "other_adjustment"}
"""Stripe's words where they are not the type's."""

# Book a batch with the wallet's rules; the exceptions come back.
BOOK: Final = "SELECT ord, result FROM wallet_book($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"

# Release the days that have come, one for each id.
RELEASE: Final = "SELECT account, owner, currency, day, amount, transfer FROM wallet_release_due($1, $2, $3)"

# Let a merchant's wallet be overdrawn so far in a currency.
SET_OVERDRAFT: Final = "SELECT wallet_set_overdraft($1, $2, $3, $4)"

# What a merchant has.
BALANCE: Final = "SELECT currency, pending, available FROM wallet_balance WHERE account = $1 AND livemode = $2 ORDER BY currency"

# What merchants owe; null for all of them.
RECEIVABLES: Final = """
SELECT account, currency, amount FROM wallet_receivable
WHERE livemode = $1 AND ($2::text IS NULL OR account = $2) ORDER BY account, currency
"""

# Where wallet, ledger and balance transactions disagree.
DIFFERENCES: Final = """
SELECT account, livemode, currency, day, what, balance_transactions::bigint, ledger::bigint FROM wallet_difference
ORDER BY account, livemode, currency, day
"""

ENTRY_COLUMNS: Final = """
    id, created_at, amount, fee, currency, type, source, day, description,
    day = 0 OR EXISTS (
        SELECT FROM wallet_release w
        WHERE (w.account, w.day, w.currency, w.livemode)
            = (balance_transaction.account, balance_transaction.day, balance_transaction.currency, balance_transaction.livemode)
    ) AS available
"""

# Balance transactions by id.
ENTRIES: Final = f"SELECT {ENTRY_COLUMNS} FROM balance_transaction WHERE id = ANY ($1) AND account = $2 AND livemode = $3"

ENTRY_LIST: Final = Listing(table="balance_transaction", columns=ENTRY_COLUMNS, kind="balance transaction")


async def book(db: Source, livemode: bool, columns: Columns, *, now: Micros) -> list[Refused]:
    """Book a batch of one mode with the wallet's rules, in one statement; returns the exceptions only, in order."""
    rows = await db.fetch(BOOK, livemode, now, *columns[:-1])
    return [Refused(ord_ - 1, Code(result)) for ord_, result in rows]


async def release(db: Source, livemode: bool, ids: Sequence[str], *, now: Micros) -> list[Release]:
    """Release at most one day account per id; commits with the statement."""
    return [Release(livemode=livemode, **dict(row.items())) for row in await db.fetch(RELEASE, livemode, now, ids)]


async def set_overdraft(db: Source, *, merchant: str, livemode: bool, currency: str, overdraft: int) -> int:
    """Change a merchant's overdraft on the accounts that it has; returns how many changed."""
    return int(await db.fetchval(SET_OVERDRAFT, livemode, merchant, currency, overdraft))


async def balance(db: Source, *, merchant: str, livemode: bool) -> BalanceFacts:
    """What a merchant has, pending and available, per currency; reserved money counts as gone."""
    rows = await db.fetch(BALANCE, merchant, livemode)
    return BalanceFacts(
        livemode=livemode, available=tuple((row["currency"], row["available"]) for row in rows),
        pending=tuple((row["currency"], row["pending"]) for row in rows),
    )  # fmt: skip


async def receivables(db: Source, *, livemode: bool, merchant: str | None = None) -> list[Receivable]:
    """What merchants owe because their wallet accounts are below zero; None for all merchants."""
    return [Receivable(**dict(row.items())) for row in await db.fetch(RECEIVABLES, livemode, merchant)]


async def differences(db: Source) -> list[Difference]:
    """Where wallet, ledger and balance transactions disagree: always empty."""
    return [Difference(**dict(row.items())) for row in await db.fetch(DIFFERENCES)]


async def balance_transactions(db: Source, ids: Sequence[str], *, merchant: str, livemode: bool) -> dict[str, BalanceTransactionFacts]:
    """A merchant's balance transactions with these ids."""
    return {row["id"]: _entry(row) for row in await db.fetch(ENTRIES, ids, merchant, livemode)}


async def balance_transactions_page(
    db: Database, page: Page, *, merchant: str, livemode: bool, type_: str | None = None, currency: str | None = None,
    source: str | None = None,
) -> tuple[list[BalanceTransactionFacts], bool]:  # fmt: skip
    """A page of a merchant's balance transactions, newest first, and whether there are more."""
    filters = (("type", type_), ("currency", currency), ("source", source))
    where = [(f"{name} = ?", value) for name, value in filters if value is not None]
    rows, more = await fetch_page(db, ENTRY_LIST, page, account=merchant, livemode=livemode, where=where)
    return [_entry(row) for row in rows], more


def _entry(row: Record) -> BalanceTransactionFacts:
    created = epoch_seconds(row["created_at"])
    return BalanceTransactionFacts(
        id=row["id"], created=created, amount=row["amount"], fee=row["fee"], currency=row["currency"], type=row["type"],
        source=row["source"], available_on=row["day"] * DAY // SECOND if row["day"] else created,
        reporting_category=REPORTING_CATEGORIES.get(row["type"], row["type"]),
        description=row["description"], available=row["available"],
    )  # fmt: skip
