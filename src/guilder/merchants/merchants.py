"""Merchants, their API keys and their terms."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from guilder.core.clock import Clock, Micros, epoch_seconds
from guilder.core.currencies import CURRENCIES
from guilder.core.errors import Refusal, missing
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.merchants import store
from guilder.merchants.brand import Brand, BrandChange, select_brand, set_brand
from guilder.merchants.cache import Fresh
from guilder.merchants.model import KEY_PREFIXES, ApiKey, Caller, KeyKind, MerchantFacts, Terms
from guilder.security import PurposeKeys, Secret

# A revoked key stops working, and a new price applies, within this time in every process.
STALE_SECONDS_MAX: Final = 1.0
# Callers and wrong keys that are remembered: about 500 bytes each. A flood of invented keys pushes out real ones, which
# then cost one read a second each.
CALLERS_HELD_MAX: Final = 10_000
# Looks of merchants that are remembered, logos included: at most 30 MB.
BRANDS_HELD_MAX: Final = 1_000
# 256 bits: nobody guesses it, so a fast hash of it may be stored.
KEY_BITS: Final = 256
# The sandbox's price list (DESIGN section 6): 1.5 percent.
BASIS_POINTS: Final = 150
# Refunds may overdraw so far, in whole units of each currency: 1,000.00 in the sandbox, nothing in live mode until set.
TEST_OVERDRAFT_UNITS: Final = 1_000
LIVE_OVERDRAFT_UNITS: Final = 0
BASIS_POINTS_MAX: Final = 10_000
# Far above what any merchant needs; a list that reaches it is a program gone wrong.
LIST_MAX: Final = 1_000
NAME_CHARACTERS_MAX: Final = 200

# Keys that cannot be ours are refused without asking the database.
_KEY: Final = re.compile(r"[sp]k_(?:test|live)_[A-Za-z0-9]{20,200}")


class _Wanted(NamedTuple):
    account: str
    livemode: bool


class Merchants:
    """Who may call, and on what terms. One per process; hold it for the process's life, because it caches."""

    def __init__(self, db: Database, keys: PurposeKeys, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._callers: Fresh[bytes, Caller | None] = Fresh(
            lambda digest: store.select_caller(db, digest), clock, age_seconds=STALE_SECONDS_MAX, held_max=CALLERS_HELD_MAX,
        )  # fmt: skip
        self._terms: Fresh[_Wanted, Terms] = Fresh(
            lambda wanted: store.select_terms(db, wanted.account, livemode=wanted.livemode, now=clock.now()),
            clock, age_seconds=STALE_SECONDS_MAX, held_max=CALLERS_HELD_MAX,
        )  # fmt: skip
        self._brands: Fresh[str, Brand | None] = Fresh(
            lambda account: select_brand(db, account), clock, age_seconds=STALE_SECONDS_MAX, held_max=BRANDS_HELD_MAX,
        )  # fmt: skip

    async def authenticate(self, secret: str) -> Caller | None:
        """Whose API key this is; None when it is nobody's. At most a second stale. Raises Unavailable."""
        if _KEY.fullmatch(secret) is None:
            return None
        return await self._callers.get(self._keys.api_key_hash(secret))

    async def terms(self, account: str, livemode: bool) -> Terms:  # noqa: FBT001 - handed on as a plain function
        """What applies to a merchant's payments now; at most a second stale. Raises Refusal for an unknown merchant."""
        return await self._terms.get(_Wanted(account, livemode))

    async def brand(self, account: str) -> Brand:
        """How a merchant's page looks; at most a second stale. Raises Refusal (404)."""
        brand = await self._brands.get(account)
        if brand is None:
            raise missing("account", account)
        return brand

    async def set_brand(self, account: str, change: BrandChange) -> None:
        """Change how a merchant's page looks; what the change does not name stays. Raises Refusal for what cannot be."""
        await self.retrieve(account)
        await set_brand(self._db, account, change)
        self._brands.forget(account)

    async def create(
        self,
        *,
        name: str,
        country: str = "US",
        default_currency: str = "usd",
        email: str | None = None,
        statement_descriptor: str | None = None,
        account: str | None = None,
    ) -> MerchantFacts:
        """Add a merchant, ready in both modes with the first price list; keys are made separately.

        Args:
            account: an id to use instead of a fresh one.

        Raises:
            Refusal: a field is not what it must be.
        """
        _check(name, country, default_currency)
        now = self._clock.now()
        merchant = MerchantFacts(
            id=account or self._ids.new("acct"),
            created=epoch_seconds(now),
            name=name,
            country=country,
            default_currency=default_currency,
            email=email,
            statement_descriptor=statement_descriptor,
        )
        async with self._db.transaction() as connection:
            await store.insert_merchant(connection, merchant, now)
            for livemode, units in ((False, TEST_OVERDRAFT_UNITS), (True, LIVE_OVERDRAFT_UNITS)):
                await store.insert_mode(
                    connection, merchant.id, livemode=livemode, overdraft_units=units, basis_points=BASIS_POINTS, now=now,
                )
        return merchant

    async def retrieve(self, account: str) -> MerchantFacts:
        """A merchant. Raises Refusal (404) when there is none."""
        merchant = await store.select_merchant(self._db, account)
        if merchant is None:
            raise missing("account", account)
        return merchant

    async def list(self) -> Sequence[MerchantFacts]:
        """The merchants of this installation, oldest first, for the command line."""
        return await store.select_merchants(self._db, LIST_MAX)

    async def create_key(self, account: str, *, livemode: bool, kind: KeyKind = "secret") -> tuple[ApiKey, Secret]:
        """Make an API key. The secret is shown here and never again. Raises Refusal (404) for an unknown merchant."""
        await self.retrieve(account)
        now = self._clock.now()
        secret = self._ids.secret(KEY_PREFIXES[kind, livemode], bits=KEY_BITS)
        key = ApiKey(
            id=self._ids.new("key"),
            account=account,
            livemode=livemode,
            kind=kind,
            last4=secret[-4:],
            created=epoch_seconds(now),
        )
        await store.insert_key(self._db, key, self._keys.api_key_hash(secret), now)
        return key, Secret(secret)

    async def revoke_key(self, account: str, key_id: str) -> ApiKey:
        """Stop a key, everywhere within a second. Safe to repeat. Raises Refusal (404) when there is no such key."""
        key = await store.revoke_key(self._db, account, key_id, self._clock.now())
        if key is None:
            raise missing("api_key", key_id)
        return key

    async def list_keys(self, account: str) -> Sequence[ApiKey]:
        """A merchant's keys without their secrets, oldest first, revoked ones too."""
        return await store.select_keys(self._db, account, LIST_MAX)

    async def set_price(
        self, account: str, *, livemode: bool, basis_points: int, valid_from: Micros | None = None,
    ) -> int:
        """Add a version of a price list and return its number. It applies from `valid_from` on, None from now on."""
        if not 0 <= basis_points <= BASIS_POINTS_MAX:
            raise Refusal(f"The price must be between 0 and {BASIS_POINTS_MAX} basis points.", param="basis_points")
        await self.retrieve(account)
        version = await store.insert_price(
            self._db, account, livemode=livemode, basis_points=basis_points,
            valid_from=self._clock.now() if valid_from is None else valid_from,
        )  # fmt: skip
        self._terms.forget(_Wanted(account, livemode))
        return version

    async def set_overdraft(self, account: str, *, livemode: bool, overdraft_units: int) -> None:
        """Set how far refunds may overdraw, in whole units of each currency. Raises Refusal (404)."""
        if overdraft_units < 0:
            raise Refusal("The overdraft must not be negative.", param="overdraft_units")
        if not await store.update_overdraft(self._db, account, livemode=livemode, overdraft_units=overdraft_units):
            raise missing("account", account)
        self._terms.forget(_Wanted(account, livemode))


def _check(name: str, country: str, default_currency: str) -> None:
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or "\x00" in name:
        raise Refusal(f"A merchant's name has 1 to {NAME_CHARACTERS_MAX} characters.", param="name")
    if not re.fullmatch("[A-Z]{2}", country):
        raise Refusal("A country is written as two capital letters, such as NL.", param="country")
    if default_currency not in CURRENCIES:
        raise Refusal(f"Invalid currency: {default_currency}.", param="default_currency")
