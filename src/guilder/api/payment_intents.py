"""/v1/payment_intents: HTTP to command, and the answer back."""

import hmac
from typing import Any, Final

from msgspec import UNSET, UnsetType

from guilder import payments
from guilder.api import amounts
from guilder.api.call import Call, page_of
from guilder.api.cards import method_for
from guilder.api.http import Reply
from guilder.api.payment_params import (
    DEFAULT_CAPTURE_METHOD,
    AutomaticMethods,
    Cancel,
    Capture,
    Confirm,
    Create,
    Listed,
    Retrieve,
    Update,
    three_d_secure,
)
from guilder.api.personal import named, sealed_for_payment
from guilder.api.registry import Route
from guilder.api.text import check_descriptor, check_email, check_url, pairs
from guilder.core.errors import Refusal
from guilder.payments.commands import CancelPayment, CapturePayment, ConfirmPayment, CreatePayment, UpdatePayment
from guilder.payments.read import list_payments, retrieve_payment
from guilder.shapes.facts import PaymentIntentFacts

KIND: Final = "payment_intent"
CARD: Final = ("card",)

# What a browser may say when it confirms; the rest is the merchant's.
_CLIENT_SIDE: Final = frozenset(
    {"client_secret", "expand", "payment_method", "payment_method_data", "payment_method_options", "radar_options",
     "receipt_email", "return_url", "setup_future_usage", "shipping", "use_stripe_sdk"}
)  # fmt: skip


async def create(call: Call, p: Create) -> Reply:
    """Store a payment, and with `confirm` try to take it."""
    currency = amounts.currency(p.currency)
    amount = amounts.payable(p.amount, currency)
    _check_create(p)
    _check_texts(p)
    fields = _personal_fields(p)
    if fields or p.payment_method_data is not UNSET:
        stored = await call.answered()
        if stored is not None:
            return stored
    if isinstance(p.customer, str):
        await call.services.customers.require(call.account, p.customer, livemode=call.livemode)
    method = await method_for(call, p.payment_method, p.payment_method_data)
    command = CreatePayment(
        amount=amount,
        currency=currency,
        confirm=p.confirm,
        payment_method=method,
        payment_method_types=p.payment_method_types or CARD,
        automatic_payment_methods=_automatic(p),
        capture_method=p.capture_method or DEFAULT_CAPTURE_METHOD,
        customer=p.customer or None,
        description=p.description or None,
        metadata=pairs(p.metadata),
        personal=await sealed_for_payment(call, None, fields) if fields else None,
        statement_descriptor=p.statement_descriptor or None,
        statement_descriptor_suffix=p.statement_descriptor_suffix or None,
        setup_future_usage=p.setup_future_usage or None,
        return_url=p.return_url or None,
        off_session=p.off_session,
        error_on_requires_action=p.error_on_requires_action,
        request_three_d_secure=three_d_secure(p.payment_method_options) or "automatic",
    )
    return await call.result(await payments.create(call.services.payments, call.claim, command))


async def confirm(call: Call, p: Confirm) -> Reply:
    """Try to take a payment that exists; a publishable key needs the client secret."""
    [id_] = call.ids
    _check_texts(p)
    fields = _personal_fields(p)
    if call.publishable or p.client_secret is not UNSET:
        await _check_client(call, id_, p)
    if fields or p.payment_method_data is not UNSET:
        stored = await call.answered()
        if stored is not None:
            return stored
    method = await method_for(call, p.payment_method, p.payment_method_data)
    command = ConfirmPayment(
        payment=id_,
        payment_method=UNSET if method is None else method,
        capture_method=p.capture_method,
        setup_future_usage=p.setup_future_usage,
        return_url=p.return_url,
        personal=await _personal_after(call, id_, fields) if fields else UNSET,
        off_session=p.off_session,
        error_on_requires_action=p.error_on_requires_action,
        request_three_d_secure=three_d_secure(p.payment_method_options),
    )
    return await call.result(await payments.confirm(call.services.payments, call.claim, command))


async def update(call: Call, p: Update) -> Reply:
    """Change a payment."""
    [id_] = call.ids
    _check_texts(p)
    fields = _personal_fields(p)
    if fields or p.payment_method_data is not UNSET:
        stored = await call.answered()
        if stored is not None:
            return stored
    if isinstance(p.customer, str):
        await call.services.customers.require(call.account, p.customer, livemode=call.livemode)
    method = await method_for(call, p.payment_method, p.payment_method_data)
    currency: str | UnsetType = UNSET if p.currency is UNSET else amounts.currency(p.currency)
    command = UpdatePayment(
        payment=id_,
        amount=await _new_amount(call, id_, p.amount, currency),
        currency=currency,
        payment_method=None if p.payment_method is None else UNSET if method is None else method,
        payment_method_types=UNSET if p.payment_method_types is UNSET else p.payment_method_types or CARD,
        capture_method=p.capture_method,
        customer=p.customer,
        description=p.description,
        metadata=p.metadata,
        personal=await _personal_after(call, id_, fields) if fields else UNSET,
        statement_descriptor=p.statement_descriptor,
        statement_descriptor_suffix=p.statement_descriptor_suffix,
        setup_future_usage=p.setup_future_usage,
        request_three_d_secure=three_d_secure(p.payment_method_options),
    )
    return await call.result(await payments.update(call.services.payments, call.claim, command))


async def capture(call: Call, p: Capture) -> Reply:
    """Take some or all of an authorized amount."""
    [id_] = call.ids
    _check_texts(p)
    amount: int | None = None
    if p.amount_to_capture is not UNSET:
        amounts.whole(p.amount_to_capture, "amount_to_capture")
        facts = await _find(call, id_)
        amount = amounts.minor(p.amount_to_capture, facts.currency, "amount_to_capture")
    command = CapturePayment(
        payment=id_, amount_to_capture=amount, metadata=p.metadata, statement_descriptor=p.statement_descriptor,
        statement_descriptor_suffix=p.statement_descriptor_suffix,
    )  # fmt: skip
    return await call.result(await payments.capture(call.services.payments, call.claim, command))


async def cancel(call: Call, p: Cancel) -> Reply:
    """Give a payment up."""
    [id_] = call.ids
    command = CancelPayment(payment=id_, cancellation_reason=p.cancellation_reason or None)
    return await call.result(await payments.cancel(call.services.payments, call.claim, command))


async def retrieve(call: Call, p: Retrieve) -> Reply:
    """One payment; a publishable key sees what its buyer may see."""
    facts = await _find(call, call.ids[0])
    if call.publishable or p.client_secret is not UNSET:
        _check_secret(facts, p.client_secret)
    return await call.show(facts)


async def list_all(call: Call, p: Listed) -> Reply:
    """Payments, newest first."""
    customer = p.customer or None
    if customer is not None:
        await call.services.customers.retrieve(call.account, customer, livemode=call.livemode, param="customer")
    found, more = await list_payments(call.reads, call.account, call.livemode, page_of(p), customer=customer)
    return await call.show_list(found, more)


# --- checks ---------------------------------------------------------------------------------------------------------


def _check_create(p: Create) -> None:
    """What may be said only together, or only with `confirm`."""
    if p.confirm and not p.payment_method and p.payment_method_data is UNSET:
        raise Refusal(
            "You cannot confirm this PaymentIntent because it's missing a payment method. Provide `payment_method` or "
            "`payment_method_data`, or confirm it later.",
            code="parameter_missing",
            param="payment_method",
        )
    if isinstance(p.payment_method_types, tuple) and "card_present" in p.payment_method_types and (p.confirm or p.payment_method):
        raise Refusal("A card_present payment takes its card at a reader: leave out `confirm` and `payment_method`.", param="confirm")
    if p.confirmation_method == "manual":
        raise Refusal(
            "`confirmation_method` `manual` is not supported: once the buyer has been authenticated, the payment goes on by itself, and "
            "confirming it again would be an error on a payment that is paid. Leave it out; to decide yourself when money is taken, use "
            "`capture_method` `manual`.",
            param="confirmation_method",
        )
    if not p.confirm:
        for name in ("off_session", "error_on_requires_action"):
            if getattr(p, name):
                raise Refusal(f"`{name}` can only be used when `confirm` is true.", param=name)
    automatic = p.automatic_payment_methods
    if isinstance(automatic, AutomaticMethods) and automatic.enabled and isinstance(p.payment_method_types, tuple):
        raise Refusal(
            "You may only specify one of these parameters: automatic_payment_methods, payment_method_types.",
            code="parameters_exclusive",
            param="payment_method_types",
        )


def _check_texts(p: Create | Confirm | Update | Capture) -> None:
    """Texts that have a form; nothing to do for most requests."""
    for name, check in _TEXT_CHECKS:
        value = getattr(p, name, None)
        if value:
            check(value, name)


_TEXT_CHECKS: Final = (
    ("receipt_email", check_email),
    ("return_url", check_url),
    ("statement_descriptor", check_descriptor),
    ("statement_descriptor_suffix", check_descriptor),
)


def _automatic(p: Create) -> str | None:
    """As the facts hold it: what is said of redirects, None when card types are named instead."""
    automatic = p.automatic_payment_methods
    if isinstance(automatic, AutomaticMethods):
        return (automatic.allow_redirects or "") if automatic.enabled else None
    return None if isinstance(p.payment_method_types, tuple) else ""


def _personal_fields(p: Create | Confirm | Update) -> dict[str, Any]:
    return named(receipt_email=p.receipt_email, shipping=p.shipping)


async def _find(call: Call, id_: str) -> PaymentIntentFacts:
    return await retrieve_payment(call.services.db, call.account, call.livemode, id_)


async def _personal_after(call: Call, id_: str, fields: dict[str, Any]) -> str | None:
    return await sealed_for_payment(call, (await _find(call, id_)).personal, fields)


async def _new_amount(call: Call, id_: str, amount: int | UnsetType, currency: str | UnsetType) -> int | UnsetType:
    """The new amount in minor units of the new currency, or of the payment's."""
    if amount is UNSET:
        return UNSET
    amounts.whole(amount, "amount")
    return amounts.payable(amount, (await _find(call, id_)).currency if currency is UNSET else currency)


async def _check_client(call: Call, id_: str, p: Confirm) -> None:
    """Whether a browser may confirm this payment in this way."""
    facts = await _find(call, id_)
    _check_secret(facts, p.client_secret)
    if not call.publishable:
        return
    for name in p.__struct_fields__:
        value = getattr(p, name)
        if name not in _CLIENT_SIDE and value is not UNSET and value is not False:
            raise Refusal(f"`{name}` can only be set with a secret key.", status=403, code="secret_key_required", param=name)


def _check_secret(facts: PaymentIntentFacts, client_secret: str | UnsetType) -> None:
    """Compare in constant time: a secret must not be found letter by letter."""
    if client_secret is UNSET:
        raise Refusal("Missing required param: client_secret.", code="parameter_missing", param="client_secret")
    if not hmac.compare_digest(facts.client_secret.encode(), client_secret.encode()):
        raise Refusal(
            "The client_secret provided does not match the client_secret associated with this PaymentIntent.",
            code="payment_intent_invalid_parameter",
            param="client_secret",
        )


_ONE: Final = "/v1/payment_intents/{intent}"

ROUTES: Final = (
    Route(method="POST", path="/v1/payment_intents", params=Create, handle=create, answers=KIND,
          summary="Create a PaymentIntent"),
    Route(method="GET", path="/v1/payment_intents", params=Listed, handle=list_all, answers=KIND, of_list=True, may_lag=True,
          summary="List PaymentIntents"),
    Route(method="GET", path=_ONE, params=Retrieve, handle=retrieve, answers=KIND, publishable=True,
          summary="Retrieve a PaymentIntent"),
    Route(method="POST", path=_ONE, params=Update, handle=update, answers=KIND, summary="Update a PaymentIntent"),
    Route(method="POST", path=f"{_ONE}/confirm", params=Confirm, handle=confirm, answers=KIND, publishable=True,
          summary="Confirm a PaymentIntent"),
    Route(method="POST", path=f"{_ONE}/capture", params=Capture, handle=capture, answers=KIND,
          summary="Capture a PaymentIntent"),
    Route(method="POST", path=f"{_ONE}/cancel", params=Cancel, handle=cancel, answers=KIND, summary="Cancel a PaymentIntent"),
)  # fmt: skip
