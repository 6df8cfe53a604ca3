"""Pending funds become available day by day, whatever happens to them before, meanwhile and afterwards."""

import asyncio

import pytest
from msgspec.structs import replace
from wallet_world import MERCHANT, Wallet

from guilder.core.clock import DAY
from guilder.db import Database
from guilder.db.pages import Page
from guilder.ledger.model import Code, Refused
from guilder.wallet import events, release, store
from guilder.wallet.model import Receivable


@pytest.fixture
async def wallet(db: Database) -> Wallet:
    """A merchant with an overdraft of 1,000.00."""
    return Wallet(db)


async def test_a_capture_is_pending_until_its_day_is_released(wallet: Wallet) -> None:
    """Not by the clock: when the release row is there."""
    day = await wallet.capture(10_000, fee=150)
    assert await wallet.balance() == (9_850, 0)
    assert await wallet.pass_days(1) == []
    wallet.clock.advance(DAY)
    assert await wallet.balance() == (9_850, 0)
    (released,) = await wallet.pass_days(0)
    assert (released.day, released.amount, released.account) == (day, 9_850, MERCHANT)
    assert await wallet.balance() == (0, 9_850)
    assert await wallet.pass_days(5) == []
    assert await wallet.agrees()


async def test_money_that_counts_at_once_is_available_at_once(wallet: Wallet) -> None:
    """Day 0: no day account, no release."""
    await wallet.capture(10_000, fee=150, day=0)
    assert await wallet.balance() == (0, 9_850)
    assert await wallet.agrees()


async def test_a_kept_fee_does_not_stop_a_first_full_refund(wallet: Wallet) -> None:
    """The day goes below zero by the fee, within the overdraft; available makes up for it at the release."""
    day = await wallet.capture(10_000, fee=150)
    assert await wallet.reserve("r1", 10_000, day) == []
    assert await wallet.balance() == (-150, 0)
    assert await wallet.agrees()
    (released,) = await wallet.pass_days(2)
    assert released.amount == -150
    assert await wallet.balance() == (0, -150)
    await wallet.settle("r1")
    assert await wallet.balance() == (0, -150)
    assert await wallet.agrees()
    assert await store.receivables(wallet.db, livemode=False) == [Receivable(account=MERCHANT, currency="eur", amount=150)]


async def test_a_day_that_nets_to_zero_is_released_without_a_transfer(wallet: Wallet) -> None:
    """The release row alone makes its balance transactions available."""
    day = await wallet.capture(500)
    assert await wallet.reserve("r1", 500, day) == []
    await wallet.settle("r1")
    before = len(await wallet.transfers())
    (released,) = await wallet.pass_days(2)
    assert (released.amount, released.transfer) == (0, None)
    assert len(await wallet.transfers()) == before
    entries = await store.balance_transactions_page(wallet.db, Page(), merchant=MERCHANT, livemode=False)
    assert {entry.available for entry in entries[0]} == {True}
    assert await wallet.agrees()


async def test_a_refund_that_fails_after_the_release_gives_its_money_to_available(wallet: Wallet) -> None:
    """What the void frees on the released day moves on in the same chain."""
    day = await wallet.capture(1_000, fee=15)
    assert await wallet.reserve("r1", 400, day) == []
    await wallet.pass_days(2)
    assert await wallet.balance() == (0, 585)
    await wallet.fail("r1", 400, day)
    assert await wallet.balance() == (0, 985)
    assert await wallet.agrees()


async def test_a_refund_that_fails_before_the_release_stays_on_its_day(wallet: Wallet) -> None:
    """Nothing moves on while the day is pending."""
    day = await wallet.capture(1_000, fee=15)
    assert await wallet.reserve("r1", 400, day) == []
    await wallet.fail("r1", 400, day)
    assert await wallet.balance() == (985, 0)
    assert await wallet.agrees()


async def test_a_refund_after_the_release_draws_on_available(wallet: Wallet) -> None:
    """Whoever asks names the charge's day; the ledger function knows better, under the head's lock."""
    day = await wallet.capture(1_000, fee=15)
    await wallet.pass_days(2)
    assert await wallet.reserve("r1", 400, day) == []
    assert (await wallet.transfers())[-1] == ("available", "psp_clearing", 400, 1)
    await wallet.settle("r1")
    assert await wallet.balance() == (0, 585)
    assert await wallet.agrees()


async def test_what_is_credited_to_a_released_day_moves_on_to_available(wallet: Wallet) -> None:
    """A capture whose outcome comes late; its fee is drawn from available too."""
    day = await wallet.capture(1_000, fee=15)
    await wallet.pass_days(2)
    await wallet.capture(2_000, fee=30, day=day, charge="ch_2")
    assert (await wallet.transfers())[-3:] == [
        ("psp_clearing", "pending", 2_000, 0),
        ("pending", "available", 2_000, 0),
        ("available", "fees", 30, 0),
    ]
    assert await wallet.balance() == (0, 2_955)
    assert await wallet.agrees()


async def test_repeating_gives_exists_however_the_day_stood(wallet: Wallet) -> None:
    """Booked before the release and repeated after it, and booked after it and repeated."""
    wallet_events = [
        events.captured(wallet.books, wallet.ids, gross=1_000, fee=15, day=(day := wallet.day), charge="ch_1"),
        events.refund_reserved(wallet.books, reservation="r1", amount=300, day=day, refund="re_1"),
    ]
    assert await wallet.book(*wallet_events) == []
    await wallet.pass_days(2)
    assert await wallet.book(*wallet_events) == [Refused(place, Code.EXISTS) for place in range(3)]
    later = [
        events.captured(wallet.books, wallet.ids, gross=500, fee=8, day=day, charge="ch_2"),
        events.refund_reserved(wallet.books, reservation="r2", amount=300, day=day, refund="re_2"),
        events.refund_failed(wallet.ids, reservation="r1", refund="re_1"),
    ]
    assert await wallet.book(*later) == []
    count = len(await wallet.transfers())
    assert await wallet.book(*later) == [Refused(place, Code.EXISTS) for place in range(4)]
    assert len(await wallet.transfers()) == count


async def test_the_overdraft_is_the_limit_and_facts_are_not(wallet: Wallet) -> None:
    """Beyond the overdraft a refund is refused and leaves nothing behind; a refund that has happened is booked."""
    day = await wallet.capture(10_000)
    assert await wallet.reserve("r1", 110_001, day) == [Refused(0, Code.EXCEEDS_CREDITS)]
    assert await wallet.reserve("r1", 110_000, day) == []
    assert await wallet.reserve("r2", 1, day) == [Refused(0, Code.EXCEEDS_CREDITS)]
    assert await wallet.book(events.refund_found(wallet.books, wallet.ids, amount=700, day=day, refund="re_9")) == []
    await wallet.entry("refund", -700, day, source="re_9")
    assert await wallet.balance() == (-100_700, 0)
    assert await wallet.agrees()
    assert await store.receivables(wallet.db, livemode=False, merchant=MERCHANT) == [
        Receivable(account=MERCHANT, currency="eur", amount=100_700)
    ]


async def test_a_refused_reservation_does_not_touch_its_neighbours(wallet: Wallet) -> None:
    """Three in one batch, the second beyond the funds: it alone comes back."""
    day = await wallet.capture(1_000)
    chains = [
        events.refund_reserved(wallet.books, reservation=f"r{place}", amount=amount, day=day, refund="re_1")
        for place, amount in enumerate((300, 900_000, 300))
    ]
    assert await wallet.book(*chains) == [Refused(1, Code.EXCEEDS_CREDITS)]
    rows = await wallet.db.fetch("SELECT id FROM ledger_transfer WHERE kind = 1 ORDER BY index")
    assert [row["id"] for row in rows] == ["r0", "r2"]


async def test_an_overdraft_counts_in_whole_units_of_its_currency(db: Database) -> None:
    """1,000 are 1,000 yen and 1,000.000 dinars."""
    for currency, minor in (("jpy", 1_000), ("kwd", 1_000_000)):
        wallet = Wallet(db, currency=currency)
        day = await wallet.capture(5)
        assert await wallet.reserve(f"{currency}-1", 5 + minor + 1, day) == [Refused(0, Code.EXCEEDS_CREDITS)]
        assert await wallet.reserve(f"{currency}-2", 5 + minor, day) == []


async def test_a_changed_overdraft_holds_for_accounts_that_exist(wallet: Wallet) -> None:
    """Whoever trusts a merchant less from today on need not wait for tomorrow's accounts."""
    day = await wallet.capture(100)
    assert await store.set_overdraft(wallet.db, merchant=MERCHANT, livemode=False, currency="eur", overdraft=50) == 2
    assert await wallet.reserve("r1", 151, day) == [Refused(0, Code.EXCEEDS_CREDITS)]
    assert await wallet.reserve("r1", 150, day) == []


async def test_an_authorization_is_held_and_captured_in_part(wallet: Wallet) -> None:
    """The hold is no money of the merchant's; the capture is, and the rest is released by the same posting."""
    held = events.authorized(wallet.books, hold="h1", amount=1_000, charge="ch_1")
    assert await wallet.book(held) == []
    assert await wallet.balance() == (0, 0)
    captured = events.hold_captured(wallet.books, wallet.ids, hold="h1", amount=600, fee=9, day=wallet.day, charge="ch_1")
    assert await wallet.book(captured) == []
    await wallet.entry("charge", 600, wallet.day, fee=9)
    assert await wallet.balance() == (591, 0)
    (authorized,) = await wallet.db.fetch("SELECT * FROM ledger_account_balance WHERE kind = 'authorized'")
    assert (authorized["credits_pending"], authorized["credits_posted"] - authorized["debits_posted"]) == (0, 0)
    assert await wallet.agrees()


async def test_a_hold_can_be_captured_more_than_once_and_released(wallet: Wallet) -> None:
    """Where the connector can: each capture holds the rest anew; what is never captured is voided."""
    await wallet.book(events.authorized(wallet.books, hold="h1", amount=1_000, charge="ch_1"))
    first = events.hold_captured(
        wallet.books, wallet.ids, hold="h1", amount=600, fee=0, day=wallet.day, charge="ch_1", rest=("h2", 400)
    )  # fmt: skip
    assert await wallet.book(first) == []
    assert await wallet.book(events.hold_released(wallet.ids, hold="h2", charge="ch_1")) == []
    await wallet.entry("charge", 600, wallet.day)
    assert await wallet.balance() == (600, 0)
    assert await wallet.agrees()


async def test_an_authorization_taken_and_captured_in_one_flush_is_in_order(wallet: Wallet) -> None:
    """The capture names a hold of the same batch."""
    chains = [
        events.authorized(wallet.books, hold="h1", amount=700, charge="ch_1"),
        events.hold_captured(wallet.books, wallet.ids, hold="h1", amount=700, fee=0, day=wallet.day, charge="ch_1"),
    ]
    assert await wallet.book(*chains) == []
    assert (await wallet.balance())[0] == 700


async def test_releases_by_two_workers_at_once_release_once(wallet: Wallet) -> None:
    """Both may try; the head's lock lets one be the first."""
    await wallet.capture(1_000)
    wallet.clock.advance(2 * DAY)
    both = await asyncio.gather(*(release.run_once(wallet.db, wallet.clock, wallet.ids) for _ in range(2)))
    assert sorted(len(released) for released in both) == [0, 1]
    assert await wallet.agrees()


async def test_more_days_than_fit_into_one_statement_are_released_in_turns(wallet: Wallet) -> None:
    """The limit bounds how long payments wait for the head."""
    for _ in range(5):
        await wallet.capture(100)
        wallet.clock.advance(DAY)
    wallet.clock.advance(2 * DAY)
    counts = [len(await release.run_once(wallet.db, wallet.clock, wallet.ids, limit=2)) for _ in range(4)]
    assert counts == [2, 2, 1, 0]
    assert await wallet.balance() == (0, 500)
    assert await wallet.agrees()


async def test_a_chain_that_is_refused_for_what_was_added_to_it_says_why(wallet: Wallet) -> None:
    """The id of what moves on is taken by another transfer: the item that it belongs to is refused by that name, not by none."""
    await wallet.capture(10_000)
    day = wallet.day
    await wallet.pass_days(2)
    late = events.captured(wallet.books, wallet.ids, gross=500, fee=0, day=day, charge="ch_2")
    taken = events.captured(wallet.books, wallet.ids, gross=1, fee=0, day=wallet.day, charge="ch_3")
    assert await wallet.book([replace(taken[0], id=f"{late[0].id}.on")]) == []
    assert [one.code for one in await wallet.book(late)] == [Code.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT]
