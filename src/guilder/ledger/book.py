"""Book transfers: the verb. Concurrent callers share one statement; the answer lists only the exceptions."""

from collections.abc import Sequence
from itertools import chain
from typing import Final

from guilder.core.clock import Clock
from guilder.core.ensure import ensure
from guilder.db import Coalescer, Database
from guilder.ledger import store
from guilder.ledger.accounts import Accounts
from guilder.ledger.columns import encode
from guilder.ledger.model import BATCH_MAX, Code, Refused, Transfer

Batch = Sequence[Transfer]

# Flushes under way at once, per mode: while the database books one, the next one is encoded and waits for the head.
FLUSHES_AT_ONCE: Final = 2


class Ledger:
    """Books transfers of both modes. Make it inside a running loop; `close` waits for what was handed in."""

    def __init__(self, db: Database, accounts: Accounts, clock: Clock) -> None:
        self._db = db
        self._accounts = accounts
        self._clock = clock
        self._books = {livemode: self._coalescer(livemode) for livemode in (False, True)}

    async def book(self, livemode: bool, transfers: Batch) -> Sequence[Refused]:  # noqa: FBT001 - the mode
        """Book up to 8,189 transfers of one mode, each chain whole or not at all; returns the exceptions in order.

        Whatever is not listed is stored and committed. Safe to repeat: what stands already is answered with EXISTS.

        Raises:
            Unavailable: nothing was stored. ResultUnknown: some may be; repeat.
        """
        ensure(len(transfers) <= BATCH_MAX, "a batch is bounded", transfers=len(transfers))
        return await self._books[livemode].submit(transfers) if transfers else ()

    async def close(self) -> None:
        """Refuse new transfers, and return when all earlier ones are booked."""
        for coalescer in self._books.values():
            await coalescer.close()

    def _coalescer(self, livemode: bool) -> Coalescer[Batch, Sequence[Refused]]:  # noqa: FBT001
        async def flush(batches: Sequence[Batch]) -> Sequence[Sequence[Refused]]:
            return await self._flush(livemode, batches)

        async def resolve(batches: Sequence[Batch]) -> Sequence[Sequence[Refused]]:
            # Booking again is the question and the cure: what the lost flush stored exists, the rest is stored now.
            again = await self._flush(livemode, batches)
            return [tuple(refused for refused in batch if refused.code is not Code.EXISTS) for batch in again]

        return Coalescer(flush, limit=BATCH_MAX, keys=_no_keys, resolve=resolve, width=FLUSHES_AT_ONCE, weigh=len)

    async def _flush(self, livemode: bool, batches: Sequence[Batch]) -> Sequence[Sequence[Refused]]:  # noqa: FBT001
        transfers = batches[0] if len(batches) == 1 else list(chain.from_iterable(batches))
        numbers = await self._accounts.numbers_of(transfers)
        refused = await store.book(self._db, livemode, encode(transfers, numbers), now=self._clock.now())
        return _by_batch(batches, refused) if refused else [()] * len(batches)


def _by_batch(batches: Sequence[Batch], refused: Sequence[Refused]) -> list[tuple[Refused, ...]]:
    """The exceptions of a flush as each batch counts its own."""
    results = []
    start = place = 0
    for batch in batches:
        first, end = place, start + len(batch)
        while place < len(refused) and refused[place].index < end:
            place += 1
        results.append(tuple(Refused(one.index - start, one.code) for one in refused[first:place]))
        start = end
    return results


def _no_keys(_batch: Batch) -> tuple[()]:
    """Transfers need not be kept apart: ledger_book books a batch as if its items had come one after the other."""
    return ()
