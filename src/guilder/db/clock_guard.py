"""Whether this machine's clock can be believed: compared with the database's, at the start and each minute.

Instants of several machines are compared with each other in the rows that they wrote, so a process whose clock is off
accepts and claims nothing (DESIGN section 11). Real time is compared; the sandbox's moved clock has no part in it.
"""

from typing import Final

import structlog

from guilder.core.clock import SECOND, Clock
from guilder.db.guard import Guard
from guilder.db.pool import Database

DIFFERENCE_MAX_SECONDS: Final = 2.0
CHECK_SECONDS: Final = 60.0

_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class ClockGuard(Guard):
    """Looks at the database's clock."""

    def __init__(self, db: Database, clock: Clock) -> None:
        super().__init__(CHECK_SECONDS)
        self._db = db
        self._clock = clock

    async def look(self) -> bool:
        """Compare now. The time that the question took counts in our favour."""
        before = self._clock.real()
        theirs = int(await self._db.fetchval(_NOW))
        after = self._clock.real()
        difference = max(before - theirs, theirs - after, 0) / SECOND
        sound = difference <= DIFFERENCE_MAX_SECONDS
        if not sound:
            structlog.get_logger().error("clock differs from the database's; nothing is accepted or claimed", seconds=difference)
        elif not self.sound:
            structlog.get_logger().info("clock agrees with the database's again", seconds=difference)
        return self.found(sound=sound)
