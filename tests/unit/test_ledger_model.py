"""The ledger's rules on the pure model: one line per code, in the documented order of precedence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from guilder.ledger.model import AMOUNT_MAX, Code, Kind, Refused, Transfer
from guilder.ledger.pure import ROOM, Book, PureAccount

WORLD, PURSE, LIMITED, YEN, OTHER, FULL = range(1, 7)


def _book() -> Book:
    """Six accounts, and the transfers that the table refers to. Time limits: `late` ran out at 40."""
    book = Book(
        {
            WORLD: PureAccount(merchant="a"),
            PURSE: PureAccount(merchant="a", debits_limited=True),
            LIMITED: PureAccount(merchant="a", credits_limited=True),
            YEN: PureAccount(merchant="a", currency="jpy"),
            OTHER: PureAccount(merchant="b"),
            FULL: PureAccount(merchant="a", debits_posted=ROOM, credits_posted=ROOM),
        }
    )
    new = {"debit": WORLD, "credit": PURSE, "code": 1}
    before = [
        Transfer(id="old", amount=10, reference="r", **new),
        *(Transfer(id=id_, amount=10, kind=Kind.PENDING, **new) for id_ in ("open", "posted", "voided")),
        Transfer(id="late", amount=10, kind=Kind.PENDING, timeout=30, **new),
        Transfer(id="gone", amount=10, kind=Kind.PENDING, timeout=5, **new),
        Transfer(id="p", kind=Kind.POST, pending_id="posted", code=1),
        Transfer(id="v", kind=Kind.VOID, pending_id="voided", code=1),
    ]
    assert book.book(before, now=10) == []
    assert book.book([Transfer(id="e", kind=Kind.EXPIRE, pending_id="gone", code=1)], now=20) == []
    return book


SOUND = Transfer(id="new", debit=WORLD, credit=PURSE, amount=10, code=1)
POST = Transfer(id="new", kind=Kind.POST, pending_id="open", code=1)
OLD = replace(SOUND, id="old", reference="r")
TABLE = [
    (Code.ID_MUST_NOT_BE_EMPTY, replace(SOUND, id="", amount=-1)),
    (Code.EXISTS_WITH_DIFFERENT_KIND, replace(OLD, kind=Kind.PENDING, amount=-1, timeout=5)),
    (Code.EXISTS_WITH_DIFFERENT_KIND, replace(OLD, fact=True)),
    (Code.EXISTS_WITH_DIFFERENT_PENDING_ID, replace(OLD, pending_id="open", amount=-1)),
    (Code.EXISTS_WITH_DIFFERENT_TIMEOUT, replace(OLD, timeout=5, debit=PURSE)),
    (Code.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT, replace(OLD, debit=YEN, credit=YEN)),
    (Code.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT, replace(OLD, credit=YEN, amount=11)),
    (Code.EXISTS_WITH_DIFFERENT_AMOUNT, replace(OLD, amount=11, code=2)),
    (Code.EXISTS_WITH_DIFFERENT_CODE, replace(OLD, code=2, reference=None)),
    (Code.EXISTS_WITH_DIFFERENT_REFERENCE, replace(OLD, reference=None)),
    (Code.EXISTS, OLD),
    (Code.EXISTS, replace(POST, id="p", pending_id="posted")),
    (Code.EXISTS, replace(POST, id="p", pending_id="posted", debit=WORLD, credit=PURSE, amount=10)),
    (Code.EXISTS_WITH_DIFFERENT_AMOUNT, replace(POST, id="p", pending_id="posted", amount=9)),
    (Code.PENDING_ID_MUST_BE_SET, replace(POST, pending_id=None, amount=-1)),
    (Code.PENDING_ID_MUST_NOT_BE_SET, replace(SOUND, pending_id="open", timeout=5)),
    (Code.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER, replace(SOUND, timeout=-5)),
    (Code.TIMEOUT_MUST_BE_POSITIVE, replace(SOUND, kind=Kind.PENDING, timeout=0, amount=0)),
    (Code.AMOUNT_MUST_BE_POSITIVE, replace(SOUND, amount=0, credit=WORLD)),
    (Code.AMOUNT_MUST_BE_POSITIVE, replace(POST, amount=-1)),
    (Code.AMOUNT_TOO_LARGE, replace(SOUND, amount=AMOUNT_MAX + 1, credit=WORLD)),
    (Code.ACCOUNTS_MUST_BE_DIFFERENT, replace(SOUND, debit=99, credit=99)),
    (Code.DEBIT_ACCOUNT_NOT_FOUND, replace(SOUND, debit=99, credit=98)),
    (Code.CREDIT_ACCOUNT_NOT_FOUND, replace(SOUND, credit=98)),
    (Code.ACCOUNTS_MUST_HAVE_THE_SAME_MERCHANT, replace(SOUND, credit=OTHER)),
    (Code.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY, replace(SOUND, credit=YEN)),
    (Code.OVERFLOWS_DEBITS, replace(SOUND, debit=FULL)),
    (Code.OVERFLOWS_CREDITS, replace(SOUND, credit=FULL)),
    (Code.EXCEEDS_CREDITS, replace(SOUND, debit=PURSE, credit=LIMITED, amount=21)),
    (Code.EXCEEDS_DEBITS, replace(SOUND, credit=LIMITED)),
    (Code.PENDING_TRANSFER_NOT_FOUND, replace(POST, pending_id="nothing", debit=99)),
    (Code.PENDING_TRANSFER_NOT_PENDING, replace(POST, pending_id="old", debit=99)),
    (Code.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT, replace(POST, debit=PURSE, credit=PURSE - 1)),
    (Code.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT, replace(POST, credit=WORLD, amount=11)),
    (Code.EXCEEDS_PENDING_TRANSFER_AMOUNT, replace(POST, pending_id="posted", amount=11)),
    (Code.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT, replace(POST, kind=Kind.VOID, pending_id="voided", amount=9)),
    (Code.PENDING_TRANSFER_ALREADY_POSTED, replace(POST, pending_id="posted")),
    (Code.PENDING_TRANSFER_ALREADY_VOIDED, replace(POST, kind=Kind.EXPIRE, pending_id="voided")),
    (Code.PENDING_TRANSFER_EXPIRED, replace(POST, kind=Kind.VOID, pending_id="gone")),
    (Code.PENDING_TRANSFER_EXPIRED, replace(POST, pending_id="late")),
    (Code.PENDING_TRANSFER_NOT_EXPIRED, replace(POST, kind=Kind.EXPIRE)),
]


@pytest.mark.parametrize(("code", "transfer"), TABLE)
def test_each_refusal_comes_in_its_place(code: Code, transfer: Transfer) -> None:
    """Most lines offend a later rule too, so they show the precedence; nothing is left behind."""
    book = _book()
    accounts, transfers = dict(book.accounts), dict(book.transfers)
    assert book.book([transfer], now=50) == [Refused(0, code)]
    assert (book.accounts, book.transfers) == (accounts, transfers)


def test_the_table_has_every_code() -> None:
    """But those of chains, and the kind that no Transfer can have."""
    chains = {Code.LINKED_EVENT_FAILED, Code.CHAIN_EXISTS_IN_PART, Code.KIND_UNKNOWN}
    assert {code for code, _ in TABLE} == set(Code) - chains


def test_a_fact_is_never_refused_for_lack_of_funds() -> None:
    """It has already happened; the account goes below its limit, and then refuses intents."""
    book = _book()
    assert book.book([replace(SOUND, debit=PURSE, credit=WORLD, amount=5_000, fact=True)], now=50) == []
    assert book.book([replace(SOUND, id="intent", debit=PURSE, credit=WORLD, amount=1)], now=50) == [Refused(0, Code.EXCEEDS_CREDITS)]


def test_pending_amounts_count_against_the_limit_until_they_are_voided() -> None:
    """A reservation is as good as gone."""
    book = _book()
    reserve = replace(SOUND, debit=PURSE, credit=WORLD, amount=20, kind=Kind.PENDING)
    assert book.book([reserve, replace(reserve, id="two", amount=1)], now=50) == [Refused(1, Code.EXCEEDS_CREDITS)]
    void = Transfer(id="void", kind=Kind.VOID, pending_id="new", code=1)
    assert book.book([void, replace(reserve, id="three", amount=20)], now=50) == []


def test_a_chain_is_whole_or_nothing() -> None:
    """Also when its members exist in part."""
    book = _book()
    chain = [replace(SOUND, id=id_, linked=id_ != "c") for id_ in "abc"]
    broken = [chain[0], replace(chain[1], amount=0), chain[2]]
    linked = Code.LINKED_EVENT_FAILED
    assert book.book(broken, now=50) == [Refused(0, linked), Refused(1, Code.AMOUNT_MUST_BE_POSITIVE), Refused(2, linked)]
    assert book.book(chain, now=50) == []
    assert book.book(chain, now=50) == [Refused(place, Code.EXISTS) for place in range(3)]
    partly = [chain[0], replace(SOUND, id="d")]
    assert book.book(partly, now=50) == [Refused(0, Code.CHAIN_EXISTS_IN_PART), Refused(1, linked)]


@given(
    amounts=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    sides=st.lists(st.permutations([WORLD, PURSE, LIMITED]), min_size=30, max_size=30),
)
def test_debits_equal_credits_and_limits_hold(amounts: list[int], sides: list[list[int]]) -> None:
    """Whatever is asked for, in whatever order."""
    book = _book()
    for place, amount in enumerate(amounts):
        debit, credit = sides[place][:2]
        book.book([Transfer(id=f"n{place}", debit=debit, credit=credit, amount=amount, kind=Kind(place % 2), code=1)], now=place)
        accounts = [book.accounts[number] for number in (WORLD, PURSE, LIMITED)]
        assert sum(one.debits_posted for one in accounts) == sum(one.credits_posted for one in accounts)
        assert sum(one.debits_pending for one in accounts) == sum(one.credits_pending for one in accounts)
        assert book.accounts[PURSE].room_for_debits >= 0
        assert book.accounts[LIMITED].room_for_credits >= 0
