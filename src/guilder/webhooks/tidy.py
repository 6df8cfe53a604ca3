"""Housekeeping: deliveries are kept for 30 days; those of deleted endpoints are called off."""

from typing import Final

from guilder.core.clock import DAY
from guilder.core.ids import base62
from guilder.db import Database
from guilder.webhooks import store

KEPT: Final = 30 * DAY
# Rows touched in one round: short enough to be no burden beside payments.
DELETED_MAX: Final = 5_000
CALLED_OFF_MAX: Final = 1_000
# The characters of an id that hold its time.
TIME_CHARACTERS: Final = 9


async def tidy_deliveries(db: Database, now: int) -> int:
    """Delete what is older than 30 days, whatever became of it, at most a bounded number; returns how many went. Safe to repeat."""
    return int(await db.fetchval(store.TIDY, "whd_" + base62(now - KEPT, TIME_CHARACTERS), DELETED_MAX))


async def call_off(db: Database) -> int:
    """Call off what waits for deleted endpoints, at most a bounded number; returns how many. Safe to repeat."""
    return int(await db.fetchval(store.CALL_OFF, CALLED_OFF_MAX))
