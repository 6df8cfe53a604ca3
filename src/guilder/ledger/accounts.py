"""From account keys to the small numbers that transfers name; accounts are opened when they are first met."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from guilder.core.clock import Clock
from guilder.core.ensure import ensure
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger import store
from guilder.ledger.model import AccountKey, Transfer

ACCOUNT_PREFIX: Final = "lac"

# Keys remembered by one process, about 40 MB when full; the least recently opened go first. A merchant needs four
# a day and currency, so this is far more than what is in use at any time.
REMEMBERED_MAX: Final = 100_000


class Opening(Struct, frozen=True, kw_only=True):
    """What a new account allows.

    Args:
        debits_limited: debits (pending ones too) must not exceed posted credits plus the overdraft; credits_limited the reverse.
        overdraft: minor units.
        successor: the account that takes over this one's money when it closes.
    """

    debits_limited: bool = False
    credits_limited: bool = False
    overdraft: int = 0
    successor: AccountKey | None = None


class Accounts:
    """The numbers of ledger accounts, remembered.

    Args:
        opening: says how an account is opened that does not exist yet (the chart of accounts decides).
    """

    def __init__(self, db: Database, clock: Clock, ids: Ids, opening: Callable[[AccountKey], Awaitable[Opening]]) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._opening = opening
        self._numbers: dict[AccountKey, int] = {}

    @property
    def known(self) -> Mapping[AccountKey, int]:
        """The numbers that are remembered now."""
        return self._numbers

    async def number(self, key: AccountKey) -> int:
        """The number of an account, which is opened if need be. Commits by itself; safe to repeat."""
        return (await self.numbers([key]))[key]

    async def numbers(self, keys: Iterable[AccountKey]) -> Mapping[AccountKey, int]:
        """A mapping that has at least these keys, until the caller next awaits. Accounts are opened if need be."""
        missing = {key for key in keys if key not in self._numbers}
        if missing:
            await self._open(missing)
        return self._numbers

    async def numbers_of(self, transfers: Iterable[Transfer]) -> Mapping[AccountKey, int]:
        """The same for all accounts that these transfers name by key. Costs no round trip when they are known."""
        known = self._numbers
        missing = {
            side
            for transfer in transfers
            for side in (transfer.debit, transfer.credit)
            if isinstance(side, AccountKey) and side not in known
        }
        if missing:
            await self._open(missing)
        return known

    async def _open(self, keys: set[AccountKey]) -> None:
        openings = {key: await self._opening(key) for key in keys}
        successors = {opening.successor for opening in openings.values() if opening.successor is not None}
        unknown = {key for key in successors if key not in self._numbers}
        if unknown:
            # A successor has none of its own, so this goes one step deep.
            ensure(not unknown & keys, "an account cannot succeed itself")
            await self._open(unknown)
        while len(self._numbers) + len(keys) > REMEMBERED_MAX:
            del self._numbers[next(iter(self._numbers))]
        for livemode in (False, True):
            wanted = [
                store.NewAccount(
                    id=self._ids.new(ACCOUNT_PREFIX), key=key, debits_limited=opening.debits_limited,
                    credits_limited=opening.credits_limited, overdraft=opening.overdraft,
                    successor=None if opening.successor is None else self._numbers[opening.successor],
                )
                for key, opening in openings.items()
                if key.livemode is livemode
            ]  # fmt: skip
            if wanted:
                opened = await store.open_accounts(self._db, livemode, wanted, now=self._clock.now())
                self._numbers.update((new.key, number) for new, (number, _) in zip(wanted, opened, strict=True))
