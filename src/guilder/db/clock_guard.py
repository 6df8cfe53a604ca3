"""Whether this machine's clock can be believed: compared with the database's, at the start and each minute.

Instants of several machines are compared with each other in the rows that they wrote, so a process whose clock is off
accepts and claims nothing (DESIGN section 11). Real time is compared; the sandbox's moved clock has no part in it.
"""

import asyncio
from typing import Final

import structlog

from guilder.core.clock import SECOND, Clock, sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.errors import Again
from guilder.db.pool import Database

DIFFERENCE_MAX_SECONDS: Final = 2.0
CHECK_SECONDS: Final = 60.0

_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class ClockGuard:
    """Looks at the database's clock; `sound` says what the last look found."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.sound = True

    async def start(self) -> None:
        """Compare once, and go on each minute."""
        await self.look()
        self._task = asyncio.get_running_loop().create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

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
        self.sound = sound
        self._changed.set()
        self._changed = asyncio.Event()
        return sound

    async def until(self, *, sound: bool) -> None:
        """Return when the clock is so, at once if it is."""
        while self.sound is not sound:
            await self._changed.wait()

    async def _keep_looking(self) -> None:
        while True:
            await sleep(CHECK_SECONDS)
            try:
                await self.look()
            except (Unavailable, ResultUnknown, Again):
                # A database that is away says nothing about the clock.
                continue
