"""Single fields of the ledger's product that cannot be, refused by name before anything is stored."""

import pytest

from guilder.core.errors import Refusal
from guilder.ledger.commands import CreateAccount, CreateTransfer, check_account, check_transfers
from guilder.ledger.model import AMOUNT_MAX, BATCH_MAX, Kind

GOOD = {"debit": "lac_1", "credit": "lac_2", "amount": 5}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"debit": None}, "debit"),
        ({"credit": None}, "credit"),
        ({"amount": None}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": -5}, "amount"),
        ({"amount": AMOUNT_MAX + 1}, "amount"),
        ({"id": ""}, "id"),
        ({"id": "a.b"}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": "nul\0"}, "id"),
        ({"kind": Kind.EXPIRE}, "kind"),
        ({"kind": Kind.POST, "pending": "no spaces"}, "pending_transfer"),
        ({"code": -1}, "code"),
        ({"code": 32_768}, "code"),
        ({"reference": ""}, "reference"),
        ({"reference": "nul\0"}, "reference"),
        ({"reference": "\ud800"}, "reference"),
        ({"reference": "x" * 129}, "reference"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 10**9}, "timeout_seconds"),
        ({"linked": True}, "linked"),
    ],
)
def test_a_field_that_cannot_be_is_named(fields: dict[str, object], param: str) -> None:
    """With its place in a list, bare where the transfer came alone."""
    command = CreateTransfer(**{**GOOD, **fields})
    with pytest.raises(Refusal) as raised:
        check_transfers([command], listed=False)
    assert raised.value.facts.param == param
    with pytest.raises(Refusal) as raised:
        check_transfers([CreateTransfer(**GOOD), command], listed=True)
    assert raised.value.facts.param == f"transfers[1][{param}]"


def test_a_resolution_may_leave_accounts_and_amount_out() -> None:
    """It takes those of what it resolves."""
    check_transfers([CreateTransfer(kind=Kind.VOID, pending="p")], listed=False)


@pytest.mark.parametrize("size", [0, BATCH_MAX + 1])
def test_a_list_has_a_size(size: int) -> None:
    """From one to 8,189."""
    with pytest.raises(Refusal):
        check_transfers([CreateTransfer(**GOOD)] * size, listed=True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"currency": "xxy"}, "currency"),
        ({"currency": "EUR"}, "currency"),
        ({"overdraft": -1, "debits_limited": True}, "overdraft"),
        ({"overdraft": 10**18, "debits_limited": True}, "overdraft"),
        ({"overdraft": 5}, "overdraft"),
        ({"description": ""}, "description"),
        ({"description": "x" * 501}, "description"),
    ],
)
def test_an_account_that_cannot_be_is_refused(fields: dict[str, object], param: str) -> None:
    """By the field's name."""
    with pytest.raises(Refusal) as raised:
        check_account(CreateAccount(**{"currency": "eur", **fields}))
    assert raised.value.facts.param == param
