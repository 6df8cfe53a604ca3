"""Data keys: one per merchant, mode and purpose, wrapped by the master key, opened once and then held in memory."""

import hmac
import secrets
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from msgspec import Struct

from guilder.core.clock import Clock
from guilder.core.ensure import ensure
from guilder.core.ids import base62
from guilder.db import Database
from guilder.security import KEY_BYTES, Aead, KeyFileError, KeyProvider, bind
from guilder.vault import store

CARD: Final = "card"
FINGERPRINT: Final = "fingerprint"
# The owner of the key for fingerprints that are compared across merchants by nobody: those of requests.
EVERYONE: Final = ""
# Opened merchants that are held: about 1 kB each. Past it the first that was opened goes; opening again costs one SELECT.
MERCHANTS_HELD_MAX: Final = 10_000
# 95 bits fill 16 characters of base62; as a collision, that is one in 10**14 for a million cards of one merchant.
FINGERPRINT_BITS: Final = 95
FINGERPRINT_CHARACTERS: Final = 16


class Owner(NamedTuple):
    """Whose keys: a merchant in one mode."""

    account: str
    livemode: bool


class Keys(Struct, frozen=True):
    """The opened keys of one owner: card keys by version, the newest of which seals, and the fingerprint key."""

    cards: dict[int, Aead]
    newest: int
    fingerprint: bytes

    def print_of(self, digits: str) -> str:
        """16 characters that are equal for equal numbers under this key and say nothing else about them."""
        number = int.from_bytes(hmac.digest(self.fingerprint, digits.encode(), "sha256"), "big") >> (256 - FINGERPRINT_BITS)
        return base62(number, FINGERPRINT_CHARACTERS + 2)[-FINGERPRINT_CHARACTERS:]


def key_place(owner: Owner, purpose: str, version: int, root_key_id: str) -> bytes:
    """The associated data of a wrapped data key."""
    return bind("vault_key", owner.account, _mode(owner), purpose, str(version), root_key_id)


def card_place(owner: Owner, payment_method_id: str, field: str, version: int) -> bytes:
    """The associated data of a card's sealed field."""
    return bind("vault_card", owner.account, _mode(owner), payment_method_id, field, str(version))


def _mode(owner: Owner) -> str:
    return "live" if owner.livemode else "test"


class DataKeys:
    """Opens and makes data keys."""

    def __init__(
        self, db: Database, provider: KeyProvider, clock: Clock, random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._db = db
        self._provider = provider
        self._clock = clock
        self._random_bytes = random_bytes
        self._held: dict[Owner, Keys] = {}

    async def check(self) -> None:
        """Raise KeyFileError when the database's keys were wrapped by another master key than ours."""
        strangers = await store.root_key_ids(self._db) - {self._provider.root_key_id}
        if strangers:
            raise KeyFileError(
                f"the cards in this database are sealed under master key {', '.join(sorted(strangers))}, "
                f"but the key that was given is {self._provider.root_key_id}; give the one that belongs to this database",
            )

    async def of(self, owners: Iterable[Owner]) -> dict[Owner, Keys]:
        """The keys of these owners, made where there are none. No statement when all of them are held."""
        keys: dict[Owner, Keys] = {}
        missing: set[Owner] = set()
        for owner in owners:
            held = self._held.get(owner)
            if held is None:
                missing.add(owner)
            else:
                keys[owner] = held
        if missing:
            keys |= await self._open(missing)
        return keys

    async def _open(self, owners: set[Owner]) -> dict[Owner, Keys]:
        found = await self._load(owners)
        new = owners - found.keys()
        for owner in new:
            await self._make(owner)
        if new:
            found |= await self._load(new)
        ensure(found.keys() == owners, "keys that were made must be there")
        self._hold(found)
        return found

    async def reload(self, owner: Owner) -> Keys:
        """The keys of an owner as they stand in the database now: another process may have made a new version."""
        self._held.pop(owner, None)
        return (await self.of([owner]))[owner]

    def _hold(self, found: dict[Owner, Keys]) -> None:
        self._held.update(found)
        while len(self._held) > MERCHANTS_HELD_MAX:
            del self._held[next(iter(self._held))]

    async def _load(self, owners: set[Owner]) -> dict[Owner, Keys]:
        """The stored keys of those owners that have both."""
        rows = await store.select_keys(self._db, sorted({owner.account for owner in owners}))
        cards: dict[Owner, dict[int, Aead]] = {}
        prints: dict[Owner, bytes] = {}
        for row in rows:
            owner = Owner(row.account, row.livemode)
            if owner not in owners:
                continue
            key = self._provider.unwrap(row.wrapped, key_place(owner, row.purpose, row.version, row.wrapped.root_key_id))
            if row.purpose == CARD:
                cards.setdefault(owner, {})[row.version] = Aead(key, self._random_bytes)
            else:
                prints[owner] = key
        return {owner: Keys(cards[owner], max(cards[owner]), prints[owner]) for owner in cards.keys() & prints.keys()}

    async def _make(self, owner: Owner) -> None:
        for purpose in (CARD, FINGERPRINT):
            place = key_place(owner, purpose, 1, self._provider.root_key_id)
            wrapped = self._provider.wrap(self._random_bytes(KEY_BYTES), place)
            row = store.KeyRow(account=owner.account, livemode=owner.livemode, purpose=purpose, version=1, wrapped=wrapped)
            await store.insert_key(self._db, row, self._clock.now())
