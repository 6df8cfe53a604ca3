"""What is measured of a connector: how long its PSP takes, what came of the orders, its breakers, its bulkheads.

Counted in memory, a few integers for an order, and read from there: by the role's metrics, by `store.py`, which keeps the
latencies for `guilder psp latency`, and by whoever announces that a breaker has moved.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct

from guilder.breaker import Breaker, BreakerState
from guilder.core.outcome import ActionRequired, Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.psp.model import Operation, Reason
from guilder.tuning import Breaking

# Buckets grow by 5%, so a percentile is told within 5%; from 0.1 ms, below which no network answers, to beyond a minute.
FIRST_SECONDS: Final = 0.0001
GROWTH: Final = 1.05
BUCKETS: Final = 280
_PER_BUCKET: Final = 1 / math.log(GROWTH)

# Reasons that speak for an outage of the PSP. Those not listed are our own doing and count neither way.
FAILURES: Final = frozenset({
    Reason.CONNECT, Reason.TIMEOUT, Reason.RESET, Reason.UNREADABLE, Reason.MISMATCH, Reason.PSP_ERROR, Reason.RATE_LIMITED,
})  # fmt: skip
_WORDS: Final = {Approved: "approved", Declined: "declined", ActionRequired: "action_required", NotFound: "not_found"}


class Wait(StrEnum):
    """What was waited for."""

    CONNECT = "connect"  # to connect and sign on
    READ = "read"  # from the request's last byte to the answer, late ones too
    TOTAL = "total"  # from submit to delivery of what was answered


class Histogram:
    """How often how many seconds were waited; buckets grow by GROWTH. `unanswered` are those that no answer ended."""

    __slots__ = ("counts", "seconds", "unanswered")

    def __init__(self, counts: Mapping[int, int] | None = None, unanswered: int = 0) -> None:
        self.counts = [0] * BUCKETS
        for bucket, count in (counts or {}).items():
            self.counts[bucket] += count
        self.seconds = 0.0
        self.unanswered = unanswered

    def record(self, seconds: float) -> None:
        """One wait that was answered."""
        self.counts[bucket_of(seconds)] += 1
        self.seconds += seconds

    @property
    def answered(self) -> int:
        """All that were answered."""
        return sum(self.counts)

    def percentile(self, share: float) -> float | None:
        """The seconds within which this share of all was answered; None where so many were not, or there is nothing."""
        wanted = share * (self.answered + self.unanswered)
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return upper_bound(bucket)
        return None

    def share_beyond(self, seconds: float) -> float:
        """The share of all that a timeout of so many seconds cuts off, what was never answered included."""
        everything = self.answered + self.unanswered
        if everything == 0:
            return 0.0
        return (sum(self.counts[bucket_of(seconds) + 1 :]) + self.unanswered) / everything


def bucket_of(seconds: float) -> int:
    """The bucket that holds so many seconds."""
    if seconds <= FIRST_SECONDS:
        return 0
    return min(BUCKETS - 1, 1 + int(math.log(seconds / FIRST_SECONDS) * _PER_BUCKET))


def upper_bound(bucket: int) -> float:
    """The most seconds that a bucket holds."""
    return FIRST_SECONDS * GROWTH**bucket


class BreakerMove(Struct, frozen=True):
    """A breaker that has opened, or closed again."""

    connector: str
    operation: Operation
    state: BreakerState


class Watch:
    """One operation of one connector: its breaker, how its orders ended, and how long that took."""

    __slots__ = ("breaker", "outcomes", "read", "total")

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.outcomes: Counter[str] = Counter()
        self.read = Histogram()
        self.total = Histogram()

    def ended(self, outcome: Outcome | NotFound, now: float, *, submitted: float, left: float | None, answered: bool) -> None:
        """An order has its outcome: it is counted, and the breaker learns of it. Seconds of the clock that the breaker is asked by.

        Args:
            submitted, left: when it was handed over, and when its request was written; None for never.
            answered: by its PSP, also by what decides nothing.
        """
        word = outcome.reason if isinstance(outcome, Unknown | NotSent) else _WORDS[type(outcome)]
        if answered:
            self.answered(word, read=now - (submitted if left is None else left), total=now - submitted)
        else:
            self.unanswered(word, written=left is not None)
        if not isinstance(outcome, Unknown | NotSent):
            self.breaker.succeeded(now)
        elif word in FAILURES:
            self.breaker.failed(now)

    def answered(self, word: str, *, read: float, total: float) -> None:
        """An order was answered, so many seconds after it was written and after it was submitted."""
        self.outcomes[word] += 1
        self.read.record(read)
        self.total.record(total)

    def unanswered(self, word: str, *, written: bool) -> None:
        """An order ended without an answer; `written`: its PSP had been asked."""
        self.outcomes[word] += 1
        if written:
            self.read.unanswered += 1
            self.total.unanswered += 1

    def late(self, *, read: float) -> None:
        """The answer to an order that had ended without one: how long it would have had to be waited for."""
        self.read.unanswered -= 1
        self.read.record(read)


class Measures:
    """One connector's counts. Used from one event loop.

    Attributes:
        connecting: how long it takes to connect and sign on.
        in_flight: by lane, what gives the number under way now and how many there may be.
        reachable: tells whether a connection stands; None for a connector that cannot tell.
        moves: breakers that have opened or closed, until somebody takes them.
    """

    def __init__(self, connector: str) -> None:
        self.connector = connector
        self.connecting = Histogram()
        self.in_flight: dict[str, tuple[Callable[[], int], int]] = {}
        self.moves: list[BreakerMove] = []
        self.watches: dict[Operation, Watch] = {}
        self.reachable: Callable[[], bool] | None = None

    def watch(self, operation: Operation, limits: Breaking) -> Watch:
        """Begin to watch an operation, with a breaker of its own."""
        made = self.watches[operation] = Watch(Breaker(limits, lambda before, after: self._moved(operation, before, after)))
        return made

    def is_up(self, operation: Operation, now: float) -> bool:
        """Whether a payment that waits elsewhere may come, as far as is known: at a time of the clock that the breakers are asked by.

        Of those that wait for an open breaker, single ones may, to find out (Breaker.invites).
        """
        watch = self.watches.get(operation)
        return (self.reachable is None or self.reachable()) and (watch is None or watch.breaker.invites(now))

    def lets_through(self, operation: Operation, now: float) -> int | None:
        """As Breaker.lets_through, of the operation's breaker; None where it has none, 0 while there is no connection."""
        if self.reachable is not None and not self.reachable():
            return 0
        watch = self.watches.get(operation)
        return None if watch is None else watch.breaker.lets_through(now)

    def histograms(self) -> Iterator[tuple[str, Wait, Histogram]]:
        """All that was measured: the operation (empty for connecting), what was waited for, how long."""
        yield "", Wait.CONNECT, self.connecting
        for operation, watch in self.watches.items():
            yield operation.value, Wait.READ, watch.read
            yield operation.value, Wait.TOTAL, watch.total

    def _moved(self, operation: Operation, before: BreakerState, after: BreakerState) -> None:
        # Between probes it goes to and fro; what others are told is that it has opened, and that it is closed again.
        if BreakerState.CLOSED in (before, after):
            self.moves.append(BreakerMove(self.connector, operation, after))
