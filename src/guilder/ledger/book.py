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
from guilder.ledger.model import BATCH_MAX, Booked, Refused, Transfer

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

    async def book(self, livemode: bool, transfers: Batch) -> Booked:
        """Book up to 8,189 transfers of one mode, each chain whole or not at all; the answer lists the exceptions in order.

        Whatever is not listed is stored and committed. Safe to repeat: what stands already is answered with EXISTS.

        Raises:
            Unavailable: nothing was stored. ResultUnknown: some may be; repeat.
        """
        ensure(0 < len(transfers) <= BATCH_MAX, "a batch has a size", transfers=len(transfers))
        return await self._books[livemode].submit(transfers)

    async def close(self) -> None:
        """Refuse new transfers, and return when all earlier ones are booked."""
        for coalescer in self._books.values():
            await coalescer.close()

    def _coalescer(self, livemode: bool) -> Coalescer[Batch, Booked]:
        async def flush(batches: Sequence[Batch]) -> Sequence[Booked]:
            return await self._flush(livemode, batches)

        async def resolve(batches: Sequence[Batch]) -> Sequence[Booked]:
            # Booking again is the question and the cure: what the lost flush stored exists, the rest is stored now. Where it
            # was stored is known only for a batch that is wholly new; the others are shown as found.
            return await self._flush(livemode, batches)

        return Coalescer(flush, limit=BATCH_MAX, keys=_no_keys, resolve=self._db.keeping(resolve), width=FLUSHES_AT_ONCE, weigh=len)

    async def _flush(self, livemode: bool, batches: Sequence[Batch]) -> Sequence[Booked]:
        transfers = batches[0] if len(batches) == 1 else list(chain.from_iterable(batches))
        try:
            columns = encode(transfers, self._accounts.known)
        except KeyError:
            columns = encode(transfers, await self._accounts.numbers_of(transfers))
        booked = await store.book(self._db, livemode, columns, now=self._clock.now())
        return [booked] if len(batches) == 1 else _by_batch(batches, booked)


def _by_batch(batches: Sequence[Batch], flush: Booked) -> list[Booked]:
    """The answer to a flush as each batch counts its own."""
    refused = flush.refused
    last_index = flush.last_index - sum(map(len, batches)) + len(refused)
    results = []
    start = place = 0
    for batch in batches:
        first, end = place, start + len(batch)
        while place < len(refused) and refused[place].index < end:
            place += 1
        last_index += len(batch) - (place - first)
        own = tuple(Refused(one.index - start, one.code) for one in refused[first:place]) if place > first else ()
        results.append(Booked(last_index, flush.created_at, own))
        start = end
    return results


def _no_keys(_batch: Batch) -> tuple[()]:
    """Transfers need not be kept apart: ledger_book books a batch as if its items had come one after the other."""
    return ()
