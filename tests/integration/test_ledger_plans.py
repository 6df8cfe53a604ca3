"""The generic plans of the booking statements, on empty tables that nobody has analysed: by index, and never quadratic."""

import re

import asyncpg
import pytest
from ledger_world import open_as, owner_connection

from guilder.core.clock import ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger import store
from guilder.ledger.columns import encode
from guilder.ledger.model import Transfer
from guilder.ledger.pure import PureAccount
from guilder.wallet import store as wallet

HOT = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}

# The statements inside the functions, by the function and the word that each begins with.
INSIDE = {
    "the store": ("ledger_store", "WITH item"),
    "resolutions on the fast path": ("ledger_fast", "SELECT array_agg(CASE WHEN x.kind < 2"),
    "what the careful path reads": ("ledger_careful", "SELECT array_agg(CASE\n"),
    "the wallet's rules": ("wallet_book", "WITH item AS"),
}


async def _statement(owner: asyncpg.Connection, function: str, begin: str) -> tuple[str, list[str]]:
    """A statement of a function as one that can be prepared: parameters by number, and their types."""
    row = await owner.fetchrow(
        "SELECT prosrc, proargnames[1:pronargs] AS names, ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) t) AS types "
        "FROM pg_proc WHERE proname = $1",
        function,
    )
    source = re.sub(r"--[^\n]*", "", row["prosrc"])
    start = source.index(begin)
    text = source[start : source.index(";", start)]
    text = re.sub(r"\bINTO [a-z]_\w+(,\s*[a-z]_\w+)*", "", text)
    for place, name in enumerate(row["names"], 1):
        text = re.sub(rf"\b{name}\b", f"${place}", text)
    return text, row["types"]


@pytest.mark.parametrize("name", INSIDE)
async def test_the_statements_inside_the_functions_go_by_an_index(database: str, name: str) -> None:
    """No table is read whole, and no two lists are compared item by item."""
    function, begin = INSIDE[name]
    owner = await asyncpg.connect(database, server_settings={"role": "guilder_owner", **HOT})
    text, types = await _statement(owner, function, begin)
    await owner.execute(f"PREPARE hot ({', '.join(types)}) AS {text}")
    rows = await owner.fetch(f"EXPLAIN EXECUTE hot({', '.join(['NULL'] * len(types))})")
    plan = "\n".join(row[0] for row in rows)
    await owner.close()
    assert "Index" in plan
    assert "Seq Scan" not in plan
    # The one comparison that is no look-up: are the two accounts of an item of one merchant and currency?
    assert [line for line in plan.splitlines() if "Join Filter" in line and "<>" not in line] == []
    assert "Hash Join" not in plan
    assert "Merge Join" not in plan


READS = {
    "one account": (store.ACCOUNT, "'lac_1', 'acct_a', false"),
    "accounts by id": (store.NUMBERS, "ARRAY['lac_1'], 'acct_a', false"),
    "transfers by id": (store.TRANSFERS, "ARRAY['ltr_1'], 'acct_a', false"),
    "transfers by reference": (store.BY_REFERENCE, "ARRAY['ch_1'], 'acct_a', false"),
    "a statement": (store.LISTS[store.STATEMENT, True], "1, false, 9, 9, 0, 10"),
    "a merchant's transfers": (store.LISTS[store.TRANSFERS_OF, True], "'acct_a', false, 9, 9, 0, 10"),
    "a merchant's newest transfers": (store.LISTS[store.NEAR, True], "'acct_a', false, 9, 9, 0, 10"),
    "a balance as of a time": (store.BALANCE_AT, "1, 9"),
    "what is due to expire": (store.EXPIRING, "9"),
    "what is due to close": (store.CLOSING, "9"),
    "a merchant's balance": (wallet.BALANCE, "'acct_a', false"),
    "balance transactions by id": (wallet.ENTRIES, "ARRAY['txn_1'], 'acct_a', false"),
}


@pytest.mark.parametrize("name", READS)
async def test_the_reads_go_by_an_index(database: str, name: str) -> None:
    """So that they cost the same with ten million transfers in the books."""
    statement, arguments = READS[name]
    db = await Database.connect(database, role="guilder_app", max_size=1, hot=True, name="test")
    async with db.connection() as connection:
        await connection.execute(f"PREPARE read AS {statement}")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE read({arguments})"))
    await db.close()
    assert "Index" in plan
    assert "Seq Scan" not in plan


async def test_a_large_batch_looks_each_thing_up_once(database: str) -> None:
    """Two thousand transfers between two hundred accounts: each account and each newest balance is looked up once."""
    db = await Database.connect(database, role="guilder_app", max_size=1, hot=True, name="test")
    ids = Ids(ManualClock())
    numbers = await open_as(db, ids, False, [PureAccount(merchant="acct_a") for _ in range(200)])
    sides = [(numbers[one % 200], numbers[(one * 7 + 1) % 200]) for one in range(2000)]
    transfers = [Transfer(id=ids.new("ltr"), debit=debit, credit=credit, amount=1, code=1) for debit, credit in sides if debit != credit]
    owner = await owner_connection(database)

    async def scans() -> dict[str, int]:
        await db.execute("SELECT pg_stat_force_next_flush()")
        await owner.execute("SELECT pg_stat_clear_snapshot()")
        return {row[0]: row[1] for row in await owner.fetch("SELECT indexrelname, idx_scan FROM pg_stat_user_indexes")}

    before = await scans()
    assert (await store.book(db, False, encode(transfers, {}), now=ManualClock().now())).refused == ()
    after = await scans()
    assert after["ledger_account_pkey"] - before["ledger_account_pkey"] <= 200
    assert after["ledger_balance_pkey"] - before["ledger_balance_pkey"] <= 200
    assert after["ledger_transfer_pkey"] - before["ledger_transfer_pkey"] <= 5
    await owner.close()
    await db.close()


async def test_what_stands_now_is_one_look_up_however_old_the_account_is(database: str) -> None:
    """Chunks are walked from the newest on, and no further than needed."""
    db = await Database.connect(database, role="guilder_app", max_size=1, hot=True, name="test")
    owner = await owner_connection(database)
    ids = Ids(ManualClock())
    debit, credit = await open_as(db, ids, False, [PureAccount(merchant="acct_a"), PureAccount(merchant="acct_a")])
    for chunk in range(20):
        await owner.execute("UPDATE ledger_head SET last_index = greatest(last_index, $1::bigint << 18) WHERE NOT livemode", chunk)
        await store.book(db, False, encode([Transfer(id=f"t{chunk}", debit=debit, credit=credit, amount=1, code=1)], {}), now=chunk + 1)

    async def look_ups(at: int) -> int:
        before = await _index_scans(db, owner)
        found = await store.balance_at(db, debit, at)
        assert found is not None
        assert found.debits_posted == min(at, 20)
        return await _index_scans(db, owner) - before

    assert await look_ups(100) == 1
    assert await look_ups(5) <= 16
    await owner.close()
    await db.close()


async def _index_scans(db: Database, owner: asyncpg.Connection) -> int:
    await db.execute("SELECT pg_stat_force_next_flush()")
    await owner.execute("SELECT pg_stat_clear_snapshot()")
    return await owner.fetchval("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'ledger_balance_pkey'")
