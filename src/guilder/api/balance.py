"""/v1/balance and /v1/balance_transactions: what the merchant has, and each entry that made it so."""

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from guilder.api.call import Call, page_of
from guilder.api.http import Reply
from guilder.api.params import Id, ListParams, Params
from guilder.api.registry import Route
from guilder.core.errors import missing
from guilder.wallet import store

KIND: Final = "balance_transaction"


class Listed(ListParams, frozen=True, kw_only=True):
    """Which entries."""

    type: Annotated[str, Meta(max_length=50)] | UnsetType = UNSET
    currency: Annotated[str, Meta(max_length=10)] | UnsetType = UNSET
    source: Id | UnsetType = UNSET
    payout: Id | UnsetType = UNSET


async def retrieve_balance(call: Call, _p: Params) -> Reply:
    """What the merchant has, pending and available; before the first payment zero in its own currency, never nothing."""
    facts = await store.balance(call.services.db, merchant=call.account, livemode=call.livemode)
    if not facts.available:
        nothing = (((await call.services.merchants.retrieve(call.account)).default_currency, 0),)
        facts = replace(facts, available=nothing, pending=nothing)
    return await call.show(facts)


async def retrieve(call: Call, _p: Params) -> Reply:
    """One entry."""
    [id_] = call.ids
    found = await store.balance_transactions(call.services.db, [id_], merchant=call.account, livemode=call.livemode)
    if id_ not in found:
        raise missing("balance transaction", id_)
    return await call.show(found[id_])


async def list_all(call: Call, p: Listed) -> Reply:
    """Entries, newest first."""
    if p.payout is not UNSET:
        # There are no payouts yet, so no such payout can be meant.
        raise missing("payout", p.payout, param="payout")
    found, more = await store.balance_transactions_page(
        call.reads,
        page_of(p),
        merchant=call.account,
        livemode=call.livemode,
        type_=p.type or None,
        currency=p.currency.lower() if p.currency else None,
        source=p.source or None,
    )
    return await call.show_list(found, more)


ROUTES: Final = (
    Route(method="GET", path="/v1/balance", params=Params, handle=retrieve_balance, answers="balance",
          summary="Retrieve your balance"),
    Route(method="GET", path="/v1/balance_transactions", params=Listed, handle=list_all, answers=KIND, of_list=True,
          may_lag=True, summary="List balance transactions"),
    Route(method="GET", path="/v1/balance_transactions/{balance_transaction}", params=Params, handle=retrieve, answers=KIND,
          summary="Retrieve a balance transaction"),
)  # fmt: skip
