"""/v1/customers: who a merchant knows, with their payment methods."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from guilder.api.call import Call, Done, page_of
from guilder.api.http import Reply
from guilder.api.params import Id, ListParams, Metadata, PageParams, Params, ShortText, Text
from guilder.api.personal import Address, CustomerShipping, named
from guilder.api.registry import Route
from guilder.api.text import check_email, pairs
from guilder.core.errors import missing
from guilder.customers import CreateCustomer, Prepared, UpdateCustomer, is_test_token
from guilder.db import Connection
from guilder.shapes.previous import previous_attributes

KIND: Final = "customer"
_PERSONAL: Final = ("name", "email", "phone", "description", "address", "shipping", "preferred_locales", "tax_exempt")

# As long as BCP 47 recommends room for (RFC 5646, section 4.4.1).
Locale = Annotated[str, Meta(min_length=2, max_length=35, pattern="^[A-Za-z0-9_-]*$")]


class InvoiceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of these only the default payment method means something here."""

    default_payment_method: Id | UnsetType | None = UNSET


class _Writable(Params, frozen=True, kw_only=True):
    """What create and update share."""

    name: Annotated[str, Meta(max_length=256)] | UnsetType | None = UNSET
    email: ShortText | UnsetType | None = UNSET
    phone: Annotated[str, Meta(max_length=20)] | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    address: Address | UnsetType | None = UNSET
    shipping: CustomerShipping | UnsetType | None = UNSET
    preferred_locales: Annotated[list[Locale], Meta(max_length=20)] | UnsetType | None = UNSET
    tax_exempt: Literal["none", "exempt", "reverse"] | UnsetType | None = UNSET
    metadata: Metadata = UNSET
    invoice_settings: InvoiceSettings | UnsetType = UNSET


class Create(_Writable, frozen=True, kw_only=True):
    """A new customer."""

    payment_method: Id | UnsetType = UNSET
    invoice_prefix: Annotated[str, Meta(min_length=3, max_length=12, pattern="^[A-Z0-9]*$")] | UnsetType = UNSET


class Update(_Writable, frozen=True, kw_only=True):
    """Changes of a customer."""


class Listed(ListParams, frozen=True, kw_only=True):
    """Which customers; the mail address must match to the letter."""

    email: ShortText | UnsetType = UNSET


class MethodsListed(PageParams, frozen=True, kw_only=True):
    """Which of a customer's payment methods."""

    type: Literal["card"] | UnsetType = UNSET


def _personal(p: _Writable) -> dict[str, Any]:
    """The personal fields that the request named."""
    check_email(p.email, "email")
    given = asdict(p)
    # What a customer shows without them is the same as none, and a record holds only what has a value.
    given["preferred_locales"] = given["preferred_locales"] if given["preferred_locales"] != [] else None
    given["tax_exempt"] = given["tax_exempt"] if given["tax_exempt"] != "none" else None
    return named(**{name: given[name] for name in _PERSONAL})


async def create(call: Call, p: Create) -> Reply:
    """Make a customer, and attach a payment method at once if one is named; a test token makes a new one first."""
    services, named_method = call.services, p.payment_method or None
    default = (p.invoice_settings.default_payment_method or None) if p.invoice_settings else None
    prepared: Prepared | None = None
    if named_method is not None and is_test_token(named_method):
        stored = await call.answered()
        if stored is not None:
            return stored
        prepared = await services.methods.prepare_token(call.account, named_method, livemode=call.livemode)
    ids = {} if prepared is None else {named_method: prepared.facts.id}
    command = CreateCustomer(
        personal={name: value for name, value in _personal(p).items() if value is not None},
        metadata=pairs(p.metadata),
        payment_method=ids.get(named_method, named_method),
        default_payment_method=ids.get(default, default),
        invoice_prefix=p.invoice_prefix or None,
    )

    async def effect(connection: Connection) -> Done:
        if prepared is not None:
            await services.methods.insert(connection, prepared)
        created = await services.customers.create(connection, call.account, command, livemode=call.livemode)
        attached = () if created.attached is None else (("payment_method.attached", created.attached, b""),)
        return Done(created.customer, (("customer.created", created.customer, b""), *attached))

    return await call.once(effect)


async def update(call: Call, p: Update) -> Reply:
    """Change a customer."""
    command = UpdateCustomer(
        customer=call.ids[0],
        personal=_personal(p),
        metadata=p.metadata,
        default_payment_method=p.invoice_settings.default_payment_method if p.invoice_settings else UNSET,
    )

    async def effect(connection: Connection) -> Done:
        change = await call.services.customers.update(connection, call.account, command, livemode=call.livemode)
        if not change.is_one:
            return Done(change.after)
        return Done(change.after, (("customer.updated", change.after, previous_attributes(change.before, change.after)),))

    return await call.once(effect)


async def delete(call: Call, _p: Params) -> Reply:
    """Delete a customer; what it paid stays."""
    services = call.services
    async with services.db.transaction() as connection:
        deleted = await services.customers.delete(connection, call.account, call.ids[0], livemode=call.livemode)
        detached = tuple(("payment_method.detached", method, b"") for method in deleted.detached)
        await call.announce(connection, Done(deleted.after, (("customer.deleted", deleted.before, b""), *detached)))
    return await call.show(deleted.after)


async def retrieve(call: Call, _p: Params) -> Reply:
    """One customer, or what is left of a deleted one."""
    return await call.show(await call.services.customers.retrieve(call.account, call.ids[0], livemode=call.livemode))


async def list_all(call: Call, p: Listed) -> Reply:
    """Customers, newest first."""
    found, more = await call.services.customers.list(call.account, page_of(p), livemode=call.livemode, email=p.email or None)
    return await call.show_list(found, more)


async def list_methods(call: Call, p: MethodsListed) -> Reply:
    """A customer's payment methods, newest first."""
    customer = await call.services.customers.retrieve(call.account, call.ids[0], livemode=call.livemode)
    if customer.deleted:
        raise missing("customer", customer.id)
    found, more = await call.services.methods.list(call.account, page_of(p), livemode=call.livemode, customer=customer.id)
    return await call.show_list(found, more)


async def retrieve_method(call: Call, _p: Params) -> Reply:
    """One payment method of a customer."""
    customer, id_ = call.ids
    return await call.show(await call.services.methods.retrieve_of(call.account, customer, id_, livemode=call.livemode))


_ONE: Final = "/v1/customers/{customer}"

ROUTES: Final = (
    Route(method="POST", path="/v1/customers", params=Create, handle=create, answers=KIND, summary="Create a customer"),
    Route(method="GET", path="/v1/customers", params=Listed, handle=list_all, answers=KIND, of_list=True,
          summary="List customers"),
    Route(method="GET", path=_ONE, params=Params, handle=retrieve, answers=KIND, summary="Retrieve a customer"),
    Route(method="POST", path=_ONE, params=Update, handle=update, answers=KIND, summary="Update a customer"),
    Route(method="DELETE", path=_ONE, params=Params, handle=delete, answers=KIND, summary="Delete a customer"),
    Route(method="GET", path=f"{_ONE}/payment_methods", params=MethodsListed, handle=list_methods, answers="payment_method",
          of_list=True, summary="List a customer's PaymentMethods"),
    Route(method="GET", path=f"{_ONE}/payment_methods/{{payment_method}}", params=Params, handle=retrieve_method,
          answers="payment_method", summary="Retrieve a customer's PaymentMethod"),
)  # fmt: skip
