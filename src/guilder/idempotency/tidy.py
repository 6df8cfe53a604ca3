"""Housekeeping: a key that belongs to a payment or refund is kept as long as that is; any other for 30 days."""

from typing import Final

from guilder.core.clock import DAY
from guilder.db.pool import Database

KEPT: Final = 30 * DAY
DELETED_MAX: Final = 5_000

_TIDY: Final = """
DELETE FROM idempotency_key WHERE ctid IN (
    SELECT ctid FROM idempotency_key WHERE created_at < $1 AND object IS NULL ORDER BY created_at LIMIT $2)
"""


async def tidy_keys(db: Database, now: int) -> int:
    """Delete old keys that belong to nothing, at most a bounded number; returns how many went. Safe to repeat."""
    gone = await db.execute(_TIDY, now - KEPT, DELETED_MAX)
    return int(gone.split()[1])
