"""A circuit breaker: stops asking a PSP that does not answer, and tries again with single requests. Pure: time is handed in.

A decline is an answer, so it is a success here. Failures are what leaves an attempt in doubt or cannot be sent at all:
no connection, no answer in time, an answer that cannot be believed.
"""

from guilder.tuning import Breaking


class Breaker:
    """One breaker, for one connector and one group of operations. Seconds may come from any clock that never goes back."""

    def __init__(self, limits: Breaking) -> None:
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
