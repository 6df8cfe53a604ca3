"""Quarantine: a database that is older than what has happened outside may be read, and sends nothing (DESIGN section 5).

It begins when the database is seen to have gone back (installation.py, sender.py), and ends when a person lifts it. Every attempt that
is open then counts as sent: the PSP is asked about each before anything else is done with it.
"""

from typing import Final

import structlog
from msgspec import Struct

from guilder.core.clock import Micros
from guilder.core.errors import Unavailable
from guilder.core.ids import Ids
from guilder.db.guard import Guard
from guilder.db.pool import Database

LOOK_SECONDS: Final = 1.0
REFUSED: Final = "this database is in quarantine: it may be older than what was done; see `guilder quarantine show`"

_BEGIN: Final = """
UPDATE installation SET quarantined_at = $1, quarantine_reason = $2 WHERE quarantined_at IS NULL RETURNING 1
"""
_STANDING: Final = "SELECT quarantined_at, quarantine_reason FROM installation"
_LIFT: Final = "SELECT installation_lift_quarantine($1, $2)"


class Quarantined(Struct, frozen=True, kw_only=True):
    """Since when, and why."""

    since: int
    reason: str


class Quarantine(Guard):
    """Whether this process's database is free of it."""

    def __init__(self, db: Database) -> None:
        super().__init__(LOOK_SECONDS)
        self._db = db

    async def look(self) -> bool:
        """Look now."""
        return self.found(sound=await self._db.fetchval(_STANDING) is None)

    def refuse(self) -> None:
        """Raise Unavailable while it lasts: nothing may be stored."""
        if not self.sound:
            raise Unavailable(REFUSED)


async def begin_quarantine(db: Database, now: Micros, reason: str) -> None:
    """Put the database into quarantine, in which it stays until it is lifted. Safe to repeat: the first reason stays."""
    if await db.fetchval(_BEGIN, now, reason):
        structlog.get_logger().error("database is in quarantine: nothing is accepted or sent until a person lifts it", reason=reason)


async def quarantined(db: Database) -> Quarantined | None:
    """How it stands; None for a database that is not in quarantine."""
    row = await db.fetchrow(_STANDING)
    if row is None or row["quarantined_at"] is None:
        return None
    return Quarantined(since=row["quarantined_at"], reason=row["quarantine_reason"])


async def lift_quarantine(db: Database, now: Micros, ids: Ids) -> int:
    """End it, and count every open attempt as sent, in one commit; returns how many the PSP will be asked about. Safe to repeat."""
    return int(await db.fetchval(_LIFT, now, ids.new("log")))
