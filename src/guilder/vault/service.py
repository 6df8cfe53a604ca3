"""The vault itself: keep cards, reveal them, forget CVCs. Every verb takes a list and answers in its order.

Nothing is held of a card between calls but its CVC: the number is in the clear only while one call is under way.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from msgspec import structs

from guilder.core.clock import Clock
from guilder.core.ensure import ensure
from guilder.db import Coalescer, Database
from guilder.security import KeyProvider, NotAuthentic, Pan
from guilder.shapes.facts import CardFacts
from guilder.vault import store
from guilder.vault.bins import brand_of, country_of, funding_of
from guilder.vault.cvcs import CvcMemory
from guilder.vault.keys import EVERYONE, DataKeys, Keys, Owner, card_place
from guilder.vault.model import Amendment, Card, CardEntry, CardRefused, Reveal
from guilder.vault.rules import check_card, full_year

# Cards of concurrent callers that are stored by one statement; more brings nothing (see the reference on batch sizes).
FLUSH_CARDS_MAX: Final = 100
NUMBER: Final = "number"
POSTAL: Final = "postal_code"


def card_facts(entry: CardEntry, fingerprint: str) -> CardFacts:
    """What the world outside may know of a card."""
    digits = entry.number.reveal()
    return CardFacts(
        brand=brand_of(digits).name,
        last4=entry.number.last4,
        exp_month=entry.exp_month,
        exp_year=full_year(entry.exp_year),
        fingerprint=fingerprint,
        funding=funding_of(digits),
        country=country_of(digits),
        iin=entry.number.iin,
        cvc_check="unchecked" if entry.cvc is not None else None,
        postal_code_check="unchecked" if entry.postal_code else None,
    )


class Vault:
    """One per installation, because CVCs are in its memory. Build it inside the running loop."""

    def __init__(
        self,
        db: Database,
        provider: KeyProvider,
        clock: Clock,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._db = db
        self._clock = clock
        self._keys = DataKeys(db, provider, clock, random_bytes)
        self._cvcs = CvcMemory(clock)
        self._entries: Coalescer[CardEntry, CardFacts] = Coalescer(
            self._store, limit=FLUSH_CARDS_MAX, keys=lambda entry: (entry.payment_method_id,), resolve=db.keeping(self._store),
        )

    async def check(self) -> None:
        """Raise KeyFileError when the master key is not the one that this database's cards are sealed under."""
        await self._keys.check()

    async def close(self) -> None:
        """Finish what is under way."""
        await self._entries.close()

    def sweep(self) -> int:
        """Forget CVCs whose time is over."""
        return self._cvcs.sweep()

    async def tokenize(self, entries: Sequence[CardEntry]) -> list[CardFacts | CardRefused]:
        """Keep cards. Those that cannot be are refused by name; the others are stored when this returns.

        Safe to repeat: the same card under the same PaymentMethod answers the same again.
        """
        now = self._clock.now()
        refused = [check_card(entry.number, entry.exp_month, entry.exp_year, entry.cvc, now) for entry in entries]
        good = [entry for entry, why in zip(entries, refused, strict=True) if why is None]
        kept = iter(await asyncio.gather(*(self._entries.enqueue(entry) for entry in good)))
        return [why or next(kept) for why in refused]

    async def _store(self, entries: Sequence[CardEntry]) -> list[CardFacts]:
        """One flush: the rows, then the CVCs. Also what is done after a lost COMMIT, since a row that exists is compared."""
        keys = await self._keys.of(Owner(entry.account, entry.livemode) for entry in entries)
        rows = [_seal(entry, keys[Owner(entry.account, entry.livemode)]) for entry in entries]
        inserted = await store.insert_cards(self._db, rows, self._clock.now())
        await self._compare([entry for entry in entries if entry.payment_method_id not in inserted])
        for entry in entries:
            if entry.cvc is not None:
                self._cvcs.keep(entry.payment_method_id, entry.cvc)
        return [
            card_facts(entry, keys[Owner(entry.account, entry.livemode)].print_of(entry.number.reveal())) for entry in entries
        ]

    async def _compare(self, repeated: Sequence[CardEntry]) -> None:
        """A PaymentMethod id is drawn for one card: what stands under it already must be that card."""
        if not repeated:
            return
        cards = await self.reveal([
            Reveal(account=entry.account, livemode=entry.livemode, payment_method_id=entry.payment_method_id)
            for entry in repeated
        ])
        for entry, card in zip(repeated, cards, strict=True):
            ensure(
                card is not None and card.number == entry.number,
                "a PaymentMethod cannot hold two cards",
                payment_method=entry.payment_method_id,
            )

    async def reveal(self, wanted: Sequence[Reveal]) -> list[Card | None]:
        """Cards in the clear; None where that merchant and mode has no such card. One statement for the list."""
        rows = await store.select_cards(self._db, list({item.payment_method_id for item in wanted}))
        keys = await self._keys.of({Owner(row.account, row.livemode) for row in rows.values()})
        cards: list[Card | None] = []
        # A list names a busy card many times; to open it is what costs.
        opened: dict[tuple[str, bool], Card | None] = {}
        for item in wanted:
            row = rows.get(item.payment_method_id)
            if row is None or (row.account, row.livemode) != (item.account, item.livemode):
                cards.append(None)
                continue
            place = (item.payment_method_id, item.with_cvc)
            if place not in opened:
                owner = Owner(row.account, row.livemode)
                if row.key_version not in keys[owner].cards:
                    keys[owner] = await self._keys.reload(owner)
                opened[place] = self._open(row, keys[owner], with_cvc=item.with_cvc)
            cards.append(opened[place])
        return cards

    def _open(self, row: store.CardRow, keys: Keys, *, with_cvc: bool) -> Card | None:
        """A row's card. One that does not open was altered or moved: it is reported, and does not exist for the caller."""
        owner = Owner(row.account, row.livemode)
        key = keys.cards.get(row.key_version)
        try:
            if key is None:
                raise NotAuthentic("there is no key of this version")
            number = key.open(row.number_sealed, card_place(owner, row.payment_method_id, NUMBER, row.key_version))
            postal_code = None
            if row.postal_sealed is not None:
                place = card_place(owner, row.payment_method_id, POSTAL, row.key_version)
                postal_code = key.open(row.postal_sealed, place).decode()
        except NotAuthentic as error:
            structlog.get_logger().error(
                "a stored card cannot be opened", account=row.account, payment_method=row.payment_method_id, error=str(error),
            )
            return None
        return Card(
            number=Pan(number.decode()),
            exp_month=row.exp_month,
            exp_year=row.exp_year,
            cvc=self._cvcs.read(row.payment_method_id) if with_cvc else None,
            postal_code=postal_code,
            cvc_spent=with_cvc and self._cvcs.is_spent(row.payment_method_id),
        )

    async def amend(self, amendments: Sequence[Amendment]) -> list[bool]:
        """Change expiry dates and postal codes; False where that merchant and mode has no such card. Safe to repeat."""
        rows = await store.select_cards(self._db, list({item.payment_method_id for item in amendments}))
        keys = await self._keys.of({Owner(row.account, row.livemode) for row in rows.values()})
        done = []
        for item in amendments:
            row = rows.get(item.payment_method_id)
            owner = Owner(item.account, item.livemode)
            if row is None or (row.account, row.livemode) != owner:
                done.append(False)
                continue
            await store.update_card(
                self._db,
                row,
                exp_month=item.exp_month,
                exp_year=None if item.exp_year is None else full_year(item.exp_year),
                postal_changes=item.postal_code is not None,
                postal_sealed=_seal_postal(keys[owner], owner, row, item.postal_code),
            )
            done.append(True)
        return done

    def drop_cvc(self, payment_method_ids: Sequence[str]) -> None:
        """Forget the CVCs of these PaymentMethods: an authorization that carried them was answered."""
        for payment_method_id in payment_method_ids:
            self._cvcs.spend(payment_method_id)

    async def fingerprint(self, numbers: Sequence[Pan]) -> list[str]:
        """Keyed fingerprints of numbers under the installation's own key, for comparing requests; nothing is stored."""
        everyone = Owner(EVERYONE, livemode=False)
        keys = (await self._keys.of([everyone]))[everyone]
        return [keys.print_of(number.reveal()) for number in numbers]


def _seal(entry: CardEntry, keys: Keys) -> store.CardRow:
    owner = Owner(entry.account, entry.livemode)
    version, key = keys.newest, keys.cards[keys.newest]
    place = card_place(owner, entry.payment_method_id, NUMBER, version)
    row = store.CardRow(
        payment_method_id=entry.payment_method_id,
        account=entry.account,
        livemode=entry.livemode,
        key_version=version,
        number_sealed=key.seal(entry.number.reveal().encode(), place),
        postal_sealed=None,
        exp_month=entry.exp_month,
        exp_year=full_year(entry.exp_year),
    )
    if not entry.postal_code:
        return row
    place = card_place(owner, entry.payment_method_id, POSTAL, version)
    return structs.replace(row, postal_sealed=key.seal(entry.postal_code.encode(), place))


def _seal_postal(keys: Keys, owner: Owner, row: store.CardRow, postal_code: str | None) -> bytes | None:
    """The new postal code under the row's own key version; None when there is to be none."""
    if not postal_code:
        return None
    place = card_place(owner, row.payment_method_id, POSTAL, row.key_version)
    return keys.cards[row.key_version].seal(postal_code.encode(), place)
