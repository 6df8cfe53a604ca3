"""The vault over its socket and a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from guilder.core.clock import MINUTE, ManualClock
from guilder.core.ensure import InvariantBroken
from guilder.core.errors import Unavailable
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.security import FileKeyProvider, KeyFileError, Pan, Secret, make_key_file
from guilder.shapes.facts import CardFacts
from guilder.vault import Amendment, Card, CardEntry, CardRefused, Reveal, Vault, VaultClient, VaultServer, listen

VISA = "4242424242424242"


class World:
    """A vault on its own socket, with the means to stop and start it."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.path = folder / "vault.sock"
        self.key_file = folder / "master.key"
        self.clock = ManualClock()
        self.ids = Ids(self.clock)
        self.api = VaultClient(self.path)
        self.executor = VaultClient(self.path, may_reveal=True)
        self.db: Database | None = None
        self.server: VaultServer | None = None
        make_key_file(self.key_file)

    async def start(self) -> None:
        self.db = await Database.connect(self.dsn, role="guilder_vault", max_size=2, hot=True, name="vault")
        vault = Vault(self.db, FileKeyProvider(self.key_file), self.clock)
        self.server = VaultServer(vault, listen(self.path))
        await self.server.start()

    async def stop(self) -> None:
        if self.server is not None and self.db is not None:
            await self.server.close()
            await self.db.close()
        self.server = None

    def entry(self, number: str = VISA, *, account: str = "acct_1", livemode: bool = False, cvc: str | None = None, postal: str | None = None) -> CardEntry:
        return CardEntry(
            account=account, livemode=livemode, payment_method_id=self.ids.new("pm"), number=Pan(number), exp_month=12, exp_year=34,
            cvc=None if cvc is None else Secret(cvc), postal_code=postal,
        )  # fmt: skip


def reveal(entry: CardEntry, *, with_cvc: bool = False, account: str | None = None, livemode: bool | None = None) -> Reveal:
    return Reveal(
        account=account or entry.account,
        livemode=entry.livemode if livemode is None else livemode,
        payment_method_id=entry.payment_method_id,
        with_cvc=with_cvc,
    )


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    world = World(database, tmp_path)
    await world.start()
    yield world
    await world.api.close()
    await world.executor.close()
    await world.stop()


@asynccontextmanager
async def superuser(dsn: str) -> AsyncIterator[Database]:
    """The database without the vault's role, as an attacker or an administrator sees it."""
    db = await Database.connect(dsn, role="guilder_owner", max_size=1, name="test")
    try:
        yield db
    finally:
        await db.close()


async def test_a_card_that_is_kept_can_be_revealed(world: World) -> None:
    """What may be known comes back at once; the whole card comes back to a connector."""
    entry = world.entry(cvc="314", postal="EC1A 1BB")
    [facts] = await world.api.tokenize([entry])
    assert facts == CardFacts(
        brand="visa", last4="4242", exp_month=12, exp_year=2034, fingerprint=facts.fingerprint, funding="credit", country="US",  # type: ignore[union-attr]
        iin="424242", cvc_check="unchecked", postal_code_check="unchecked",
    )  # fmt: skip
    [card] = await world.executor.reveal([reveal(entry, with_cvc=True)])
    assert card == Card(number=Pan(VISA), exp_month=12, exp_year=2034, cvc=Secret("314"), postal_code="EC1A 1BB")


async def test_a_list_is_answered_in_its_order(world: World) -> None:
    """Good cards are kept, bad ones are refused by name, in one call."""
    entries = [world.entry(), world.entry("4242424242424241"), world.entry("5555555555554444"), world.entry("x"), world.entry()]
    results = await world.api.tokenize(entries)
    assert [result.code if isinstance(result, CardRefused) else result.last4 for result in results] == [
        "4242", "incorrect_number", "4444", "invalid_number", "4242",
    ]  # fmt: skip
    cards = await world.executor.reveal([reveal(entry) for entry in reversed(entries)] + [reveal(entries[0])])
    assert [card and card.number.last4 for card in cards] == ["4242", None, "4444", None, "4242", "4242"]


async def test_more_than_one_frame_of_cards_is_kept(world: World) -> None:
    """Lists of any length; the client cuts them."""
    entries = [world.entry() for _ in range(2_100)]
    results = await world.api.tokenize(entries)
    assert len(results) == 2_100
    cards = await world.executor.reveal([reveal(entry) for entry in entries])
    assert all(card is not None and card.number == Pan(VISA) for card in cards)


async def test_a_card_does_not_exist_for_another_merchant_or_mode(world: World) -> None:
    """Neither its number nor its CVC."""
    entry = world.entry(cvc="314")
    await world.api.tokenize([entry])
    assert await world.executor.reveal([
        reveal(entry, account="acct_2", with_cvc=True), reveal(entry, livemode=True, with_cvc=True),
    ]) == [None, None]  # fmt: skip


async def test_only_the_executor_may_reveal(world: World) -> None:
    """The API's connection is refused."""
    entry = world.entry()
    await world.api.tokenize([entry])
    with pytest.raises(InvariantBroken, match="not_allowed"):
        await world.api.reveal([reveal(entry)])


async def test_equal_cards_have_equal_fingerprints_within_a_merchant_only(world: World) -> None:
    """16 characters; another merchant's or mode's are unlike, and so is the installation's own."""
    entries = [
        world.entry(), world.entry("4242 4242 4242 4242"), world.entry("5555555555554444"),
        world.entry(account="acct_2"), world.entry(livemode=True),
    ]  # fmt: skip
    prints = [facts.fingerprint for facts in await world.api.tokenize(entries) if isinstance(facts, CardFacts)]
    everywhere = await world.api.fingerprint([Pan(VISA), Pan(VISA)])
    assert prints[0] == prints[1]
    assert everywhere[0] == everywhere[1]
    assert len({*prints, *everywhere}) == 5
    assert all(len(value) == 16 and value.isalnum() for value in [*prints, *everywhere])


async def test_a_cvc_comes_only_when_asked_for_and_goes_when_dropped(world: World) -> None:
    """Reading it does not use it up: an authorization may be tried again."""
    entry = world.entry(cvc="314")
    await world.api.tokenize([entry])
    for with_cvc, expected in [(False, None), (True, Secret("314")), (True, Secret("314"))]:
        [card] = await world.executor.reveal([reveal(entry, with_cvc=with_cvc)])
        assert card is not None
        assert card.cvc == expected
    await world.executor.drop_cvc([entry.payment_method_id])
    [card] = await world.executor.reveal([reveal(entry, with_cvc=True)])
    assert card is not None
    assert card.cvc is None


async def test_a_cvc_does_not_outlive_its_quarter_of_an_hour_or_the_process(world: World) -> None:
    """The card itself stays."""
    old, young = world.entry(cvc="314"), world.entry(cvc="315")
    await world.api.tokenize([old])
    world.clock.advance(15 * MINUTE)
    await world.api.tokenize([young])
    cards = await world.executor.reveal([reveal(old, with_cvc=True), reveal(young, with_cvc=True)])
    assert [card and card.cvc for card in cards] == [None, Secret("315")]
    await world.stop()
    await world.start()
    [card] = await world.executor.reveal([reveal(young, with_cvc=True)])
    assert card == Card(number=Pan(VISA), exp_month=12, exp_year=2034)


async def test_repeating_a_card_under_its_id_changes_nothing(world: World) -> None:
    """A caller that lost the answer asks again; another card under the same id is a defect."""
    entry = world.entry()
    first = await world.api.tokenize([entry])
    assert await world.api.tokenize([entry]) == first
    other = CardEntry(
        account=entry.account, livemode=entry.livemode, payment_method_id=entry.payment_method_id, number=Pan("5555555555554444"),
        exp_month=1, exp_year=40,
    )  # fmt: skip
    with pytest.raises(InvariantBroken):
        await world.api.tokenize([other])
    [card] = await world.executor.reveal([reveal(entry)])
    assert card is not None
    assert card.number == Pan(VISA)


async def test_an_amendment_changes_what_it_names(world: World) -> None:
    """Expiry and postal code, for that merchant and mode only."""
    entry = world.entry(postal="1000")
    await world.api.tokenize([entry])

    def amend(account: str = "acct_1", **changes: object) -> Amendment:
        return Amendment(account=account, livemode=False, payment_method_id=entry.payment_method_id, **changes)  # type: ignore[arg-type]

    assert await world.api.amend([amend(exp_month=1, exp_year=40), amend("acct_2", exp_month=2)]) == [True, False]
    [card] = await world.executor.reveal([reveal(entry)])
    assert card == Card(number=Pan(VISA), exp_month=1, exp_year=2040, postal_code="1000")
    await world.api.amend([amend(postal_code="2000")])
    [card] = await world.executor.reveal([reveal(entry)])
    assert card is not None
    assert card.postal_code == "2000"
    await world.api.amend([amend(postal_code="")])
    [card] = await world.executor.reveal([reveal(entry)])
    assert card is not None
    assert card.postal_code is None


async def test_a_call_survives_the_vaults_restart(world: World) -> None:
    """The client finds the vault again by itself, also when it is away for a moment."""
    entry = world.entry()
    await world.api.tokenize([entry])
    await world.executor.reveal([reveal(entry)])
    await world.stop()
    waiting = asyncio.create_task(world.executor.reveal([reveal(entry)]))
    await world.start()
    [card] = await waiting
    assert card is not None
    assert card.number == Pan(VISA)


async def test_a_vault_that_stays_away_is_unavailable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the time of a call, not for ever."""
    monkeypatch.setattr("guilder.vault.client.CALL_SECONDS", 0.2)
    await world.stop()
    with pytest.raises(Unavailable):
        await world.api.tokenize([world.entry()])


async def test_a_hundred_callers_share_few_statements(world: World) -> None:
    """Concurrent entries are stored together."""
    before = await _transactions(world)
    results = await asyncio.gather(*(world.api.tokenize([world.entry()]) for _ in range(100)))
    assert all(isinstance(result, CardFacts) for [result] in results)
    assert await _transactions(world) - before < 20


async def _transactions(world: World) -> int:
    assert world.db is not None
    await world.db.execute("SELECT pg_stat_force_next_flush()")
    return int(await world.db.fetchval("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"))


async def test_another_master_key_is_refused_at_the_start(world: World) -> None:
    """By name, before any card is touched."""
    await world.api.tokenize([world.entry()])
    await world.stop()
    world.key_file.unlink()
    make_key_file(world.key_file)
    with pytest.raises(KeyFileError, match="belongs to this database"):
        await world.start()


async def test_a_sealed_number_that_is_moved_or_altered_does_not_open(world: World) -> None:
    """Copied to another row, another merchant, altered in one bit, given another key version: it does not exist."""
    mine, yours = world.entry(), world.entry("5555555555554444", account="acct_2")
    await world.api.tokenize([mine, yours])
    changes = [
        "number_sealed = (SELECT number_sealed FROM vault_card WHERE account = 'acct_1')",
        "number_sealed = set_byte(number_sealed, 20, get_byte(number_sealed, 20) # 1)",
        "key_version = 7",
        "postal_sealed = number_sealed",
    ]
    async with superuser(world.dsn) as db:
        for change in changes:
            await db.execute("CREATE TABLE before AS SELECT * FROM vault_card")
            await db.execute(f"UPDATE vault_card SET {change} WHERE account = 'acct_2'")
            cards = await world.executor.reveal([reveal(mine), reveal(yours)])
            assert [card and card.number.last4 for card in cards] == ["4242", None], change
            await db.execute("DELETE FROM vault_card")
            await db.execute("INSERT INTO vault_card SELECT * FROM before")
            await db.execute("DROP TABLE before")
        await db.execute("UPDATE vault_card SET account = 'acct_1' WHERE account = 'acct_2'")
        assert await world.executor.reveal([reveal(yours, account="acct_1")]) == [None]


async def test_no_other_role_can_read_the_vaults_tables(world: World) -> None:
    """Not even a sealed number."""
    await world.api.tokenize([world.entry()])
    for role in ("guilder_app", "guilder_reader"):
        db = await Database.connect(world.dsn, role=role, max_size=1, name="test")
        for table in ("vault_card", "vault_key"):
            with pytest.raises(Exception, match="permission denied"):
                await db.fetch(f"SELECT * FROM {table}")
        await db.close()


async def test_neither_card_number_nor_cvc_reaches_the_database(world: World) -> None:
    """Every byte of the vault's tables, after cards were entered, revealed, amended and dropped."""
    canary, cvc, postal = "4000000000009995", "7139", "CANARY 77"
    amex = "378282246310005"
    entries = [world.entry(canary, cvc="713", postal=postal), world.entry(amex, cvc=cvc)]
    await world.api.tokenize(entries)
    await world.executor.reveal([reveal(entry, with_cvc=True) for entry in entries])
    await world.executor.drop_cvc([entries[0].payment_method_id])
    async with superuser(world.dsn) as db:
        rows = await db.fetch("SELECT vault_card::text AS row FROM vault_card UNION ALL SELECT vault_key::text FROM vault_key")
    dump = "\n".join(row["row"] for row in rows)
    assert len(rows) >= 4
    for canary_text in (canary, amex, cvc, postal):
        assert canary_text not in dump
        assert canary_text.encode().hex() not in dump


async def test_an_unreadable_frame_ends_only_its_own_connection(world: World) -> None:
    """Garbage, a frame without a greeting, a frame that is too long: hung up; the others go on."""
    entry = world.entry()
    await world.api.tokenize([entry])
    for garbage in (b"\x00\x00\x00\x02{}", b"\xff\xff\xff\xff", b"\x00\x00\x00\x04\x93\xa9x"):
        reader, writer = await asyncio.open_unix_connection(str(world.path))
        writer.write(garbage)
        if garbage.startswith(b"\x00\x00\x00\x04"):
            writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    assert isinstance((await world.api.tokenize([entry]))[0], CardFacts)


async def test_the_socket_belongs_to_its_user_alone(world: World) -> None:
    """0600, from the first moment."""
    assert world.path.stat().st_mode & 0o777 == 0o600


async def test_a_long_path_is_served_too(database: str, tmp_path: Path) -> None:
    """A socket's address has 108 bytes, a folder's path may be longer."""
    folder = tmp_path / ("deep" * 20) / ("deeper" * 10)
    folder.mkdir(parents=True)
    world = World(database, folder)
    await world.start()
    assert isinstance((await world.api.tokenize([world.entry()]))[0], CardFacts)
    await world.api.close()
    await world.stop()
