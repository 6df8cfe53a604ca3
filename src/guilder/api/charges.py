"""/v1/charges: what was tried on cards, and what came of it."""

from typing import Final

from msgspec import UNSET, UnsetType

from guilder import payments
from guilder.api.call import Call, page_of
from guilder.api.http import Reply
from guilder.api.params import Id, ListParams, Metadata, PageParams, Params, ShortText, Text
from guilder.api.personal import Shipping, named, sealed_for_payment
from guilder.api.registry import Route
from guilder.api.text import check_email
from guilder.payments.commands import UpdateCharge
from guilder.payments.read import list_charges, list_refunds, retrieve_charge, retrieve_payment

KIND: Final = "charge"


class Update(Params, frozen=True, kw_only=True):
    """What a merchant may change of a charge."""

    customer: Id | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    metadata: Metadata = UNSET
    receipt_email: ShortText | UnsetType | None = UNSET
    shipping: Shipping | UnsetType | None = UNSET


class Listed(ListParams, frozen=True, kw_only=True):
    """Which charges."""

    customer: Id | UnsetType = UNSET
    payment_intent: Id | UnsetType = UNSET


async def retrieve(call: Call, _p: Params) -> Reply:
    """One charge."""
    return await call.show(await retrieve_charge(call.services.db, call.account, call.livemode, call.ids[0]))


async def update(call: Call, p: Update) -> Reply:
    """Change a charge's description, metadata and the like."""
    [id_] = call.ids
    check_email(p.receipt_email, "receipt_email")
    fields = named(receipt_email=p.receipt_email, shipping=p.shipping)
    personal: str | UnsetType | None = UNSET
    if fields:
        stored = await call.answered()
        if stored is not None:
            return stored
        before = await retrieve_charge(call.services.db, call.account, call.livemode, id_)
        personal = await sealed_for_payment(call, before.personal, fields)
    if isinstance(p.customer, str):
        await call.services.customers.require(call.account, p.customer, livemode=call.livemode)
    command = UpdateCharge(charge=id_, description=p.description, metadata=p.metadata, customer=p.customer, personal=personal)
    return await call.result(await payments.update_charge(call.services.payments, call.claim, command))


async def list_all(call: Call, p: Listed) -> Reply:
    """Charges, newest first."""
    customer, payment, db = p.customer or None, p.payment_intent or None, call.reads
    if customer is not None:
        await call.services.customers.retrieve(call.account, customer, livemode=call.livemode, param="customer")
    if payment is not None:
        await retrieve_payment(db, call.account, call.livemode, payment, param="payment_intent")
    found, more = await list_charges(db, call.account, call.livemode, page_of(p), customer=customer, payment=payment)
    return await call.show_list(found, more)


async def list_refunds_of(call: Call, p: PageParams) -> Reply:
    """The refunds of one charge: what the list embedded in a charge pages on by."""
    db, [id_] = call.services.db, call.ids
    await retrieve_charge(db, call.account, call.livemode, id_)
    found, more = await list_refunds(db, call.account, call.livemode, page_of(p), charge=id_)
    return await call.show_list(found, more)


_ONE: Final = "/v1/charges/{charge}"

ROUTES: Final = (
    Route(method="GET", path="/v1/charges", params=Listed, handle=list_all, answers=KIND, of_list=True, may_lag=True,
          summary="List charges"),
    Route(method="GET", path=_ONE, params=Params, handle=retrieve, answers=KIND, summary="Retrieve a charge"),
    Route(method="POST", path=_ONE, params=Update, handle=update, answers=KIND, summary="Update a charge"),
    Route(method="GET", path=f"{_ONE}/refunds", params=PageParams, handle=list_refunds_of, answers="refund", of_list=True,
          summary="List the refunds of a charge"),
)  # fmt: skip
