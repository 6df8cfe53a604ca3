"""The chart of accounts: which ledger accounts a merchant's books have, and what each allows (docs/ledger.md)."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from guilder.core.currencies import CURRENCIES
from guilder.ledger.accounts import Opening
from guilder.ledger.model import AccountKey

GUILDER: Final = "guilder"
"""The owner of accounts that are the operator's, not the merchant's."""

AT_ONCE: Final = 0
"""The day of money that is available as soon as it is captured."""


class AccountKind(StrEnum):
    """The kinds of the system's accounts. Debits minus credits: what is owed to us; credits minus debits: what we owe."""

    PSP_CLEARING = "psp_clearing"
    AUTHORIZED = "authorized"
    PENDING = "pending"
    AVAILABLE = "available"
    FEES = "fees"


class Books(Struct, frozen=True):
    """Where the transfers of one payment go: a merchant's books in one mode and currency, at one connector."""

    account: str
    livemode: bool
    currency: str
    connector: str

    @property
    def clearing(self) -> AccountKey:
        """What the connector's PSP owes the merchant: taken, not yet settled to a bank."""
        return AccountKey(self.account, self.livemode, self.connector, AccountKind.PSP_CLEARING.value, self.currency)

    @property
    def authorized(self) -> AccountKey:
        """What issuers have set aside, as pending credits; posted only in passing."""
        return AccountKey(self.account, self.livemode, self.account, AccountKind.AUTHORIZED.value, self.currency)

    @property
    def fees(self) -> AccountKey:
        """What the operator has earned from this merchant."""
        return AccountKey(self.account, self.livemode, GUILDER, AccountKind.FEES.value, self.currency)

    def funds(self, day: int) -> AccountKey:
        """The merchant's money that becomes available on a day; AT_ONCE for the available account itself."""
        kind = AccountKind.PENDING if day else AccountKind.AVAILABLE
        return AccountKey(self.account, self.livemode, self.account, kind.value, self.currency, day)


def overdraft_minor(units: int, currency: str) -> int:
    """An overdraft in whole units of a currency as minor units: 1,000 is 100000 eur, 1000 jpy, 1000000 kwd."""
    return int(units * 10 ** CURRENCIES[currency].exponent)


class Chart:
    """Says how an account of this chart is opened; the ledger asks when it meets a key for the first time.

    Args:
        overdraft_units: how far a merchant's wallet may be overdrawn, in whole units of each currency.
    """

    def __init__(self, overdraft_units: Callable[[str, bool], Awaitable[int]]) -> None:
        self._overdraft_units = overdraft_units

    async def opening(self, key: AccountKey) -> Opening:
        """Limits for the accounts that refunds and payouts draw on; the day accounts' money goes to available one day."""
        if key.kind not in (AccountKind.PENDING, AccountKind.AVAILABLE):
            return Opening()
        overdraft = overdraft_minor(await self._overdraft_units(key.account, key.livemode), key.currency)
        successor = None
        if key.day:
            successor = AccountKey(key.account, key.livemode, key.owner, AccountKind.AVAILABLE.value, key.currency)
        return Opening(debits_limited=True, overdraft=overdraft, successor=successor)
