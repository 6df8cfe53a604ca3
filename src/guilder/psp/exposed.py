"""What is measured of PSPs, as metrics."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from guilder.breaker import BreakerState
from guilder.metrics import Metrics, Sample, Waits
from guilder.psp.measure import BUCKETS, Histogram, Measures, upper_bound

# What dashboards draw; `guilder psp latency` has it exactly.
BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0, 30.0, 60.0)
_ENDS: Final = tuple(bisect_left([upper_bound(bucket) for bucket in range(BUCKETS)], bound) for bound in BOUNDS)
"""The first bucket that reaches beyond each bound."""


def expose(metrics: Metrics, measures: Sequence[Measures]) -> None:
    """Register the connectors' metrics; they are read when somebody asks."""
    metrics.counter("psp_orders", "Orders by how they ended.", ("connector", "operation", "outcome"), lambda: _orders(measures))
    metrics.gauge(
        "psp_breaker_state", "1 for the state that a breaker is in.", ("connector", "operation", "state"), lambda: _breakers(measures),
    )  # fmt: skip
    metrics.gauge("psp_in_flight", "Orders under way.", ("connector", "lane"), lambda: _lanes(measures, most=False))
    metrics.gauge(
        "psp_in_flight_max", "Orders that may be under way: the bulkhead.", ("connector", "lane"), lambda: _lanes(measures, most=True),
    )  # fmt: skip
    metrics.histogram(
        "psp_wait_seconds", "How long PSPs that answered were waited for.", ("connector", "operation", "wait"), lambda: _waits(measures),
    )  # fmt: skip


def _orders(measures: Sequence[Measures]) -> Iterator[Sample]:
    for one in measures:
        for operation, watch in one.watches.items():
            yield from (Sample((one.connector, operation.value, word), count) for word, count in watch.outcomes.items())


def _breakers(measures: Sequence[Measures]) -> Iterator[Sample]:
    for one in measures:
        for operation, watch in one.watches.items():
            yield from (Sample((one.connector, operation.value, state.value), watch.breaker.state is state) for state in BreakerState)


def _lanes(measures: Sequence[Measures], *, most: bool) -> Iterator[Sample]:
    for one in measures:
        yield from (Sample((one.connector, lane), bound if most else count()) for lane, (count, bound) in one.in_flight.items())


def _waits(measures: Sequence[Measures]) -> Iterator[Waits]:
    for one in measures:
        for operation, wait, histogram in one.histograms():
            if histogram.answered:
                yield Waits((one.connector, operation, wait.value), list(_buckets(histogram)), histogram.seconds)


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    up_to = list(accumulate(histogram.counts, initial=0))
    for bound, end in zip(BOUNDS, _ENDS, strict=True):
        yield str(bound), up_to[end]
    yield "+Inf", up_to[-1]
