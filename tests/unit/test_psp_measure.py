"""What is measured of PSPs: percentiles, what a timeout would cut off, and how it reads as metrics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guilder.metrics import Metrics
from guilder.psp.exposed import expose
from guilder.psp.measure import BUCKETS, Histogram, Measures, bucket_of, upper_bound
from guilder.psp.model import Operation
from guilder.tuning import Breaking


@given(seconds=st.floats(0.0001, 80))
def test_a_bucket_tells_the_seconds_within_a_twentieth(seconds: float) -> None:
    """Never too little: a timeout that is chosen by it is long enough."""
    bound = upper_bound(bucket_of(seconds))
    assert seconds <= bound * 1.000001
    assert bound <= seconds * 1.11


def test_what_is_faster_or_slower_than_the_buckets_is_in_the_first_or_last() -> None:
    """Nothing is lost at the ends."""
    assert (bucket_of(0.0), bucket_of(10_000.0)) == (0, BUCKETS - 1)


def filled() -> Histogram:
    """98 answers in 100 ms, one in 3 s, one never."""
    histogram = Histogram(unanswered=1)
    for seconds in [0.1] * 98 + [3.0]:
        histogram.record(seconds)
    return histogram


@pytest.mark.parametrize(("share", "least", "most"), [(0.5, 0.1, 0.11), (0.98, 0.1, 0.11), (0.99, 3.0, 3.3)])
def test_percentiles_count_what_was_never_answered(share: float, least: float, most: float) -> None:
    """Half of all within 100 ms, 99 in 100 within 3 s."""
    found = filled().percentile(share)
    assert found is not None
    assert least <= found <= most


def test_a_percentile_that_lies_among_the_unanswered_is_not_known() -> None:
    """Nobody can say how long they would have taken."""
    assert filled().percentile(0.999) is None
    assert Histogram().percentile(0.5) is None


@pytest.mark.parametrize(("timeout", "share"), [(0.05, 1.0), (1.0, 0.02), (4.0, 0.01)])
def test_the_share_that_a_timeout_cuts_off(timeout: float, share: float) -> None:
    """The slower ones and those without an answer."""
    assert filled().share_beyond(timeout) == pytest.approx(share)
    assert Histogram().share_beyond(1.0) == 0.0


def test_it_reads_as_prometheus_metrics() -> None:
    """Orders, breakers, bulkheads, waits; a bucket counts what is at most so long."""
    measures, metrics = Measures("cardnet"), Metrics("executor")
    expose(metrics, [measures])
    watch = measures.watch(Operation.PURCHASE, Breaking(failures_min=1))
    watch.answered("approved", read=0.02, total=0.03)
    watch.answered("declined", read=0.7, total=0.8)
    watch.unanswered("timeout", written=True)
    watch.breaker.failed(0.0)
    measures.in_flight["payments"] = (lambda: 3, 2_000)
    lines = set(metrics.text().decode().splitlines())
    assert {
        'guilder_psp_orders_total{connector="cardnet",operation="purchase",outcome="approved"} 1.0',
        'guilder_psp_orders_total{connector="cardnet",operation="purchase",outcome="timeout"} 1.0',
        'guilder_psp_breaker_state{connector="cardnet",operation="purchase",state="open"} 1.0',
        'guilder_psp_breaker_state{connector="cardnet",operation="purchase",state="closed"} 0.0',
        'guilder_psp_in_flight{connector="cardnet",lane="payments"} 3.0',
        'guilder_psp_in_flight_max{connector="cardnet",lane="payments"} 2000.0',
        'guilder_psp_wait_seconds_bucket{connector="cardnet",le="0.01",operation="purchase",wait="read"} 0.0',
        'guilder_psp_wait_seconds_bucket{connector="cardnet",le="0.025",operation="purchase",wait="read"} 1.0',
        'guilder_psp_wait_seconds_bucket{connector="cardnet",le="1.0",operation="purchase",wait="read"} 2.0',
        'guilder_psp_wait_seconds_count{connector="cardnet",operation="purchase",wait="read"} 2.0',
    } <= lines
