"""The SQL of psp: latencies that were measured, added up by day. No other file touches its table."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Final

from guilder.core.clock import DAY, Micros, day_of
from guilder.db import Database
from guilder.psp.measure import BUCKETS, Histogram, Measures, Wait

# A quarter: longer than any comparison of two months needs.
KEPT_DAYS: Final = 92
UNANSWERED: Final = -1
"""The bucket of what no answer ended."""

_ADD: Final = """
INSERT INTO psp_latency AS l (connector, operation, wait, day, bucket, count)
SELECT x.connector, x.operation, x.wait, $1, x.bucket, x.count
FROM unnest($2::text[], $3::text[], $4::text[], $5::smallint[], $6::bigint[]) AS x(connector, operation, wait, bucket, count)
ORDER BY 1, 2, 3, 5
ON CONFLICT (connector, operation, wait, day, bucket) DO UPDATE SET count = l.count + excluded.count
"""
_FORGET: Final = "DELETE FROM psp_latency WHERE day < $1"
_SUM: Final = """
SELECT connector, operation, wait, bucket, sum(count)::bigint AS count FROM psp_latency WHERE day >= $1
GROUP BY 1, 2, 3, 4 HAVING sum(count) > 0
"""
Row = tuple[str, str, str, int, int]


class LatencyKeeper:
    """Keeps what a process has measured: each call adds what has come since the one before."""

    def __init__(self, db: Database, measures: Collection[Measures]) -> None:
        self._db = db
        self._measures = measures
        self._kept: dict[tuple[str, str, Wait], list[int]] = {}

    async def run_once(self, now: Micros) -> int:
        """Add what is new to the day's counts, in one commit; returns how many rows. A lost answer may count some twice."""
        rows: list[Row] = []
        seen: dict[tuple[str, str, Wait], list[int]] = {}
        for measures in self._measures:
            for operation, wait, histogram in measures.histograms():
                place = (measures.connector, operation, wait)
                counts = seen[place] = [*histogram.counts, histogram.unanswered]
                before = self._kept.get(place) or [0] * len(counts)
                rows += [
                    (measures.connector, operation, wait.value, UNANSWERED if bucket == BUCKETS else bucket, count - old)
                    for bucket, (count, old) in enumerate(zip(counts, before, strict=True)) if count != old
                ]  # fmt: skip
        if rows:
            await self._db.execute(_ADD, day_of(now), *(list(column) for column in zip(*rows, strict=True)))
            self._kept |= seen
        return len(rows)

    async def forget(self, now: Micros) -> int:
        """Delete what nobody looks at any more."""
        gone = await self._db.execute(_FORGET, day_of(now - KEPT_DAYS * DAY))
        return int(gone.split()[1])


async def measured(db: Database, *, since: Micros) -> Mapping[tuple[str, str, Wait], Histogram]:
    """All that was measured since the day of an instant: by connector, operation (empty for connecting) and what was waited for."""
    counts: dict[tuple[str, str, Wait], dict[int, int]] = defaultdict(dict)
    for row in await db.fetch(_SUM, day_of(since)):
        counts[row["connector"], row["operation"], Wait(row["wait"])][row["bucket"]] = row["count"]
    return {place: Histogram(found, found.pop(UNANSWERED, 0)) for place, found in counts.items()}
