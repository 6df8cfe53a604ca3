"""Let pending transfers expire whose time limit has passed: for those who use the ledger alone."""

from typing import Final

from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger import store

TRANSFER_PREFIX: Final = "ltr"

# Transfers in one statement: it holds the book's head for about 20 ms, while others wait.
EXPIRED_MAX: Final = 500


async def run_once(db: Database, clock: Clock, ids: Ids, *, limit: int = EXPIRED_MAX) -> int:
    """Book the expiry of what is due, in both modes; at most `limit` each. Returns how many expired.

    Where nothing is due only a look is taken: to book takes the book's head from whoever pays. Until a transfer that is past
    its time limit has expired it can neither be posted nor voided, and its reservation stands.
    Committed when this returns; safe to repeat, and to run in two processes at once.
    """
    expired = 0
    for livemode in await store.expiring(db, now=clock.now()):
        expired += await store.expire(db, livemode, [ids.new(TRANSFER_PREFIX) for _ in range(limit)], now=clock.now())
    return expired
