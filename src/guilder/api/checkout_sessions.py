"""/v1/checkout/sessions: what a buyer is asked to pay on the payment page; HTTP to command, and the answer back."""

from collections.abc import Sequence
from typing import Any, Final, NoReturn

from msgspec import UNSET, UnsetType

from guilder import orders
from guilder.api import amounts
from guilder.api.call import Call, page_of
from guilder.api.http import Reply
from guilder.api.params import Params, check_metadata
from guilder.api.payment_params import DEFAULT_CAPTURE_METHOD, three_d_secure
from guilder.api.personal import named
from guilder.api.registry import Route
from guilder.api.session_params import Create, Feature, LineItem, LinesListed, Listed, PaymentData, Update
from guilder.api.text import check_descriptor, check_email, check_url, pairs
from guilder.core.errors import Refusal
from guilder.orders import CreateSession, Line, UpdateSession
from guilder.shapes.facts import LineItemFacts, OrderedPaymentFacts
from guilder.shapes.units import from_wire, step
from guilder.shapes.version1.session import line_item

KIND: Final = "checkout.session"


async def create(call: Call, p: Create) -> Reply:
    """Ask a buyer for payment; the answer's `url` is the page."""
    currency = amounts.currency(p.line_items[0].price_data.currency)
    lines = tuple(_line(item, currency, f"line_items[{index}]") for index, item in enumerate(p.line_items))
    _check(p, currency)
    amounts.total(sum(line.unit_amount * line.quantity for line in lines), currency)
    data = p.payment_intent_data or PaymentData()
    if isinstance(p.customer, str):
        await call.services.customers.require(call.account, p.customer, livemode=call.livemode)
    command = CreateSession(
        currency=currency,
        lines=lines,
        success_url=p.success_url,
        cancel_url=p.cancel_url or None,
        expires_at=None if p.expires_at is UNSET else p.expires_at,
        client_reference_id=p.client_reference_id or None,
        customer=p.customer or None,
        customer_email=p.customer_email or None,
        locale=p.locale or None,
        metadata=pairs(p.metadata),
        submit_type=p.submit_type or None,
        payment=_payment(data, three_d_secure(p.payment_method_options) or "automatic"),
        payment_personal=named(receipt_email=data.receipt_email, shipping=data.shipping),
    )
    return await call.result(await orders.create(call.services.orders, call.claim, command))


async def update(call: Call, p: Update) -> Reply:
    """Change a session's metadata."""
    command = UpdateSession(session=call.ids[0], metadata=p.metadata)
    return await call.result(await orders.update(call.services.orders, call.claim, command))


async def expire(call: Call, _p: Params) -> Reply:
    """End an open session."""
    return await call.result(await orders.expire(call.services.orders, call.claim, call.ids[0]))


async def retrieve(call: Call, _p: Params) -> Reply:
    """One session."""
    return await call.show(await orders.retrieve_session(call.services.orders, call.account, call.livemode, call.ids[0]))


async def list_all(call: Call, p: Listed) -> Reply:
    """Sessions, newest first."""
    found, more = await orders.list_sessions(
        call.services.orders, call.account, call.livemode, page_of(p),
        customer=p.customer or None, payment=p.payment_intent or None, state=p.status or None,
    )  # fmt: skip
    return await call.show_list(found, more)


async def list_lines(call: Call, p: LinesListed) -> Reply:
    """A session's line items, in the order in which they were given."""
    facts = await orders.retrieve_session(call.services.orders, call.account, call.livemode, call.ids[0])
    chosen, more = _page(facts.line_items, p)
    return call.plain_list([line_item(facts, one) for one in chosen], more=more)


def _page(items: Sequence[LineItemFacts], p: LinesListed) -> tuple[Sequence[LineItemFacts], bool]:
    if p.starting_after is not None and p.ending_before is not None:
        raise Refusal(
            "Received both starting_after and ending_before parameters. Please pass in only one.", code="parameters_exclusive",
            param="ending_before",
        )
    ids = [item.id for item in items]
    if p.ending_before is not None:
        before = items[: _place(ids, p.ending_before, "ending_before")]
        return before[-p.limit :], len(before) > p.limit
    after = items if p.starting_after is None else items[_place(ids, p.starting_after, "starting_after") + 1 :]
    return after[: p.limit], len(after) > p.limit


def _place(ids: list[str], cursor: str, param: str) -> int:
    if cursor not in ids:
        raise Refusal(f"No such item: '{cursor}'", code="resource_missing", param=param)
    return ids.index(cursor)


# --- checks ---------------------------------------------------------------------------------------------------------


def _line(item: LineItem, currency: str, param: str) -> Line:
    price, product = item.price_data, item.price_data.product_data
    if amounts.currency(price.currency) != currency:
        raise Refusal(
            f"All line items must have the same currency: {currency}, as the first.", param=f"{param}[price_data][currency]",
        )  # fmt: skip
    if isinstance(product.metadata, dict):
        check_metadata(product.metadata)
    return Line(
        name=product.name,
        unit_amount=_unit_amount(price.unit_amount, currency, f"{param}[price_data][unit_amount]"),
        quantity=item.quantity,
        description=product.description or None,
        product_metadata=pairs(product.metadata),
    )


def _unit_amount(amount: int, currency: str, param: str) -> int:
    """In minor units; nothing is a price too."""
    if amount == 0:
        return 0
    if amount < 0 or amount > amounts.AMOUNT_MAX or amount % step(currency):
        _bad_amount(currency, param)
    return from_wire(amount, currency)


def _bad_amount(currency: str, param: str) -> NoReturn:
    raise Refusal(
        f"Invalid integer: a price is from 0 to {amounts.AMOUNT_MAX}, and in {currency} a multiple of {step(currency)}.",
        code="parameter_invalid_integer", param=param,
    )  # fmt: skip


def _check(p: Create, currency: str) -> None:
    """What has a form, and what may not be said together."""
    if p.currency is not UNSET and amounts.currency(p.currency) != currency:
        raise Refusal(f"The line items are in {currency}; `currency` must be the same.", param="currency")
    if p.customer and p.customer_email:
        raise Refusal(
            "You may only specify one of these parameters: customer, customer_email.", code="parameters_exclusive", param="customer_email",
        )  # fmt: skip
    _check_unwanted(p)
    check_url(p.success_url, "success_url")
    check_url(p.cancel_url, "cancel_url")
    _check_web(p.success_url, "success_url")
    _check_web(p.cancel_url, "cancel_url")
    check_email(p.customer_email, "customer_email")
    if p.payment_intent_data:
        data = p.payment_intent_data
        check_email(data.receipt_email, "payment_intent_data[receipt_email]")
        check_descriptor(data.statement_descriptor or UNSET, "payment_intent_data[statement_descriptor]")
        check_descriptor(data.statement_descriptor_suffix or UNSET, "payment_intent_data[statement_descriptor_suffix]")
        if isinstance(data.metadata, dict):
            check_metadata(data.metadata)


def _check_unwanted(p: Create) -> None:
    """What the page does not do may be named in order to do without it, and not be asked for."""
    lines = {f"line_items[{index}][adjustable_quantity]": item.adjustable_quantity for index, item in enumerate(p.line_items)}
    features = lines | {
        "automatic_tax": p.automatic_tax, "invoice_creation": p.invoice_creation, "phone_number_collection": p.phone_number_collection,
        "tax_id_collection": p.tax_id_collection,
    }  # fmt: skip
    wanted = [f"{name}[enabled]" for name, one in features.items() if isinstance(one, Feature) and one.enabled]
    if p.allow_promotion_codes:
        wanted.append("allow_promotion_codes")
    if wanted:
        raise Refusal(f"`{wanted[0]}` `true` is not supported: leave it out, or send false.", param=wanted[0])


def _check_web(value: str | UnsetType | None, param: str) -> None:
    """A browser is sent there."""
    if isinstance(value, str) and not value.lower().startswith(("http://", "https://")):
        raise Refusal(f"Not a valid URL: '{param}' must begin with http:// or https://.", code="url_invalid", param=param)


def _payment(data: PaymentData, secure: str) -> OrderedPaymentFacts:
    def given(value: Any) -> Any:
        return value or None

    return OrderedPaymentFacts(
        capture_method=data.capture_method or DEFAULT_CAPTURE_METHOD,
        description=given(data.description),
        metadata=pairs(data.metadata),
        statement_descriptor=given(data.statement_descriptor),
        statement_descriptor_suffix=given(data.statement_descriptor_suffix),
        setup_future_usage=given(data.setup_future_usage),
        request_three_d_secure=secure,
    )


_SESSIONS: Final = "/v1/checkout/sessions"
ROUTES: Final = (
    Route(method="POST", path=_SESSIONS, params=Create, handle=create, answers=KIND, summary="Ask a buyer for payment"),
    Route(method="GET", path=_SESSIONS, params=Listed, handle=list_all, answers=KIND, summary="List Checkout Sessions", of_list=True),
    Route(method="GET", path=f"{_SESSIONS}/{{session}}", params=Params, handle=retrieve, answers=KIND, summary="Retrieve a session"),
    Route(method="POST", path=f"{_SESSIONS}/{{session}}", params=Update, handle=update, answers=KIND, summary="Change a session"),
    Route(
        method="POST", path=f"{_SESSIONS}/{{session}}/expire", params=Params, handle=expire, answers=KIND,
        summary="End an open Checkout Session",
    ),
    Route(
        method="GET", path=f"{_SESSIONS}/{{session}}/line_items", params=LinesListed, handle=list_lines, answers="item",
        summary="List a Checkout Session's line items", of_list=True,
    ),
)  # fmt: skip
