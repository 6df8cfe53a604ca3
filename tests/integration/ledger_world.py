"""Books to try things on: accounts by a short name, the plain ways to book, and what the database then says."""

from collections.abc import Iterable, Sequence

import asyncpg

from guilder.core.clock import Micros
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger import store
from guilder.ledger.columns import Columns, encode
from guilder.ledger.model import AccountKey, Code, Refused, Transfer
from guilder.ledger.pure import PureAccount

CAREFUL = "SELECT ord, result FROM ledger_careful($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"


async def owner_connection(dsn: str) -> asyncpg.Connection:
    """A connection as the owner of the tables and functions, to reach what the application may not."""
    return await asyncpg.connect(dsn, server_settings={"role": "guilder_owner"})


async def open_as(db: Database, ids: Ids, livemode: bool, accounts: Iterable[PureAccount], *, now: int = 1) -> list[int]:
    """Open accounts that are as those of the model; their numbers in order."""
    new = [
        store.NewAccount(
            id=(id_ := ids.new("lac")),
            key=AccountKey(account.merchant, livemode, id_, "own", account.currency),
            debits_limited=account.debits_limited,
            credits_limited=account.credits_limited,
            overdraft=account.overdraft,
        )
        for account in accounts
    ]
    return [opened.number for opened in await store.open_accounts(db, livemode, new, now=Micros(now))]


async def book(db: Database, transfers: Sequence[Transfer], *, now: int, livemode: bool = False) -> list[Refused]:
    """Book by ledger_book; the exceptions."""
    return list((await store.book(db, livemode, encode(transfers, {}), now=Micros(now))).refused)


async def book_carefully(owner: asyncpg.Connection, columns: Columns, *, now: int, livemode: bool) -> list[Refused]:
    """Book by the careful path, whether it is needed or not."""
    return [Refused(ord_ - 1, Code(result)) for ord_, result in await owner.fetch(CAREFUL, livemode, now, *columns)]


async def standing(db: Database, numbers: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """What stands on accounts: debits pending and posted, credits pending and posted."""
    rows = await db.fetch(
        "SELECT debits_pending, debits_posted, credits_pending, credits_posted FROM ledger_account_balance "
        "JOIN unnest($1::bigint[]) WITH ORDINALITY x(n, ord) ON n = number ORDER BY ord",
        numbers,
    )
    return [tuple(row) for row in rows]


async def trial_balance_is_zero(db: Database) -> bool:
    """Debits equal credits in every book, posted and pending."""
    rows = await db.fetch("SELECT * FROM ledger_trial_balance")
    return all(row["debits_posted"] == row["credits_posted"] and row["debits_pending"] == row["credits_pending"] for row in rows)
