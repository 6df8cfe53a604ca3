"""The vault over its socket and a real database."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from vault_world import VISA, VaultWorld, every_value, reveal, vault_world

from guilder.core.clock import MINUTE
from guilder.core.ensure import InvariantBroken
from guilder.core.errors import Unavailable
from guilder.db import Database
from guilder.security import KeyFileError, Pan, Secret, make_key_file
from guilder.shapes.facts import CardFacts
from guilder.vault import Amendment, Card, CardEntry, CardRefused, Vault


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[VaultWorld]:
    async with vault_world(database, tmp_path) as world:
        yield world


@asynccontextmanager
async def superuser(dsn: str) -> AsyncIterator[Database]:
    """The database without the vault's role, as an attacker or an administrator sees it."""
    db = await Database.connect(dsn, role="guilder_owner", max_size=1, name="test")
    try:
        yield db
    finally:
        await db.close()


async def test_a_card_that_is_kept_can_be_revealed(world: VaultWorld) -> None:
    """What may be known comes back at once; the whole card comes back to a connector."""
    entry = world.entry(cvc="314", postal="EC1A 1BB")
    [facts] = await world.api.tokenize([entry])
    assert facts == CardFacts(
        brand="visa", last4="4242", exp_month=12, exp_year=2034, fingerprint=facts.fingerprint, funding="credit", country="US",  # type: ignore[union-attr]
        iin="424242", cvc_check="unchecked", postal_code_check="unchecked",
    )  # fmt: skip
    [card] = await world.executor.reveal([reveal(entry, with_cvc=True)])
    assert card == Card(number=Pan(VISA), exp_month=12, exp_year=2034, cvc=Secret("314"), postal_code="EC1A 1BB")


async def test_a_list_is_answered_in_its_order(world: VaultWorld) -> None:
    """Good cards are kept, bad ones are refused by name, in one call."""
    entries = [world.entry(), world.entry("4242424242424241"), world.entry("5555555555554444"), world.entry("x"), world.entry()]
    results = await world.api.tokenize(entries)
    assert [result.code if isinstance(result, CardRefused) else result.last4 for result in results] == [
        "4242", "incorrect_number", "4444", "invalid_number", "4242",
    ]  # fmt: skip
    cards = await world.executor.reveal([reveal(entry) for entry in reversed(entries)] + [reveal(entries[0])])
    assert [card and card.number.last4 for card in cards] == ["4242", None, "4444", None, "4242", "4242"]


async def test_more_than_one_frame_of_cards_is_kept(world: VaultWorld) -> None:
    """Lists of any length; the client cuts them."""
    entries = [world.entry() for _ in range(2_100)]
    results = await world.api.tokenize(entries)
    assert len(results) == 2_100
    cards = await world.executor.reveal([reveal(entry) for entry in entries])
    assert all(card is not None and card.number == Pan(VISA) for card in cards)


async def test_a_card_does_not_exist_for_another_merchant_or_mode(world: VaultWorld) -> None:
    """Neither its number nor its CVC."""
    entry = world.entry(cvc="314")
    await world.api.tokenize([entry])
    assert await world.executor.reveal([
        reveal(entry, account="acct_2", with_cvc=True), reveal(entry, livemode=True, with_cvc=True),
    ]) == [None, None]  # fmt: skip


async def test_only_the_executor_may_reveal(world: VaultWorld) -> None:
    """The API's connection is refused."""
    entry = world.entry()
    await world.api.tokenize([entry])
    with pytest.raises(InvariantBroken, match="not_allowed"):
        await world.api.reveal([reveal(entry)])


async def test_equal_cards_have_equal_fingerprints_within_a_merchant_only(world: VaultWorld) -> None:
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


async def test_a_busy_card_is_opened_once_for_a_list(world: VaultWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it stands there; each place has its own answer, with the CVC or without."""
    busy, other = world.entry(cvc="314"), world.entry("5555555555554444")
    await world.api.tokenize([busy, other])
    opened, open_ = [], Vault._open

    def counted(self: Vault, row, keys, *, with_cvc: bool):
        opened.append((row.payment_method_id, with_cvc))
        return open_(self, row, keys, with_cvc=with_cvc)

    monkeypatch.setattr(Vault, "_open", counted)
    asked = [(busy, True), (other, False), (busy, False), (busy, True), (busy, True), (other, False)]
    cards = await world.executor.reveal([reveal(entry, with_cvc=with_cvc) for entry, with_cvc in asked])
    assert [(card.number, card.cvc is not None) for card in cards if card] == [(entry.number, with_cvc) for entry, with_cvc in asked]
    assert len(opened) == 3


async def test_a_cvc_comes_only_when_asked_for_and_goes_when_dropped(world: VaultWorld) -> None:
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


async def test_a_cvc_does_not_outlive_its_quarter_of_an_hour_or_the_process(world: VaultWorld) -> None:
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


async def test_repeating_a_card_under_its_id_changes_nothing(world: VaultWorld) -> None:
    """A caller that lost the answer asks again; another card under the same id is a defect."""
    entry = world.entry()
    first = await world.api.tokenize([entry])
    assert await world.api.tokenize([entry]) == first
    other = CardEntry(
        account=entry.account, livemode=entry.livemode, payment_method_id=entry.payment_method_id, number=Pan("5555555555554444"),
        exp_month=1, exp_year=40,
    )  # fmt: skip
    with pytest.raises(Unavailable, match="broken"):
        await world.api.tokenize([other])
    [card] = await world.executor.reveal([reveal(entry)])
    assert card is not None
    assert card.number == Pan(VISA)


async def test_an_amendment_changes_what_it_names(world: VaultWorld) -> None:
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


async def test_a_call_survives_the_vaults_restart(world: VaultWorld) -> None:
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


async def test_a_vault_that_stays_away_is_unavailable(world: VaultWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the time of a call, not for ever."""
    monkeypatch.setattr("guilder.vault.client.CALL_SECONDS", 0.2)
    await world.stop()
    with pytest.raises(Unavailable):
        await world.api.tokenize([world.entry()])


async def test_a_hundred_callers_share_few_statements(world: VaultWorld) -> None:
    """Concurrent entries are stored together."""
    before = await _transactions(world)
    results = await asyncio.gather(*(world.api.tokenize([world.entry()]) for _ in range(100)))
    assert all(isinstance(result, CardFacts) for [result] in results)
    assert await _transactions(world) - before < 20


async def _transactions(world: VaultWorld) -> int:
    assert world.db is not None
    await world.db.execute("SELECT pg_stat_force_next_flush()")
    return int(await world.db.fetchval("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"))


async def test_another_master_key_is_refused_at_the_start(world: VaultWorld) -> None:
    """By name, before any card is touched."""
    await world.api.tokenize([world.entry()])
    await world.stop()
    world.key_file.unlink()
    make_key_file(world.key_file)
    with pytest.raises(KeyFileError, match="belongs to this database"):
        await world.start()


async def test_a_sealed_number_that_is_moved_or_altered_does_not_open(world: VaultWorld) -> None:
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


async def test_no_other_role_can_read_the_vaults_tables(world: VaultWorld) -> None:
    """Not even a sealed number."""
    await world.api.tokenize([world.entry()])
    for role in ("guilder_app", "guilder_reader"):
        db = await Database.connect(world.dsn, role=role, max_size=1, name="test")
        for table in ("vault_card", "vault_key"):
            with pytest.raises(Exception, match="permission denied"):
                await db.fetch(f"SELECT * FROM {table}")
        await db.close()


async def test_neither_card_number_nor_cvc_reaches_the_database(world: VaultWorld) -> None:
    """Every value of every table, after cards were entered, revealed, amended and dropped."""
    canary, postal, amex = "4000000000009995", "CANARY 77", "378282246310005"
    # Four digits may stand in some id by chance; what keeps CVCs keeps all of them.
    cvcs = ("7139", "2846", "9053")
    entries = [world.entry(canary, cvc="713", postal=postal), *(world.entry(amex, cvc=cvc) for cvc in cvcs)]
    await world.api.tokenize(entries)
    await world.executor.reveal([reveal(entry, with_cvc=True) for entry in entries])
    await world.executor.drop_cvc([entries[0].payment_method_id])
    stored = await every_value(world.dsn)
    assert entries[0].payment_method_id.encode() in stored
    for text in (canary, amex, postal):
        assert text.encode() not in stored
    assert not all(cvc.encode() in stored for cvc in cvcs)


async def test_an_unreadable_frame_ends_only_its_own_connection(world: VaultWorld) -> None:
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


async def test_the_socket_belongs_to_its_user_alone(world: VaultWorld) -> None:
    """0600, from the first moment."""
    assert world.path.stat().st_mode & 0o777 == 0o600


async def test_a_long_path_is_served_too(database: str, tmp_path: Path) -> None:
    """A socket's address has 108 bytes, a folder's path may be longer."""
    folder = tmp_path / ("deep" * 20) / ("deeper" * 10)
    folder.mkdir(parents=True)
    world = VaultWorld(database, folder)
    await world.start()
    assert isinstance((await world.api.tokenize([world.entry()]))[0], CardFacts)
    await world.api.close()
    await world.stop()


KILLED = """
import asyncio, sys
from pathlib import Path
from guilder.core.clock import SystemClock
from guilder.db import Database
from guilder.security import FileKeyProvider
from guilder.vault import Vault, VaultServer, listen

async def main(dsn, folder):
    db = await Database.connect(dsn, role="guilder_vault", max_size=2, name="vault")
    await VaultServer(Vault(db, FileKeyProvider(folder / "master.key"), SystemClock()), listen(folder / "vault.sock")).start()
    print("ready", flush=True)
    await asyncio.Event().wait()

print("imported", flush=True)
sys.stdin.readline()
asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


async def _imported(world: VaultWorld) -> asyncio.subprocess.Process:
    """A process that has imported everything, as the supervisor has when it forks a vault."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, world.dsn, str(world.path.parent), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"imported\n"
    return process


async def _serving(process: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"serve\n")
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_a_vault_that_is_killed_loses_no_card_that_it_acknowledged(database: str, tmp_path: Path) -> None:
    """SIGKILL while cards are being entered, three times over; the callers do not even notice, but for their CVCs."""
    world = VaultWorld(database, tmp_path)
    process = await _serving(await _imported(world))
    kept: list[CardEntry] = []

    async def enter() -> None:
        for _ in range(40):
            entry = world.entry(cvc="314")
            assert isinstance((await world.api.tokenize([entry]))[0], CardFacts)
            kept.append(entry)

    for _ in range(3):
        successor = await _imported(world)
        entering = [asyncio.create_task(enter()) for _ in range(8)]
        goal = len(kept) + 50
        while len(kept) < goal:
            await asyncio.sleep(0)
        process.kill()
        await process.wait()
        process = await _serving(successor)
        await asyncio.gather(*entering)
    cards = await world.executor.reveal([reveal(entry) for entry in kept])
    assert len(cards) == 3 * 8 * 40
    assert all(card is not None and card.number == Pan(VISA) for card in cards)
    await world.api.close()
    await world.executor.close()
    process.kill()
    await process.wait()
