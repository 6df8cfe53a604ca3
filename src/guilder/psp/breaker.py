"""A circuit breaker: stops asking a PSP that does not answer, and tries again with single requests. Pure: time is handed in.

A decline is an answer, so it is a success here. Failures are what leaves an attempt in doubt or cannot be sent at all:
no connection, no answer in time, an answer that cannot be believed.
"""

from typing import Final

from msgspec import Struct

# Outcomes are counted in windows of this length; long enough for a low-traffic merchant to show a trend, short enough
# that an outage is seen within it.
WINDOW_SECONDS: Final = 10.0
# Fewer failures than this never open it: one lost answer is no outage.
FAILURES_MIN: Final = 20
# How long an open breaker refuses everything: an answer timeout's order of magnitude, so that a restart is not missed by much.
COOL_DOWN_SECONDS: Final = 5.0
# After the cool-down, one request in so long goes through until one of them succeeds.
PROBE_INTERVAL_SECONDS: Final = 0.5


class BreakerLimits(Struct, frozen=True, kw_only=True):
    """When a breaker opens (at least so many failures, and at least half of a window's outcomes) and for how long."""

    window_seconds: float = WINDOW_SECONDS
    failures_min: int = FAILURES_MIN
    cool_down_seconds: float = COOL_DOWN_SECONDS
    probe_interval_seconds: float = PROBE_INTERVAL_SECONDS


class Breaker:
    """One breaker, for one connector and one group of operations. Seconds may come from any clock that never goes back."""

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._window_ends = float("-inf")
        self._failures = 0
        self._successes = 0
        # None while closed; else the earliest moment at which the next request may go through.
        self._next_probe: float | None = None

    @property
    def is_open(self) -> bool:
        """It refuses requests, but for probes."""
        return self._next_probe is not None

    def allows(self, now: float) -> bool:
        """Whether a request may be made now. True while open means that this request is the probe."""
        if self._next_probe is None:
            return True
        if now < self._next_probe:
            return False
        self._next_probe = now + self._limits.probe_interval_seconds
        return True

    def succeeded(self, now: float) -> None:
        """An answer came; closes an open breaker."""
        if self._next_probe is not None:
            self._next_probe = None
            self._window_ends = float("-inf")
        self._roll(now)
        self._successes += 1

    def failed(self, now: float) -> None:
        """No answer, or none that can be believed. While open nothing changes: requests of before the opening fail late."""
        if self._next_probe is not None:
            return
        self._roll(now)
        self._failures += 1
        if self._failures >= self._limits.failures_min and self._failures >= self._successes:
            self._next_probe = now + self._limits.cool_down_seconds

    def sign_of_life(self, now: float) -> None:
        """The PSP can be reached again: an open breaker lets a probe through at once."""
        if self._next_probe is not None:
            self._next_probe = min(self._next_probe, now)

    def _roll(self, now: float) -> None:
        if now >= self._window_ends:
            self._window_ends = now + self._limits.window_seconds
            self._failures = self._successes = 0
