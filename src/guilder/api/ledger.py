"""/v1/ledger: accounts and transfers of the merchant's own; the system's accounts read-only; trial balance and revenue.

Transfers need no stored answer: the client's id makes them safe to repeat, and where it gives none the id follows from the
idempotency key, which is then held against its parameters. A repeat shows what stands there now.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from msgspec import UNSET

from guilder.api.call import Call, page_of
from guilder.api.http import Reply
from guilder.api.ledger_params import (
    LIST_BYTES_MAX,
    LIST_COUNT_MAX,
    AccountsListed,
    BalanceAt,
    CreateAccount,
    CreateTransfers,
    RevenueRange,
    TransferFields,
    TransfersListed,
)
from guilder.api.params import Params
from guilder.api.registry import Route
from guilder.api.text import pairs
from guilder.core.clock import DAY, SECOND, day_of, epoch_seconds
from guilder.core.errors import Refusal
from guilder.idempotency import hold, let_go, mismatch
from guilder.ledger import commands, store
from guilder.ledger.model import Balance, Code, Kind, LedgerAccount, RevenueLine, StoredTransfer, TrialLine

# How far back revenue is reported when nothing is said, and how far it may be asked for at once.
REVENUE_DAYS: Final = 30
REVENUE_DAYS_MAX: Final = 366

_KINDS: Final[Mapping[str, Kind]] = {"posted": Kind.POSTED, "pending": Kind.PENDING, "post": Kind.POST, "void": Kind.VOID}
_SECONDS_A_DAY: Final = DAY // SECOND


def _caller(call: Call) -> commands.Caller:
    return commands.Caller(call.account, call.livemode)


@asynccontextmanager
async def _under_key(call: Call) -> AsyncIterator[bool]:
    """Hold the request's key against its parameters, and let go of it when the request is refused; yields whether it was held before.

    Raises Refusal (400 idempotency_error) when the key was first used with another address or other parameters.
    """
    if call.claim_or_none is None:
        # The client gave an id, which says more than the key.
        yield False
        return
    services = call.services
    before = await hold(services.db, call.claim, services.clock.now())
    try:
        yield before
    except Refusal:
        await let_go(services.db, call.claim)
        raise


# --- accounts -------------------------------------------------------------------------------------------------------


async def create_account(call: Call, p: CreateAccount) -> Reply:
    """Open an account."""
    command = commands.CreateAccount(
        currency=p.currency.lower(), debits_limited=p.debits_limited, credits_limited=p.credits_limited, overdraft=p.overdraft,
        description=p.description or None, metadata=pairs(p.metadata),
    )  # fmt: skip
    async with _under_key(call) as before:
        opened = await call.services.books.create_account(_caller(call), command, key=call.key)
    return call.plain(account_json(opened), replayed=before)


async def retrieve_account(call: Call, _p: Params) -> Reply:
    """One account with what stands on it now."""
    return call.plain(account_json(await call.services.books.retrieve_account(_caller(call), call.ids[0])))


async def list_accounts(call: Call, p: AccountsListed) -> Reply:
    """Accounts, newest first."""
    found, more = await call.services.books.list_accounts(
        _caller(call),
        page_of(p),
        kind=p.kind or None,
        currency=p.currency.lower() if p.currency else None,
    )
    return call.plain_list([account_json(one) for one in found], more=more)


async def balance(call: Call, p: BalanceAt) -> Reply:
    """What stood on an account; for a second that has passed it never changes."""
    [id_] = call.ids
    at = None if p.at is UNSET else p.at * SECOND + SECOND - 1
    return call.plain(balance_json(id_, await call.services.books.balance(_caller(call), id_, at=at)))


def account_json(account: LedgerAccount) -> dict[str, Any]:
    """An account as the API shows it. `day` is the first second of the day that it exists for."""
    key = account.key
    metadata = msgspec.msgpack.decode(account.metadata) if account.metadata else ()
    return {
        "id": account.id,
        "object": "ledger.account",
        "balance": {
            "credits_pending": account.credits_pending,
            "credits_posted": account.credits_posted,
            "debits_pending": account.debits_pending,
            "debits_posted": account.debits_posted,
        },
        "closed_at": None if account.closed_at is None else epoch_seconds(account.closed_at),
        "created": epoch_seconds(account.created_at),
        "credits_limited": account.credits_limited,
        "currency": key.currency,
        "day": key.day * _SECONDS_A_DAY if key.day else None,
        "debits_limited": account.debits_limited,
        "description": account.description,
        "kind": key.kind,
        "livemode": key.livemode,
        "metadata": dict(metadata),
        "overdraft": account.overdraft,
        "owner": None if key.owner == account.id else key.owner,
    }


def balance_json(id_: str, standing: Balance) -> dict[str, Any]:
    """What stood on an account as of a moment."""
    return {
        "object": "ledger.balance",
        "as_of": epoch_seconds(standing.as_of),
        "credits_pending": standing.credits_pending,
        "credits_posted": standing.credits_posted,
        "debits_pending": standing.debits_pending,
        "debits_posted": standing.debits_posted,
        "ledger_account": id_,
    }


# --- transfers ------------------------------------------------------------------------------------------------------


async def create_transfers(call: Call, p: CreateTransfers) -> Reply:
    """Book one transfer, or a list; of a list each chain stands or falls by itself, and the answer says which."""
    single = p.transfers is UNSET
    if not single and (p.id, p.debit, p.credit, p.amount, p.pending_transfer) != (UNSET,) * 5:
        raise Refusal(
            "Pass either one transfer's fields or `transfers`, not both.",
            code="parameters_exclusive",
            param="transfers",
        )
    asked = [_command(p)] if p.transfers is UNSET else [_command(one) for one in p.transfers]
    async with _under_key(call) as before:
        made = await call.services.books.create_transfers(_caller(call), asked, key=call.key, listed=not single)
        if single and made[0].transfer is None:
            raise _refused(made[0].code, call.key if asked[0].id is None else None)
    if single and made[0].transfer is not None:
        return call.plain(transfer_json(made[0].transfer), replayed=made[0].code is Code.EXISTS)
    replayed = before and all(one.code is not None for one in made)
    return call.plain_list([_result_json(one) for one in made], more=False, replayed=replayed)


def _command(p: TransferFields | CreateTransfers) -> commands.CreateTransfer:
    return commands.CreateTransfer(
        id=p.id or None, debit=p.debit or None, credit=p.credit or None, amount=None if p.amount is UNSET else p.amount,
        currency=p.currency.lower() if p.currency else None, kind=_KINDS[p.kind], pending=p.pending_transfer or None, code=p.code,
        reference=p.reference or None, linked=p.linked if isinstance(p, TransferFields) else False,
        timeout_seconds=None if p.timeout_seconds is UNSET else p.timeout_seconds,
    )  # fmt: skip


def _refused(code: Code | None, key: str | None) -> Refusal:
    """The refusal of one transfer; nothing of it was stored. `key` is what its id follows from, None when the client gave the id."""
    name = str(code)
    if key is not None and name.startswith("exists_with_different"):
        return mismatch(key)
    return Refusal(f"The transfer was not booked: {name.replace('_', ' ')}.", code=name, param=_PARAMS.get(name))


_PARAMS: Final[Mapping[str, str]] = {
    "debit_account_not_found": "debit",
    "credit_account_not_found": "credit",
    "accounts_must_be_different": "credit",
    "accounts_must_have_the_same_currency": "credit",
    "pending_transfer_not_found": "pending_transfer",
    "pending_id_must_be_set": "pending_transfer",
    "pending_id_must_not_be_set": "pending_transfer",
    "amount_must_be_positive": "amount",
    "amount_too_large": "amount",
    "exceeds_pending_transfer_amount": "amount",
}
"""The parameter at fault, where a code is about one."""


def _result_json(made: commands.Created) -> dict[str, Any]:
    """What became of one transfer of a list."""
    return {
        "id": made.id,
        "object": "ledger.transfer_result",
        "result": "created" if made.code is None else str(made.code),
        "transfer": None if made.transfer is None else transfer_json(made.transfer),
    }


async def retrieve_transfer(call: Call, _p: Params) -> Reply:
    """One transfer."""
    return call.plain(transfer_json(await call.services.books.retrieve_transfer(_caller(call), call.ids[0])))


async def list_transfers(call: Call, p: TransfersListed) -> Reply:
    """Transfers, newest first: all, or the statement of one account."""
    found, more = await call.services.books.list_transfers(_caller(call), page_of(p), account_id=p.ledger_account or None)
    return call.plain_list([transfer_json(one) for one in found], more=more)


def transfer_json(transfer: StoredTransfer) -> dict[str, Any]:
    """A transfer as the API shows it; `index` is its place in the book."""
    return {
        "id": transfer.id,
        "object": "ledger.transfer",
        "amount": transfer.amount,
        "code": transfer.code,
        "created": epoch_seconds(transfer.created_at),
        "credit": transfer.credit,
        "currency": transfer.currency,
        "debit": transfer.debit,
        "expires_at": None if transfer.expires_at is None else epoch_seconds(transfer.expires_at),
        "fact": transfer.fact,
        "index": transfer.index,
        "kind": transfer.kind.name.lower(),
        "linked": transfer.linked,
        "livemode": transfer.livemode,
        "pending_transfer": transfer.pending_id,
        "reference": transfer.reference,
        "resolved_by": transfer.resolved_by,
    }


# --- reports --------------------------------------------------------------------------------------------------------


async def trial_balance(call: Call, _p: Params) -> Reply:
    """The merchant's books by currency and kind of account; in each currency debits equal credits."""
    lines = await store.trial_balance(call.services.db, merchant=call.account, livemode=call.livemode)
    return call.plain(trial_json(lines, livemode=call.livemode))


def trial_json(lines: list[TrialLine], *, livemode: bool) -> dict[str, Any]:
    """The trial balance, and whether it balances, which it always does."""
    names = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")
    totals: dict[str, dict[str, int]] = {}
    for line in lines:
        total = totals.setdefault(line.currency, dict.fromkeys(names, 0))
        for name in names:
            total[name] += getattr(line, name)
    return {
        "object": "ledger.trial_balance",
        "balanced": all(
            total["debits_posted"] == total["credits_posted"] and total["debits_pending"] == total["credits_pending"]
            for total in totals.values()
        ),
        "lines": lines,
        "livemode": livemode,
        "totals": [{"currency": currency, **total} for currency, total in sorted(totals.items())],
    }


async def revenue(call: Call, p: RevenueRange) -> Reply:
    """What the operator of this installation earned on this merchant's payments, by day and currency."""
    today = day_of(call.services.clock.now())
    until = today if p.until is UNSET else p.until // _SECONDS_A_DAY
    since = until - REVENUE_DAYS + 1 if p.since is UNSET else p.since // _SECONDS_A_DAY
    if since > until:
        raise Refusal("Invalid range: `since` lies after `until`.", param="since")
    if until - since >= REVENUE_DAYS_MAX:
        raise Refusal(f"Invalid range: at most {REVENUE_DAYS_MAX} days at once.", param="since")
    lines = await store.revenue(
        call.services.db,
        livemode=call.livemode,
        since_day=since,
        until_day=until,
        merchant=call.account,
    )
    return call.plain_list([_revenue_json(line) for line in lines], more=False)


def _revenue_json(line: RevenueLine) -> dict[str, Any]:
    return {
        "id": f"{line.account}_{line.currency}_{line.day}",
        "object": "ledger.revenue",
        "amount": line.amount,
        "currency": line.currency,
        "day": line.day * _SECONDS_A_DAY,
    }


_ACCOUNTS: Final = "/v1/ledger/accounts"
_TRANSFERS: Final = "/v1/ledger/transfers"
_ACCOUNT: Final = "ledger.account"
_TRANSFER: Final = "ledger.transfer"

ROUTES: Final = (
    Route(method="POST", path=_ACCOUNTS, params=CreateAccount, handle=create_account, answers=_ACCOUNT, claims_key=False,
          summary="Open a ledger account"),
    Route(method="GET", path=_ACCOUNTS, params=AccountsListed, handle=list_accounts, answers=_ACCOUNT, of_list=True,
          summary="List ledger accounts"),
    Route(method="GET", path=f"{_ACCOUNTS}/{{ledger_account}}", params=Params, handle=retrieve_account, answers=_ACCOUNT,
          summary="Retrieve a ledger account"),
    Route(method="GET", path=f"{_ACCOUNTS}/{{ledger_account}}/balance", params=BalanceAt, handle=balance,
          answers="ledger.balance", summary="Retrieve the balance of a ledger account as of a time"),
    Route(method="POST", path=_TRANSFERS, params=CreateTransfers, handle=create_transfers, answers=_TRANSFER, claims_key=False, own_id="id",
          body_max=LIST_BYTES_MAX, count_max=LIST_COUNT_MAX, summary="Book a transfer, or a list of them"),
    Route(method="GET", path=_TRANSFERS, params=TransfersListed, handle=list_transfers, answers=_TRANSFER, of_list=True,
          summary="List transfers"),
    Route(method="GET", path=f"{_TRANSFERS}/{{transfer}}", params=Params, handle=retrieve_transfer, answers=_TRANSFER,
          summary="Retrieve a transfer"),
    Route(method="GET", path="/v1/ledger/trial_balance", params=Params, handle=trial_balance, answers="ledger.trial_balance",
          summary="Retrieve the trial balance"),
    Route(method="GET", path="/v1/ledger/revenue", params=RevenueRange, handle=revenue, answers="ledger.revenue", of_list=True,
          summary="List what the operator earned"),
)  # fmt: skip
