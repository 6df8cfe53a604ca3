"""The log, whichever it is: each entry handled once and in the order of its key, whatever fails, dies, or happens twice."""

import asyncio
import random
from collections.abc import Sequence
from itertools import count

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from guilder.core.clock import HOUR, MINUTE, SECOND
from guilder.core.errors import Refusal, Unavailable
from guilder.db import Connection, Database
from guilder.log import TOPIC_EVENTS, Entry, hold_partitions, partition_of, tidy_log
from guilder.log.dead_letters import Action, Letters, Selection, act, dead_letters, discard, payload_of, replay
from guilder.log.model import Announced, announced_bytes
from guilder.log.parking import Parking
from guilder.metrics import Metrics
from guilder.tuning import RETRIES
from log_world import CONSUMER, READER, LogWorld, Poisoned, log_world, settings_for

SCHEDULE = (5 * SECOND, 1 * MINUTE, 12 * MINUTE, 1 * HOUR)


@pytest_asyncio.fixture(params=["outbox", "kafka"])
async def log(request: pytest.FixtureRequest, database: str, db: Database):
    """A consumer that holds all partitions and reads the one log or the other, and a table for its effects."""
    kafka = settings_for(request.getfixturevalue("kafka")) if request.param == "kafka" else None
    async with log_world(database, db, kafka) as world:
        yield world


async def test_entries_are_handled_once_and_in_order(log: LogWorld):
    """And the position moves with the effects."""
    for number in range(5):
        await log.append(("a", f"a{number}".encode()), ("b", f"b{number}".encode()))
    await log.drain()
    await log.drain()
    assert await log.handled("a") == [b"a0", b"a1", b"a2", b"a3", b"a4"]
    assert len(await log.handled()) == 10


async def test_a_poisoned_entry_parks_its_key_and_lets_the_others_pass(log: LogWorld):
    """Later entries of the key wait behind it, those in the same batch and those that come later; its own effect is gone."""
    log.poison = {b"a1"}
    await log.append(("a", b"a0"), ("b", b"b0"), ("a", b"a1"), ("a", b"a2"), ("b", b"b1"))
    await log.drain()
    await log.append(("a", b"a3"), ("b", b"b2"))
    await log.drain()
    assert (await log.handled("a"), await log.handled("b")) == ([b"a0"], [b"b0", b"b1", b"b2"])
    assert await log.closed() == {"a"}


async def test_an_error_whose_words_no_column_can_hold_parks_its_key_as_any_other(log: LogWorld):
    """Else its whole partition would stand still for ever."""
    bad = announced_bytes(Announced("acct_\0", False, ()))
    log.poison = {bad}
    log.say = lambda _payload: "no \0 and no \ud800"
    await log.append(("a", bad), ("b", b"b0"))
    await log.drain()
    assert (await log.handled(), await log.closed()) == ([b"b0"], {"a"})
    for wait in SCHEDULE:
        log.clock.advance(wait)
        await log.drain()
    [letter] = await dead_letters(log.db)
    assert (letter.tries, letter.reason, letter.account) == (5, "Poisoned: no \ufffd and no ?", "acct_\ufffd")


async def test_a_conflict_with_another_transaction_parks_nothing(log: LogWorld):
    """It says nothing of the entry: the batch is run again whole, and one by one as well as parked ones."""
    conflicts = count()

    async def conflicted(connection: Connection, entries: Sequence[Entry]) -> None:
        await LogWorld.handle(log, connection, entries)
        if next(conflicts) < 3:
            raise asyncpg.DeadlockDetectedError("deadlock detected")

    log.poison = {b"a0"}
    await log.append(("a", b"a0"))
    await log.drain()
    log.poison = set()
    await log.append(("b", b"b0"), ("c", b"c0"))
    log.clock.advance(SCHEDULE[0])
    consumer = log.consumer_with(conflicted)
    for _ in range(4):
        await consumer.run_once()
    assert sorted(await log.handled()) == [b"a0", b"b0", b"c0"]
    assert await log.closed() == set()
    assert await dead_letters(log.db, Selection(closed=True)) == []


@pytest.mark.parametrize("error", [
    asyncpg.DiskFullError("could not extend file"), asyncpg.QueryCanceledError("canceling statement"), ConnectionResetError("gone"),
], ids=lambda error: type(error).__name__)  # fmt: skip
async def test_an_outage_of_the_database_uses_up_none_of_an_entrys_tries(log: LogWorld, error: Exception):
    """It says nothing of the entry: however often it meets one, new or parked, it is tried again soon and is no dead letter."""
    outage, tried = True, []

    async def without_database(connection: Connection, entries: Sequence[Entry]) -> None:
        tried.extend(entry.payload for entry in entries)
        await LogWorld.handle(log, connection, entries)
        if outage:
            raise error

    consumer = log.consumer_with(without_database)
    await log.append(("new", b"n0"))
    await log.drain(consumer)
    log.poison = {b"a0"}
    await log.append(("a", b"a0"))
    await log.drain()
    log.poison = set()
    log.clock.advance(SCHEDULE[0])
    for _ in range(2 * len(SCHEDULE)):
        await consumer.run_once()
        log.clock.advance(SCHEDULE[0])
    assert await log.handled() == []
    assert await dead_letters(log.db, Selection(closed=True)) == []
    assert tried.count(b"a0") == 2 * len(SCHEDULE)
    rows = await log.db.fetch("SELECT key, tries, json_array_length(history::json) AS told FROM log_parked")
    assert {(row["key"], row["tries"], row["told"]) for row in rows} == {("a", 1, 1), ("new", 0, 0)}
    outage = False
    await log.drain(consumer)
    assert sorted(await log.handled()) == [b"a0", b"n0"]


async def test_a_parked_entry_is_tried_on_its_schedule_and_opens_its_key_when_it_passes(log: LogWorld):
    """Not before its time; then what waited behind it follows in order, new entries of the key last."""
    log.poison = {b"a0"}
    await log.append(("a", b"a0"), ("a", b"a1"), ("a", b"a2"))
    await log.drain()
    log.poison = set()
    log.clock.advance(SCHEDULE[0] - 1)
    await log.drain()
    assert await log.handled() == []
    log.clock.advance(1)
    await log.append(("a", b"a3"))
    await log.drain()
    assert await log.handled() == [b"a0", b"a1", b"a2", b"a3"]
    assert await log.closed() == set()


async def fails_for_good(log: LogWorld) -> str:
    """Let the first entry of key a fail on its whole schedule; returns the dead letter's id."""
    log.poison = {b"a0"}
    await log.append(("a", b"a0"), ("a", b"a1"), ("b", b"b0"))
    await log.drain()
    for wait in SCHEDULE:
        assert await dead_letters(log.db) == []
        log.clock.advance(wait)
        await log.drain()
    [letter] = await dead_letters(log.db)
    assert (letter.key, letter.tries, letter.state, letter.reason) == ("a", len(SCHEDULE) + 1, "open", "Poisoned: a0")
    assert "Poisoned" in letter.trace
    return letter.id


async def test_what_fails_on_its_whole_schedule_is_a_dead_letter_and_its_key_stays_closed(log: LogWorld):
    """Nothing of that key is handled any more, however long nobody looks; other keys go on."""
    await fails_for_good(log)
    log.poison = set()
    log.clock.advance(100 * HOUR)
    await log.append(("a", b"a2"), ("b", b"b1"))
    await log.drain()
    assert await log.handled() == [b"b0", b"b1"]
    assert len(await dead_letters(log.db)) == 1


async def test_a_replay_opens_the_key_and_doing_it_twice_has_one_effect(log: LogWorld):
    """Also when both are ordered before the consumer comes by, and also once it is done."""
    letter = await fails_for_good(log)
    log.poison = set()
    log.clock.advance(1)
    first, second = await asyncio.gather(replay(log.db, log.clock, letter), replay(log.db, log.clock, letter))
    assert {first, second} <= {True, False}
    await log.drain()
    assert await replay(log.db, log.clock, letter) is False
    assert await discard(log.db, log.clock, letter) is False
    await log.drain()
    assert await log.handled("a") == [b"a0", b"a1"]
    assert await log.closed() == set()
    assert [one.state for one in await dead_letters(log.db, Selection(closed=True))] == ["replayed"]


async def test_a_replay_that_fails_again_has_its_whole_schedule_again(log: LogWorld):
    """And becomes another dead letter in the end; the first one stays replayed."""
    letter = await fails_for_good(log)
    assert await replay(log.db, log.clock, letter)
    await log.drain()
    for wait in SCHEDULE:
        log.clock.advance(wait)
        await log.drain()
    states = {one.id == letter: one.state for one in await dead_letters(log.db, Selection(closed=True))}
    assert states == {True: "replayed", False: "open"}
    assert await log.handled("a") == []


async def test_a_discarded_entry_is_never_handled_and_its_key_goes_on(log: LogWorld):
    """What waited behind it is handled, in order."""
    letter = await fails_for_good(log)
    await log.append(("a", b"a2"))
    await log.drain()
    assert await discard(log.db, log.clock, letter)
    assert await discard(log.db, log.clock, letter) is False
    await log.drain()
    assert await log.handled("a") == [b"a1", b"a2"]
    assert await log.closed() == set()


STORE_EVENT = "INSERT INTO event (id, account, livemode, number, type, created_at, facts) VALUES ($1, $2, false, 1, $3, 0, '')"


def announced(*events: str) -> bytes:
    """An entry as the outbox has it."""
    return announced_bytes(Announced("acct_1", False, tuple((f"evt_{event}", event) for event in events)))


async def test_a_dead_letter_tells_whose_it_is_what_it_says_and_what_became_of_each_try(log: LogWorld):
    """Reason, stack and content are masked: an error may quote a card."""
    entry = announced("charge.failed")
    log.poison = {entry}
    log.say = lambda _payload: "card 4242424242424242 is no card"
    await log.append(("a", entry), ("a", b"a1"))
    await log.drain()
    began = log.clock.now()
    for wait in SCHEDULE:
        log.clock.advance(wait)
        await log.drain()
    [letter] = await dead_letters(log.db)
    assert (letter.account, letter.livemode, letter.behind, letter.raw) == ("acct_1", False, 1, None)
    assert letter.content == {"account": "acct_1", "livemode": False, "events": [["evt_charge.failed", "charge.failed"]]}
    assert [one.tries for one in letter.history] == [1, 2, 3, 4, 5]
    assert [one.at - began for one in letter.history] == [sum(SCHEDULE[:number]) for number in range(5)]
    assert "Traceback" in letter.trace
    told = str(letter)
    assert "4242424242424242" not in told
    assert "is no card" in letter.reason


async def test_what_no_further_try_can_mend_is_a_dead_letter_at_once(log: LogWorld):
    """Bytes that cannot be read today cannot be read tomorrow; others pass, and the key stays closed."""

    async def reads(connection: Connection, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.payload == b"a0":
                raise msgspec.DecodeError("invalid")
        await LogWorld.handle(log, connection, entries)

    consumer = log.consumer_with(reads)
    await log.append(("a", b"a0"), ("a", b"a1"), ("b", b"b0"))
    await consumer.run_once()
    [letter] = await dead_letters(log.db)
    assert (letter.tries, letter.reason, letter.raw, letter.account) == (1, "DecodeError: invalid", "a0", None)
    assert [one.tries for one in letter.history] == [1]
    assert await log.handled() == [b"b0"]
    assert await log.closed() == {"a"}


async def test_an_entry_that_a_person_has_mended_is_handled_as_mended_and_stays_in_the_log_as_it_was(log: LogWorld):
    """What the consumer could not read is refused before anything is changed."""
    wrong, right = announced("charge.failed"), announced("charge.captured")
    log.poison = {wrong}
    await log.append(("a", wrong), ("a", b"a1"))
    await log.drain()
    for wait in SCHEDULE:
        log.clock.advance(wait)
        await log.drain()
    [letter] = await dead_letters(log.db)
    for text in ("no JSON", "{}", '{"account": "acct_2", "livemode": false, "events": []}', '{"account": "acct_1", "livemode": false, "events": 1}'):
        with pytest.raises(Refusal):
            await payload_of(log.db, letter, text)
    text = '{"account": "acct_1", "livemode": false, "events": [["evt_charge.captured", "charge.captured"]]}'
    with pytest.raises(Refusal, match="no event"):
        await payload_of(log.db, letter, text)
    await log.db.execute(STORE_EVENT, "evt_charge.captured", "acct_1", "charge.captured")
    mended = await payload_of(log.db, letter, text)
    assert mended == right
    assert await replay(log.db, log.clock, letter.id, mended)
    assert not await replay(log.db, log.clock, letter.id, mended)
    await log.drain()
    assert await log.handled("a") == [right, b"a1"]
    assert await log.db.fetchval("SELECT payload FROM log_entry WHERE position = $1 AND key = 'a'", letter.position) == wrong
    [closed] = await dead_letters(log.db, Selection(closed=True))
    assert closed.edited is not None
    assert closed.edited["events"] == [["evt_charge.captured", "charge.captured"]]


async def test_a_dry_run_says_what_each_would_do_and_does_nothing(log: LogWorld):
    """Then the same in earnest, and once more, which has no second effect."""
    log.poison = {b"a0", b"b0"}
    await log.append(("a", b"a0"), ("a", b"a1"), ("b", b"b0"))
    await log.drain()
    for wait in SCHEDULE:
        log.clock.advance(wait)
        await log.drain()
    log.poison = set()
    letters = await dead_letters(log.db, Selection(consumer=CONSUMER, reason="Poisoned"))
    assert {letter.key for letter in letters} == {"a", "b"}
    counting, metrics = Letters(log.db), Metrics("worker")
    counting.expose(metrics)
    assert await counting.run_once() == 3
    told = metrics.text().decode()
    assert f'guilder_dead_letters_open{{consumer="{CONSUMER}"}} 2.0' in told
    assert f'guilder_log_parked_entries{{consumer="{CONSUMER}"}} 1.0' in told
    planned = await act(log.db, log.clock, Action.REPLAY, letters, dry_run=True)
    assert [one.done for one in planned] == [False, False]
    texts = " | ".join(one.text for one in planned)
    assert f"to {CONSUMER} again" in texts
    assert "1 later entry of a then follow" in texts
    await log.drain()
    assert await log.handled() == []
    done = await act(log.db, log.clock, Action.REPLAY, letters, dry_run=False)
    assert [one.done for one in done] == [True, True]
    again = await act(log.db, log.clock, Action.REPLAY, letters, dry_run=False)
    assert [one.text for one in again] == ["nothing: another has closed it meanwhile"] * 2
    await log.drain()
    assert sorted(await log.handled()) == [b"a0", b"a1", b"b0"]
    closed = await dead_letters(log.db, Selection(closed=True))
    assert [one.text for one in await act(log.db, log.clock, Action.DISCARD, closed, dry_run=True)] == ["nothing: it was replayed before"] * 2


async def test_two_processes_that_fail_on_the_same_parked_entry_make_one_dead_letter(log: LogWorld):
    """Both had found it due. What the second one finds is a person's by then: it neither handles it nor makes another letter."""
    log.poison = {b"a0"}
    await log.append(("a", b"a0"))
    await log.drain()
    for wait in SCHEDULE[:-1]:
        log.clock.advance(wait)
        await log.drain()
    log.clock.advance(SCHEDULE[-1])
    first, second = (Parking(log.db, log.clock, log.ids, CONSUMER, RETRIES["consumer"]) for _ in range(2))
    [(entry, tries)], both = await first.due(10), await second.due(10)
    assert both == [(entry, tries)]
    for one in (first, second):
        await one.failed_again(entry, tries + 1, Poisoned("no"))
    [letter] = await dead_letters(log.db, Selection(closed=True))
    async with log.db.transaction() as connection:
        assert not await second.take(connection, entry)
    log.poison = set()
    assert await replay(log.db, log.clock, letter.id)
    await log.drain()
    assert await log.handled("a") == [b"a0"]


async def test_a_process_that_has_lost_its_partition_applies_nothing(log: LogWorld):
    """It has read the entries; somebody else takes the partition and applies them first; its own effects are rolled back."""
    await log.append(("a", b"a0"))
    taken = asyncio.Event()

    async def slow(connection: Connection, entries: Sequence[Entry]) -> None:
        await LogWorld.handle(log, connection, entries)
        await log.writer.execute("UPDATE log_consumer SET sender = 'snd_other' WHERE consumer = $1", CONSUMER)
        taken.set()

    late = log.consumer_with(slow)
    assert await late.run_once() == 0
    assert taken.is_set()
    assert await log.handled() == []
    assert await log.another("snd_other").run_once() == 1
    assert await late.run_once() == 0
    assert await log.handled() == [b"a0"]


async def test_two_processes_that_both_believe_in_their_partition_have_one_effect(log: LogWorld):
    """Safety rests on the position that each has read, not on the lease."""
    for number in range(30):
        await log.append((f"k{number % 7}", str(number).encode()))
    twins = [log.another(READER) for _ in range(4)]
    for _ in range(10):
        # One row per (key, position) is all that the table takes: a second effect would raise, and park.
        await asyncio.gather(*(twin.run_once() for twin in twins))
    assert sorted(await log.handled(), key=int) == [str(number).encode() for number in range(30)]
    assert await log.closed() == set()


async def test_a_session_that_dies_in_the_middle_of_a_batch_leaves_nothing_of_it(log: LogWorld):
    """The effects and the position go together; the next round does it all, once."""
    await log.append(("a", b"a0"), ("b", b"b0"))
    deaths = count()

    async def dies_once(connection: Connection, entries: Sequence[Entry]) -> None:
        await LogWorld.handle(log, connection, entries)
        if next(deaths) < 2:
            await log.writer.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())

    consumer = log.consumer_with(dies_once)
    # Our processes may not end sessions; an operator may.
    await log.writer.execute("SET ROLE NONE")
    with pytest.raises(Unavailable):
        await consumer.run_once()
    assert await log.handled() == []
    await log.drain(consumer)
    assert sorted(await log.handled()) == [b"a0", b"b0"]
    assert await log.closed() == set()


async def test_partitions_are_shared_out_and_taken_over(log: LogWorld):
    """Each living sender of a role has its share; of one that is lost the others take it, and nothing is read twice."""
    await log.db.execute("UPDATE log_consumer SET sender = NULL, epoch = NULL WHERE consumer = $1", CONSUMER)
    for number in range(3):
        await log.db.execute("INSERT INTO sender (id, role, epoch, beat) VALUES ($1, 'worker', 1, 0)", f"snd_{number}")
    for _ in range(3):
        held = [await hold_partitions(log.db, CONSUMER, f"snd_{number}", 1, role="worker") for number in range(3)]
    assert sorted(held) == [4, 6, 6]
    assert await log.db.fetchval("SELECT sender_take_over('snd_0', 1, 0, $1)", log.clock.now())
    assert await hold_partitions(log.db, CONSUMER, "snd_0", 1, role="worker") == 0
    for _ in range(2):
        held = [await hold_partitions(log.db, CONSUMER, f"snd_{number}", 1, role="worker") for number in range(1, 3)]
    assert held == [8, 8]


async def test_what_everybody_has_applied_is_kept_for_a_week_also_what_is_parked_or_a_dead_letter(log: LogWorld):
    """One of them stops no tidying: it keeps what it says, and so does what waits behind it."""
    await fails_for_good(log)
    beside = next(f"c{number}" for number in range(99) if partition_of(f"c{number}") == partition_of("a"))
    await log.append(("a", b"a2"), (beside, b"c0"))
    await log.drain()
    log.clock.advance(6 * 24 * HOUR)
    assert await tidy_log(log.db, log.clock.now()) == 0
    log.clock.advance(2 * 24 * HOUR)
    assert await tidy_log(log.db, log.clock.now()) == 0, "another consumer has not applied it"
    await log.db.execute(
        "UPDATE log_consumer c SET applied_to = h.head FROM log_head h WHERE (h.topic, h.partition) = (c.topic, c.partition) AND c.topic = $1",
        TOPIC_EVENTS,
    )  # fmt: skip
    assert await tidy_log(log.db, log.clock.now()) == 5
    log.poison = set()
    [letter] = await dead_letters(log.db)
    assert await replay(log.db, log.clock, letter.id)
    await log.drain()
    assert await log.handled() == [b"b0", b"c0", b"a0", b"a1", b"a2"]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_for_a_while_everything_is_handled_once_and_in_the_order_of_its_key(log: LogWorld, seed: int):
    """Random entries, random failures that heal, random replays, two processes: one effect each, no key out of order."""
    chance = random.Random(seed)
    written: dict[str, list[bytes]] = {}
    processes = [log.consumer, log.another(READER)]
    for step in range(60):
        batch = []
        for n in range(chance.randrange(4)):
            key, payload = f"k{chance.randrange(5)}", f"{step}.{n}".encode()
            written.setdefault(key, []).append(payload)
            batch.append((key, payload))
            if chance.random() < 0.15:
                log.poison.add(payload)
        if batch:
            await log.append(*batch)
        if chance.random() < 0.4:
            log.poison = set(chance.sample(sorted(log.poison), len(log.poison) // 2))
        log.clock.advance(chance.choice((SECOND, 10 * SECOND, 2 * MINUTE, 2 * HOUR)))
        await asyncio.gather(*(process.run_once(16) for process in processes))
        for letter in await dead_letters(log.db):
            await replay(log.db, log.clock, letter.id)
    log.poison = set()
    for _ in range(10):
        log.clock.advance(2 * HOUR)
        await log.drain()
        for letter in await dead_letters(log.db):
            await replay(log.db, log.clock, letter.id)
    assert {key: await log.handled(key) for key in written} == written
    assert await log.closed() == set()
