"""A log to write to and to read from, on a real PostgreSQL and a real Kafka: sessions whose interleaving the test decides."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count

import asyncpg
from structlog.testing import capture_logs

from guilder.config import KafkaSettings
from guilder.core.clock import ManualClock, SystemClock, sleep
from guilder.core.ids import Ids
from guilder.db import Connection, Database
from guilder.db.pool import session_settings
from guilder.log import Consumer, Entry, Log, Outbox, Reader
from guilder.log.consume import Handle
from guilder.log.kafka.reader import KafkaLog
from guilder.log.kafka.relay import Relay
from guilder.log.model import TOPIC_EVENTS, partition_of

CONSUMER = "refunds"
READER = "snd_reader"
NOW = 1_800_000_000_000_000
DRAIN_SECONDS_MAX = 20.0
RELAY = "snd_relay"
BEHIND = """
SELECT EXISTS (SELECT FROM log_consumer c JOIN log_head h USING (topic, partition)
               WHERE c.consumer = $1 AND c.sender = $2 AND c.applied_to < h.head)
"""

APPEND = "SELECT log_append($1, $2::log_in[], $3)"
_names = count(1)


async def session(dsn: str) -> asyncpg.Connection:
    """A session with the rights and limits of our processes."""
    return await asyncpg.connect(dsn, server_settings=session_settings(role="guilder_app", name="test log"))


async def append(connection: asyncpg.Connection, *entries: tuple[str, bytes], now: int = NOW) -> None:
    """Append entries (key, payload) of the events topic, as a flush does: its last statement."""
    rows = [(1, TOPIC_EVENTS, partition_of(key), key, payload) for key, payload in entries]
    await connection.execute(APPEND, now, rows, [True])


async def xid(connection: asyncpg.Connection) -> int:
    """Make the session's transaction have an id of its own, and return it."""
    return int(await connection.fetchval("SELECT pg_current_xact_id()::text"))


async def visible(connection: asyncpg.Connection, after: int, key: str) -> list[tuple[int, bytes]]:
    """What a reader sees now behind a position of the key's partition."""
    rows = await connection.fetch(
        "SELECT position, payload FROM log_entry WHERE topic = $1 AND partition = $2 AND position > $3 ORDER BY position",
        TOPIC_EVENTS, partition_of(key), after,
    )  # fmt: skip
    return [(row["position"], row["payload"]) for row in rows]


async def waits(watcher: asyncpg.Connection, waiter: asyncpg.Connection) -> bool:
    """Whether a session stands waiting for a lock."""
    return bool(await watcher.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", waiter.get_server_pid()))


@asynccontextmanager
async def sessions(dsn: str, number: int) -> AsyncIterator[Sequence[asyncpg.Connection]]:
    """So many sessions."""
    opened = [await session(dsn) for _ in range(number)]
    try:
        yield opened
    finally:
        for one in opened:
            one.terminate()


def settings_for(bootstrap: str, prefix: str = "test") -> KafkaSettings:
    """Topics of the tests. All may share them: each database's entries are a stream of their own."""
    return KafkaSettings(bootstrap=bootstrap, prefix=prefix, passed_on=())


class Poisoned(Exception):
    """What the handler of these tests raises."""


class LogWorld:
    """A consumer whose effects are rows, and whose handler refuses what the test says."""

    def __init__(self, db: Database, writer: asyncpg.Connection, kafka: KafkaSettings | None) -> None:
        self.db = db
        self.writer = writer
        self.clock = ManualClock()
        self.ids = Ids(self.clock)
        self.poison: set[bytes] = set()
        self.say: Callable[[bytes], str] = lambda payload: payload.decode()
        self.kafka = kafka
        self.log: Log = Outbox(db) if kafka is None else KafkaLog(db, SystemClock(), kafka)
        self.readers: list[Reader] = []
        self.consumer = self.another(READER)

    def another(self, sender: str) -> Consumer:
        """One more process that consumes under the same name."""
        return self.consumer_with(self.handle, sender)

    def consumer_with(self, handle: Handle, sender: str = READER) -> Consumer:
        """One whose effects are others."""
        reader = self.log.reader(CONSUMER, TOPIC_EVENTS, lambda: sender)
        self.readers.append(reader)
        return Consumer(self.db, self.clock, self.ids, reader=reader, handle=handle)

    async def handle(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """The effect: a row for each entry, and then the error for a poisoned one, so that its row has to go again."""
        for entry in entries:
            await connection.execute("INSERT INTO handled (key, position, payload) VALUES ($1, $2, $3)", entry.key, entry.position, entry.payload)
            if entry.payload in self.poison:
                raise Poisoned(self.say(entry.payload))

    async def append(self, *entries: tuple[str, bytes]) -> None:
        """Write to the log."""
        await append(self.writer, *entries, now=self.clock.now())

    async def drain(self, consumer: Consumer | None = None) -> None:
        """Consume until nothing is to be done now; ten seconds at most."""
        consumer = consumer or self.consumer
        async with asyncio.timeout(DRAIN_SECONDS_MAX):
            while await consumer.run_once() or await self.db.fetchval(BEHIND, CONSUMER, READER):
                await sleep(0.001)

    async def handled(self, key: str | None = None) -> list[bytes]:
        """The effects, in the order in which they came."""
        rows = await self.db.fetch("SELECT payload FROM handled WHERE key = coalesce($1, key) ORDER BY number", key)
        return [row["payload"] for row in rows]

    async def closed(self) -> set[str]:
        """The keys that are parked."""
        return {row["key"] for row in await self.db.fetch("SELECT DISTINCT key FROM log_parked")}


@asynccontextmanager
async def log_world(dsn: str, db: Database, kafka: KafkaSettings | None, *, relayed: bool = True) -> AsyncIterator[LogWorld]:
    """A consumer that holds all partitions, a table for its effects, and with Kafka a relay that runs if it is wanted."""
    owner = await asyncpg.connect(dsn)
    await owner.execute(
        "CREATE TABLE handled (number bigserial, key text, position bigint, payload bytea, UNIQUE (key, position));"
        "GRANT ALL ON handled, handled_number_seq TO guilder_app"
    )
    await owner.execute("UPDATE log_consumer SET sender = $1, epoch = 1 WHERE consumer = $2", READER, CONSUMER)
    await owner.execute("INSERT INTO sender (id, role, epoch, beat) VALUES ($1, 'relay', 1, 0)", RELAY)
    await owner.close()
    writer = await session(dsn)
    # Failures are logged with their traces, which nobody wants to see here.
    with capture_logs():
        world = LogWorld(db, writer, kafka)
        relay = None if kafka is None else Relay(db, world.ids, kafka, sender=lambda: (RELAY, 1))
        running = asyncio.create_task(relay.run()) if relay is not None and relayed else None
        try:
            yield world
        finally:
            if running is not None:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            if relay is not None:
                await relay.close()
            await asyncio.gather(*(reader.close() for reader in world.readers))
            writer.terminate()
