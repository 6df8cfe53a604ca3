"""/v1/refunds: money given back."""

from typing import Final, Literal

from msgspec import UNSET, UnsetType

from guilder import payments
from guilder.api import amounts
from guilder.api.call import Call, page_of
from guilder.api.http import Reply
from guilder.api.params import Id, ListParams, Metadata, Params
from guilder.api.registry import Route
from guilder.api.text import pairs
from guilder.core.errors import Refusal
from guilder.payments.commands import CancelRefund, CreateRefund, UpdateRefund
from guilder.payments.read import list_refunds, retrieve_charge, retrieve_payment, retrieve_refund

KIND: Final = "refund"


class Create(Params, frozen=True, kw_only=True):
    """What to give back: of a payment, or of its charge."""

    payment_intent: Id | UnsetType = UNSET
    charge: Id | UnsetType = UNSET
    amount: int | UnsetType = UNSET
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"] | UnsetType | None = UNSET
    metadata: Metadata = UNSET


class Update(Params, frozen=True, kw_only=True):
    """What a merchant may change of a refund."""

    metadata: Metadata = UNSET


class Listed(ListParams, frozen=True, kw_only=True):
    """Which refunds."""

    charge: Id | UnsetType = UNSET
    payment_intent: Id | UnsetType = UNSET


async def create(call: Call, p: Create) -> Reply:
    """Refund a payment in part or whole."""
    if p.amount is not UNSET:
        amounts.whole(p.amount, "amount")
    currency = await _currency(call, p)
    command = CreateRefund(
        payment=p.payment_intent or None,
        charge=None if p.payment_intent else p.charge or None,
        amount=None if p.amount is UNSET else amounts.minor(p.amount, currency, "amount"),
        reason=p.reason or None,
        metadata=pairs(p.metadata),
    )
    return await call.result(await payments.refund(call.services.payments, call.claim, command))


async def _currency(call: Call, p: Create) -> str:
    """The currency of what is refunded.

    Raises Refusal (400) for an id that does not exist, or for two that do not belong together.
    """
    db = call.services.db
    if p.payment_intent is UNSET and p.charge is UNSET:
        raise Refusal(
            "One of the following params should be provided for this request: payment_intent or charge.",
            code="parameter_missing",
            param="payment_intent",
        )
    if p.charge is UNSET:
        return (await retrieve_payment(db, call.account, call.livemode, p.payment_intent or "", param="payment_intent")).currency
    charge = await retrieve_charge(db, call.account, call.livemode, p.charge, param="charge")
    if p.payment_intent is not UNSET and charge.payment_intent != p.payment_intent:
        raise Refusal(
            f"The charge {p.charge} does not belong to {p.payment_intent}.", code="parameters_exclusive", param="charge"
        )
    return charge.currency


async def retrieve(call: Call, _p: Params) -> Reply:
    """One refund."""
    return await call.show(await retrieve_refund(call.services.db, call.account, call.livemode, call.ids[0]))


async def update(call: Call, p: Update) -> Reply:
    """Change a refund's metadata."""
    command = UpdateRefund(refund=call.ids[0], metadata=p.metadata)
    return await call.result(await payments.update_refund(call.services.payments, call.claim, command))


async def cancel(call: Call, _p: Params) -> Reply:
    """Withdraw a refund that still waits for money."""
    command = CancelRefund(refund=call.ids[0])
    return await call.result(await payments.cancel_refund(call.services.payments, call.claim, command))


async def list_all(call: Call, p: Listed) -> Reply:
    """Refunds, newest first."""
    db, charge, payment = call.services.db, p.charge or None, p.payment_intent or None
    if charge is not None:
        await retrieve_charge(db, call.account, call.livemode, charge, param="charge")
    if payment is not None:
        await retrieve_payment(db, call.account, call.livemode, payment, param="payment_intent")
    found, more = await list_refunds(db, call.account, call.livemode, page_of(p), charge=charge, payment=payment)
    return await call.show_list(found, more)


_ONE: Final = "/v1/refunds/{refund}"

ROUTES: Final = (
    Route(method="POST", path="/v1/refunds", params=Create, handle=create, answers=KIND, summary="Create a refund"),
    Route(method="GET", path="/v1/refunds", params=Listed, handle=list_all, answers=KIND, of_list=True, summary="List refunds"),
    Route(method="GET", path=_ONE, params=Params, handle=retrieve, answers=KIND, summary="Retrieve a refund"),
    Route(method="POST", path=_ONE, params=Update, handle=update, answers=KIND, summary="Update a refund"),
    Route(method="POST", path=f"{_ONE}/cancel", params=Params, handle=cancel, answers=KIND, summary="Cancel a refund"),
)
