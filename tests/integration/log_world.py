"""A log to write to and to read from, on a real PostgreSQL: sessions whose interleaving the test decides."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import asyncpg

from guilder.db.pool import session_settings
from guilder.log.model import TOPIC_EVENTS, partition_of

CONSUMER = "refunds"
READER = "snd_reader"
NOW = 1_800_000_000_000_000

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
