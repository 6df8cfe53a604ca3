"""The nouns of the vault. They cross its socket as arrays; numbers and CVCs are types that do not print themselves."""

from typing import Final

from msgspec import Struct

from guilder.security import Pan, Secret

# Most items in one list: far above a flush of the busiest caller, small enough that one list never holds up the others.
LIST_ITEMS_MAX: Final = 1_000


class CardEntry(Struct, frozen=True, kw_only=True, array_like=True):
    """A card to keep, under the id of the PaymentMethod that is being made for it. `exp_year` may have two digits."""

    account: str
    livemode: bool
    payment_method_id: str
    number: Pan
    exp_month: int
    exp_year: int
    cvc: Secret | None = None
    postal_code: str | None = None


class CardRefused(Struct, frozen=True, array_like=True):
    """Why a card was not kept: Stripe's code, and the field that is wrong (number, exp_month, exp_year, cvc)."""

    code: str
    field: str


class Reveal(Struct, frozen=True, kw_only=True, array_like=True):
    """Which card to reveal, and whether its CVC is to come with it."""

    account: str
    livemode: bool
    payment_method_id: str
    with_cvc: bool = False


class Card(Struct, frozen=True, kw_only=True, array_like=True):
    """A card in the clear. `cvc` is None when it was not asked for, never given, or is gone.

    `cvc_spent`: it is gone because an authorization has used it up, not because it was lost.
    """

    number: Pan
    exp_month: int
    exp_year: int
    cvc: Secret | None = None
    postal_code: str | None = None
    cvc_spent: bool = False


class Amendment(Struct, frozen=True, kw_only=True, array_like=True):
    """New values for a card that is kept; None leaves a value as it is, "" removes the postal code."""

    account: str
    livemode: bool
    payment_method_id: str
    exp_month: int | None = None
    exp_year: int | None = None
    postal_code: str | None = None
