"""Kafka is believed about nothing but speed: whatever it doubles, loses, reorders or invents, each entry has one effect, in order."""

import asyncio
import random

import pytest
import pytest_asyncio
from confluent_kafka.admin import NewTopic

from guilder.core.clock import DAY, SystemClock, sleep
from guilder.db import Database
from guilder.db.quarantine import begin_quarantine, lift_quarantine
from guilder.log.kafka.client import admin_client, ensure_topics
from guilder.log.kafka.message import POSITION, STREAM, TOPICS, topic_name
from guilder.log.manage import begin_stream, copy_again, move_to, standings
from guilder.log.model import TOPIC_EVENTS, partition_of
from kafka_world import KafkaWorld, kafka_world
from log_world import CONSUMER, READER, append, settings_for

KEYS = [f"k{number}" for number in range(12)]


@pytest_asyncio.fixture
async def world(database: str, db: Database, kafka: str):
    """A consumer that reads through Kafka, and a relay that copies when it is told to."""
    async with kafka_world(database, db, kafka) as running:
        yield running


async def written(world: KafkaWorld, first: int, last: int) -> dict[str, list[bytes]]:
    """Append entries of several keys, so numbered; what has to be handled of each key, in order."""
    await world.log.append(*((KEYS[number % len(KEYS)], str(number).encode()) for number in range(first, last)))
    return {key: [str(n).encode() for n in range(first, last) if KEYS[n % len(KEYS)] == key] for key in KEYS}


async def handled(world: KafkaWorld) -> dict[str, list[bytes]]:
    """What was handled of each key, in order."""
    return {key: await world.log.handled(key) for key in KEYS}


def joined(*parts: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    """One after the other."""
    return {key: [payload for part in parts for payload in part[key]] for key in KEYS}


async def test_entries_are_read_from_kafka(world: KafkaWorld):
    """Also when the outbox has them no more: nobody looked there."""
    expected = await written(world, 0, 100)
    await world.copy()
    await world.owner.execute("DELETE FROM log_entry")
    await world.log.drain()
    assert await handled(world) == expected


@pytest.mark.parametrize("places", [3, 16])
async def test_a_topic_may_have_been_made_with_other_partitions(database: str, db: Database, kafka: str, places: int):
    """As many as there are: those of the log that share one are told apart."""
    name = f"cut-{places}-{db.dsn.rpartition('/')[2].partition('?')[0]}"
    new = [NewTopic(topic_name(name, topic), num_partitions=places, replication_factor=1) for topic in TOPICS]
    admin = admin_client(settings_for(kafka))
    for future in admin.create_topics(new).values():
        future.result()
    async with kafka_world(database, db, kafka, topics=name) as world:
        expected = await written(world, 0, 100)
        await world.copy()
        await world.owner.execute("DELETE FROM log_entry")
        await world.log.drain()
        assert await handled(world) == expected
        assert world.places() == places


async def test_entries_of_a_business_time_that_is_days_ahead_are_published(world: KafkaWorld):
    """A cluster refuses messages whose own time is more than an hour ahead of its clock, and would never have them."""
    await append(world.log.writer, ("ahead", b"1"), now=SystemClock().now() + 2 * DAY)
    await world.copy()
    await world.owner.execute("DELETE FROM log_entry")
    await world.log.drain()
    assert await world.log.handled("ahead") == [b"1"]


async def test_what_the_relay_publishes_twice_has_one_effect(world: KafkaWorld):
    """It died after the acknowledgement and before it had stored how far it was."""
    expected = await written(world, 0, 60)
    await world.copy()
    await world.log.drain()
    await world.forget_copying()
    more = await written(world, 60, 100)
    await world.copy()
    await world.log.drain()
    assert await handled(world) == joined(expected, more)
    positions = await world.positions()
    assert any(len(found) > len(set(found)) for found in positions.values()), "entries were published twice"


async def test_offsets_that_are_set_back_to_zero_have_no_effect(world: KafkaWorld):
    """They are a hint: what comes once more is known by its position."""
    expected = await written(world, 0, 60)
    await world.copy()
    await world.log.drain()
    await world.log.readers[0].close()
    world.set_offsets(0)
    world.log.readers.clear()
    again = world.log.another(READER)
    more = await written(world, 60, 100)
    await world.copy()
    await world.log.drain(again)
    await sleep(0.5)
    await world.log.drain(again)
    assert await handled(world) == joined(expected, more)


async def test_a_tail_that_kafka_acknowledged_and_lost_is_read_from_the_outbox(world: KafkaWorld):
    """Nothing comes after it that could show the gap; then what follows comes from Kafka again."""
    lost = await written(world, 0, 60)
    await world.pretend_copied()
    await world.log.drain()
    assert await handled(world) == lost
    more = await written(world, 60, 100)
    await world.copy()
    await world.log.drain()
    assert await handled(world) == joined(lost, more)


async def test_a_gap_in_the_middle_is_filled_before_what_follows_it(world: KafkaWorld):
    """The position jumps: what is missing is read from the outbox, in its place."""
    first = await written(world, 0, 30)
    await world.copy()
    lost = await written(world, 30, 60)
    await world.pretend_copied()
    last = await written(world, 60, 90)
    await world.copy()
    await world.log.drain()
    assert await handled(world) == joined(first, lost, last)


async def test_messages_in_any_order_are_handled_in_the_order_of_their_positions(world: KafkaWorld):
    """A relay that was stopped and goes on publishes old entries behind new ones."""
    expected = await written(world, 0, 24)
    stream = (await world.stream()).encode()
    entries = await world.log.db.fetch("SELECT key, position, payload FROM log_entry WHERE payload <> 'pace'")
    random.Random(4).shuffle(entries)
    for entry in entries:
        world.produce(entry["key"], entry["payload"], [(POSITION, str(entry["position"]).encode()), (STREAM, stream)])
    await world.log.drain()
    assert await handled(world) == expected


async def test_what_is_no_entry_of_this_outbox_has_no_effect(world: KafkaWorld):
    """Unreadable messages, those of another outbox with the same positions, and positions that nobody has written yet."""
    stream = (await world.stream()).encode()
    next_ = 1 + await world.log.db.fetchval("SELECT head FROM log_head WHERE topic = 2 AND partition = $1", partition_of("k1"))
    for headers in (
        [],
        [(POSITION, b"-1"), (STREAM, stream)],
        [(POSITION, b"many"), (STREAM, stream)],
        [(POSITION, b"9" * 40), (STREAM, stream)],
        [(POSITION, b"1"), (STREAM, b"\xff\xfe")],
        [(POSITION, str(next_).encode()), (STREAM, b"log_of_another_outbox")],
        [(POSITION, str(next_).encode()), (STREAM, stream)],
        [(POSITION, str(next_ + 5_000).encode()), (STREAM, stream)],
    ):
        world.produce("k1", b"forged", headers)
    world.produce("k1", None, [(POSITION, str(next_).encode()), (STREAM, stream)])
    await sleep(0.3)
    await world.log.drain()
    assert await handled(world) == {key: [] for key in KEYS}, "nothing is handled that the outbox does not have"
    # What the relay brings for the same position comes later, and is what counts.
    expected = await written(world, 0, 60)
    await world.copy()
    await world.log.drain()
    assert await handled(world) == expected


async def test_a_topic_that_is_gone_costs_nothing_and_is_rebuilt(database: str, db: Database, kafka: str):
    """All that the outbox keeps is there again, in order and without a gap; consumers were served from the outbox meanwhile."""
    async with kafka_world(database, db, kafka, topics=f"gone-{db.dsn.rpartition('/')[2].partition('?')[0]}") as world:
        first = await written(world, 0, 60)
        await world.copy()
        await world.log.drain()
        world.delete_topics()
        second = await written(world, 60, 90)
        await world.log.drain()
        assert await handled(world) == joined(first, second)
        await ensure_topics(world.settings)
        await copy_again(world.log.db, world.log.ids)
        await world.copied()
        heads = {row["partition"]: row["head"] for row in await world.log.db.fetch("SELECT partition, head FROM log_head WHERE topic = 2")}
        assert await world.positions() == {partition: list(range(1, head + 1)) for partition, head in heads.items()}
        third = await written(world, 90, 120)
        await world.copied()
        await world.log.drain()
        assert await handled(world) == joined(first, second, third)


async def test_a_rebuild_copies_again_what_the_relay_had_in_hand(world: KafkaWorld):
    """It was published as the old stream's, from where the new one begins: its positions are not to move by that."""
    await written(world, 0, 40)
    await copy_again(world.log.db, world.log.ids)
    lane = world.relay.lanes[TOPIC_EVENTS]
    publish = lane._publisher.publish

    async def while_it_is_rebuilt(rows):
        reached = await publish(rows)
        await copy_again(world.log.db, world.log.ids)
        return reached

    lane._publisher.publish = while_it_is_rebuilt
    assert await lane.run_once()
    lane._publisher.publish = publish
    await world.copied()
    heads = {row["partition"]: row["head"] for row in await world.log.db.fetch("SELECT partition, head FROM log_head WHERE topic = 2")}
    assert await world.positions() == {partition: list(range(1, head + 1)) for partition, head in heads.items()}


async def by_its_generation(world: KafkaWorld) -> None:
    """A database that has gone back shows itself at a start, or to a worker."""
    await begin_stream(world.log.db, world.log.ids)


async def by_a_beat(world: KafkaWorld) -> None:
    """One that lacks the last seconds shows itself to an executor alone, and a person lifts the quarantine."""
    await world.owner.execute("INSERT INTO installation (id, generation, created_at) VALUES ('inst', 1, 0)")
    await begin_quarantine(world.log.db, world.log.clock.now(), "it has lost a beat")
    await lift_quarantine(world.log.db, world.log.clock.now(), world.log.ids)


@pytest.mark.parametrize("noticed", [by_its_generation, by_a_beat])
async def test_after_a_restore_the_positions_that_are_used_again_mean_what_is_written_now(world: KafkaWorld, noticed):
    """The topic still has the lost future: it belongs to another stream."""
    before = {row["partition"]: row["head"] for row in await world.log.db.fetch("SELECT partition, head FROM log_head WHERE topic = 2")}
    await written(world, 0, 40)
    await world.copy()
    shelves = world.log.readers[0]._feed.shelves
    async with asyncio.timeout(10):
        while sum(map(len, shelves.values())) < 40:
            await sleep(0.01)
    # As the database was before these entries.
    await world.owner.execute("DELETE FROM log_entry WHERE payload <> 'pace'")
    for partition, head in before.items():
        await world.owner.execute("UPDATE log_head SET head = $2 WHERE topic = 2 AND partition = $1", partition, head)
        await world.owner.execute("UPDATE log_consumer SET applied_to = $2 WHERE topic = 2 AND partition = $1", partition, head)
    await noticed(world)
    expected = await written(world, 40, 90)
    await world.log.consumer.run_once()
    await world.copy()
    await world.log.drain()
    assert await handled(world) == expected


async def test_consumers_move_between_the_logs_under_load_and_nothing_is_handled_twice(world: KafkaWorld):
    """There and back while entries are written and copied; positions stay what they are."""
    parts = []
    for round_ in range(8):
        parts.append(await written(world, round_ * 40, round_ * 40 + 40))
        await move_to(world.log.db, ("postgres", "kafka")[round_ % 2])
        await world.log.consumer.run_once()
        if round_ % 3:
            await world.copy()
        parts.append(await written(world, 1000 + round_ * 20, 1000 + round_ * 20 + 20))
        await world.log.consumer.run_once()
    await world.copy()
    await world.log.drain()
    assert await handled(world) == joined(*parts)
    assert {one.logs for one in await standings(world.log.db) if not one.is_relay} == {("kafka",)}


async def test_on_postgres_nothing_of_kafka_is_waited_for(world: KafkaWorld):
    """After the move back an entry is read at once, whether the relay has copied it or not."""
    await move_to(world.log.db, "postgres")
    expected = await written(world, 0, 30)
    await world.log.drain()
    assert await handled(world) == expected


@pytest.mark.parametrize("seed", range(3))
async def test_leases_that_move_while_entries_come_change_nothing(world: KafkaWorld, seed: int):
    """Partitions go from process to process at random moments, some believe in theirs too long: one effect each, in order."""
    chance, parts = random.Random(seed), []
    processes = {sender: world.log.another(sender) for sender in (READER, "snd_second")}
    for step in range(20):
        parts.append(await written(world, step * 10, step * 10 + 10))
        if chance.random() < 0.8:
            await world.copy()
        for partition in chance.sample(range(16), 4):
            await world.owner.execute(
                "UPDATE log_consumer SET sender = $1 WHERE consumer = $2 AND partition = $3", chance.choice(sorted(processes)), CONSUMER, partition,
            )  # fmt: skip
        await asyncio.gather(*(process.run_once() for process in processes.values()))
    await world.owner.execute("UPDATE log_consumer SET sender = $1 WHERE consumer = $2", READER, CONSUMER)
    await world.copy()
    await world.log.drain(processes[READER])
    assert await handled(world) == joined(*parts)
    assert await world.log.closed() == set()
