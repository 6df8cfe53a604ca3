"""Announce events from inside an open transaction; the payments' flush does the same in its own SQL function."""

from collections.abc import Sequence
from typing import Final

import asyncpg

from guilder.log.model import TOPIC_EVENTS, Announced, NewEvent, announced_bytes, partition_of

_APPEND: Final = """
WITH events AS (SELECT event_append($1, $2, $3::event_in[], '{t}')) SELECT log_append($2, $4::log_in[], '{t}') FROM events
"""


async def announce(
    connection: asyncpg.Connection, *, livemode: bool, now: int, key: str, events: Sequence[NewEvent],
) -> None:
    """Store events of one account and one log entry that names them.

    Commits with the caller's transaction, and must be its last write: the counters are locked last of all.

    Args:
        key: what orders the entries, usually the object's id.
    """
    if not events:
        return
    rows = [(1, e.id, e.account, e.type, e.facts(), e.request_id, e.idempotency_key) for e in events]
    payload = announced_bytes(Announced(events[0].account, livemode, tuple((e.id, e.type) for e in events)))
    await connection.execute(_APPEND, livemode, now, rows, [(1, TOPIC_EVENTS, partition_of(key), key, payload)])
