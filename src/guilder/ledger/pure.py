"""The ledger as a small pure model: what ledger_book must answer and store, one transfer after the other.

Tests compare both paths of the SQL function with it, and the simulation runs on it. It is written for reading: each rule
once, in the documented order of precedence, with no thought for speed.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from guilder.ledger.model import AMOUNT_MAX, AS_PENDING, Code, Kind, Refused, Transfer

ROOM: Final = 9_000_000_000_000_000_000
"""Pending and posted of one side together stay at or below this, so that they fit into a bigint."""


class PureAccount(Struct, frozen=True, kw_only=True):
    """An account of the model."""

    merchant: str = ""
    currency: str = "eur"
    debits_limited: bool = False
    credits_limited: bool = False
    overdraft: int = 0
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0

    @property
    def room_for_debits(self) -> int:
        """How much more may be debited by an intent, if debits are limited."""
        return self.credits_posted + self.overdraft - self.debits_posted - self.debits_pending

    @property
    def room_for_credits(self) -> int:
        """How much more may be credited by an intent, if credits are limited."""
        return self.debits_posted + self.overdraft - self.credits_posted - self.credits_pending


class PureTransfer(Struct, frozen=True, kw_only=True):
    """A stored transfer of the model: as asked for, but with the accounts and the amount that it really moved."""

    index: int
    at: int
    asked: Transfer
    debit: int
    credit: int
    amount: int

    @property
    def expires_at(self) -> int | None:
        """When it can only expire any more."""
        return None if self.asked.timeout is None else self.at + self.asked.timeout


class Book:
    """One book. `accounts` are put there by whoever uses the model, by number; transfers come by `book`."""

    def __init__(self, accounts: dict[int, PureAccount]) -> None:
        self.accounts = accounts
        self.transfers: dict[str, PureTransfer] = {}
        self.resolutions: dict[str, PureTransfer] = {}
        self.last_at = 0

    def book(self, transfers: Sequence[Transfer], now: int) -> list[Refused]:
        """Book a batch at one time; returns the exceptions, as ledger_book does."""
        at = max(now, self.last_at + 1)
        before = len(self.transfers)
        refused: list[Refused] = []
        first = 0
        for last, transfer in enumerate(transfers):
            if not transfer.linked:
                codes = self._book_chain(transfers[first : last + 1], at)
                refused += [Refused(first + place, code) for place, code in enumerate(codes) if code is not None]
                first = last + 1
        if len(self.transfers) > before:
            self.last_at = at
        return refused

    def _book_chain(self, chain: Sequence[Transfer], at: int) -> list[Code | None]:
        """One chain, whole or not at all."""
        trial = Book(dict(self.accounts))
        trial.transfers, trial.resolutions = dict(self.transfers), dict(self.resolutions)
        codes: list[Code | None] = []
        for transfer in chain:
            code = trial.judge(transfer, at)
            if code not in (None, Code.EXISTS):
                return [code if other is transfer else Code.LINKED_EVENT_FAILED for other in chain]
            codes.append(code)
            if code is None:
                trial.apply(transfer, at)
        if codes.count(Code.EXISTS) not in (0, len(codes)):
            return [Code.CHAIN_EXISTS_IN_PART if code else Code.LINKED_EVENT_FAILED for code in codes]
        self.accounts, self.transfers, self.resolutions = trial.accounts, trial.transfers, trial.resolutions
        return codes

    def judge(self, asked: Transfer, at: int) -> Code | None:
        """Why this transfer cannot be stored now; None when it can."""
        if not asked.id:
            return Code.ID_MUST_NOT_BE_EMPTY
        if asked.id in self.transfers:
            return self._compare(asked, self.transfers[asked.id])
        return _unsound(asked) or (self._refuse_resolution(asked, at) if asked.kind >= Kind.POST else self._refuse_new(asked))

    def apply(self, asked: Transfer, at: int) -> None:
        """Store a transfer that was judged sound, and move the accumulators."""
        pending = self.transfers[asked.pending_id] if asked.pending_id is not None else None
        stored = PureTransfer(
            index=len(self.transfers) + 1, at=at, asked=asked,
            debit=pending.debit if pending else _number(asked.debit), credit=pending.credit if pending else _number(asked.credit),
            amount=pending.amount if pending and (asked.kind > Kind.POST or asked.amount == AS_PENDING) else asked.amount,
        )  # fmt: skip
        self.transfers[asked.id] = stored
        reserved = stored.amount if asked.kind == Kind.PENDING else -pending.amount if pending else 0
        posted = stored.amount if asked.kind in (Kind.POSTED, Kind.POST) else 0
        if pending:
            self.resolutions[pending.asked.id] = stored
        debit = self.accounts[stored.debit]
        self.accounts[stored.debit] = replace(
            debit,
            debits_pending=debit.debits_pending + reserved,
            debits_posted=debit.debits_posted + posted,
        )
        credit = self.accounts[stored.credit]
        self.accounts[stored.credit] = replace(
            credit,
            credits_pending=credit.credits_pending + reserved,
            credits_posted=credit.credits_posted + posted,
        )

    def _compare(self, asked: Transfer, stored: PureTransfer) -> Code:
        first, resolves = stored.asked, asked.kind >= Kind.POST
        whole = self.transfers[first.pending_id].amount if first.pending_id is not None else None
        other_debit = asked.debit != stored.debit and not (resolves and asked.debit == AS_PENDING)
        other_credit = asked.credit != stored.credit and not (resolves and asked.credit == AS_PENDING)
        all_of_it = resolves and asked.amount == AS_PENDING and stored.amount == whole
        different = _first(
            ((asked.kind, asked.fact) != (first.kind, first.fact), Code.EXISTS_WITH_DIFFERENT_KIND),
            (asked.pending_id != first.pending_id, Code.EXISTS_WITH_DIFFERENT_PENDING_ID),
            (asked.timeout != first.timeout, Code.EXISTS_WITH_DIFFERENT_TIMEOUT),
            (other_debit, Code.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT),
            (other_credit, Code.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT),
            (asked.amount != stored.amount and not all_of_it, Code.EXISTS_WITH_DIFFERENT_AMOUNT),
            (asked.code != first.code, Code.EXISTS_WITH_DIFFERENT_CODE),
            (asked.reference != first.reference, Code.EXISTS_WITH_DIFFERENT_REFERENCE),
        )  # fmt: skip
        return different or Code.EXISTS

    def _refuse_new(self, asked: Transfer) -> Code | None:
        debit, credit = self.accounts.get(_number(asked.debit)), self.accounts.get(_number(asked.credit))
        if debit is None or credit is None:
            return Code.DEBIT_ACCOUNT_NOT_FOUND if debit is None else Code.CREDIT_ACCOUNT_NOT_FOUND
        amount, intent = asked.amount, not asked.fact
        return _first(
            (debit.merchant != credit.merchant, Code.ACCOUNTS_MUST_HAVE_THE_SAME_MERCHANT),
            (debit.currency != credit.currency, Code.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY),
            (debit.debits_posted + debit.debits_pending + amount > ROOM, Code.OVERFLOWS_DEBITS),
            (credit.credits_posted + credit.credits_pending + amount > ROOM, Code.OVERFLOWS_CREDITS),
            (intent and debit.debits_limited and amount > debit.room_for_debits, Code.EXCEEDS_CREDITS),
            (intent and credit.credits_limited and amount > credit.room_for_credits, Code.EXCEEDS_DEBITS),
        )

    def _refuse_resolution(self, asked: Transfer, at: int) -> Code | None:
        pending = self.transfers.get(asked.pending_id or "")
        if pending is None:
            return Code.PENDING_TRANSFER_NOT_FOUND
        resolution = self.resolutions.get(pending.asked.id)
        expired = pending.expires_at is not None and pending.expires_at <= at
        part = asked.kind > Kind.POST and asked.amount not in (AS_PENDING, pending.amount)
        return _first(
            (pending.asked.kind != Kind.PENDING, Code.PENDING_TRANSFER_NOT_PENDING),
            (asked.debit not in (AS_PENDING, pending.debit), Code.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT),
            (asked.credit not in (AS_PENDING, pending.credit), Code.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT),
            (asked.amount > pending.amount, Code.EXCEEDS_PENDING_TRANSFER_AMOUNT),
            (part, Code.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT),
            (resolution is not None, RESOLVED[resolution.asked.kind] if resolution else Code.EXISTS),
            (expired and asked.kind != Kind.EXPIRE, Code.PENDING_TRANSFER_EXPIRED),
            (not expired and asked.kind == Kind.EXPIRE, Code.PENDING_TRANSFER_NOT_EXPIRED),
        )


RESOLVED: Final = {
    Kind.POST: Code.PENDING_TRANSFER_ALREADY_POSTED,
    Kind.VOID: Code.PENDING_TRANSFER_ALREADY_VOIDED,
    Kind.EXPIRE: Code.PENDING_TRANSFER_EXPIRED,
}
"""What a second resolution is told, by the kind of the first."""


def _unsound(asked: Transfer) -> Code | None:
    """What is wrong with a transfer by itself, whatever is in the books."""
    resolves, named = asked.kind >= Kind.POST, asked.pending_id is not None
    return _first(
        (resolves and not named, Code.PENDING_ID_MUST_BE_SET),
        (named and not resolves, Code.PENDING_ID_MUST_NOT_BE_SET),
        (asked.timeout is not None and asked.kind != Kind.PENDING, Code.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER),
        (asked.timeout is not None and asked.timeout <= 0, Code.TIMEOUT_MUST_BE_POSITIVE),
        (asked.amount < (0 if resolves else 1), Code.AMOUNT_MUST_BE_POSITIVE),
        (asked.amount > AMOUNT_MAX, Code.AMOUNT_TOO_LARGE),
        (not resolves and asked.debit == asked.credit, Code.ACCOUNTS_MUST_BE_DIFFERENT),
    )


def _first(*rules: tuple[bool, Code]) -> Code | None:
    """The code of the first rule that applies."""
    return next((code for applies, code in rules if applies), None)


def _number(side: object) -> int:
    # The model's accounts are numbers already.
    return side if isinstance(side, int) else -1
