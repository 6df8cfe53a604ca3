"""Notifications of PSPs: kept as they came, once each. The one file with the SQL of psp_notification."""

from typing import Final

from guilder.core.clock import DAY, Micros
from guilder.db import Database
from guilder.psp.model import Notification

# How long they are kept: longer than any PSP sends one again, and long enough to look into a complaint.
KEPT: Final = 90 * DAY

# A repeated one finds the first; what stands there says whether it has been heeded.
_KEEP: Final = """
WITH kept AS (
    INSERT INTO psp_notification (connector, id, reference, attempt, body, received_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT EXISTS (SELECT FROM psp_notification WHERE connector = $1 AND id = $2 AND heeded_at IS NOT NULL)
"""
_HEEDED: Final = "UPDATE psp_notification SET heeded_at = $3 WHERE connector = $1 AND id = $2 AND heeded_at IS NULL"
_TIDY: Final = "DELETE FROM psp_notification WHERE received_at < $1"


async def keep(db: Database, connector: str, notification: Notification, body: bytes, now: Micros) -> bool:
    """Store a notification; whether it has been heeded before. One commit; safe to repeat. Raises Unavailable."""
    known = await db.fetchval(
        _KEEP, connector, notification.id, notification.reference, notification.attempt, body, now,
    )  # fmt: skip
    return bool(known)


async def heeded(db: Database, connector: str, notification: Notification, now: Micros) -> None:
    """Note that the PSP is about to be asked because of it."""
    await db.execute(_HEEDED, connector, notification.id, now)


async def tidy_notifications(db: Database, now: Micros) -> int:
    """Forget old ones; returns 0, so that it is not asked again at once."""
    await db.execute(_TIDY, now - KEPT)
    return 0
