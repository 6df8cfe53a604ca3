"""The ledger's SQL: the only file that reads its tables; writing is done by the functions of 0005_ledger.sql."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from guilder.core.clock import Micros
from guilder.db import Connection, Database
from guilder.ledger.columns import Columns
from guilder.ledger.model import AccountKey, Code, Refused

# Open accounts, or find those that exist.
OPEN: Final = "SELECT number, id FROM ledger_open($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"

# Book a batch; the exceptions come back.
BOOK: Final = "SELECT ord, result FROM ledger_book($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"


class NewAccount(Struct, frozen=True, kw_only=True):
    """An account to be opened under its key, unless that has one."""

    id: str
    key: AccountKey
    debits_limited: bool = False
    credits_limited: bool = False
    overdraft: int = 0
    successor: int | None = None


class Opened(NamedTuple):
    """An account's number and id; the id is not the proposed one when the key had an account already."""

    number: int
    id: str


async def open_accounts(
    db: Database | Connection, livemode: bool, accounts: Sequence[NewAccount], *, now: Micros,  # noqa: FBT001 - the mode
) -> list[Opened]:
    """Open accounts of one mode; those whose key is taken are found instead, unchanged. In order; safe to repeat."""
    rows = await db.fetch(
        OPEN, livemode, now, [new.id for new in accounts], [new.key.account for new in accounts], [new.key.owner for new in accounts],
        [new.key.kind for new in accounts], [new.key.currency for new in accounts], [new.key.day for new in accounts],
        [new.debits_limited for new in accounts], [new.credits_limited for new in accounts], [new.overdraft for new in accounts],
        [new.successor for new in accounts],
    )  # fmt: skip
    return [Opened(*row) for row in rows]


async def book(db: Database | Connection, livemode: bool, columns: Columns, *, now: Micros) -> list[Refused]:  # noqa: FBT001
    """Book a batch of one mode in one statement; returns the exceptions only, in order."""
    rows = await db.fetch(BOOK, livemode, now, *columns)
    return [Refused(index=ord_ - 1, code=Code(result)) for ord_, result in rows]
