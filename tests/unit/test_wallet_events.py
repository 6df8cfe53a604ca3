"""Business events as transfers: the table of docs/ledger.md, line by line."""

import re
from pathlib import Path

from guilder.core.clock import ManualClock
from guilder.core.ids import Ids
from guilder.ledger.model import Kind, Transfer
from guilder.wallet import events
from guilder.wallet.chart import AT_ONCE, AccountKind, Books, overdraft_minor
from guilder.wallet.codes import Event

BOOKS = Books("acct_a", False, "eur", "cardnet")
DAY = 20_500


def _ids() -> Ids:
    return Ids(ManualClock())


def _shape(chain: tuple[Transfer, ...]) -> list[tuple[object, ...]]:
    """From, to, amount, kind, event."""
    return [(one.debit, one.credit, one.amount, one.kind, Event(one.code)) for one in chain]


def test_a_purchase_credits_its_day_and_pays_its_fee() -> None:
    """Both are facts, in one chain."""
    chain = events.captured(BOOKS, _ids(), gross=1_000, fee=15, day=DAY, charge="ch_1")
    assert _shape(chain) == [
        (BOOKS.clearing, BOOKS.funds(DAY), 1_000, Kind.POSTED, Event.CAPTURED),
        (BOOKS.funds(DAY), BOOKS.fees, 15, Kind.POSTED, Event.FEE),
    ]
    assert [one.linked for one in chain] == [True, False]
    assert all(one.fact and one.reference == "ch_1" for one in chain)


def test_no_fee_no_transfer() -> None:
    """Amounts are above zero, always."""
    (alone,) = events.captured(BOOKS, _ids(), gross=1, fee=0, day=AT_ONCE, charge="ch_1")
    assert (alone.credit, alone.linked) == (BOOKS.funds(AT_ONCE), False)


def test_a_capture_posts_the_hold_and_moves_it_to_its_day() -> None:
    """What the capture leaves is released by the posting itself, or held anew."""
    chain = events.hold_captured(BOOKS, _ids(), hold="h", amount=600, fee=9, day=DAY, charge="ch_1", rest=("h2", 400))
    assert _shape(chain) == [
        (0, 0, 600, Kind.POST, Event.HOLD_CAPTURED),
        (BOOKS.authorized, BOOKS.funds(DAY), 600, Kind.POSTED, Event.HOLD_MOVED),
        (BOOKS.funds(DAY), BOOKS.fees, 9, Kind.POSTED, Event.FEE),
        (BOOKS.clearing, BOOKS.authorized, 400, Kind.PENDING, Event.AUTHORIZED),
    ]
    assert chain[0].pending_id == "h"
    assert [one.linked for one in chain] == [True, True, True, False]


def test_a_refund_is_an_intent_and_its_outcome_resolves_it() -> None:
    """Reserved, then posted or voided whole."""
    (reserved,) = events.refund_reserved(BOOKS, reservation="r", amount=300, day=DAY, refund="re_1")
    assert _shape((reserved,)) == [(BOOKS.funds(DAY), BOOKS.clearing, 300, Kind.PENDING, Event.REFUND_RESERVED)]
    assert not reserved.fact
    (settled,) = events.refund_settled(_ids(), reservation="r", refund="re_1")
    (failed,) = events.refund_failed(_ids(), reservation="r", refund="re_1")
    assert _shape((settled, failed)) == [(0, 0, 0, Kind.POST, Event.REFUND_SETTLED), (0, 0, 0, Kind.VOID, Event.REFUND_FAILED)]


def test_a_refund_found_late_is_a_fact() -> None:
    """Its reservation is gone; it is booked without one."""
    (found,) = events.refund_found(BOOKS, _ids(), amount=300, day=DAY, refund="re_1")
    assert found.fact
    assert _shape((found,)) == [(BOOKS.funds(DAY), BOOKS.clearing, 300, Kind.POSTED, Event.REFUND_FOUND)]


def test_overdrafts_are_kept_in_minor_units() -> None:
    """By the currency's decimals."""
    assert [overdraft_minor(1_000, currency) for currency in ("eur", "jpy", "kwd")] == [100_000, 1_000, 1_000_000]


def test_the_documentation_names_every_kind_of_account_and_every_event() -> None:
    """docs/ledger.md is the chart of accounts."""
    text = (Path(__file__).parents[2] / "docs/ledger.md").read_text()
    for kind in AccountKind:
        assert f"`{kind}`" in text
    for event in Event:
        assert re.search(rf"\| {event.value} \| `{event.name.lower()}`", text), event
