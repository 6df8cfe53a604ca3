"""The application may read the books and book by the functions; nothing else, not even by mistake."""

import asyncpg
import pytest
from ledger_world import book, open_as

from guilder.core.clock import ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger.model import Transfer
from guilder.ledger.pure import PureAccount

TABLES = ["ledger_head", "ledger_account", "ledger_standing", "ledger_transfer", "ledger_balance", "wallet_release"]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", ["UPDATE {} SET livemode = true", "DELETE FROM {}", "TRUNCATE {}", "INSERT INTO {} DEFAULT VALUES"])
@pytest.mark.parametrize("role", ["guilder_app", "guilder_reader", "guilder_vault"])
async def test_nobody_may_write_the_books_directly(database: str, role: str, table: str, statement: str) -> None:
    """Transfers, balances, accounts, heads and releases are written by functions only."""
    if table == "ledger_balance":
        statement = statement.replace("livemode = true", "index = 0")
    connection = await asyncpg.connect(database, server_settings={"role": role})
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement.format(table))
    await connection.close()


@pytest.mark.parametrize("statement", ["UPDATE {} SET amount = 0", "DELETE FROM {}", "TRUNCATE {}"])
async def test_a_balance_transaction_never_changes(database: str, statement: str) -> None:
    """The application may add balance transactions, and read them."""
    connection = await asyncpg.connect(database, server_settings={"role": "guilder_app"})
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement.format("balance_transaction"))
    await connection.close()


@pytest.mark.parametrize("function", ["ledger_store", "ledger_fast", "ledger_careful"])
async def test_the_inner_functions_are_the_owners(db: Database, function: str) -> None:
    """ledger_store checks nothing by itself, so nobody but ledger_book and wallet_book may call it."""
    for role in ("guilder_app", "guilder_reader", "guilder_vault", "public"):
        allowed = await db.fetchval(
            "SELECT bool_or(has_function_privilege($1, oid, 'EXECUTE')) FROM pg_proc WHERE proname = $2", role, function
        )
        assert allowed is False


async def test_a_readers_search_path_does_not_reach_into_the_functions(database: str) -> None:
    """A table of the same name in a temporary schema is not what the functions write to."""
    db = await Database.connect(database, role="guilder_app", max_size=1, name="test")
    numbers = await open_as(db, Ids(ManualClock()), False, [PureAccount(merchant="acct_a"), PureAccount(merchant="acct_a")])
    try:
        await db.execute("CREATE TEMPORARY TABLE ledger_transfer (LIKE public.ledger_transfer); SET search_path = pg_temp, public")
    except asyncpg.InsufficientPrivilegeError:
        pytest.skip("the application may not make temporary tables at all")
    assert await book(db, [Transfer(id="t1", debit=numbers[0], credit=numbers[1], amount=5, code=1)], now=1) == []
    assert await db.fetchval("SELECT count(*) FROM public.ledger_transfer") == 1
    await db.close()
