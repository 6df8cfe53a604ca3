"""Release pending funds: a day's money becomes available when its release row is committed, never by the clock alone."""

from typing import Final

from guilder.core.clock import Clock, day_of
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger import store as ledger
from guilder.wallet import store
from guilder.wallet.events import TRANSFER_PREFIX
from guilder.wallet.model import Release

# Days in one statement: it holds the book's head for about 20 ms, while payments wait.
RELEASES_MAX: Final = 500


async def run_once(db: Database, clock: Clock, ids: Ids, *, limit: int = RELEASES_MAX) -> list[Release]:
    """Release the days that have come, in both modes; at most `limit` each. Fewer of a mode: nothing is left to do in it.

    Where nothing is due only a look is taken: to book takes the book's head from whoever pays.
    Committed when this returns; safe to repeat, and to run in two processes at once.
    """
    released: list[Release] = []
    for livemode in await ledger.closing(db, day=day_of(clock.now())):
        released += await store.release(db, livemode, [ids.new(TRANSFER_PREFIX) for _ in range(limit)], now=clock.now())
    return released
