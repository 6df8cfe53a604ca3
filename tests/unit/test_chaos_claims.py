"""What the experiment makes of a buyer's and a till's history: each of its judges can say yes, and no."""

from collections import Counter
from types import SimpleNamespace

import pytest
from chaos import claims
from chaos.history import History, Line, read, told
from chaos.page import NOT_CHARGED, PAID, word_of
from chaos.purse import OPENING, account_of, lacking
from chaos.records import Records

from payment_page import Seen

A, B = "4242430000000017", "4242430000000025"
TEN_EURO = Counter(eur=1000)


def records(lines=(), *, taken=None, sessions=None, shown=None) -> Records:
    """Records of which only these are looked at."""
    books = SimpleNamespace()
    return Records(
        lines=sorted(lines, key=lambda line: line.at), truth=books, books=books, shown=shown or {}, webhooks={}, endpoints={}, counted={},
        sent={}, opinions={}, taken=taken or {}, sessions={"cs_1": {"status": "expired", "payment_intent": "pi_1"} | (sessions or {})},
    )  # fmt: skip


def asked(began: int, ended: int, state: str = "", *, card: str = "", op: str = "buy", method: str = "", phase: str = "ok") -> list[Line]:
    """One request of the buyer of an order over ten euro, and what came of it; with a card it is a form."""
    known = {
        "object": "cs_1", "amount": 1000, "currency": "eur", "method": method or ("POST" if card else "GET"),
        "params": {"number": card} if card else None,
    }  # fmt: skip
    answer = [] if phase == "lost" else [Line(ended, 0, phase, op, asked=began, state=state, **known)]
    return [Line(began, 0, "invoke", op, **known), *answer]


def shown_at_reader(number: str, status: int = 200, state: str = "", phase: str = "ok", error: str = "") -> list[Line]:
    """A card is held to a reader for pi_1, and this is what the till is told."""
    params = {"card_present": {"number": number}}
    answer = Line(2, 0, phase, "present", key=number, status=status, state=state, object="pi_1" if status == 200 else "", error=error)
    return [Line(1, 0, "invoke", "present", key=number, params=params), answer]


PAID_ONCE = [*asked(1, 2, "form"), *asked(3, 4, card=A), *asked(5, 6, PAID)]


def test_an_order_that_one_card_has_paid_is_right():
    """Charged once, shown as paid, complete."""
    right = records(PAID_ONCE, taken={A: TEN_EURO}, sessions={"status": "complete"})
    for judge in (claims.i1_one_order_one_charge, claims.i2_shown_as_paid, claims.i4_not_charged):
        assert list(judge(right)) == []


@pytest.mark.parametrize("taken", [{A: TEN_EURO, B: TEN_EURO}, {A: Counter(eur=2000)}, {A: Counter(usd=1000)}])
def test_an_order_that_is_charged_twice_or_wrongly_is_found(taken):
    """Two cards, one card twice, another currency."""
    lines = [*PAID_ONCE, *asked(7, 8, card=B)]
    assert len(list(claims.i1_one_order_one_charge(records(lines, taken=taken)))) == 1


@pytest.mark.parametrize(
    ("lines", "taken", "status", "count"),
    [
        # Shown as paid, and the bank has nothing; the last page and the session are no better.
        (PAID_ONCE, {}, "complete", 3),
        (PAID_ONCE, {A: TEN_EURO}, "expired", 1),
        ([*PAID_ONCE, *asked(9, 10, "waiting")], {A: TEN_EURO}, "complete", 1),
        ([*asked(3, 4, card=A), *asked(5, 6, NOT_CHARGED)], {}, "expired", 0),
        ([*asked(3, 4, card=A), *asked(5, 6, "form")], {}, "open", 0),
        ([*asked(3, 4, card=A), *asked(5, 6, NOT_CHARGED)], {}, "complete", 1),
        ([*asked(3, 4, card=A, phase="lost")], {}, "expired", 1),
    ],
)  # fmt: skip
def test_the_last_word_of_page_and_merchant_is_held_against_the_bank(lines, taken, status, count):
    """Paid is paid, everything else is not, and something is said."""
    assert len(list(claims.i2_shown_as_paid(records(lines, taken=taken, sessions={"status": status})))) == count


def test_a_session_that_was_acknowledged_exists():
    """Also one that no buyer was sent to."""
    lost = Line(1, 0, "ok", "order", object="cs_2", status=200)
    assert len(list(claims.i2_shown_as_paid(records([lost])))) == 1


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        # Told so after all was answered: by looking, and by the answer to the form itself.
        ([*asked(1, 2, card=A), *asked(3, 4, NOT_CHARGED)], True),
        ([*asked(1, 2, NOT_CHARGED, card=A)], True),
        # Another card was refused before; this one came later.
        ([*asked(1, 2, card=B), *asked(3, 4, NOT_CHARGED), *asked(5, 6, card=A)], False),
        # Its form, or another of the same, was still under way, or nobody knows what became of it.
        ([*asked(1, 9, card=A), *asked(3, 4, NOT_CHARGED)], False),
        ([*asked(1, 9, card=A), *asked(2, 4, NOT_CHARGED, card=A)], False),
        ([*asked(1, 2, card=A, phase="info"), *asked(3, 4, NOT_CHARGED)], False),
        # The refusal of one form says nothing of another one's card.
        ([*asked(1, 2, card=A), *asked(3, 4, NOT_CHARGED, card=B)], False),
        # He had gone to his bank since, or was only offered another card.
        ([*asked(1, 2, card=A), *asked(3, 4, NOT_CHARGED), *asked(5, 6, card=A, op="bank")], False),
        ([*asked(1, 2, card=A), *asked(3, 4, NOT_CHARGED, op="other card")], False),
        # What came back from the bank is the word itself.
        ([*asked(1, 2, card=A), *asked(3, 4, NOT_CHARGED, card=A, op="bank", method="GET")], True),
    ],
)  # fmt: skip
def test_nothing_was_charged_is_a_promise_about_the_cards_before(lines, found):
    """And about no other."""
    assert bool(list(claims.i4_not_charged(records(lines, taken={A: TEN_EURO})))) is found
    assert list(claims.i4_not_charged(records(lines))) == []


@pytest.mark.parametrize(
    ("told", "taken", "found"),
    [
        (shown_at_reader(A, state="succeeded"), TEN_EURO, False),
        (shown_at_reader(A, state="succeeded"), Counter(), True),
        (shown_at_reader(A, state="succeeded"), Counter(eur=999), True),
        (shown_at_reader(A, state="failed"), Counter(), False),
        (shown_at_reader(A, state="failed"), TEN_EURO, True),
        (shown_at_reader(A), TEN_EURO, True),
        (shown_at_reader(A, 400, error="terminal_reader_busy"), TEN_EURO, True),
        (shown_at_reader(A, 500, phase="info"), TEN_EURO, False),
        ([*shown_at_reader(A, 503, phase="fail"), Line(3, 0, "left", "present", key=A)], TEN_EURO, True),
        ([*shown_at_reader(A, 500, phase="info"), Line(3, 0, "left", "present", key=A)], TEN_EURO, False),
    ],
)  # fmt: skip
def test_what_a_till_is_told_is_held_against_the_buyers_account(told, taken, found):
    """Paid to the cent, or whole; what is not known is no word."""
    held = records(told, taken={A: taken}, shown={"pi_1": {"amount": 1000, "currency": "eur"}})
    assert bool(list(claims.till_told_the_truth(held))) is found


def test_only_a_payment_that_another_card_was_tried_of_may_be_told_as_failed_before_it_is_paid():
    """At the page two cards, at the till two hand-offs to the reader, whose repeats are none; or nobody knows how many."""
    assert claims.tried_again(records(PAID_ONCE)) == set()
    assert claims.tried_again(records([*PAID_ONCE, *asked(7, 8, card=B)])) == {"pi_1"}
    handed = [Line(at, 0, "invoke", "process", key=key, params={"payment_intent": "pi_2"}) for at, key in ((1, "a"), (2, "a"), (3, "b"))]
    assert claims.tried_again(records([*PAID_ONCE, *handed[:2]])) == set()
    assert claims.tried_again(records([*PAID_ONCE, *handed])) == {"pi_2"}
    assert claims.tried_again(records([])) == {"pi_1"}


@pytest.mark.parametrize(
    ("status", "html", "location", "posted", "word"),
    [
        (200, "<h2>Payment complete</h2>", "", False, PAID),
        (200, "<h2>Checking with your bank</h2> you will not be charged twice", "", False, "waiting"),
        (200, "<h2>This page has expired</h2><p>Nothing was charged. Please go back</p>", "", False, NOT_CHARGED),
        (200, '<div class="alert"><strong>Your card was not charged</strong></div><input name="try" value="2">', "", False, NOT_CHARGED),
        (200, '<input name="try" value="1">', "", False, "form"),
        (422, '<div class="alert">Please check what is marked</div><input name="try" value="1">', "", True, "form"),
        (500, "<h1>We are not sure yet</h1>", "", True, "unknown"),
        (503, "<h1>One moment, please</h1> Nothing was charged by this", "", True, NOT_CHARGED),
        (503, "<h1>One moment, please</h1> Nothing was charged by this", "", False, "down"),
        (303, "", "/c/cs_1?step=next", True, ""),
        (303, "", "http://x/c/cs_1?redirect_status=succeeded", False, PAID),
        (303, "", "http://x/c/cs_1?redirect_status=failed", False, NOT_CHARGED),
        (303, "", "http://x/c/cs_1?redirect_status=pending", False, "waiting"),
    ],
)  # fmt: skip
def test_what_the_page_says_about_the_money_is_read_from_its_words(status, html, location, posted, word):
    """Paid, not charged, not known yet, or nothing."""
    assert word_of(Seen(status, {"location": location}, html), posted=posted) == word


def test_a_cards_account_tells_what_it_lacks():
    """Held or spent, in each currency; one that is whole lacks nothing."""
    shown = {"eur": {"balance": OPENING * 100 - 7, "held": 3}, "jpy": {"balance": OPENING, "held": 0}, "kwd": {"balance": OPENING * 1000, "held": 0}}
    assert lacking({"accounts": [{"balances": shown}]}) == {"eur": 10}
    assert lacking({"accounts": [{"balances": {}}]}) == {}
    assert account_of(A) == "424243-1"


def test_buyers_and_clients_write_files_of_their_own_that_are_read_as_one(tmp_path):
    """In the order of what happened; an answer names its request."""
    client, buyer = History(tmp_path, 3), History(tmp_path, 3, "buyer")
    at = buyer.write("invoke", "buy")
    client.write("invoke", "pay", key="k")
    buyer.write("ok", "buy", asked=at)
    for history in (client, buyer):
        history.close()
    assert [(line.op, line.phase, line.asked == at) for line in read(tmp_path)] == [
        ("buy", "invoke", False), ("pay", "invoke", False), ("buy", "ok", True),
    ]  # fmt: skip


def test_a_readers_answer_tells_of_the_payment_in_its_hands():
    """And a session's of its amount; without an action there is nothing to tell."""
    action = b'{"process_payment_intent":{"payment_intent":"pi_1"},"status":"failed"}'
    assert told(b'{"id":"tmr_1","object":"terminal.reader","status":"online","action":%s}' % action) == {"object": "pi_1", "state": "failed"}
    assert told(b'{"id":"tmr_1","object":"terminal.reader","status":"online","action":null}') == {"object": "", "state": ""}
    assert told(b'{"id":"cs_1","object":"checkout.session","status":"open","amount_total":5,"currency":"eur"}')["amount"] == 5
