"""Transfers as arrays: empty columns are left out, chains are numbered."""

import pytest

from guilder.core.ensure import InvariantBroken
from guilder.ledger.columns import encode
from guilder.ledger.model import AccountKey, Kind, Transfer

KEY = AccountKey("acct_a", False, "acct_a", "available", "eur")


def test_columns_that_are_all_empty_are_left_out() -> None:
    """They would cost time on both ends."""
    columns = encode([Transfer(id="a", debit=1, credit=2, amount=3, code=4)], {})
    assert columns == (["a"], None, [1], [2], [3], [0], None, None, [4], None, None)


def test_accounts_are_named_by_number_or_by_key() -> None:
    """Keys are looked up, numbers go through."""
    columns = encode([Transfer(id="a", debit=KEY, credit=2, amount=3, code=4)], {KEY: 17})
    assert (columns.debit, columns.credit) == ([17], [2])
    with pytest.raises(KeyError):
        encode([Transfer(id="a", debit=KEY, credit=2, amount=3, code=4)], {})


def test_members_of_a_chain_bear_one_number() -> None:
    """Each linked transfer has that of the next one."""
    linked = [True, True, False, False, True, False]
    columns = encode([Transfer(id=str(place), code=1, linked=is_linked) for place, is_linked in enumerate(linked)], {})
    assert columns.chain == [0, 0, 0, 1, 2, 2]


def test_a_list_that_ends_in_the_middle_of_a_chain_is_our_own_mistake() -> None:
    """Half a chain must never be booked."""
    with pytest.raises(InvariantBroken):
        encode([Transfer(id="a", code=1, linked=True)], {})


def test_sparse_columns_keep_their_places() -> None:
    """None where a transfer has nothing."""
    transfers = [
        Transfer(id="a", code=1, kind=Kind.PENDING, timeout=5),
        Transfer(id="b", code=1, kind=Kind.VOID, pending_id="x", reference="r", fact=True),
    ]
    columns = encode(transfers, {})
    assert (columns.timeout, columns.pending_id, columns.reference) == ([5, None], [None, "x"], [None, "r"])
    assert (columns.fact, columns.kind) == ([False, True], [1, 3])
