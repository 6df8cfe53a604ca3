"""Metrics of one process, in Prometheus' format: counted where things happen, read when somebody asks.

Whoever has numbers registers what reads them; nothing is added to what is counted. Served on loopback by the role (role.py):
they say how much business is done and with whom, so nobody outside is to read them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from guilder.core.errors import Refusal
from guilder.http_server import Incoming, Outgoing

PATH: Final = "/metrics"
PREFIX: Final = "guilder_"


class Sample(Struct, frozen=True):
    """One number and its labels, in the order of the family's names."""

    labels: tuple[str, ...]
    value: float


class Waits(Struct, frozen=True):
    """A histogram: for each upper bound in seconds how many were at most so long; the last bound is +Inf."""

    labels: tuple[str, ...]
    buckets: Sequence[tuple[str, float]]
    seconds: float


Read = Callable[[], Iterable[Sample]]


class Metrics(Collector):
    """The metrics of one process, and the application that serves them."""

    def __init__(self, role: str) -> None:
        self._families: list[Callable[[], Metric]] = []
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)
        self.gauge("role", "Which role this process has.", ("role",), lambda: [Sample((role,), 1.0)])

    def gauge(self, name: str, text: str, labels: Sequence[str], read: Read) -> None:
        """Register a number that goes up and down."""
        self._families.append(lambda: _filled(GaugeMetricFamily(PREFIX + name, text, labels=labels), read))

    def counter(self, name: str, text: str, labels: Sequence[str], read: Read) -> None:
        """Register a number that only goes up; `_total` is added to its name."""
        self._families.append(lambda: _filled(CounterMetricFamily(PREFIX + name, text, labels=labels), read))

    def histogram(self, name: str, text: str, labels: Sequence[str], read: Callable[[], Iterable[Waits]]) -> None:
        """Register histograms of seconds."""

        def family() -> Metric:
            made = HistogramMetricFamily(PREFIX + name, text, labels=labels)
            for one in read():
                made.add_metric(one.labels, buckets=one.buckets, sum_value=one.seconds)
            return made

        self._families.append(family)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for."""
        return (family() for family in self._families)

    def text(self) -> bytes:
        """Everything, as it is now."""
        return generate_latest(self._registry)

    # --- http_server.App ----------------------------------------------------------------------------------------------

    async def answer(self, incoming: Incoming) -> Outgoing:
        """GET /metrics; nothing else is here."""
        if incoming.path != PATH or incoming.method != "GET":
            return Outgoing(body=b"only GET /metrics is here\n", status=404, headers=((b"content-type", b"text/plain"),))
        return Outgoing(body=self.text(), headers=((b"content-type", CONTENT_TYPE_LATEST.encode()),))

    def refuse(self, refusal: Refusal) -> Outgoing:
        """The answer to what is no request."""
        return Outgoing(body=f"{refusal}\n".encode(), status=refusal.status, headers=((b"content-type", b"text/plain"),))


class Answered:
    """How many requests this process has answered with each status."""

    def __init__(self) -> None:
        self._by_status: Counter[int] = Counter()

    def note(self, outgoing: Outgoing) -> Outgoing:
        """Count this answer; returns it."""
        self._by_status[outgoing.status] += 1
        return outgoing

    def expose(self, metrics: Metrics) -> None:
        """Register the numbers as a metric."""
        metrics.counter(
            "http_requests", "Answers by status.", ("status",),
            lambda: counted({str(status): count for status, count in self._by_status.items()}),
        )  # fmt: skip


def counted(counts: Mapping[str, float]) -> list[Sample]:
    """Samples of one label."""
    return [Sample((label,), value) for label, value in counts.items()]


def _filled(family: GaugeMetricFamily | CounterMetricFamily, read: Read) -> Metric:
    for sample in read():
        family.add_metric(sample.labels, sample.value)
    return family
