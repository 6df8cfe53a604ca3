"""Customers, PaymentMethods and personal records on a real database and a real vault."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import pytest
from vault_world import VISA, VaultWorld, every_value, vault_world

from guilder.core.clock import SECOND, ManualClock
from guilder.core.errors import Refusal
from guilder.core.ids import Ids
from guilder.customers import (
    Attached,
    CreateCustomer,
    Customers,
    NewCard,
    PaymentMethods,
    Personal,
    UpdateCustomer,
    UpdatePaymentMethod,
    check_customer,
    load_payment_methods,
    why_unusable,
)
from guilder.customers.sandbox_cards import CARDS, card_of
from guilder.db import Database
from guilder.db.pages import Page
from guilder.security import NotAuthentic, Pan, PurposeKeys, Secret
from guilder.shapes.facts import CustomerFacts, PaymentMethodFacts
from guilder.vault import Reveal
from guilder.vault.rules import check_card

ACCOUNT, OTHER = "acct_1", "acct_2"
T = TypeVar("T")


class Shop:
    """One process's customers rooms on one database."""

    def __init__(self, db: Database, world: VaultWorld) -> None:
        self.db = db
        self.world = world
        self.clock: ManualClock = world.clock
        ids = Ids(self.clock)
        keys = PurposeKeys(bytes(range(32)))
        self.personal = Personal(db, keys, self.clock, ids)
        self.methods = PaymentMethods(db, world.api, self.personal, self.clock, ids)
        self.customers = Customers(db, self.methods, self.personal, keys, self.clock, ids)

    async def commit(self, effect: Callable[[Any], Awaitable[T]]) -> T:
        """Run an effect in a transaction of its own, a second after the last one."""
        self.clock.advance(SECOND)
        async with self.db.transaction() as connection:
            return await effect(connection)

    async def customer(self, account: str = ACCOUNT, **fields: Any) -> CustomerFacts:
        command = CreateCustomer(**fields)
        return (await self.commit(lambda c: self.customers.create(c, account, command, livemode=False))).customer

    async def method(self, token: str = "pm_card_visa") -> PaymentMethodFacts:
        self.clock.advance(SECOND)
        return await self.methods.obtain(ACCOUNT, token, livemode=False)

    async def attach(self, method: str, customer: str, account: str = ACCOUNT) -> Attached:
        return await self.commit(lambda c: self.methods.attach(c, account, method, customer, livemode=False))

    async def update(self, customer: str, **fields: Any) -> Any:
        command = UpdateCustomer(customer=customer, **fields)
        return await self.commit(lambda c: self.customers.update(c, ACCOUNT, command, livemode=False))


@pytest.fixture
async def shop(database: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with vault_world(database, tmp_path) as world:
        db = await Database.connect(database, role="guilder_app", max_size=3, name="test")
        shop = Shop(db, world)
        yield shop
        await shop.methods.close()
        await db.close()


async def refused(verb: Awaitable[object]) -> tuple[int, str | None, str | None]:
    """Status, code and parameter of a refusal."""
    with pytest.raises(Refusal) as caught:
        await verb
    return caught.value.status, caught.value.facts.code, caught.value.facts.param


JENNY = {"name": "Jenny Rosen", "email": "jenny@example.com", "address": {"line1": "1 Main St", "city": "Delft"}}


# --- customers --------------------------------------------------------------------------------------------------------


async def test_a_customer_is_found_as_it_was_made(shop: Shop) -> None:
    """Facts without a name in them, and the name in a record of its own."""
    customer = await shop.customer(personal=JENNY, metadata=(("order", "1"),))
    assert await shop.customers.retrieve(ACCOUNT, customer.id, livemode=False) == customer
    assert customer.metadata == (("order", "1"),)
    assert len(customer.invoice_prefix) == 8
    assert "Jenny" not in repr(customer)
    assert await shop.personal.open(ACCOUNT, customer.personal, livemode=False) == JENNY


async def test_a_customer_without_details_has_no_record(shop: Shop) -> None:
    """Nothing is sealed for nothing."""
    assert (await shop.customer(personal={"name": None})).personal is None


async def test_a_customer_does_not_exist_for_another_merchant_or_mode(shop: Shop) -> None:
    """404 in the path, 400 in a parameter, for every verb."""
    customer = await shop.customer(personal=JENNY)
    for account, livemode in ((OTHER, False), (ACCOUNT, True)):
        where: dict[str, Any] = {"livemode": livemode}
        assert await refused(shop.customers.retrieve(account, customer.id, **where)) == (404, "resource_missing", "id")
        assert await refused(shop.customers.require(account, customer.id, **where)) == (400, "resource_missing", "customer")
        command = UpdateCustomer(customer=customer.id)
        assert (await refused(shop.commit(lambda c, a=account, w=where: shop.customers.update(c, a, command, **w))))[0] == 404  # type: ignore[misc]
        assert (await refused(shop.commit(lambda c, a=account, w=where: shop.customers.delete(c, a, customer.id, **w))))[0] == 404  # type: ignore[misc]
        assert await shop.customers.load(account, [customer.id], **where) == {}
        assert await shop.customers.list(account, Page(), **where) == ([], False)
        assert await shop.personal.open(account, customer.personal, **where) == {}


async def test_an_update_changes_what_it_names(shop: Shop) -> None:
    """Fields are set, unset by None, left alone; the old record stays for the events that point to it."""
    customer = await shop.customer(personal=JENNY)
    change = await shop.update(customer.id, personal={"email": None, "phone": "123"})
    assert change.is_one
    assert change.before == customer
    opened = await shop.personal.open_many(ACCOUNT, [str(customer.personal), change.after.personal], livemode=False)
    assert opened[customer.personal] == JENNY  # type: ignore[index]
    assert opened[change.after.personal] == {"name": "Jenny Rosen", "address": JENNY["address"], "phone": "123"}
    assert await shop.customers.retrieve(ACCOUNT, customer.id, livemode=False) == change.after


async def test_an_update_that_changes_nothing_is_no_change(shop: Shop) -> None:
    """No new record, nothing to announce."""
    customer = await shop.customer(personal=JENNY, metadata=(("a", "1"),))
    change = await shop.update(customer.id, personal={"name": "Jenny Rosen"}, metadata={"a": "1"})
    assert not change.is_one
    assert await shop.db.fetchval("SELECT count(*) FROM personal") == 1


async def test_metadata_is_merged(shop: Shop) -> None:
    """Keys are set and, by an empty value, deleted; None as a whole clears all; too many are refused."""
    customer = await shop.customer(metadata=(("a", "1"), ("b", "2")))
    assert (await shop.update(customer.id, metadata={"b": "", "c": "3"})).after.metadata == (("a", "1"), ("c", "3"))
    assert await refused(shop.update(customer.id, metadata={f"k{n}": "v" for n in range(49)})) == (400, None, "metadata")
    assert (await shop.update(customer.id, metadata=None)).after.metadata == ()


async def test_a_customer_can_be_found_by_mail(shop: Shop) -> None:
    """To the letter, within the merchant, the new one after a change; the mail itself is not in the table."""
    customer = await shop.customer(personal=JENNY)
    await shop.customer(OTHER, personal=JENNY)

    async def found(email: str) -> list[str]:
        return [one.id for one in (await shop.customers.list(ACCOUNT, Page(), livemode=False, email=email))[0]]

    assert await found("jenny@example.com") == [customer.id]
    assert await found("Jenny@example.com") == []
    await shop.update(customer.id, metadata={"a": "1"})
    assert await found("jenny@example.com") == [customer.id]
    await shop.update(customer.id, personal={"email": "j@example.com"})
    assert await found("jenny@example.com") == []
    assert await found("j@example.com") == [customer.id]
    await shop.update(customer.id, personal={"email": None})
    assert await found("j@example.com") == []


async def test_a_deleted_customer_remains_as_a_name(shop: Shop) -> None:
    """It answers `deleted`, is on no list, cannot be changed, and its PaymentMethods are detached."""
    customer = await shop.customer(personal=JENNY)
    method = await shop.method()
    await shop.attach(method.id, customer.id)
    deleted = await shop.commit(lambda c: shop.customers.delete(c, ACCOUNT, customer.id, livemode=False))
    assert deleted.after.deleted
    assert [one.id for one in deleted.detached] == [method.id]
    assert deleted.detached[0].customer is None
    assert (await shop.customers.retrieve(ACCOUNT, customer.id, livemode=False)).deleted
    assert await shop.customers.list(ACCOUNT, Page(), livemode=False) == ([], False)
    assert await shop.customers.list(ACCOUNT, Page(), livemode=False, email="jenny@example.com") == ([], False)
    assert await refused(shop.customers.require(ACCOUNT, customer.id, livemode=False)) == (400, "resource_missing", "customer")
    assert (await refused(shop.update(customer.id)))[0] == 404
    assert (await refused(shop.commit(lambda c: shop.customers.delete(c, ACCOUNT, customer.id, livemode=False))))[0] == 404
    assert await refused(shop.attach((await shop.method()).id, customer.id)) == (400, "resource_missing", "customer")


async def test_customers_come_in_pages_newest_first(shop: Shop) -> None:
    """Both directions, the ends, wrong cursors, a range of time."""
    made = [await shop.customer() for _ in range(5)]
    ids = [customer.id for customer in reversed(made)]

    async def page(**fields: Any) -> tuple[list[str], bool]:
        found, more = await shop.customers.list(ACCOUNT, Page(**fields), livemode=False)
        return [one.id for one in found], more

    assert await page(limit=2) == (ids[:2], True)
    assert await page(limit=2, starting_after=ids[1]) == (ids[2:4], True)
    assert await page(limit=2, starting_after=ids[3]) == (ids[4:], False)
    assert await page(limit=2, ending_before=ids[4]) == (ids[2:4], True)
    assert await page(limit=2, ending_before=ids[1]) == (ids[:1], False)
    assert await page(since=made[1].created, until=made[3].created) == (ids[2:4], False)
    assert (await refused(page(starting_after="cus_x")))[0] == 400


# --- PaymentMethods ---------------------------------------------------------------------------------------------------


async def test_each_use_of_a_test_token_makes_a_new_payment_method(shop: Shop) -> None:
    """Of the same card, with a CVC that the vault has."""
    one, two = await shop.method(), await shop.method()
    assert one.id != two.id
    assert one.card == two.card
    assert (one.card.brand, one.card.last4, one.card.cvc_check) == ("visa", "4242", "unchecked")
    [card] = await shop.world.executor.reveal([Reveal(account=ACCOUNT, livemode=False, payment_method_id=one.id, with_cvc=True)])
    assert card is not None
    assert (card.number, card.cvc) == (Pan(VISA), Secret("123"))
    assert await shop.methods.retrieve(ACCOUNT, one.id, livemode=False) == one


def test_every_test_token_stands_for_a_card_that_can_be() -> None:
    """A mistyped number would be refused by the vault."""
    clock = ManualClock()
    for name in CARDS:
        card = card_of(f"pm_card_{name}", clock.now())
        assert card is not None
        assert check_card(card.number, card.exp_month, card.exp_year, card.cvc, clock.now()) is None, name


@pytest.mark.parametrize(("token", "last4"), [
    ("pm_card_visa", "4242"), ("pm_card_visa_chargeDeclined", "0002"), ("pm_card_chargeDeclined", "0002"), ("tok_visa", "4242"),
    ("tok_chargeDeclinedInsufficientFunds", "9995"), ("pm_card_chargeDeclinedExpiredCard", "0069"), ("pm_card_amex", "0005"),
])  # fmt: skip
async def test_tokens_of_both_generations_are_known(shop: Shop, token: str, last4: str) -> None:
    """Declines with and without the brand in their name."""
    assert (await shop.method(token)).card.last4 == last4


async def test_test_tokens_do_not_exist_in_live_mode_nor_unknown_ones_at_all(shop: Shop) -> None:
    """400 for the parameter; nothing is stored."""
    for token, livemode in (("pm_card_visa", True), ("pm_card_x", False)):
        verb = shop.methods.obtain(ACCOUNT, token, livemode=livemode)
        assert await refused(verb) == (400, "resource_missing", "payment_method")
    assert await shop.db.fetchval("SELECT count(*) FROM payment_method") == 0


@pytest.mark.parametrize(("number", "month", "year", "cvc", "code", "field"), [
    ("4242424242424241", 12, 2040, "314", "incorrect_number", "number"),
    ("4242424242424242", 13, 2040, "314", "invalid_expiry_month", "exp_month"),
    ("4242424242424242", 12, 2020, "314", "invalid_expiry_year", "exp_year"),
    ("4242424242424242", 12, 2040, "1", "invalid_cvc", "cvc"),
])  # fmt: skip
async def test_a_card_that_cannot_be_is_refused_by_its_parameter(
    shop: Shop, number: str, month: int, year: int, cvc: str, code: str, field: str,
) -> None:
    """402, with the name of the parameter that held it; nothing is stored."""
    card = NewCard(number=Pan(number), exp_month=month, exp_year=year, cvc=Secret(cvc))
    verb = shop.methods.prepare(ACCOUNT, card, livemode=False, param="payment_method_data[card]")
    assert await refused(verb) == (402, code, f"payment_method_data[card][{field}]")
    assert await shop.db.fetchval("SELECT count(*) FROM payment_method") == 0


CARD = NewCard(number=Pan(VISA), exp_month=12, exp_year=40, cvc=Secret("314"))


async def test_live_keys_may_send_card_numbers_only_where_it_is_allowed(shop: Shop) -> None:
    """Off by default; the payment page always may."""
    assert (await refused(shop.methods.prepare(ACCOUNT, CARD, livemode=True)))[0] == 400
    assert (await shop.methods.prepare(ACCOUNT, CARD, livemode=True, from_our_page=True)).facts.livemode
    allowed = PaymentMethods(shop.db, shop.world.api, shop.personal, shop.clock, Ids(shop.clock), raw_cards_live=True)
    assert (await allowed.prepare(ACCOUNT, CARD, livemode=True)).facts.card.last4 == "4242"


async def test_billing_details_are_sealed_and_their_postal_code_goes_to_the_issuer(shop: Shop) -> None:
    """Facts hold the record's id only."""
    billing = {"name": "Jenny Rosen", "address": {"postal_code": "2611", "city": "Delft"}}
    prepared = await shop.methods.prepare(
        ACCOUNT, CARD, livemode=False, billing=billing, metadata=(("a", "1"),), allow_redisplay="always",
    )
    facts = await shop.commit(lambda c: shop.methods.insert(c, prepared))
    assert await shop.methods.retrieve(ACCOUNT, facts.id, livemode=False) == facts
    assert await shop.personal.open(ACCOUNT, facts.billing, livemode=False) == billing
    assert facts.card.postal_code_check == "unchecked"
    [card] = await shop.world.executor.reveal([Reveal(account=ACCOUNT, livemode=False, payment_method_id=facts.id)])
    assert card is not None
    assert card.postal_code == "2611"


async def test_a_prepared_payment_method_is_stored_with_its_transaction_or_not_at_all(shop: Shop) -> None:
    """The vault's copy alone is nobody's."""
    prepared = await shop.methods.prepare(ACCOUNT, CARD, livemode=False, billing={"name": "Jenny"})

    async def fail(connection: Any) -> None:
        await shop.methods.insert(connection, prepared)
        raise Refusal("no")

    await refused(shop.commit(fail))
    assert await refused(shop.methods.retrieve(ACCOUNT, prepared.facts.id, livemode=False)) == (404, "resource_missing", "id")
    assert await shop.db.fetchval("SELECT count(*) FROM personal") == 0


async def test_a_payment_method_does_not_exist_for_another_merchant_or_mode(shop: Shop) -> None:
    """For any verb."""
    method = await shop.method()
    customer = await shop.customer(OTHER)
    for account, livemode in ((OTHER, False), (ACCOUNT, True)):
        assert (await refused(shop.methods.retrieve(account, method.id, livemode=livemode)))[0] == 404
        assert await load_payment_methods(shop.db, [(account, livemode, method.id)]) == {}
        assert await shop.methods.load(account, [method.id], livemode=livemode) == {}
        assert (await why_unusable(shop.db, account, method.id, livemode=livemode)).facts.code == "resource_missing"
    assert (await refused(shop.attach(method.id, customer.id, OTHER)))[0] == 404
    assert (await refused(shop.commit(lambda c: shop.methods.detach(c, OTHER, method.id, livemode=False))))[0] == 404
    command = UpdatePaymentMethod(payment_method=method.id)
    assert (await refused(shop.commit(lambda c: shop.methods.update(c, OTHER, command, livemode=False))))[0] == 404
    assert (await refused(shop.methods.prepare_update(OTHER, command, livemode=False)))[0] == 404


async def test_attaching_and_detaching_follow_stripes_rules(shop: Shop) -> None:
    """To one customer only, again to the same one without effect, never again after detaching."""
    one, two = await shop.customer(), await shop.customer()
    method = await shop.method()
    unexpected = (400, "payment_method_unexpected_state", None)
    assert await refused(shop.commit(lambda c: shop.methods.detach(c, ACCOUNT, method.id, livemode=False))) == unexpected
    attached = await shop.attach(method.id, one.id)
    assert attached.is_new
    assert attached.payment_method.customer == one.id
    assert not (await shop.attach(method.id, one.id)).is_new
    assert await refused(shop.attach(method.id, two.id)) == unexpected
    detached = await shop.commit(lambda c: shop.methods.detach(c, ACCOUNT, method.id, livemode=False))
    assert (detached.before.customer, detached.after.customer, detached.customer) == (one.id, None, None)
    assert await refused(shop.attach(method.id, one.id)) == unexpected
    assert await refused(shop.commit(lambda c: shop.methods.detach(c, ACCOUNT, method.id, livemode=False))) == unexpected
    assert (await shop.methods.retrieve(ACCOUNT, method.id, livemode=False)).customer is None
    assert await load_payment_methods(shop.db, [(ACCOUNT, False, method.id)]) == {}
    refusal = await why_unusable(shop.db, ACCOUNT, method.id, livemode=False)
    assert "may not be used again" in refusal.facts.message
    assert await refused(shop.methods.obtain(ACCOUNT, method.id, livemode=False)) == (*unexpected[:2], "payment_method")


async def test_two_customers_who_attach_one_method_at_once_get_it_once(shop: Shop) -> None:
    """The rows' locks decide."""
    customers = [await shop.customer() for _ in range(3)]
    method = await shop.method()
    results = await asyncio.gather(*(shop.attach(method.id, one.id) for one in customers), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Attached", "Refusal", "Refusal"]


async def test_a_default_must_be_attached_and_goes_with_its_method(shop: Shop) -> None:
    """Detaching clears it and says so."""
    customer = await shop.customer()
    method = await shop.method()
    param = "invoice_settings[default_payment_method]"
    assert await refused(shop.update(customer.id, default_payment_method=method.id)) == (400, "resource_missing", param)
    await shop.attach(method.id, customer.id)
    change = await shop.update(customer.id, default_payment_method=method.id)
    assert change.after.default_payment_method == method.id
    detached = await shop.commit(lambda c: shop.methods.detach(c, ACCOUNT, method.id, livemode=False))
    assert detached.customer is not None
    assert detached.customer.after.default_payment_method is None
    assert (await shop.customers.retrieve(ACCOUNT, customer.id, livemode=False)).default_payment_method is None


async def test_a_customer_can_be_made_with_its_payment_method(shop: Shop) -> None:
    """Attached and default in one commit; another one's is refused, and then there is no customer."""
    method = await shop.method()
    command = CreateCustomer(payment_method=method.id, default_payment_method=method.id)
    created = await shop.commit(lambda c: shop.customers.create(c, ACCOUNT, command, livemode=False))
    assert created.attached is not None
    assert created.attached.customer == created.customer.id
    assert created.customer.default_payment_method == method.id
    for wrong, param in [(CreateCustomer(payment_method="pm_x"), "payment_method"), (command, None)]:
        result = await refused(shop.commit(lambda c, w=wrong: shop.customers.create(c, ACCOUNT, w, livemode=False)))  # type: ignore[misc]
        assert result[0] == 400
        assert result[2] == param
    assert len((await shop.customers.list(ACCOUNT, Page(), livemode=False))[0]) == 1


async def test_an_update_reaches_the_vault_too(shop: Shop) -> None:
    """Expiry, postal code, billing details, metadata; only when attached."""
    customer = await shop.customer()
    method = await shop.method()
    command = UpdatePaymentMethod(
        payment_method=method.id, exp_month=3, exp_year=41, billing={"address": {"postal_code": "2611"}, "name": "J"},
        metadata={"a": "1"}, allow_redisplay="limited",
    )  # fmt: skip
    unattached = await refused(shop.methods.prepare_update(ACCOUNT, command, livemode=False))
    assert unattached[1] == "payment_method_unexpected_state"
    await shop.attach(method.id, customer.id)
    wrong = UpdatePaymentMethod(payment_method=method.id, exp_year=2020)
    refusal = await refused(shop.methods.prepare_update(ACCOUNT, wrong, livemode=False))
    assert refusal == (402, "invalid_expiry_year", "card[exp_year]")
    await shop.methods.prepare_update(ACCOUNT, command, livemode=False)
    change = await shop.commit(lambda c: shop.methods.update(c, ACCOUNT, command, livemode=False))
    after = change.after
    assert (after.card.exp_month, after.card.exp_year) == (3, 2041)
    assert (after.allow_redisplay, after.metadata) == ("limited", (("a", "1"),))
    assert await shop.methods.retrieve(ACCOUNT, method.id, livemode=False) == after
    assert await shop.personal.open(ACCOUNT, after.billing, livemode=False) == {"address": {"postal_code": "2611"}, "name": "J"}
    [card] = await shop.world.executor.reveal([Reveal(account=ACCOUNT, livemode=False, payment_method_id=method.id)])
    assert card is not None
    assert (card.exp_month, card.exp_year, card.postal_code) == (3, 2041, "2611")
    again = await shop.commit(lambda c: shop.methods.update(c, ACCOUNT, command, livemode=False))
    assert not again.is_one


async def test_payment_methods_come_in_pages_by_customer(shop: Shop) -> None:
    """Newest first; without a customer all that are attached."""
    customer, other = await shop.customer(), await shop.customer()
    methods = [await shop.method() for _ in range(4)]
    for method in methods[:3]:
        await shop.attach(method.id, customer.id)
    await shop.attach(methods[3].id, other.id)
    await shop.method()
    ids = [method.id for method in reversed(methods)]

    async def page(**fields: Any) -> tuple[list[str], bool]:
        customer = fields.pop("customer", None)
        found, more = await shop.methods.list(ACCOUNT, Page(**fields), livemode=False, customer=customer)
        return [one.id for one in found], more

    assert await page(customer=customer.id, limit=2) == (ids[1:3], True)
    assert await page(customer=customer.id, limit=2, starting_after=ids[2]) == (ids[3:], False)
    assert await page() == (ids, False)
    assert (await shop.methods.retrieve_of(ACCOUNT, customer.id, ids[1], livemode=False)).id == ids[1]
    assert (await refused(shop.methods.retrieve_of(ACCOUNT, other.id, ids[1], livemode=False)))[0] == 404


async def test_many_are_loaded_by_one_statement(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are not there are missing from the answer."""
    methods = [await shop.method() for _ in range(3)]
    statements = []
    fetch = shop.db.fetch

    async def counted(sql: str, *arguments: object) -> Any:
        statements.append(sql)
        return await fetch(sql, *arguments)

    monkeypatch.setattr(shop.db, "fetch", counted)
    wanted = [(ACCOUNT, False, method.id) for method in methods] + [(ACCOUNT, False, "pm_x")]
    assert await load_payment_methods(shop.db, wanted) == {method.id: method for method in methods}
    assert len(statements) == 1


def test_a_method_of_another_customer_cannot_be_used() -> None:
    """Nor one of a customer without naming him."""
    facts = PaymentMethodFacts(id="pm_1", livemode=False, created=0, card=None, customer="cus_1")  # type: ignore[arg-type]
    check_customer(facts, "cus_1")
    check_customer(msgspec.structs.replace(facts, customer=None), "cus_2")
    for customer in (None, "cus_2"):
        with pytest.raises(Refusal, match="cus_"):
            check_customer(facts, customer)


# --- personal records -------------------------------------------------------------------------------------------------


async def test_an_erased_record_is_not_there(shop: Shop) -> None:
    """Whatever points to it shows null, and an update starts from nothing."""
    customer = await shop.customer(personal=JENNY)
    await shop.db.execute("UPDATE personal SET sealed = NULL WHERE id = $1", customer.personal)
    assert await shop.personal.open(ACCOUNT, customer.personal, livemode=False) == {}
    change = await shop.update(customer.id, personal={"phone": "1"})
    assert await shop.personal.open(ACCOUNT, change.after.personal, livemode=False) == {"phone": "1"}


async def test_a_sealed_record_that_was_moved_does_not_open(shop: Shop) -> None:
    """One merchant's record cannot be shown to another by whoever can write to the table."""
    one = await shop.personal.keep(ACCOUNT, JENNY, livemode=False)
    two = await shop.personal.keep(OTHER, {"name": "Other"}, livemode=False)
    await shop.db.execute("UPDATE personal SET sealed = (SELECT sealed FROM personal WHERE id = $1) WHERE id = $2", one, two)
    with pytest.raises(NotAuthentic):
        await shop.personal.open(OTHER, two, livemode=False)


async def test_a_record_has_a_limit(shop: Shop) -> None:
    """Far above what Stripe's fields can hold."""
    assert (await refused(shop.personal.keep(ACCOUNT, {"name": "x" * 70_000}, livemode=False)))[0] == 400


CANARIES = {"name": "Kanarienvogel", "email": "kanarie@example.com", "phone": "+31612345678"}
ADDRESS = {"line1": "Kanaalstraat 77", "postal_code": "2611ZZ"}
CANARY_CARDS = (("4000056655665556", "913"), ("378282246310005", "9137"))


async def live_through_everything(shop: Shop) -> None:
    """Customers and cards are made, changed, revealed, attached, detached and deleted."""
    for number, code in CANARY_CARDS:
        card = NewCard(number=Pan(number), exp_month=12, exp_year=40, cvc=Secret(code))
        prepared = await shop.methods.prepare(ACCOUNT, card, livemode=False, billing={**CANARIES, "address": ADDRESS})
        method = await shop.methods.store_now(prepared)
        customer = await shop.customer(personal={**CANARIES, "address": ADDRESS})
        await shop.attach(method.id, customer.id)
        await shop.update(customer.id, personal={"description": "Kanarienvogel 2"})
        wanted = Reveal(account=ACCOUNT, livemode=False, payment_method_id=method.id, with_cvc=True)
        assert None not in await shop.world.executor.reveal([wanted])
        await shop.world.executor.drop_cvc([method.id])
        await shop.commit(lambda c, m=method: shop.methods.detach(c, ACCOUNT, m.id, livemode=False))  # type: ignore[misc]
        await shop.commit(lambda c, x=customer: shop.customers.delete(c, ACCOUNT, x.id, livemode=False))  # type: ignore[misc]


async def test_nothing_personal_and_no_card_stands_readable_in_any_table(shop: Shop, database: str) -> None:
    """Every value of every table."""
    await live_through_everything(shop)
    stored = await every_value(database)
    assert stored.count(ACCOUNT.encode()) > 8
    for canary in [*(text for card in CANARY_CARDS for text in card if len(text) > 3), *CANARIES.values(), *ADDRESS.values()]:
        assert canary.encode() not in stored, canary


async def test_nothing_personal_and_no_card_reaches_the_disk(shop: Shop, server: dict[str, str], database: str) -> None:
    """Every byte of the server's files: tables, indexes, write-ahead log, its own log."""
    await live_through_everything(shop)
    admin = await Database.connect(server["superuser"], role="postgres", max_size=1, name="test")
    await admin.execute("CHECKPOINT")
    folder = Path(await admin.fetchval("SHOW data_directory"))
    number = await admin.fetchval("SELECT oid FROM pg_database WHERE datname = $1", urlsplit(database).path.removeprefix("/"))
    await admin.close()
    logs = [*folder.glob("**/*.log"), *folder.parent.glob("*.log")]
    files = [*(folder / "base" / str(number)).iterdir(), *(folder / "pg_wal").glob("0*"), *logs]
    # A CVC alone is too short to look for among random bytes: here it is with what a wire, JSON or SQL would put around it.
    # (Not with "=" before it: other tests' process ids and ports stand in the server's log like that.)
    cvcs = [b"\xa49137", b'"9137"', b"'9137'"]
    pans = [card[0].encode() for card in CANARY_CARDS]
    canaries = [*cvcs, *pans, *(text.encode() for text in (*CANARIES.values(), ADDRESS["line1"]))]
    found = {canary for file in files if file.is_file() for canary in _in_file(file, canaries)}
    assert found == set()
    assert any(ACCOUNT.encode() in file.read_bytes() for file in files if file.is_file())


def _in_file(file: Path, canaries: list[bytes]) -> list[bytes]:
    content = file.read_bytes()
    return [canary for canary in canaries if canary in content]
