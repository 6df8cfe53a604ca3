"""A replica: lists may be read from it, and say how old they are. Nothing that decides about money is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.errors import Again
from guilder.db.pool import Database

# Older lists help nobody: beyond this the primary is asked.
AGE_SECONDS_MAX: Final = 60.0
# A list takes milliseconds. A replica that has said nothing for so long has lost its machine or its way, and the primary has not.
PATIENCE_SECONDS: Final = 1.0
# How long a replica that could not be reached, or said nothing, is left alone, so that not every list waits for its timeout.
LEFT_ALONE_SECONDS: Final = 5.0

# The newest commit that it knows is younger than the primary by no more than this, because every process beats each second. None
# for a server that is no standby (any more), or has seen no commit since it was started.
_AGE: Final = """
SELECT CASE WHEN pg_is_in_recovery() THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END
"""


class Replica:
    """A standby that is read from, through a pool of its own that is opened when it is first needed."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._left_alone_until = float("-inf")

    @asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """Around all that is done for one answer, what comes from elsewhere (expanded objects, sealed data) included.

        Raises Unavailable when that takes too long.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                yield
        except TimeoutError:
            self._leave_alone("no answer in time")
            raise Unavailable("the replica does not answer in time") from None

    def _leave_alone(self, reason: str) -> None:
        structlog.get_logger().warning("replica_not_reached", reason=reason)
        self._left_alone_until = asyncio.get_running_loop().time() + LEFT_ALONE_SECONDS

    async def age(self) -> float | None:
        """How many seconds old what is read from now on can be; None when it had better not be read. By the standby's clock."""
        if asyncio.get_running_loop().time() < self._left_alone_until:
            return None
        try:
            found = await self.db.fetchval(_AGE)
        except (Unavailable, ResultUnknown, Again) as error:
            self._leave_alone(str(error))
            return None
        return None if found is None or found > AGE_SECONDS_MAX else max(0.0, float(found))
