"""Announce balance.available: once per merchant and mode for what has been released since the last time."""

from typing import Final

from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.log import NewEvent, announce
from guilder.wallet import store

EVENT: Final = "balance.available"
# Merchants announced in one round, each in a transaction of its own.
MERCHANTS_MAX: Final = 100

_WAITING: Final = "SELECT DISTINCT account, livemode FROM wallet_release WHERE NOT announced LIMIT $1"
_MARK: Final = "UPDATE wallet_release SET announced = true WHERE account = $1 AND livemode = $2 AND NOT announced"


async def announce_available(db: Database, clock: Clock, ids: Ids) -> int:
    """Announce the new balance of merchants whose funds were released; returns how many. Mark and event commit together."""
    waiting = await db.fetch(_WAITING, MERCHANTS_MAX)
    for row in waiting:
        account, livemode = row["account"], row["livemode"]
        async with db.transaction() as connection:
            if await connection.execute(_MARK, account, livemode) == "UPDATE 0":
                continue
            facts = await store.balance(connection, merchant=account, livemode=livemode)
            event = NewEvent(id=ids.new("evt"), account=account, type=EVENT, object=facts)
            await announce(connection, livemode=livemode, now=clock.now(), key=account, events=(event,))
    return len(waiting)
