"""Fan out: from an event to its deliveries. A consumer of the log that writes rows and nothing else.

So it cannot fail on a receiver: sending has its own schedule for each endpoint (deliver.py).
"""

from collections.abc import Sequence
from typing import Final

from guilder.core.clock import Clock
from guilder.core.crash import crash_point
from guilder.db import Connection
from guilder.log.model import Entry, announced_from
from guilder.webhooks import store
from guilder.webhooks.types import wildcard_of

CONSUMER: Final = "webhooks"


class FanOut:
    """Handles entries of the events topic."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def handle(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Write the deliveries of these entries' events, in one statement; numbers follow the order of the log."""
        rows = []
        for entry in entries:
            announced = announced_from(entry.payload)
            rows += [(announced.account, announced.livemode, id_, type_, wildcard_of(type_)) for id_, type_ in announced.events]
        if rows and await connection.fetchval(store.FAN_OUT, self._clock.now(), rows):
            crash_point("fan_out")
