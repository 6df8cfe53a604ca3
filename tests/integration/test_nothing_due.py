"""What the worker does twice a second costs nobody anything while nothing is due."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from ledger_world import owner_connection
from wallet_world import Wallet

from guilder.core.clock import DAY
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger import expire
from guilder.wallet import release

SOON_SECONDS = 5.0


class NoIds(Ids):
    """Ids of which none may be drawn."""

    def __init__(self) -> None:
        """Nothing is needed for that."""

    def new(self, prefix: str) -> str:
        pytest.fail(f"an id was drawn: {prefix}")


@pytest.fixture
async def wallet(db: Database) -> Wallet:
    """A merchant with a capture whose day has not come."""
    wallet = Wallet(db)
    await wallet.capture(10_000, fee=150)
    return wallet


@pytest.fixture
async def taken_head(database: str, wallet: Wallet) -> AsyncIterator[None]:
    """The heads of both books, locked by somebody who does not let go."""
    owner = await owner_connection(database)
    async with owner.transaction():
        await owner.execute("SELECT FROM ledger_head FOR UPDATE")
        yield
    await owner.close()


@pytest.mark.usefixtures("taken_head")
async def test_nothing_due_needs_neither_ids_nor_the_books_head(wallet: Wallet) -> None:
    """Payments are not kept waiting for a look."""
    ids = NoIds()
    assert await asyncio.wait_for(expire.run_once(wallet.db, wallet.clock, ids), SOON_SECONDS) == 0
    assert await asyncio.wait_for(release.run_once(wallet.db, wallet.clock, ids), SOON_SECONDS) == []


async def test_nothing_due_takes_no_transaction_number(wallet: Wallet) -> None:
    """So nothing of it is written, and no disk is waited for."""
    async with wallet.db.transaction() as connection:
        await expire.run_once(connection, wallet.clock, NoIds())
        await release.run_once(connection, wallet.clock, NoIds())
        assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned()::text") is None


async def test_what_is_due_in_one_mode_is_found_beside_the_other(wallet: Wallet) -> None:
    """The look names the mode that has something to do."""
    wallet.clock.advance(2 * DAY)
    assert [(one.livemode, one.amount) for one in await release.run_once(wallet.db, wallet.clock, wallet.ids)] == [(False, 9_850)]
    assert await release.run_once(wallet.db, wallet.clock, NoIds()) == []
