"""Positions become visible in commit order, whatever order transactions begin, lock and commit in (DESIGN section 5).

Each of these interleavings makes an outbox that is read by identity column, xid or snapshot horizon lose an entry, reorder
a payment's entries, or stand still. Here a reader asks for `position > mine` and can skip nothing.
"""

import asyncio

import asyncpg
import pytest

from guilder.core.clock import sleep
from guilder.log.model import PARTITIONS, TOPIC_EVENTS, partition_of
from log_world import append, sessions, visible, waits, xid

KEY = "pi_one"
WRITERS, BATCHES, BATCH = 4, 25, 50


async def until_waiting(watcher: asyncpg.Connection, waiter: asyncpg.Connection) -> None:
    """Until a session waits for a lock, five seconds at most."""
    for _ in range(500):
        if await waits(watcher, waiter):
            return
        await sleep(0.01)
    pytest.fail("it does not wait")


async def test_a_transaction_with_a_lower_xid_may_have_the_higher_position(database):
    """It began first and appends last: its entry is behind the other one, and a reader between the two commits misses nothing."""
    async with sessions(database, 3) as (old, young, reader):
        first, second = old.transaction(), young.transaction()
        await first.start()
        await second.start()
        assert await xid(old) < await xid(young)
        await append(young, (KEY, b"young"))
        await second.commit()
        assert await visible(reader, 0, KEY) == [(1, b"young")]
        await append(old, (KEY, b"old"))
        await first.commit()
        assert await visible(reader, 1, KEY) == [(2, b"old")]


async def test_a_later_row_lock_with_a_lower_xid_gets_the_later_position(database):
    """The older transaction waits for the counter that the younger one holds; positions follow the lock, and so the commit."""
    async with sessions(database, 3) as (old, young, reader):
        first, second = old.transaction(), young.transaction()
        await first.start()
        await second.start()
        assert await xid(old) < await xid(young)
        await append(young, (KEY, b"young"))
        waiting = asyncio.create_task(append(old, (KEY, b"old")))
        await until_waiting(reader, old)
        assert await visible(reader, 0, KEY) == []
        await second.commit()
        await waiting
        assert await visible(reader, 0, KEY) == [(1, b"young")]
        await first.commit()
        assert await visible(reader, 0, KEY) == [(1, b"young"), (2, b"old")]


async def test_an_open_transaction_of_somebody_else_stops_nothing(database):
    """A forgotten session with an old xid and an old snapshot: entries are appended and read past it."""
    async with sessions(database, 3) as (forgotten, writer, reader):
        transaction = forgotten.transaction(isolation="repeatable_read")
        await transaction.start()
        await xid(forgotten)
        await forgotten.fetchval("SELECT count(*) FROM log_entry")
        for number in range(3):
            await append(writer, (KEY, str(number).encode()))
            assert await visible(reader, number, KEY) == [(number + 1, str(number).encode())]
        assert await visible(forgotten, 0, KEY) == []
        await transaction.rollback()


async def test_a_rolled_back_append_leaves_no_gap(database):
    """Its positions are given to the next one."""
    async with sessions(database, 2) as (writer, reader):
        await append(writer, (KEY, b"1"))
        transaction = writer.transaction()
        await transaction.start()
        await append(writer, (KEY, b"lost"), (KEY, b"lost too"))
        await transaction.rollback()
        await append(writer, (KEY, b"2"))
        assert await visible(reader, 0, KEY) == [(1, b"1"), (2, b"2")]


async def test_a_writer_that_dies_with_the_counter_locked_leaves_no_gap_either(database):
    """Its session ends, its lock goes, and who waited gets its position."""
    async with sessions(database, 3) as (dying, waiting, reader):
        await dying.transaction().start()
        await append(dying, (KEY, b"lost"))
        next_one = asyncio.create_task(append(waiting, (KEY, b"kept")))
        await until_waiting(reader, waiting)
        dying.terminate()
        await next_one
        assert await visible(reader, 0, KEY) == [(1, b"kept")]


async def test_appends_to_the_same_partitions_in_any_order_never_deadlock(database):
    """Counters are locked in the order of partitions, not of entries."""
    keys = [f"pi_{number}" for number in range(40)]
    assert len({partition_of(key) for key in keys}) == PARTITIONS
    async with sessions(database, WRITERS) as writers:

        async def write(writer: asyncpg.Connection, order: list[str]) -> None:
            for _ in range(BATCHES):
                await append(writer, *((key, b"x") for key in order))

        await asyncio.gather(*(write(writer, keys[shift:] + keys[:shift]) for shift, writer in enumerate(writers)))
        sql = "SELECT partition, head, (SELECT count(*) FROM log_entry l WHERE l.topic = h.topic AND l.partition = h.partition) AS n FROM log_head h"
        rows = await writers[0].fetch(f"{sql} WHERE topic = $1", TOPIC_EVENTS)
        assert all(row["head"] == row["n"] for row in rows)
        assert sum(row["n"] for row in rows) == WRITERS * BATCHES * len(keys)


async def test_four_writers_and_a_reader_that_follows_them_miss_nothing(database):
    """Positions without gaps at every look, each writer's entries in its order, and all of them in the end."""
    async with sessions(database, WRITERS + 1) as (reader, *writers):
        done = asyncio.Event()

        async def write(number: int, writer: asyncpg.Connection) -> None:
            for batch in range(BATCHES):
                async with writer.transaction():
                    if batch % 3 == 0:
                        # Half of the time an xid is taken long before the counter is.
                        await xid(writer)
                    await append(writer, *((KEY, f"{number}.{batch * BATCH + n}".encode()) for n in range(BATCH)))

        async def read() -> list[bytes]:
            seen: list[bytes] = []
            while len(seen) < WRITERS * BATCHES * BATCH:
                finished = done.is_set()
                new = await visible(reader, len(seen), KEY)
                assert [position for position, _ in new] == list(range(len(seen) + 1, len(seen) + 1 + len(new)))
                seen += [payload for _, payload in new]
                if finished and not new:
                    break
                await sleep(0)
            return seen

        reading = asyncio.create_task(read())
        await asyncio.gather(*(write(number, writer) for number, writer in enumerate(writers)))
        done.set()
        seen = await reading
        for number in range(WRITERS):
            own = [int(payload.partition(b".")[2]) for payload in seen if payload.startswith(f"{number}.".encode())]
            assert own == list(range(BATCHES * BATCH))
