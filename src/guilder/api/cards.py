"""Cards in requests: payment_method and payment_method_data, as PaymentMethods that can be charged."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from guilder.api.call import Call
from guilder.api.params import Id, Ignored, Metadata, Numeral
from guilder.api.personal import BillingDetails, billing
from guilder.api.text import pairs
from guilder.core.errors import Refusal
from guilder.customers import NewCard, Prepared
from guilder.security import Pan, Secret
from guilder.shapes.facts import Metadata as MetadataFacts
from guilder.shapes.facts import PaymentMethodFacts

OWN_PAGE = "psp_page"
# An expiry that has more digits than this is none; the vault says which ones can be.
NUMERAL_MAX = 9_999


class CardData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A card as the payer entered it, or a test token that stands for one."""

    number: Pan | UnsetType = UNSET
    exp_month: Numeral | UnsetType = UNSET
    exp_year: Numeral | UnsetType = UNSET
    cvc: Secret | UnsetType | None = UNSET
    token: Id | UnsetType = UNSET


class PspPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a PaymentMethod of type psp_page holds: nothing."""


class PaymentMethodData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A PaymentMethod to be made with the payment: a card, or the payment provider's own page."""

    type: Literal["card", "psp_page"]
    card: CardData | UnsetType = UNSET
    psp_page: PspPage | UnsetType = UNSET
    billing_details: BillingDetails | UnsetType = UNSET
    metadata: Metadata = UNSET
    allow_redisplay: Literal["always", "limited", "unspecified"] = "unspecified"
    radar_options: Ignored = UNSET


async def prepare(call: Call, data: PaymentMethodData, prefix: str = "") -> Prepared:
    """Let the vault keep the card of these data, if there is one; nothing else is stored yet.

    Args:
        prefix: the parameter that holds the data, for messages; empty when the request itself is they.

    Raises Refusal: 402 for a card that cannot be, as Stripe; 400 for anything else.
    """

    def named(name: str) -> str:
        return f"{prefix}[{name}]" if prefix else name

    details = {
        name: value for name, value in billing(data.billing_details, named("billing_details")).items() if value is not None
    }
    metadata = pairs(data.metadata)
    if data.type == OWN_PAGE:
        if data.card is not UNSET:
            raise Refusal(f"A {OWN_PAGE} PaymentMethod has no card: the buyer enters one at the payment provider.", param=named("card"))
        return call.services.methods.prepare_own_page(
            call.account, livemode=call.livemode, billing=details, metadata=metadata, allow_redisplay=data.allow_redisplay,
        )
    if data.psp_page is not UNSET:
        raise Refusal("A card has nothing to do with a payment provider's page.", param=named(OWN_PAGE))
    return await _prepare_card(call, data, details, metadata, named("card"))


async def _prepare_card(call: Call, data: PaymentMethodData, details: dict[str, Any], metadata: MetadataFacts, param: str) -> Prepared:
    card, methods = data.card, call.services.methods
    if card is UNSET:
        raise Refusal(f"Missing required param: {param}.", code="parameter_missing", param=param)
    if card.token is not UNSET:
        if card.number is not UNSET:
            raise Refusal("Pass either a card number or a token, not both.", code="parameters_exclusive", param=f"{param}[token]")
        return await methods.prepare_token(
            call.account, card.token, livemode=call.livemode, billing=details, metadata=metadata, allow_redisplay=data.allow_redisplay,
            param=f"{param}[token]",
        )  # fmt: skip
    if card.number is UNSET:
        raise _missing(param, "number")
    if card.exp_month is UNSET:
        raise _missing(param, "exp_month")
    if card.exp_year is UNSET:
        raise _missing(param, "exp_year")
    entered = NewCard(
        number=card.number, exp_month=numeral(card.exp_month), exp_year=numeral(card.exp_year),
        cvc=card.cvc if isinstance(card.cvc, Secret) else None,
    )  # fmt: skip
    return await methods.prepare(
        call.account, entered, livemode=call.livemode, billing=details, metadata=metadata, allow_redisplay=data.allow_redisplay,
        param=param,
    )  # fmt: skip


def numeral(value: int | str) -> int:
    """A number that may have come with leading zeros; absurd ones become one that no card can bear."""
    return max(-1, min(int(value), NUMERAL_MAX))


def _missing(param: str, name: str) -> Refusal:
    return Refusal(f"Missing required param: {param}[{name}].", code="parameter_missing", param=f"{param}[{name}]")


async def method_for(
    call: Call,
    payment_method: str | UnsetType | None,
    data: PaymentMethodData | UnsetType,
) -> PaymentMethodFacts | None:
    """The PaymentMethod that a request names or brings; None when it does neither.

    One that is brought, or that a test token stands for, is stored in a commit of its own before the payment.
    """
    if data is not UNSET:
        if isinstance(payment_method, str):
            raise Refusal(
                "You may only specify one of these parameters: payment_method, payment_method_data.",
                code="parameters_exclusive",
                param="payment_method_data",
            )
        return await call.services.methods.store_now(await prepare(call, data, "payment_method_data"))
    if isinstance(payment_method, str):
        return await call.services.payment_method(call.account, payment_method, livemode=call.livemode)
    return None
