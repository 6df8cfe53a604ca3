"""PaymentMethods: cards that a merchant may charge. The card itself is in the vault, under the PaymentMethod's id.

A new one takes two steps, because no transaction is open across a call: `prepare` asks the vault to keep the card,
`insert` stores the PaymentMethod in the caller's transaction. `create` does both, and commits by itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from guilder.core.clock import Clock, epoch_seconds
from guilder.core.ensure import ensure
from guilder.core.errors import Refusal, missing
from guilder.core.ids import Ids
from guilder.customers import store
from guilder.customers.model import BILLING_FIELDS, Attached, Change, Detached, NewCard, Prepared, UpdatePaymentMethod
from guilder.customers.personal import Personal
from guilder.customers.rules import already_attached, not_attached, not_savable, not_saved, raw_cards_refused, used_up
from guilder.customers.sandbox_cards import card_of, is_test_token
from guilder.db import Coalescer, Connection, Database
from guilder.db.pages import Page, fetch_page
from guilder.shapes.facts import CardFacts, CustomerFacts, Metadata, PaymentMethodFacts
from guilder.shapes.metadata import merged
from guilder.vault import Amendment, CardEntry, CardRefused, VaultClient, check_expiry, full_year, refusal

NO_CARD: Final = CardFacts(brand="unknown", last4="", exp_month=0, exp_year=0, fingerprint="", country=None, own_page=True)
"""What stands in place of a card where the buyer enters one at the PSP."""
# PaymentMethods of concurrent callers that are stored by one transaction.
FLUSH_MAX: Final = 100


class PaymentMethods:
    """Makes, changes and finds PaymentMethods. One per process.

    Args:
        raw_cards_live: whether card numbers may come with live keys; the payment page may always send them.
    """

    def __init__(
        self, db: Database, vault: VaultClient, personal: Personal, clock: Clock, ids: Ids, *, raw_cards_live: bool = False,
    ) -> None:
        self._db = db
        self._vault = vault
        self._personal = personal
        self._clock = clock
        self._ids = ids
        self._raw_cards_live = raw_cards_live
        self._new: Coalescer[Prepared, PaymentMethodFacts] = Coalescer(
            self._flush, limit=FLUSH_MAX, keys=lambda prepared: (prepared.facts.id,), resolve=db.keeping(self._flush),
        )

    async def close(self) -> None:
        """Store what is under way."""
        await self._new.close()

    # --- new ones -----------------------------------------------------------------------------------------------------

    async def prepare(
        self,
        account: str,
        card: NewCard,
        *,
        livemode: bool,
        billing: Mapping[str, Any] | None = None,
        metadata: Metadata = (),
        allow_redisplay: str = "unspecified",
        param: str = "card",
        from_our_page: bool = False,
    ) -> Prepared:
        """Let the vault keep a card; nothing else is stored yet. Call it before the transaction.

        Args:
            billing: of BILLING_FIELDS, those that have a value; the address's postal code goes to the issuer too.
            param: the parameter that held the card, for errors such as `card[number]`.
            from_our_page: the payer entered it on our own page, not the merchant's server.

        Raises:
            Refusal: the card cannot be (402, as Stripe), or card numbers may not be sent with live keys (400).
            Unavailable: the vault is down.
        """
        if livemode and not (self._raw_cards_live or from_our_page):
            raise raw_cards_refused(param)
        billing = billing or {}
        ensure(billing.keys() <= BILLING_FIELDS, "unknown billing details", fields=sorted(billing))
        created_at = self._clock.now()
        entry = CardEntry(
            account=account,
            livemode=livemode,
            payment_method_id=self._ids.new("pm"),
            number=card.number,
            exp_month=card.exp_month,
            exp_year=card.exp_year,
            cvc=card.cvc,
            postal_code=_postal_code(billing),
        )
        [known] = await self._vault.tokenize([entry])
        if isinstance(known, CardRefused):
            raise refusal(known, param)
        row = self._personal.seal(account, billing, livemode=livemode)
        facts = PaymentMethodFacts(
            id=entry.payment_method_id,
            livemode=livemode,
            created=epoch_seconds(created_at),
            card=known,
            billing=row.id if row else None,
            metadata=metadata,
            allow_redisplay=allow_redisplay,
        )
        return Prepared(account=account, facts=facts, created_at=created_at, billing=row)

    def prepare_own_page(
        self, account: str, *, livemode: bool, billing: Mapping[str, Any] | None = None, metadata: Metadata = (),
        allow_redisplay: str = "unspecified",
    ) -> Prepared:  # fmt: skip
        """As `prepare`, for the PSP's own page: there is no card, and the vault has nothing to keep."""
        billing = billing or {}
        ensure(billing.keys() <= BILLING_FIELDS, "unknown billing details", fields=sorted(billing))
        created_at = self._clock.now()
        row = self._personal.seal(account, billing, livemode=livemode)
        facts = PaymentMethodFacts(
            id=self._ids.new("pm"), livemode=livemode, created=epoch_seconds(created_at), card=NO_CARD, billing=row.id if row else None,
            metadata=metadata, allow_redisplay=allow_redisplay,
        )  # fmt: skip
        return Prepared(account=account, facts=facts, created_at=created_at, billing=row)

    async def prepare_token(
        self,
        account: str,
        token: str,
        *,
        livemode: bool,
        billing: Mapping[str, Any] | None = None,
        metadata: Metadata = (),
        allow_redisplay: str = "unspecified",
        param: str = "payment_method",
    ) -> Prepared:
        """As `prepare`, for the card that a test token stands for. Raises Refusal (400) for one that does not exist."""
        card = None if livemode else card_of(token, self._clock.now())
        if card is None:
            raise missing("PaymentMethod", token, param=param)
        return await self.prepare(
            account, card, livemode=livemode, billing=billing, metadata=metadata, allow_redisplay=allow_redisplay, param=param,
        )

    async def insert(self, connection: Connection, prepared: Prepared) -> PaymentMethodFacts:
        """Store a prepared PaymentMethod in the caller's transaction. There is no event for it."""
        await self._personal.store([prepared.billing] if prepared.billing else [], connection)
        await store.insert_methods(connection, [prepared])
        return prepared.facts

    async def store_now(self, prepared: Prepared) -> PaymentMethodFacts:
        """Store a prepared PaymentMethod in a commit of its own, together with those of concurrent callers."""
        return await self._new.submit(prepared)

    async def obtain(
        self, account: str, id_or_token: str, *, livemode: bool, param: str = "payment_method",
    ) -> PaymentMethodFacts:
        """The PaymentMethod that a parameter names, for use: a stored one, or a new one for a test token.

        Raises Refusal (400) for one that does not exist or was detached.
        """
        if is_test_token(id_or_token):
            return await self.store_now(await self.prepare_token(account, id_or_token, livemode=livemode, param=param))
        found = await load_payment_methods(self._db, [(account, livemode, id_or_token)])
        if id_or_token not in found:
            raise await why_unusable(self._db, account, id_or_token, livemode=livemode, param=param)
        return found[id_or_token]

    async def _flush(self, prepared: Sequence[Prepared]) -> list[PaymentMethodFacts]:
        records = [one.billing for one in prepared if one.billing]
        if not records:
            # One statement commits by itself; a transaction around it would cost two more round trips.
            await store.insert_methods(self._db, prepared)
            return [one.facts for one in prepared]
        async with self._db.transaction() as connection:
            await self._personal.store(records, connection)
            await store.insert_methods(connection, prepared)
        return [one.facts for one in prepared]

    # --- reads --------------------------------------------------------------------------------------------------------

    async def retrieve(self, account: str, id_: str, *, livemode: bool) -> PaymentMethodFacts:
        """A PaymentMethod, detached or not. Raises Refusal (404)."""
        return (await self._find(self._db, account, id_, livemode=livemode)).facts

    async def retrieve_of(self, account: str, customer: str, id_: str, *, livemode: bool) -> PaymentMethodFacts:
        """A PaymentMethod of this customer. Raises Refusal (404)."""
        facts = await self.retrieve(account, id_, livemode=livemode)
        if facts.customer != customer:
            raise missing("PaymentMethod", id_)
        return facts

    async def load(
        self, account: str, ids: Sequence[str], *, livemode: bool, connection: Connection | None = None,
    ) -> dict[str, PaymentMethodFacts]:
        """The PaymentMethods that exist, by id, detached or not: for `expand`."""
        stored = await store.select_methods(connection or self._db, ids)
        return {id_: one.facts for id_, one in stored.items() if _is_of(one, account, livemode=livemode)}

    async def list(
        self, account: str, page: Page, *, livemode: bool, customer: str | None = None,
    ) -> tuple[list[PaymentMethodFacts], bool]:
        """A page of attached PaymentMethods, newest first, and whether there are more; of one customer, or of all.

        Raises Refusal (400) for a wrong cursor. Whether the customer exists is the caller's question.
        """
        where = ("customer = ?", customer) if customer is not None else ("(customer IS NOT NULL AND ?)", True)
        rows, more = await fetch_page(self._db, store.PAYMENT_METHODS, page, account=account, livemode=livemode, where=[where])
        return [store.method_of(row).facts for row in rows], more

    async def _find(self, through: Connection | Database, account: str, id_: str, *, livemode: bool) -> store.StoredMethod:
        found = (await store.select_methods(through, [id_])).get(id_)
        if found is None or not _is_of(found, account, livemode=livemode):
            raise missing("PaymentMethod", id_)
        return found

    # --- changes ------------------------------------------------------------------------------------------------------

    async def attach(self, connection: Connection, account: str, id_: str, customer: str, *, livemode: bool) -> Attached:
        """Give a PaymentMethod to a customer. Announce payment_method.attached when it is new.

        Raises:
            Refusal: no such PaymentMethod (404) or customer (400); another customer has it, or it was detached (400).
        """
        owner = await store.lock_customer(connection, account, customer, livemode=livemode)
        if owner is None or owner.deleted:
            raise missing("customer", customer, param="customer")
        found = await store.lock_method(connection, account, id_, livemode=livemode)
        if found is None:
            raise missing("PaymentMethod", id_)
        if found.facts.customer == customer:
            return Attached(found.facts, is_new=False)
        if found.facts.customer is not None:
            raise already_attached()
        if found.is_detached:
            raise used_up()
        if found.facts.card.own_page:
            raise not_savable()
        await store.attach(connection, id_, customer, self._clock.now())
        return Attached(replace(found.facts, customer=customer), is_new=True)

    async def detach(self, connection: Connection, account: str, id_: str, *, livemode: bool) -> Detached:
        """Take a PaymentMethod from its customer, for ever. Announce payment_method.detached.

        Raises Refusal: no such PaymentMethod (404), or it is not attached (400).
        """
        found = await self._find(connection, account, id_, livemode=livemode)
        if found.facts.customer is None:
            raise not_attached()
        # The customer's lock comes first. What was detached meanwhile can never be another customer's.
        owner = await store.lock_customer(connection, account, found.facts.customer, livemode=livemode)
        locked = await store.lock_method(connection, account, id_, livemode=livemode)
        if owner is None or locked is None or locked.facts.customer is None:
            raise not_attached()
        await store.detach(connection, id_, self._clock.now())
        return Detached(
            before=locked.facts,
            after=replace(locked.facts, customer=None),
            customer=await _without_default(connection, owner, id_),
        )

    async def prepare_update(self, account: str, command: UpdatePaymentMethod, *, livemode: bool, param: str = "card") -> None:
        """Let the vault know of a new expiry date or postal code. Call it before the transaction with `update`.

        Safe to repeat. Raises Refusal: no such PaymentMethod (404), not attached (400), an expiry that cannot be (402).
        """
        found = await self._find(self._db, account, command.payment_method, livemode=livemode)
        if found.facts.customer is None:
            raise not_saved()
        card, postal_code = found.facts.card, None
        if command.exp_month is not None or command.exp_year is not None:
            month = card.exp_month if command.exp_month is None else command.exp_month
            year = card.exp_year if command.exp_year is None else command.exp_year
            refused = check_expiry(month, year, self._clock.now())
            if refused is not None:
                raise refusal(refused, param)
        if "address" in command.billing:
            postal_code = _postal_code(command.billing) or ""
        if command.exp_month is None and command.exp_year is None and postal_code is None:
            return
        amendment = Amendment(
            account=account,
            livemode=livemode,
            payment_method_id=found.facts.id,
            exp_month=command.exp_month,
            exp_year=command.exp_year,
            postal_code=postal_code,
        )
        await self._vault.amend([amendment])

    async def update(
        self, connection: Connection, account: str, command: UpdatePaymentMethod, *, livemode: bool,
    ) -> Change[PaymentMethodFacts]:
        """Change a PaymentMethod, after `prepare_update`. Announce payment_method.updated when something changed.

        Raises Refusal: no such PaymentMethod (404), not attached, too much metadata (400).
        """
        found = await store.lock_method(connection, account, command.payment_method, livemode=livemode)
        if found is None:
            raise missing("PaymentMethod", command.payment_method)
        before = found.facts
        if before.customer is None:
            raise not_saved()
        card = replace(
            before.card,
            exp_month=before.card.exp_month if command.exp_month is None else command.exp_month,
            exp_year=before.card.exp_year if command.exp_year is None else full_year(command.exp_year),
        )
        after = replace(
            before,
            card=card,
            billing=await self._billing(connection, account, before, command),
            metadata=merged(before.metadata, command.metadata),
            allow_redisplay=command.allow_redisplay or before.allow_redisplay,
        )
        if after != before:
            await store.update_method(connection, after)
        return Change(before, after)

    async def _billing(
        self, connection: Connection, account: str, before: PaymentMethodFacts, command: UpdatePaymentMethod,
    ) -> str | None:
        """The personal record of the billing details after the command: the old one when they stay as they are."""
        ensure(command.billing.keys() <= BILLING_FIELDS, "unknown billing details", fields=sorted(command.billing))
        return await self._personal.changed(
            account, before.billing, command.billing, livemode=before.livemode, connection=connection,
        )


async def load_payment_methods(db: Database, wanted: Sequence[tuple[str, bool, str]]) -> dict[str, PaymentMethodFacts]:
    """The PaymentMethods of (account, livemode, id) that can be used, by id, in one statement.

    What another merchant or mode has, and what was detached, is not there; `why_unusable` says which. The answer tells by
    id alone, so ids that came from clients are asked for one merchant and mode at a time.
    """
    stored = await store.select_methods(db, [id_ for _, _, id_ in wanted])
    return {
        id_: stored[id_].facts
        for account, livemode, id_ in wanted
        if id_ in stored and _is_of(stored[id_], account, livemode=livemode) and not stored[id_].is_detached
    }


async def why_unusable(
    db: Database, account: str, id_: str, *, livemode: bool, param: str = "payment_method",
) -> Refusal:
    """The refusal to raise for a PaymentMethod that load_payment_methods did not give."""
    found = (await store.select_methods(db, [id_])).get(id_)
    if found is not None and _is_of(found, account, livemode=livemode) and found.is_detached:
        return used_up(param)
    return missing("PaymentMethod", id_, param=param)


def _is_of(method: store.StoredMethod, account: str, *, livemode: bool) -> bool:
    return method.account == account and method.facts.livemode == livemode


def _postal_code(billing: Mapping[str, Any]) -> str | None:
    address = billing.get("address")
    return address.get("postal_code") if isinstance(address, Mapping) else None


async def _without_default(connection: Connection, owner: CustomerFacts, method: str) -> Change[CustomerFacts] | None:
    """Clear a locked customer's default when it is this PaymentMethod; None when it is not."""
    if owner.default_payment_method != method:
        return None
    after = replace(owner, default_payment_method=None)
    await store.update_customer(connection, after, email_lookup=None, email_changes=False)
    return Change(owner, after)
