"""The parameters of /v1/ledger: a double-entry ledger as a product of its own. Amounts are minor units by ISO 4217."""

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from guilder.api.params import EpochSeconds, Id, ListParams, Metadata, Params, ShortText
from guilder.ledger.model import BATCH_MAX

# A list of 8,189 transfers with every field at its limit, as JSON.
LIST_BYTES_MAX: Final = 12 * 1024 * 1024
LIST_COUNT_MAX: Final = BATCH_MAX * 12

Currency = Annotated[str, Meta(max_length=3)]
Kind = Literal["posted", "pending", "post", "void"]


class CreateAccount(Params, frozen=True, kw_only=True):
    """An account of the merchant's own. An overdraft softens its limit."""

    currency: Currency
    debits_limited: bool = False
    credits_limited: bool = False
    overdraft: int = 0
    description: ShortText | UnsetType | None = UNSET
    metadata: Metadata = UNSET


class AccountsListed(ListParams, frozen=True, kw_only=True):
    """Which accounts: the merchant's own, and the system's by their kind."""

    kind: Annotated[str, Meta(max_length=40)] | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET


class BalanceAt(Params, frozen=True, kw_only=True):
    """As of when; everything booked within that second counts."""

    at: EpochSeconds | UnsetType = UNSET


class TransferFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One transfer. `post` and `void` name the pending transfer that they resolve, and may leave out the rest."""

    id: Id | UnsetType = UNSET
    debit: Id | UnsetType = UNSET
    credit: Id | UnsetType = UNSET
    amount: int | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET
    kind: Kind = "posted"
    pending_transfer: Id | UnsetType = UNSET
    code: int = 1
    reference: Id | UnsetType = UNSET
    linked: bool = False
    timeout_seconds: int | UnsetType = UNSET


class CreateTransfers(Params, frozen=True, kw_only=True):
    """One transfer by its fields, or a list of up to 8,189; linked ones are booked together or not at all."""

    transfers: tuple[TransferFields, ...] | UnsetType = UNSET
    id: Id | UnsetType = UNSET
    debit: Id | UnsetType = UNSET
    credit: Id | UnsetType = UNSET
    amount: int | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET
    kind: Kind = "posted"
    pending_transfer: Id | UnsetType = UNSET
    code: int = 1
    reference: Id | UnsetType = UNSET
    timeout_seconds: int | UnsetType = UNSET


class TransfersListed(ListParams, frozen=True, kw_only=True):
    """Which transfers: all, or those of one account, which is its statement."""

    ledger_account: Id | UnsetType = UNSET


class RevenueRange(Params, frozen=True, kw_only=True):
    """The UTC days to report, by any second of the first and of the last; the last 30 days when nothing is said."""

    since: EpochSeconds | UnsetType = UNSET
    until: EpochSeconds | UnsetType = UNSET
