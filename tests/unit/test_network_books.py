"""The memory of the bank world: money adds up, the file rebuilds it, and what is old is forgotten."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank_messages import ACQUIRER, NOON, VISA, Bank, authorization, capture, purchase, refund, reversal, void
from guilder.core.clock import DAY, HOUR, Micros
from guilder.core.currencies import CURRENCIES
from guilder.core.ensure import InvariantBroken
from guilder.iso8583 import Code, Message, Mti
from guilder.network.books import REFUNDABLE
from guilder.network.currencies import BY_LETTERS, BY_NUMBER
from guilder.network.entries import Entry, Kind, decode_line
from guilder.network.truth import Effect, effects_of

CARDS = {"visa": VISA, "refund_pending": "4000000000007726", "refund_returned": "4000000000005126"}

amounts = st.integers(0, 4)
# Who acts on an earlier operation names it by how many steps ago it was.
steps_ago = st.integers(1, 6)
steps = st.one_of(
    st.tuples(st.sampled_from([purchase, authorization]), amounts, st.sampled_from(sorted(CARDS.values()))),
    st.tuples(st.sampled_from([capture, refund]), amounts, steps_ago),
    st.tuples(st.sampled_from([void, reversal]), st.none(), steps_ago),
    st.tuples(st.just("repeat"), st.none(), steps_ago),
    st.tuples(st.just("reuse"), st.none(), steps_ago),
    st.tuples(st.just("settle"), st.none(), st.none()),
)


# What each mostly acts on, so that many steps get far; a reversal may also come before what it reverses.
ORIGINALS = {
    capture: {Mti.AUTHORIZATION},
    void: {Mti.AUTHORIZATION, Mti.VOID},
    refund: {Mti.PURCHASE, Mti.CAPTURE},
    reversal: {Mti.PURCHASE, Mti.CAPTURE, Mti.AUTHORIZATION, Mti.REVERSAL},
}


def messages_of(plan: list[tuple[Any, Any, Any]]) -> list[Message | None]:
    """The requests of a plan; None is a moment in which refunds move on."""
    messages: list[Message | None] = []
    for step, (what, amount, detail) in enumerate(plan):
        reference = f"R{step:02d}"
        earlier = [message for message in messages[-detail:] if message] if isinstance(detail, int) else []
        if isinstance(detail, str):
            messages.append(what(reference, amount, number=detail))
        elif what == "settle" or (what in ("repeat", "reuse") and not earlier):
            messages.append(None)
        elif what == "repeat":
            messages.append(earlier[0])
        elif what == "reuse":
            messages.append(purchase(earlier[0].fields[37], sent="0102030406"))
        else:
            fitting = [message.fields[37] for message in messages if message and message.mti in ORIGINALS[what]]
            original = fitting[-min(detail, len(fitting))] if fitting else f"R{step + detail:02d}"
            messages.append(what(reference, original) if amount is None else what(reference, original, amount))
    return messages


def effects(bank: Bank) -> list[Effect]:
    """The truth that the entries tell."""
    return [effect for entry in bank.entries for effect in effects_of(entry)]


def money(bank: Bank) -> dict[str, tuple[int, int]]:
    """Spent and held of each card."""
    return {name: (bank.spent(name), bank.held(name)) for name in CARDS}


@given(st.lists(steps, max_size=40))
def test_whatever_comes_in_whatever_order_truth_balances_and_file_agree(plan: list[tuple[Any, Any, Any]]) -> None:
    """The truth's sum is what the accounts lost, no more is taken back than was done, and the lines rebuild it all."""
    bank, messages = Bank(), messages_of(plan)
    for message in messages:
        if message is not None:
            bank.ask(message)
        for _, reference in bank.books.due_refunds(NOON + DAY) if message is None else []:
            bank.settle(reference)
    signs = {(Kind.CAPTURE, None): 1, (Kind.REFUND, None): -1, (Kind.REVERSAL, Kind.CAPTURE): -1, (Kind.REVERSAL, Kind.REFUND): 1}
    told = effects(bank)
    spent = sum(signs.get((effect.kind, effect.reversed or None), 0) * effect.amount for effect in told)
    assert spent == sum(spent for spent, _ in money(bank).values())
    assert spent >= 0
    assert all(held >= 0 for _, held in money(bank).values())
    again = Bank()
    for line in bank.lines():
        entry = decode_line(line)
        assert isinstance(entry, Entry)
        again.make_true(entry)
    assert money(again) == money(bank)
    for message in filter(None, messages):
        assert again.ask(message) == bank.ask(message)


def test_a_reversal_takes_back_each_effect_of_a_purchase() -> None:
    """A purchase is an authorization and a capture in the truth, and so is its reversal; a decline is nothing."""
    bank = Bank()
    bank.ask(purchase("P1", 1000))
    bank.ask(purchase("D1", number="4000000000000002"))
    bank.ask(reversal("X1", "P1"))
    bank.ask(reversal("X2", "P9"))
    told = [(effect.reference, effect.original, effect.kind, effect.reversed or None, effect.amount) for effect in effects(bank)]
    assert told == [
        ("P1", None, "authorization", None, 1000),
        ("P1", None, "capture", None, 1000),
        ("X1", "P1", "reversal", "capture", 1000),
        ("X1", "P1", "reversal", "authorization", 1000),
    ]


def test_the_truth_tells_a_void_with_the_amount_and_currency_that_it_freed() -> None:
    """Though the message need not name them."""
    bank = Bank()
    bank.ask(authorization("A1", 500, currency="392"))
    bank.ask(void("V1", "A1"))
    bank.ask(void("V2", "A1"))
    effect = effects(bank)[-1]
    assert (effect.reference, effect.kind, effect.original, effect.amount, effect.currency) == ("V1", "void", "A1", 500, "jpy")


def test_the_truth_tells_refunds_when_they_move_money() -> None:
    """One in progress when it is settled, under what it acts on; one that comes back as a reversal of itself."""
    bank = Bank()
    bank.ask(purchase("P1", number=CARDS["refund_pending"]))
    bank.ask(refund("R1", "P1"))
    assert len(effects(bank)) == 2
    bank.settle("R1")
    bank.ask(purchase("P2", number=CARDS["refund_returned"]))
    bank.ask(refund("R2", "P2"))
    bank.settle("R2")
    told = [(effect.reference, effect.original, effect.kind, effect.reversed or None) for effect in effects(bank)]
    assert [line for line in told if line[0].startswith("R")] == [
        ("R1", "P1", "refund", None), ("R2", "P2", "refund", None), ("R2", "R2", "reversal", "refund"),
    ]  # fmt: skip


def test_a_day_later_whatever_had_an_effect_is_remembered() -> None:
    """Declines go; an inquiry about anything that moved money finds it for 18 months."""
    bank = Bank()
    for message in (
        purchase("PAID", 1000), purchase("DECLINED", number="4000000000000002"), authorization("OPEN"),
        authorization("VOIDED"), void("VOID", "VOIDED"), purchase("REFUNDED", 1000), refund("REFUND", "REFUNDED", 1000),
        purchase("UNDONE"), reversal("REVERSAL", "UNDONE"), reversal("EARLY", "NEVER"),
        authorization("HELD"), capture("TAKEN", "HELD"),
    ):  # fmt: skip
        bank.ask(message)
    everything = bank.books.count()
    bank.books.sweep(NOON + DAY - HOUR)
    assert bank.books.count() == everything
    bank.books.sweep(NOON + DAY)
    assert bank.books.find(ACQUIRER, "DECLINED") is None
    assert all(bank.books.find(ACQUIRER, name) for name in ("PAID", "VOID", "REFUND", "REVERSAL", "TAKEN"))
    assert bank.books.count() == everything - 1
    bank.books.sweep(NOON + DAY + REFUNDABLE)
    assert bank.books.count() == 0


def test_what_is_kept_can_still_be_captured_and_refunded() -> None:
    """Days later: the hold, the purchase and the capture are where they were."""
    bank = Bank()
    bank.ask(authorization("A1", 1000))
    bank.ask(purchase("P1", 1000))
    bank.now = Micros(NOON + 6 * DAY)
    bank.books.sweep(bank.now)
    codes = [bank.code(capture("C1", "A1", 800)), bank.code(refund("R1", "C1", 800)), bank.code(refund("R2", "P1", 1000))]
    assert codes == [Code.APPROVED] * 3
    assert (bank.spent(), bank.held()) == (0, 0)


def test_looking_for_what_is_old_is_skipped_until_it_is_worth_it() -> None:
    """So that it can be called all the time."""
    bank = Bank()
    bank.books.sweep(NOON)
    bank.ask(purchase("D1", number="4000000000000002"))
    bank.books.sweep(NOON + 1)
    assert bank.books.count() == 1


def test_an_entry_that_moves_money_without_an_account_breaks_an_invariant() -> None:
    """A truth file that says so is not believed."""
    bank = Bank()
    with pytest.raises(InvariantBroken):
        bank.make_true(Entry(NOON, Kind.PURCHASE, ACQUIRER, "P1", "0102030405", 1, "eur", Code.APPROVED))
    with pytest.raises(InvariantBroken):
        bank.make_true(Entry(NOON, Kind.REFUND_SETTLED, ACQUIRER, "P2", "0102030405", 1, "eur", Code.APPROVED))


def test_the_two_currency_tables_agree() -> None:
    """They are written apart on purpose; every currency that core knows, the bank world knows by number and decimals."""
    ours = {code: (currency.number, currency.exponent) for code, currency in CURRENCIES.items()}
    theirs = {code: (BY_LETTERS[code], BY_NUMBER[BY_LETTERS[code]].decimals) for code in ours}
    assert ours == theirs
