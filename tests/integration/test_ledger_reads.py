"""What can be read from the books: statements, balances as of a moment, trial balance, revenue."""

from random import Random

import asyncpg
import pytest
from ledger_world import book, open_as, owner_connection

from guilder.core.clock import DAY, ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger import store
from guilder.ledger.model import AccountKey, Kind, RevenueLine, Transfer, TrialLine
from guilder.ledger.pure import PureAccount

MERCHANT = "acct_a"


class History:
    """Batches of all sizes between a few accounts, so that both ways of finding an account's transfers are taken."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.random = Random(11)
        self.ids = Ids(ManualClock())
        self.moments: list[int] = []

    async def write(self, owner: asyncpg.Connection, start: int) -> None:
        """The rarely touched account is in few large batches, and in small ones. The book starts behind so many transfers."""
        await owner.execute("UPDATE ledger_head SET last_index = $1 WHERE NOT livemode", start)
        self.numbers = await open_as(self.db, self.ids, False, [PureAccount(merchant=MERCHANT) for _ in range(40)])
        self.rare = self.numbers[0]
        for turn, size in enumerate([1, 200, 3, 1, 120, 2, 300, 1, 1, 90]):
            transfers = [self._any() for _ in range(size)]
            transfers[self.random.randrange(size)] = self._rare(turn)
            assert await book(self.db, transfers, now=(turn + 1) * 1_000) == []
        self.rows = await self.db.fetch("SELECT * FROM ledger_transfer ORDER BY index")

    def _any(self) -> Transfer:
        debit, credit = self.random.sample(self.numbers[1:], 2)
        return Transfer(id=self.ids.new("ltr"), debit=debit, credit=credit, amount=self.random.randint(1, 9), code=1)

    def _rare(self, turn: int) -> Transfer:
        debit, credit = (self.rare, self.numbers[3]) if turn % 2 else (self.numbers[3], self.rare)
        return Transfer(id=self.ids.new("ltr"), debit=debit, credit=credit, amount=turn + 1, code=1)

    def of(self, number: int) -> list[str]:
        """The ids of an account's transfers, oldest first, found the slow way."""
        return [row["id"] for row in self.rows if number in (row["debit"], row["credit"])]


# So many transfers share a part of the balance rows' index (0005_ledger.sql).
CHUNK = 2**18


@pytest.fixture(params=[0, CHUNK - 340], ids=["in one chunk", "over a chunk's end"])
async def history(database: str, db: Database, request: pytest.FixtureRequest) -> History:
    """Some 700 transfers."""
    history = History(db)
    owner = await owner_connection(database)
    await history.write(owner, request.param)
    await owner.close()
    return history


async def _pages(db: Database, whose, *, limit: int, newest_first: bool) -> list[str]:
    """All pages of a list, by cursors."""
    read = store.statement if isinstance(whose, int) else store.transfers_of
    found: list[str] = []
    beyond = None
    for _ in range(1_000):
        page = await read(db, whose, store.Span(limit=limit, beyond=beyond, newest_first=newest_first), livemode=False)
        if not page:
            return found
        assert len(page) <= limit
        found += [transfer.id for transfer in page]
        beyond = (page[-1].index, page[-1].created_at)
    pytest.fail("the pages have no end")


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("newest_first", [True, False])
async def test_the_pages_of_a_statement_are_the_accounts_transfers(history: History, limit: int, newest_first: bool) -> None:
    """None missing, none twice, in the order of the book: for a rare and for a busy account."""
    for number in (history.rare, history.numbers[5]):
        expected = history.of(number)
        assert await _pages(history.db, number, limit=limit, newest_first=newest_first) == (expected[::-1] if newest_first else expected)


@pytest.mark.parametrize("near", [0, 40, store.NEAR_MAX])
@pytest.mark.parametrize("newest_first", [True, False])
async def test_the_pages_of_a_merchant_are_all_its_transfers_and_nobody_elses(
    history: History, monkeypatch: pytest.MonkeyPatch, newest_first: bool, near: int
) -> None:
    """However few transfers of the book are looked at first; another merchant's stand between them."""
    sql = store.LISTS[store.NEAR, newest_first].replace(str(store.NEAR_MAX), str(near))
    monkeypatch.setitem(store.LISTS, (store.NEAR, newest_first), sql)
    other = await open_as(history.db, history.ids, False, [PureAccount(merchant="acct_b"), PureAccount(merchant="acct_b")])
    await book(history.db, [Transfer(id="other", debit=other[0], credit=other[1], amount=1, code=1)], now=20_000)
    expected = [row["id"] for row in history.rows]
    assert await _pages(history.db, MERCHANT, limit=33, newest_first=newest_first) == (expected[::-1] if newest_first else expected)
    assert await _pages(history.db, "acct_b", limit=33, newest_first=newest_first) == ["other"]
    assert await store.transfers_of(history.db, MERCHANT, store.Span(limit=9), livemode=True) == []


async def test_a_statement_can_be_bounded_in_time(history: History) -> None:
    """Both ends included."""
    times = sorted({row["created_at"] for row in history.rows})
    span = store.Span(limit=100, since=times[2], until=times[5])
    found = await store.statement(history.db, history.rare, span, livemode=False)
    assert {transfer.created_at for transfer in found} == set(times[2:6])


async def test_a_balance_as_of_any_moment_is_the_sum_of_what_was_booked_until_then(history: History) -> None:
    """Between two flushes it is that of the earlier one; before the first it is zero."""
    for number in (history.rare, history.numbers[7]):
        for at in range(0, 11_000, 500):
            found = await store.balance_at(history.db, number, at)
            assert found is not None
            until = [row for row in history.rows if row["created_at"] <= at]
            assert found.debits_posted == sum(row["amount"] for row in until if row["debit"] == number)
            assert found.credits_posted == sum(row["amount"] for row in until if row["credit"] == number)


async def test_a_balance_of_the_future_is_answered_for_the_newest_moment_of_the_book(history: History) -> None:
    """So that no answer is ever contradicted by a later one."""
    newest = history.rows[-1]["created_at"]
    found = await store.balance_at(history.db, history.rare, newest + DAY)
    assert found is not None
    assert found.as_of == newest
    assert await store.balance_at(history.db, 10**12, newest) is None


async def test_what_happened_once_is_read_the_same_for_ever(history: History) -> None:
    """Balances of the past do not move when the present does."""
    before = [await store.balance_at(history.db, number, 5_500) for number in history.numbers]
    await book(history.db, [Transfer(id="late", debit=history.numbers[0], credit=history.numbers[1], amount=1, code=1)], now=1)
    assert [await store.balance_at(history.db, number, 5_500) for number in history.numbers] == before


async def test_a_resolved_transfer_names_what_resolved_it(db: Database) -> None:
    """Pending ones say by what they were posted or voided."""
    debit, credit = await open_as(db, Ids(ManualClock()), False, [PureAccount(merchant=MERCHANT), PureAccount(merchant=MERCHANT)])
    await book(db, [Transfer(id="p", debit=debit, credit=credit, amount=5, kind=Kind.PENDING, code=1, reference="ch_1")], now=1)
    await book(db, [Transfer(id="v", kind=Kind.VOID, pending_id="p", code=2, reference="ch_1")], now=2)
    found = await store.transfers_about(db, ["ch_1"], merchant=MERCHANT, livemode=False)
    assert [(one.id, one.kind, one.amount, one.pending_id, one.resolved_by) for one in found] == [
        ("p", Kind.PENDING, 5, None, "v"),
        ("v", Kind.VOID, 5, "p", None),
    ]


async def test_the_trial_balance_is_by_currency_and_kind(history: History) -> None:
    """Debits equal credits per currency."""
    (line,) = await store.trial_balance(history.db, merchant=MERCHANT, livemode=False)
    total = sum(row["amount"] for row in history.rows)
    assert line == TrialLine(currency="eur", kind="own", debits_posted=total, credits_posted=total, debits_pending=0, credits_pending=0)
    assert await store.trial_balance(history.db, merchant=MERCHANT, livemode=True) == []


async def test_revenue_is_what_moved_on_the_fee_accounts_day_by_day(db: Database) -> None:
    """From the balance rows at the ends of the days; a day without movement has no line."""
    keys = [AccountKey(MERCHANT, False, MERCHANT, "pending", "eur", 7), AccountKey(MERCHANT, False, "guilder", "fees", "eur")]
    accounts = [store.NewAccount(id=f"lac_{place}", key=key) for place, key in enumerate(keys)]
    funds, fees = (opened.number for opened in await store.open_accounts(db, False, accounts, now=1))
    for place, (day, amount) in enumerate([(100, 15), (100, 5), (103, 8)]):
        await book(db, [Transfer(id=f"f{place}", debit=funds, credit=fees, amount=amount, code=2)], now=day * DAY + place)
    await book(db, [Transfer(id="back", debit=fees, credit=funds, amount=3, code=2)], now=104 * DAY)
    lines = await store.revenue(db, livemode=False, since_day=100, until_day=103)
    assert lines == [
        RevenueLine(day=100, currency="eur", account=MERCHANT, amount=20),
        RevenueLine(day=103, currency="eur", account=MERCHANT, amount=8),
    ]
    (last,) = await store.revenue(db, livemode=False, since_day=104, until_day=110, merchant=MERCHANT)
    assert last.amount == -3
    assert await store.revenue(db, livemode=False, since_day=0, until_day=200, merchant="acct_b") == []


async def test_an_account_is_found_by_its_own_merchant_and_mode_only(database: str, history: History) -> None:
    """For everybody else it does not exist."""
    owner = await owner_connection(database)
    id_ = await owner.fetchval("SELECT id FROM ledger_account WHERE number = $1", history.rare)
    await owner.close()
    found = await store.account(history.db, id_, merchant=MERCHANT, livemode=False)
    assert found is not None
    assert (found.number, found.key.owner) == (history.rare, id_)
    assert await store.account(history.db, id_, merchant="acct_b", livemode=False) is None
    assert await store.account(history.db, id_, merchant=MERCHANT, livemode=True) is None
