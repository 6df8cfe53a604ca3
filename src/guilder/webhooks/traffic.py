"""Traffic: what became of the tries of this process, and what waits in the whole installation, as metrics."""

from collections import Counter
from typing import Final

from guilder.core.ensure import present
from guilder.db import Database
from guilder.metrics import Metrics, counted
from guilder.webhooks import store

# Whoever sees so many of an endpoint's retries wait knows enough, and the look at them takes milliseconds.
RETRIES_COUNTED_MAX: Final = 10_000


class Traffic:
    """Numbers of deliveries: tries as they land, what waits as it was at the last look."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._tries = Counter({"delivered": 0, "failed": 0, "exhausted": 0})
        self._waiting = {"first_try": 0, "retry": 0}

    def landed(self, *, ok: bool, again: bool) -> None:
        """One try has ended; `again`: there is another one."""
        self._tries["delivered" if ok else "failed" if again else "exhausted"] += 1

    async def run_once(self) -> int:
        """Look at what waits for endpoints that are enabled. Returns 0: there is never more to look at."""
        row = present(await self._db.fetchrow(store.WAITING, RETRIES_COUNTED_MAX), "sums are one row")
        self._waiting = {"first_try": row["untried"], "retry": row["retried"]}
        return 0

    def expose(self, metrics: Metrics) -> None:
        """Register the numbers as metrics."""
        metrics.counter("webhook_deliveries", "Tries of deliveries by how they ended.", ("outcome",), lambda: counted(self._tries))
        metrics.gauge("webhook_backlog", "Deliveries that wait.", ("waits_for",), lambda: counted(self._waiting))
