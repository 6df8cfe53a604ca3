"""Merchants, keys and terms on a real database."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from guilder.core.clock import DAY, SECOND, ManualClock, Micros
from guilder.core.errors import Refusal
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.merchants import Caller, Merchants, Terms
from guilder.security import PurposeKeys

KEY = bytes(range(32))


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    db = await Database.connect(database, role="guilder_app", max_size=3, name="test")
    yield db
    await db.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def merchants(db: Database, clock: ManualClock) -> Merchants:
    return Merchants(db, PurposeKeys(KEY), clock, Ids(clock))


async def test_a_new_merchant_has_both_modes_and_the_first_price(merchants: Merchants) -> None:
    """1.5 percent; 1,000 units of overdraft in the sandbox, none in live mode."""
    merchant = await merchants.create(name="Rocket Rides", country="NL", default_currency="eur")
    assert await merchants.retrieve(merchant.id) == merchant
    assert list(await merchants.list()) == [merchant]
    assert await merchants.terms(merchant.id, livemode=False) == Terms(price_version=1, basis_points=150, overdraft_units=1_000)
    assert await merchants.terms(merchant.id, livemode=True) == Terms(price_version=1, basis_points=150, overdraft_units=0)


async def test_by_a_clock_that_is_behind_a_merchant_has_its_first_price(merchants: Merchants, db: Database, clock: ManualClock) -> None:
    """It was made by another machine, whose clock is right."""
    merchant = await merchants.create(name="Rocket Rides")
    behind = ManualClock(Micros(clock.now() - DAY))
    there = Merchants(db, PurposeKeys(KEY), behind, Ids(behind))
    assert (await there.terms(merchant.id, livemode=False)).price_version == 1


@pytest.mark.parametrize(("kind", "livemode", "prefix"), [
    ("secret", False, "sk_test_"), ("secret", True, "sk_live_"),
    ("publishable", False, "pk_test_"), ("publishable", True, "pk_live_"),
])  # fmt: skip
async def test_a_key_says_who_calls_in_which_mode(merchants: Merchants, kind: str, livemode: bool, prefix: str) -> None:
    """The prefix is Stripe's; the caller is what the key was made for."""
    merchant = await merchants.create(name="Rocket Rides")
    key, secret = await merchants.create_key(merchant.id, livemode=livemode, kind=kind)  # type: ignore[arg-type]
    assert secret.reveal().startswith(prefix)
    assert len(secret.reveal()) > len(prefix) + 43
    assert await merchants.authenticate(secret.reveal()) == Caller(merchant.id, livemode, kind, key.id)  # type: ignore[arg-type]
    assert list(await merchants.list_keys(merchant.id)) == [key]


@pytest.mark.parametrize("wrong", [
    "", "sk_test_", "sk_test_" + "x" * 45, "pk_test_gld", "\x00" * 60, "sk_test_" + "é" * 45, "a" * 10_000,
])  # fmt: skip
async def test_a_wrong_key_is_nobodys(merchants: Merchants, wrong: str) -> None:
    """Whatever it looks like."""
    assert await merchants.authenticate(wrong) is None


async def test_the_secret_is_not_in_the_database(merchants: Merchants, db: Database) -> None:
    """Only its keyed hash and its last four characters are."""
    merchant = await merchants.create(name="Rocket Rides")
    _key, secret = await merchants.create_key(merchant.id, livemode=False)
    rows = await db.fetch("SELECT api_key::text AS row FROM api_key")
    assert secret.reveal()[12:-4] not in str([row["row"] for row in rows])


async def test_a_revoked_key_stops_within_a_second(merchants: Merchants, db: Database, clock: ManualClock) -> None:
    """In every process: the one that holds it in its cache too."""
    elsewhere = Merchants(db, PurposeKeys(KEY), clock, Ids(clock))
    merchant = await merchants.create(name="Rocket Rides")
    key, secret = await merchants.create_key(merchant.id, livemode=False)
    assert await elsewhere.authenticate(secret.reveal()) is not None
    revoked = await merchants.revoke_key(merchant.id, key.id)
    assert revoked.revoked == clock.now() // SECOND
    clock.advance(1 * SECOND)
    assert await elsewhere.authenticate(secret.reveal()) is None
    assert await merchants.revoke_key(merchant.id, key.id) == revoked


async def test_a_key_of_another_merchant_cannot_be_revoked(merchants: Merchants) -> None:
    """It does not exist for him."""
    merchant, other = await merchants.create(name="One"), await merchants.create(name="Two")
    key, secret = await merchants.create_key(merchant.id, livemode=False)
    with pytest.raises(Refusal, match="No such api_key"):
        await merchants.revoke_key(other.id, key.id)
    assert await merchants.authenticate(secret.reveal()) is not None


async def test_many_calls_cost_one_read(
    merchants: Merchants, db: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Concurrent ones share it; later ones within the second do not read; in its second half one reads ahead."""
    merchant = await merchants.create(name="Rocket Rides")
    _key, secret = await merchants.create_key(merchant.id, livemode=False)
    reads = []
    fetchrow = db.fetchrow

    async def counted(sql: str, *arguments: object) -> object:
        reads.append(sql)
        return await fetchrow(sql, *arguments)

    monkeypatch.setattr(db, "fetchrow", counted)
    callers = await asyncio.gather(*(merchants.authenticate(secret.reveal()) for _ in range(50)))
    assert len(set(callers)) == 1
    clock.advance(SECOND // 3)
    await merchants.authenticate(secret.reveal())
    assert len(reads) == 1
    clock.advance(SECOND // 3)
    await asyncio.gather(*(merchants.authenticate(secret.reveal()) for _ in range(50)))
    while len(reads) < 2:
        await asyncio.sleep(0)
    clock.advance(2 * SECOND)
    await merchants.authenticate(secret.reveal())
    assert len(reads) == 3


async def test_a_new_price_is_a_new_version_from_its_day_on(merchants: Merchants, clock: ManualClock) -> None:
    """The old one stays; each mode has its own."""
    merchant = await merchants.create(name="Rocket Rides")
    later = Micros(clock.now() + 7 * DAY)
    assert await merchants.set_price(merchant.id, livemode=False, basis_points=90, valid_from=later) == 2
    assert (await merchants.terms(merchant.id, livemode=False)).price_version == 1
    clock.advance(7 * DAY)
    assert await merchants.terms(merchant.id, livemode=False) == Terms(price_version=2, basis_points=90, overdraft_units=1_000)
    assert (await merchants.terms(merchant.id, livemode=True)).price_version == 1


async def test_prices_raised_at_the_same_moment_get_versions_of_their_own(merchants: Merchants) -> None:
    """None overwrites another."""
    merchant = await merchants.create(name="Rocket Rides")
    versions = await asyncio.gather(*(merchants.set_price(merchant.id, livemode=False, basis_points=n) for n in range(3)))
    assert sorted(versions) == [2, 3, 4]


async def test_the_overdraft_can_be_set(merchants: Merchants) -> None:
    """For one mode; it applies at once here."""
    merchant = await merchants.create(name="Rocket Rides")
    await merchants.terms(merchant.id, livemode=True)
    await merchants.set_overdraft(merchant.id, livemode=True, overdraft_units=5)
    assert (await merchants.terms(merchant.id, livemode=True)).overdraft_units == 5


@pytest.mark.parametrize("field", [
    {"name": ""}, {"name": "a\x00"}, {"country": "nl"}, {"default_currency": "xxx"}, {"default_currency": "EUR"},
])  # fmt: skip
async def test_what_a_merchant_cannot_be_is_refused(merchants: Merchants, field: dict[str, str]) -> None:
    """By the name of the field; nothing is stored."""
    with pytest.raises(Refusal) as refused:
        await merchants.create(**{"name": "Rocket Rides", **field})
    assert refused.value.facts.param == next(iter(field))
    assert list(await merchants.list()) == []


async def test_an_unknown_merchant_is_missing(merchants: Merchants) -> None:
    """For every verb."""
    for verb in (
        merchants.retrieve("acct_x"), merchants.terms("acct_x", livemode=False), merchants.create_key("acct_x", livemode=False),
        merchants.set_price("acct_x", livemode=False, basis_points=1),
        merchants.set_overdraft("acct_x", livemode=False, overdraft_units=1),
    ):  # fmt: skip
        with pytest.raises(Refusal) as refused:
            await verb
        assert refused.value.status == 404
