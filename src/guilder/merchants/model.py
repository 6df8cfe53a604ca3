"""The nouns of merchants: who calls, on what terms, and what the API shows of an account."""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

KeyKind = Literal["secret", "publishable"]


class Caller(Struct, frozen=True):
    """Who an API key belongs to, and what it may do."""

    account: str
    livemode: bool
    kind: KeyKind
    key_id: str


class Terms(Struct, frozen=True, kw_only=True):
    """What applies to a merchant's payments in one mode, now.

    Args:
        price_version: which price list this is; a fee names the version by which it was computed.
        basis_points: the fee in hundredths of a percent of the amount.
        overdraft_units: how far refunds may overdraw, in whole units of each currency (1000 is 1,000.00 EUR or 1,000 JPY).
    """

    price_version: int
    basis_points: int
    overdraft_units: int


class MerchantFacts(Struct, frozen=True, kw_only=True):
    """A merchant, as GET /v1/account shows it. `created` is in epoch seconds."""

    id: str
    created: int
    name: str
    country: str
    default_currency: str
    email: str | None = None
    statement_descriptor: str | None = None


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key without its secret. `revoked` is None while it works; instants are epoch seconds."""

    id: str
    account: str
    livemode: bool
    kind: KeyKind
    last4: str
    created: int
    revoked: int | None = None


# What genuine keys begin with, so that a key of ours is recognised where it leaked to, and never taken for another's.
KEY_PREFIXES: Final[Mapping[tuple[KeyKind, bool], str]] = {
    ("secret", False): "sk_test_gld",
    ("secret", True): "sk_live_gld",
    ("publishable", False): "pk_test_gld",
    ("publishable", True): "pk_live_gld",
}
