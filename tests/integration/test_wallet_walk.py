"""Random lives of a merchant: whatever comes in whatever order, wallet, ledger and balance transactions agree after each step."""

from random import Random

import pytest
from wallet_world import Wallet

from guilder.db import Database
from guilder.ledger.model import Code
from guilder.wallet import events

STEPS = 60


class Life:
    """One random walk: captures, refunds in every state, days that pass, late facts."""

    def __init__(self, wallet: Wallet, random: Random) -> None:
        self.wallet = wallet
        self.random = random
        self.charges: list[tuple[int, int]] = []
        self.open: dict[str, tuple[int, int]] = {}
        self.refused = 0

    async def step(self) -> None:
        """One event, drawn at random."""
        possible = [self.capture, self.capture, self.days]
        if self.charges:
            possible += [self.reserve, self.reserve, self.late_capture, self.found]
        if self.open:
            possible += [self.settle, self.fail]
        await self.random.choice(possible)()

    async def capture(self) -> None:
        """A purchase of today."""
        gross = self.random.randint(1, 5_000)
        self.charges.append((await self.wallet.capture(gross, fee=gross * 15 // 1_000), gross))

    async def late_capture(self) -> None:
        """A purchase whose day may be released already."""
        gross = self.random.randint(1, 5_000)
        await self.wallet.capture(gross, fee=gross * 15 // 1_000, day=self.random.choice(self.charges)[0])

    async def days(self) -> None:
        """Time passes; the worker may or may not have come by."""
        await self.wallet.pass_days(self.random.choice([0, 1, 1, 3]))

    async def reserve(self) -> None:
        """A refund of some charge, sometimes far beyond what is there."""
        day, gross = self.random.choice(self.charges)
        amount = self.random.choice([gross, max(1, gross // 3), 200_000])
        reservation = self.wallet.ids.new("ltr")
        refused = await self.wallet.reserve(reservation, amount, day)
        if refused:
            assert refused[0].code is Code.EXCEEDS_CREDITS
            self.refused += 1
        else:
            self.open[reservation] = (amount, day)

    async def settle(self) -> None:
        """The PSP has paid one."""
        reservation = self.random.choice(list(self.open))
        del self.open[reservation]
        await self.wallet.settle(reservation)

    async def fail(self) -> None:
        """The PSP has refused one."""
        reservation = self.random.choice(list(self.open))
        await self.wallet.fail(reservation, *self.open.pop(reservation))

    async def found(self) -> None:
        """A refund that nobody had reserved turns up in the PSP's file."""
        day, gross = self.random.choice(self.charges)
        assert await self.wallet.book(events.refund_found(self.wallet.books, self.wallet.ids, amount=gross, day=day, refund="re_2")) == []
        await self.wallet.entry("refund", -gross, day, source="re_2")


@pytest.mark.parametrize("seed", range(6))
async def test_wallet_ledger_and_balance_transactions_agree_after_every_step(db: Database, seed: int) -> None:
    """And in the end, when all days are released, everything is available."""
    wallet = Wallet(db)
    life = Life(wallet, Random(seed))
    for _ in range(STEPS):
        await life.step()
        assert await wallet.agrees(), f"seed {seed}"
    await wallet.pass_days(10)
    assert (await wallet.balance())[0] == 0
    assert await wallet.agrees()
