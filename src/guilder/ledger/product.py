"""The ledger as a product of its own: a merchant's own accounts, and transfers between them. The system's are read-only.

The client makes the ids, and repeating is safe: the same id with the same content is answered with what stands there. A
client that gives an idempotency key and no id gets one that follows from the key, so that it is as safe.
Ids of transfers are unique per merchant and mode; in the books they bear both (`scoped`).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from guilder.core.clock import SECOND, Clock, Micros
from guilder.core.errors import Refusal, missing
from guilder.core.ids import Ids, base62
from guilder.db import Database
from guilder.db.errors import may_be_stored
from guilder.db.pages import Page
from guilder.idempotency import mismatch
from guilder.ledger import store
from guilder.ledger.accounts import ACCOUNT_PREFIX
from guilder.ledger.book import Ledger
from guilder.ledger.commands import Caller, CreateAccount, Created, CreateTransfer, check_account, check_transfers, parameter
from guilder.ledger.model import AS_PENDING, AccountKey, Balance, Booked, Code, Kind, LedgerAccount, StoredTransfer, Transfer

OWN: Final = "own"
"""The kind of a merchant's own accounts."""

TRANSFER_PREFIX: Final = "ltr"
# Accounts whose numbers one process remembers, about 30 MB when full.
REMEMBERED_MAX: Final = 100_000


class Books:
    """The verbs. Each answers for one merchant and mode; what belongs to another one does not exist."""

    def __init__(self, db: Database, ledger: Ledger, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._ledger = ledger
        self._clock = clock
        self._ids = ids
        self._named: dict[tuple[str, bool, str], store.Named] = {}

    async def create_account(self, caller: Caller, command: CreateAccount, *, key: str | None = None) -> LedgerAccount:
        """Open an account. Repeated with the same key it is the same account. Commits by itself.

        Raises:
            Refusal: 400 for a field that cannot be, or a key that was first used with other fields (idempotency_error).
        """
        check_account(command)
        id_ = self._id(ACCOUNT_PREFIX, caller, key, "account")
        new = store.NewAccount(
            id=id_, key=AccountKey(caller.account, caller.livemode, id_, OWN, command.currency), overdraft=command.overdraft,
            debits_limited=command.debits_limited, credits_limited=command.credits_limited, description=command.description,
            metadata=msgspec.msgpack.encode(command.metadata) if command.metadata else None,
        )  # fmt: skip
        stored = await store.account(self._db, id_, merchant=caller.account, livemode=caller.livemode) if key else None
        if stored is None:
            await store.open_accounts(self._db, caller.livemode, [new], now=self._clock.now())
            with may_be_stored("the account is open, and could not be read"):
                stored = await store.account(self._db, id_, merchant=caller.account, livemode=caller.livemode)
        if stored is None or _content(stored) != _content(new):
            raise mismatch(key or id_)
        return stored

    async def retrieve_account(self, caller: Caller, id_: str) -> LedgerAccount:
        """One account, own or the system's. Raises Refusal (404)."""
        found = await store.account(self._db, id_, merchant=caller.account, livemode=caller.livemode)
        if found is None:
            raise missing("ledger account", id_)
        return found

    async def list_accounts(
        self,
        caller: Caller,
        page: Page,
        *,
        kind: str | None = None,
        currency: str | None = None,
    ) -> tuple[list[LedgerAccount], bool]:
        """A page of accounts, own and the system's, newest first, and whether there are more."""
        return await store.accounts_page(self._db, page, merchant=caller.account, livemode=caller.livemode, kind=kind, currency=currency)

    async def balance(self, caller: Caller, account_id: str, *, at: int | None = None) -> Balance:
        """What stood on an account at an instant (microseconds; None: now). Raises Refusal (404)."""
        named = await self._resolve(caller, {account_id})
        if account_id not in named:
            raise missing("ledger account", account_id)
        found = await store.balance_at(self._db, named[account_id].number, self._clock.now() if at is None else at)
        if found is None:
            raise missing("ledger account", account_id)
        return found

    async def create_transfers(
        self, caller: Caller, commands: Sequence[CreateTransfer], *, key: str | None = None, listed: bool = True
    ) -> list[Created]:
        """Book a list, each chain whole or not at all; one result for each, in order. Committed when this returns.

        `key` is the client's idempotency key; `listed` says that the request was a list, so that refusals name the place.

        Raises:
            Refusal: 400 when something is wrong with a field, before anything is stored.
            Unavailable, ResultUnknown: as Ledger.book; repeating is safe.
        """
        check_transfers(commands, listed=listed)
        named = await self._resolve(caller, {side for command in commands for side in (command.debit, command.credit) if side})
        ids = [command.id or self._id(TRANSFER_PREFIX, caller, key, place) for place, command in enumerate(commands)]
        transfers = [
            _transfer(scoped(id_, caller), command, caller, named, partial(parameter, place, listed=listed))
            for place, (id_, command) in enumerate(zip(ids, commands, strict=True))
        ]
        booked = await self._ledger.book(caller.livemode, transfers)
        created = _created(ids, commands, caller, booked, named)
        stored_before = [place for place, one in enumerate(created) if one.transfer is None and one.code in (None, Code.EXISTS)]
        if stored_before:
            wanted = [transfers[place].id for place in stored_before]
            with may_be_stored("the transfers are booked, and could not be read"):
                found = await store.transfers(self._db, wanted, merchant=caller.account, livemode=caller.livemode)
            for place in stored_before:
                created[place] = replace(created[place], transfer=_unscoped(found[transfers[place].id], caller))
        return created

    async def retrieve_transfer(self, caller: Caller, id_: str) -> StoredTransfer:
        """One transfer, of own accounts or the system's. Raises Refusal (404)."""
        own = scoped(id_, caller)
        found = await store.transfers(self._db, [own, id_], merchant=caller.account, livemode=caller.livemode)
        if not found:
            raise missing("ledger transfer", id_)
        return _unscoped(found.get(own) or found[id_], caller)

    async def list_transfers(self, caller: Caller, page: Page, *, account_id: str | None = None) -> tuple[list[StoredTransfer], bool]:
        """A page of transfers, newest first, and whether there are more: of one account (its statement), or of all.

        Raises:
            Refusal: 400 for a cursor or an account that is not there, or for two cursors.
        """
        span = await self._span(caller, page)
        if account_id is None:
            found = await store.transfers_of(self._db, caller.account, span, livemode=caller.livemode)
        else:
            named = await self._resolve(caller, {account_id})
            if account_id not in named:
                raise missing("ledger account", account_id, param="ledger_account")
            found = await store.statement(self._db, named[account_id].number, span, livemode=caller.livemode)
        more = len(found) > page.limit
        found = found[: page.limit]
        return [_unscoped(transfer, caller) for transfer in (found if span.newest_first else reversed(found))], more

    async def _span(self, caller: Caller, page: Page) -> store.Span:
        if page.starting_after is not None and page.ending_before is not None:
            raise Refusal(
                "Received both starting_after and ending_before parameters. Please pass in only one.",
                code="parameters_exclusive", param="ending_before",
            )  # fmt: skip
        cursor = page.ending_before or page.starting_after
        beyond = None
        if cursor is not None:
            for id_ in (scoped(cursor, caller), cursor):
                beyond = beyond or await store.place(self._db, id_, merchant=caller.account, livemode=caller.livemode)
            if beyond is None:
                raise missing("ledger transfer", cursor, param="ending_before" if page.ending_before else "starting_after")
        return store.Span(
            limit=page.limit + 1, beyond=beyond, newest_first=page.ending_before is None, since=(page.since or 0) * SECOND,
            until=2**63 - 1 if page.until is None else page.until * SECOND - 1,
        )  # fmt: skip

    async def _resolve(self, caller: Caller, ids: set[str]) -> Mapping[str, store.Named]:
        """The accounts that are there, by id. What an account is never changes, so it is remembered."""
        found = {id_: named for id_ in ids if (named := self._named.get((caller.account, caller.livemode, id_)))}
        if len(found) < len(ids):
            fresh = await store.named(self._db, ids - found.keys(), merchant=caller.account, livemode=caller.livemode)
            while len(self._named) + len(fresh) > REMEMBERED_MAX:
                del self._named[next(iter(self._named))]
            self._named.update({(caller.account, caller.livemode, id_): named for id_, named in fresh.items()})
            found |= fresh
        return found

    def _id(self, prefix: str, caller: Caller, key: str | None, place: object) -> str:
        """A fresh id, or the one that follows from the client's key."""
        if key is None:
            return self._ids.new(prefix)
        text = f"{prefix}|{caller.account}|{caller.livemode}|{place}|{key}"
        # 140 bits: as many as 24 characters hold.
        return f"{prefix}_{base62(int.from_bytes(hashlib.sha256(text.encode()).digest()) >> 116, 24)}"


def scoped(id_: str, caller: Caller) -> str:
    """A client's transfer id as the books hold it: two merchants, or two modes, may use the same one."""
    return f"{id_}.{caller.account}.{'live' if caller.livemode else 'test'}"


def unscoped(id_: str, caller: Caller) -> str:
    """A transfer id of the books as the client knows it; the system's own are the same."""
    return id_.removesuffix(scoped("", caller))


def _unscoped(transfer: StoredTransfer, caller: Caller) -> StoredTransfer:
    return replace(
        transfer, id=unscoped(transfer.id, caller), pending_id=transfer.pending_id and unscoped(transfer.pending_id, caller),
        resolved_by=transfer.resolved_by and unscoped(transfer.resolved_by, caller),
    )  # fmt: skip


def _content(account: LedgerAccount | store.NewAccount) -> tuple[object, ...]:
    return (
        account.key.currency, account.debits_limited, account.credits_limited, account.overdraft, account.description,
        account.metadata,
    )  # fmt: skip


def _transfer(id_: str, command: CreateTransfer, caller: Caller, named: Mapping[str, store.Named], param: Callable[[str], str]) -> Transfer:
    """What is asked for, as the ledger takes it."""
    return Transfer(
        id=id_, debit=_side(command.debit, command.currency, named, param("debit")),
        credit=_side(command.credit, command.currency, named, param("credit")), amount=command.amount or AS_PENDING,
        kind=command.kind, code=command.code, linked=command.linked, reference=command.reference,
        pending_id=scoped(command.pending, caller) if command.pending else None,
        timeout=command.timeout_seconds * SECOND if command.timeout_seconds else None,
    )  # fmt: skip


def _side(id_: str | None, currency: str | None, named: Mapping[str, store.Named], param: str) -> int:
    if id_ is None:
        return AS_PENDING
    found = named.get(id_)
    if found is None:
        raise missing("ledger account", id_, param=param)
    if found.kind != OWN:
        raise Refusal(f"The ledger account '{id_}' is the system's and read-only; book between accounts of your own.", param=param)
    if currency not in (None, found.currency):
        raise Refusal(f"The ledger account '{id_}' is kept in {found.currency}, not in {currency}.", param=param)
    return found.number


def _created(
    ids: Sequence[str], commands: Sequence[CreateTransfer], caller: Caller, booked: Booked, named: Mapping[str, store.Named]
) -> list[Created]:
    """The results of a booking; what was stored just now is put together from what was asked.

    Left out are resolutions, which took over what they resolve, and what stood already.
    """
    codes = {refused.index: refused.code for refused in booked.refused}
    index = booked.last_index - len(commands) + len(codes)
    created = []
    for place, (id_, command) in enumerate(zip(ids, commands, strict=True)):
        code = codes.get(place)
        transfer = None
        if code is None:
            index += 1
            if command.kind < Kind.POST and command.debit and command.credit and command.amount:
                transfer = StoredTransfer(
                    index=index, id=id_, account=caller.account, livemode=caller.livemode, debit=command.debit,
                    credit=command.credit, amount=command.amount, currency=named[command.debit].currency, kind=command.kind,
                    code=command.code, fact=False, linked=command.linked, reference=command.reference,
                    created_at=booked.created_at,
                    expires_at=Micros(booked.created_at + command.timeout_seconds * SECOND) if command.timeout_seconds else None,
                )  # fmt: skip
        created.append(Created(id_, transfer, code))
    return created
