"""/v1/payment_methods: cards, kept by the vault."""

from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

from guilder.api.call import Call, Done, page_of
from guilder.api.cards import CardData, PaymentMethodData, PspPage, numeral, prepare
from guilder.api.http import Reply
from guilder.api.params import Id, Ignored, Metadata, Numeral, PageParams, Params
from guilder.api.personal import BillingDetails, billing
from guilder.api.registry import Route
from guilder.customers import Prepared, UpdatePaymentMethod, is_test_token
from guilder.db import Connection
from guilder.shapes.previous import previous_attributes

KIND: Final = "payment_method"
Redisplay = Literal["always", "limited", "unspecified"]


class Create(Params, frozen=True, kw_only=True):
    """A card as the payer entered it, a test token that stands for one, or the payment provider's own page."""

    type: Literal["card", "psp_page"]
    card: CardData | UnsetType = UNSET
    psp_page: PspPage | UnsetType = UNSET
    billing_details: BillingDetails | UnsetType = UNSET
    metadata: Metadata = UNSET
    allow_redisplay: Redisplay = "unspecified"
    radar_options: Ignored = UNSET


class CardUpdate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can change of a card that is kept."""

    exp_month: Numeral | UnsetType = UNSET
    exp_year: Numeral | UnsetType = UNSET


class Update(Params, frozen=True, kw_only=True):
    """Changes of a PaymentMethod that a customer has."""

    card: CardUpdate | UnsetType = UNSET
    billing_details: BillingDetails | UnsetType = UNSET
    metadata: Metadata = UNSET
    allow_redisplay: Redisplay | UnsetType = UNSET


class Attach(Params, frozen=True, kw_only=True):
    """Whom the PaymentMethod is given to."""

    customer: Id


class Listed(PageParams, frozen=True, kw_only=True):
    """Which PaymentMethods; those that a customer has."""

    customer: Id | UnsetType = UNSET
    type: Literal["card"] | UnsetType = UNSET


async def create(call: Call, p: Create) -> Reply:
    """Keep a card. The vault has it before the transaction begins: none is ever open across a call to anyone else."""
    stored = await call.answered()
    if stored is not None:
        return stored
    data = PaymentMethodData(
        type=p.type,
        card=p.card,
        psp_page=p.psp_page,
        billing_details=p.billing_details,
        metadata=p.metadata,
        allow_redisplay=p.allow_redisplay,
    )
    prepared = await prepare(call, data)

    async def effect(connection: Connection) -> Done:
        return Done(await call.services.methods.insert(connection, prepared))

    return await call.once(effect)


async def update(call: Call, p: Update) -> Reply:
    """Change a card's expiry, billing details or metadata."""
    card = p.card or CardUpdate()
    command = UpdatePaymentMethod(
        payment_method=call.ids[0],
        exp_month=None if card.exp_month is UNSET else numeral(card.exp_month),
        exp_year=None if card.exp_year is UNSET else numeral(card.exp_year),
        billing=billing(p.billing_details, "billing_details"),
        metadata=p.metadata,
        allow_redisplay=p.allow_redisplay or None,
    )
    stored = await call.answered()
    if stored is not None:
        return stored
    methods = call.services.methods
    await methods.prepare_update(call.account, command, livemode=call.livemode)

    async def effect(connection: Connection) -> Done:
        change = await methods.update(connection, call.account, command, livemode=call.livemode)
        if not change.is_one:
            return Done(change.after)
        previous = previous_attributes(change.before, change.after)
        return Done(change.after, (("payment_method.updated", change.after, previous),))

    return await call.once(effect)


async def attach(call: Call, p: Attach) -> Reply:
    """Give a PaymentMethod to a customer; a test token makes a new one first."""
    methods, [id_] = call.services.methods, call.ids
    prepared: Prepared | None = None
    if is_test_token(id_):
        stored = await call.answered()
        if stored is not None:
            return stored
        # An empty param: the id stands in the path, so one that does not exist is 404.
        prepared = await methods.prepare_token(call.account, id_, livemode=call.livemode, param="")

    async def effect(connection: Connection) -> Done:
        target = id_ if prepared is None else (await methods.insert(connection, prepared)).id
        attached = await methods.attach(connection, call.account, target, p.customer, livemode=call.livemode)
        facts = attached.payment_method
        return Done(facts, (("payment_method.attached", facts, b""),) if attached.is_new else ())

    return await call.once(effect)


async def detach(call: Call, _p: Params) -> Reply:
    """Take a PaymentMethod from its customer, for ever."""

    async def effect(connection: Connection) -> Done:
        detached = await call.services.methods.detach(connection, call.account, call.ids[0], livemode=call.livemode)
        previous = previous_attributes(detached.before, detached.after)
        events = (("payment_method.detached", detached.after, previous),)
        lost = detached.customer
        if lost is None:
            return Done(detached.after, events)
        updated = ("customer.updated", lost.after, previous_attributes(lost.before, lost.after))
        return Done(detached.after, (*events, updated))

    return await call.once(effect)


async def retrieve(call: Call, _p: Params) -> Reply:
    """One PaymentMethod, attached or not."""
    return await call.show(await call.services.methods.retrieve(call.account, call.ids[0], livemode=call.livemode))


async def list_all(call: Call, p: Listed) -> Reply:
    """PaymentMethods that customers have, newest first."""
    customer = p.customer or None
    if customer is not None:
        await call.services.customers.require(call.account, customer, livemode=call.livemode)
    found, more = await call.services.methods.list(call.account, page_of(p), livemode=call.livemode, customer=customer)
    return await call.show_list(found, more)


_ONE: Final = "/v1/payment_methods/{payment_method}"

ROUTES: Final = (
    Route(method="POST", path="/v1/payment_methods", params=Create, handle=create, answers=KIND, publishable=True,
          summary="Create a PaymentMethod"),
    Route(method="GET", path="/v1/payment_methods", params=Listed, handle=list_all, answers=KIND, of_list=True,
          summary="List PaymentMethods"),
    Route(method="GET", path=_ONE, params=Params, handle=retrieve, answers=KIND, summary="Retrieve a PaymentMethod"),
    Route(method="POST", path=_ONE, params=Update, handle=update, answers=KIND, summary="Update a PaymentMethod"),
    Route(method="POST", path=f"{_ONE}/attach", params=Attach, handle=attach, answers=KIND, summary="Attach a PaymentMethod"),
    Route(method="POST", path=f"{_ONE}/detach", params=Params, handle=detach, answers=KIND, summary="Detach a PaymentMethod"),
)  # fmt: skip
