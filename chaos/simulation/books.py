"""What the merchant has and what is held, read off a ledger that is a model."""

from collections.abc import Mapping

from guilder.ledger.model import AccountKey, Kind
from guilder.ledger.pure import Book
from guilder.wallet.chart import AccountKind


def wallet(ledger: Book, numbers: Mapping[AccountKey, int]) -> int:
    """What the merchant has by the ledger; reserved money counts as gone."""
    return sum(
        account.credits_posted - account.debits_posted - account.debits_pending
        for key, number in numbers.items() if key.kind in (AccountKind.PENDING, AccountKind.AVAILABLE)
        for account in [ledger.accounts[number]]
    )  # fmt: skip


def held(ledger: Book) -> int:
    """What is held or reserved in the ledger."""
    pending = [one for one in ledger.transfers.values() if one.asked.kind == Kind.PENDING]
    return sum(one.amount for one in pending if one.asked.id not in ledger.resolutions)
