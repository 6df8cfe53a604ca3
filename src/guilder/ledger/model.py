"""The ledger's nouns: accounts, transfers, and what a booking can be answered with.

The words are those of the field (TigerBeetle's documentation is the model): a transfer debits one account and credits
one account with one positive amount of minor units in one currency.
"""

from enum import IntEnum, StrEnum
from typing import Final

from msgspec import Struct

from guilder.core.clock import Micros

BATCH_MAX: Final = 8_189
"""Transfers in one batch. As in the field; it bounds how long one flush holds the book's head, to about 0.1 s."""

AMOUNT_MAX: Final = 1_000_000_000_000_000
"""Largest amount of one transfer: the sum of a whole batch of such amounts still fits into a bigint."""

ID_LENGTH_MAX: Final = 128
REFERENCE_LENGTH_MAX: Final = 128
CODE_MAX: Final = 32_767


class Kind(IntEnum):
    """What a transfer does. POST, VOID and EXPIRE resolve the pending transfer that they name, once."""

    POSTED = 0
    PENDING = 1
    POST = 2
    VOID = 3
    EXPIRE = 4


class AccountKey(Struct, frozen=True, array_like=True):
    """A ledger account by what it is for.

    Args:
        account: the merchant in whose books it stands.
        owner: whose account it is there: the merchant, later a seller, a connector, `guilder`.
        kind: its place in the chart of accounts (docs/ledger.md).
        day: the UTC day since 1970 for accounts that exist per day, else 0.
    """

    account: str
    livemode: bool
    owner: str
    kind: str
    currency: str
    day: int = 0


AS_PENDING: Final = 0
"""In place of an account: the one of the pending transfer that is resolved. In place of an amount: all of it."""


class Transfer(Struct, frozen=True, kw_only=True):
    """A transfer to be booked. The client makes the id; again with the same content it is answered with EXISTS.

    Args:
        debit, credit: ledger accounts, by key or by number; AS_PENDING on a resolution.
        amount: minor units, above zero; on a POST the part that is posted (the rest is released), AS_PENDING for all.
        code: the business event (docs/ledger.md), or the merchant's own code on its own accounts.
        pending_id: the transfer that this one resolves.
        fact: it reports what has already happened outside, so no limit is asked.
        linked: the next transfer of the list belongs to the same chain.
        timeout: microseconds after which a PENDING one can neither be posted nor voided any more; None for no limit.
    """

    id: str
    debit: AccountKey | int = AS_PENDING
    credit: AccountKey | int = AS_PENDING
    amount: int = AS_PENDING
    kind: Kind = Kind.POSTED
    code: int
    pending_id: str | None = None
    fact: bool = False
    linked: bool = False
    reference: str | None = None
    timeout: int | None = None


class Code(StrEnum):
    """Why a transfer was not stored, in the order in which the tests are made: the first that applies is the answer.

    EXISTS is good news: it stood already, with the same content. All others leave nothing behind.
    """

    LINKED_EVENT_FAILED = "linked_event_failed"
    CHAIN_EXISTS_IN_PART = "chain_exists_in_part"
    ID_MUST_NOT_BE_EMPTY = "id_must_not_be_empty"
    EXISTS_WITH_DIFFERENT_KIND = "exists_with_different_kind"
    EXISTS_WITH_DIFFERENT_PENDING_ID = "exists_with_different_pending_id"
    EXISTS_WITH_DIFFERENT_TIMEOUT = "exists_with_different_timeout"
    EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT = "exists_with_different_debit_account"
    EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT = "exists_with_different_credit_account"
    EXISTS_WITH_DIFFERENT_AMOUNT = "exists_with_different_amount"
    EXISTS_WITH_DIFFERENT_CODE = "exists_with_different_code"
    EXISTS_WITH_DIFFERENT_REFERENCE = "exists_with_different_reference"
    EXISTS = "exists"
    KIND_UNKNOWN = "kind_unknown"
    PENDING_ID_MUST_BE_SET = "pending_id_must_be_set"
    PENDING_ID_MUST_NOT_BE_SET = "pending_id_must_not_be_set"
    TIMEOUT_RESERVED_FOR_PENDING_TRANSFER = "timeout_reserved_for_pending_transfer"
    TIMEOUT_MUST_BE_POSITIVE = "timeout_must_be_positive"
    AMOUNT_MUST_BE_POSITIVE = "amount_must_be_positive"
    AMOUNT_TOO_LARGE = "amount_too_large"
    ACCOUNTS_MUST_BE_DIFFERENT = "accounts_must_be_different"
    DEBIT_ACCOUNT_NOT_FOUND = "debit_account_not_found"
    CREDIT_ACCOUNT_NOT_FOUND = "credit_account_not_found"
    ACCOUNTS_MUST_HAVE_THE_SAME_MERCHANT = "accounts_must_have_the_same_merchant"
    ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY = "accounts_must_have_the_same_currency"
    PENDING_TRANSFER_NOT_FOUND = "pending_transfer_not_found"
    PENDING_TRANSFER_NOT_PENDING = "pending_transfer_not_pending"
    PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT = "pending_transfer_has_different_debit_account"
    PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT = "pending_transfer_has_different_credit_account"
    EXCEEDS_PENDING_TRANSFER_AMOUNT = "exceeds_pending_transfer_amount"
    PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT = "pending_transfer_has_different_amount"
    PENDING_TRANSFER_ALREADY_POSTED = "pending_transfer_already_posted"
    PENDING_TRANSFER_ALREADY_VOIDED = "pending_transfer_already_voided"
    PENDING_TRANSFER_EXPIRED = "pending_transfer_expired"
    PENDING_TRANSFER_NOT_EXPIRED = "pending_transfer_not_expired"
    OVERFLOWS_DEBITS = "overflows_debits"
    OVERFLOWS_CREDITS = "overflows_credits"
    EXCEEDS_CREDITS = "exceeds_credits"
    EXCEEDS_DEBITS = "exceeds_debits"


class Refused(Struct, frozen=True):
    """One exception of a booking: the position in the list, from 0, and why it was not stored."""

    index: int
    code: Code


class Booked(Struct, frozen=True):
    """The answer to a batch: what was not stored, in order. Everything else was, and has the indexes up to last_index."""

    last_index: int
    created_at: Micros
    refused: tuple[Refused, ...] = ()


class LedgerAccount(Struct, frozen=True, kw_only=True):
    """A ledger account as stored: four accumulators, and its limits.

    A limited account's debits (pending ones too) must not exceed its posted credits plus its overdraft, or the same the
    other way round for `credits_limited`.
    """

    number: int
    id: str
    key: AccountKey
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    debits_limited: bool
    credits_limited: bool
    overdraft: int
    created_at: Micros
    closed_at: Micros | None = None
    # The merchant's words about an account of its own; metadata as msgpack.
    description: str | None = None
    metadata: bytes | None = None


class StoredTransfer(Struct, frozen=True, kw_only=True):
    """A transfer as stored; it never changes. `index` is its place in the book, without gaps.

    `resolved_by` names the transfer that posted, voided or expired a pending one; None while it is open.
    """

    index: int
    id: str
    account: str
    livemode: bool
    debit: str
    credit: str
    amount: int
    currency: str
    kind: Kind
    code: int
    fact: bool
    linked: bool
    created_at: Micros
    pending_id: str | None = None
    reference: str | None = None
    expires_at: Micros | None = None
    resolved_by: str | None = None


class Balance(Struct, frozen=True, kw_only=True):
    """A ledger account's accumulators as of a moment; for a moment that has passed they never change."""

    as_of: Micros
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int


class TrialLine(Struct, frozen=True, kw_only=True):
    """One kind of account of a merchant's books in one currency."""

    currency: str
    kind: str
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int


class RevenueLine(Struct, frozen=True, kw_only=True):
    """What one merchant's payments brought the operator on one UTC day (since 1970) in one currency."""

    day: int
    currency: str
    account: str
    amount: int
