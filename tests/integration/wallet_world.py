"""A merchant's wallet: business events booked as the payments flush does it, balance transactions beside them."""

from collections.abc import Sequence

from guilder.core.clock import DAY, ManualClock, day_of
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger.accounts import Accounts
from guilder.ledger.columns import encode
from guilder.ledger.model import Refused, Transfer
from guilder.wallet import events, release, store
from guilder.wallet.chart import Books, Chart
from guilder.wallet.model import Release

MERCHANT = "acct_00000000000000000000wall"
PENDING_DAYS = 2


class Wallet:
    """One merchant in one currency. Amounts are minor units; `overdraft` is in whole units."""

    def __init__(self, db: Database, *, currency: str = "eur", overdraft: int = 1000) -> None:
        self.db = db
        self.clock = ManualClock()
        self.ids = Ids(self.clock)
        self.books = Books(MERCHANT, False, currency, "cardnet")
        self.overdraft = overdraft
        self.accounts = Accounts(db, self.clock, self.ids, Chart(self._overdraft_units).opening)

    async def _overdraft_units(self, _account: str, _livemode: bool) -> int:
        return self.overdraft

    @property
    def day(self) -> int:
        """The day on which what is captured now becomes available."""
        return day_of(self.clock.now()) + PENDING_DAYS

    async def book(self, *chains: Sequence[Transfer]) -> list[Refused]:
        """Book chains in one batch; the exceptions."""
        transfers = [transfer for chain in chains for transfer in chain]
        columns = encode(transfers, await self.accounts.numbers_of(transfers))
        return await store.book(self.db, False, columns, now=self.clock.now())

    async def entry(self, type_: str, amount: int, day: int, *, fee: int = 0, source: str = "ch_1") -> str:
        """A balance transaction, as the payments flush writes it beside its transfers."""
        id_ = self.ids.new("txn")
        await self.db.execute(
            "SELECT balance_transaction_append(false, $1, "
            "ARRAY[ROW(1, $2, $3, 'pi_1', $4, $1, $5, $6, $7, $8, $9, NULL)::balance_in], '{true}')",
            self.clock.now(), id_, MERCHANT, day, amount, fee, self.books.currency, type_, source,
        )  # fmt: skip
        return id_

    async def capture(self, gross: int, *, fee: int = 0, day: int | None = None, charge: str = "ch_1") -> int:
        """A purchase; returns its day."""
        day = self.day if day is None else day
        assert await self.book(events.captured(self.books, self.ids, gross=gross, fee=fee, day=day, charge=charge)) == []
        await self.entry("charge", gross, day, fee=fee, source=charge)
        return day

    async def reserve(self, reservation: str, amount: int, day: int) -> list[Refused]:
        """Ask for a refund; its balance transaction only where the money could be set aside."""
        refused = await self.book(events.refund_reserved(self.books, reservation=reservation, amount=amount, day=day, refund="re_1"))
        if not refused:
            await self.entry("refund", -amount, day, source="re_1")
        return refused

    async def settle(self, reservation: str) -> None:
        """The PSP has paid the refund."""
        assert await self.book(events.refund_settled(self.ids, reservation=reservation, refund="re_1")) == []

    async def fail(self, reservation: str, amount: int, day: int) -> None:
        """The PSP refused the refund."""
        assert await self.book(events.refund_failed(self.ids, reservation=reservation, refund="re_1")) == []
        await self.entry("refund_failure", amount, day, source="re_1")

    async def pass_days(self, days: int) -> list[Release]:
        """Move the clock, and let the worker release what is due."""
        self.clock.advance(days * DAY)
        return await release.run_once(self.db, self.clock, self.ids)

    async def balance(self) -> tuple[int, int]:
        """Pending and available."""
        found = await store.balance(self.db, merchant=MERCHANT, livemode=False)
        currency = self.books.currency
        return dict(found.pending).get(currency, 0), dict(found.available).get(currency, 0)

    async def transfers(self) -> list[tuple[str, str, int, int]]:
        """All transfers: from and to (kind of account), amount, kind."""
        rows = await self.db.fetch(
            "SELECT d.kind AS debit, c.kind AS credit, t.amount, t.kind FROM ledger_transfer t "
            "JOIN ledger_account d ON d.number = t.debit JOIN ledger_account c ON c.number = t.credit ORDER BY t.index"
        )
        return [tuple(row) for row in rows]

    async def agrees(self) -> bool:
        """Wallet = ledger = balance transactions, and the trial balance is zero."""
        trial = await self.db.fetch("SELECT * FROM ledger_trial_balance")
        zero = all(row["debits_posted"] == row["credits_posted"] and row["debits_pending"] == row["credits_pending"] for row in trial)
        return zero and await store.differences(self.db) == []
