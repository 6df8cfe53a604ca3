"""Housekeeping: entries that every consumer has applied are kept for a week, so that a topic can be rebuilt.

To park an entry is to apply it: it keeps what it says beside the log, dead letters and what waits behind them, too.
"""

from typing import Final

from guilder.core.clock import DAY
from guilder.db.pool import Database

KEPT: Final = 7 * DAY
# Rows deleted in one round: short enough to be no burden beside payments.
DELETED_MAX: Final = 10_000

_TIDY: Final = """
DELETE FROM log_entry WHERE ctid IN (
    SELECT l.ctid FROM (
        SELECT topic, partition, min(applied_to) AS applied_to FROM log_consumer WHERE awaited GROUP BY topic, partition) c
    CROSS JOIN LATERAL (
        SELECT z.ctid, z.created_at FROM log_entry z WHERE z.topic = c.topic AND z.partition = c.partition AND z.position <= c.applied_to
        ORDER BY z.position LIMIT $2) l
    WHERE l.created_at < $1)
"""

async def tidy_log(db: Database, now: int) -> int:
    """Delete what nobody needs any more, at most a bounded number of rows; returns how many went. Safe to repeat."""
    gone = await db.execute(_TIDY, now - KEPT, DELETED_MAX // 32)
    return int(gone.split()[1])
