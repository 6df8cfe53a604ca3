"""The wallet's nouns."""

from msgspec import Struct


class Release(Struct, frozen=True, kw_only=True):
    """A day (UTC, since 1970) whose pending funds have become available.

    `amount` is what moved; below zero when the day was overdrawn and available made up for it; `transfer` is None at zero.
    """

    account: str
    livemode: bool
    owner: str
    currency: str
    day: int
    amount: int
    transfer: str | None


class Receivable(Struct, frozen=True, kw_only=True):
    """What a merchant owes in one currency: the sum of its wallet accounts that are below zero."""

    account: str
    currency: str
    amount: int


class Difference(Struct, frozen=True, kw_only=True):
    """A place where wallet, ledger and balance transactions disagree: a day, `available`, or what a released day still holds."""

    account: str
    livemode: bool
    currency: str
    day: int
    what: str
    balance_transactions: int
    ledger: int
