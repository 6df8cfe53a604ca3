"""A circuit breaker: stops asking whoever does not answer, and tries again with single requests. Pure: time is handed in.

A decline is an answer, so it is a success here. Failures are what leaves an attempt in doubt or cannot be sent at all:
no connection, no answer in time, an answer that cannot be believed. There is one for each connector and operation, so what
settles old payments is never stopped by what makes new ones, and one for the external risk service.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from guilder.tuning import Breaking


class BreakerState(StrEnum):
    """What a breaker lets through: all, nothing, or single requests."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerEvent(StrEnum):
    """What moves a breaker."""

    FAILED_TOO_OFTEN = "failed_too_often"
    COOLED_DOWN = "cooled_down"
    FAILED = "failed"
    ANSWERED = "answered"


_S, _E = BreakerState, BreakerEvent
TRANSITIONS: Final[Mapping[BreakerState, Mapping[BreakerEvent, BreakerState]]] = {
    _S.CLOSED: {_E.FAILED_TOO_OFTEN: _S.OPEN, _E.FAILED: _S.CLOSED, _E.ANSWERED: _S.CLOSED},
    # Requests of before the opening fail late, and one of them may be answered late: then the PSP is there.
    _S.OPEN: {_E.COOLED_DOWN: _S.HALF_OPEN, _E.FAILED: _S.OPEN, _E.ANSWERED: _S.CLOSED},
    _S.HALF_OPEN: {_E.COOLED_DOWN: _S.HALF_OPEN, _E.FAILED: _S.OPEN, _E.ANSWERED: _S.CLOSED},
}
"""Everything about these states; docs/resilience.md explains it."""

Moved = Callable[[BreakerState, BreakerState], None]
"""Told of each change: the state before and the one after."""


class Breaker:
    """One breaker, for one connector and one operation. Seconds may come from any clock that never goes back.

    Args:
        moved: told when the state has changed; None for nobody.
    """

    def __init__(self, limits: Breaking, moved: Moved | None = None) -> None:
        self._limits = limits
        self._moved = moved
        self._window_ends = float("-inf")
        self._failures = 0
        self._successes = 0
        # While it is not closed: the earliest moment at which the next request may go through.
        self._next_probe = 0.0
        # The same for who is invited to be it.
        self._next_invitation = 0.0
        self._state = BreakerState.CLOSED

    @property
    def state(self) -> BreakerState:
        """The state now."""
        return self._state

    @property
    def is_open(self) -> bool:
        """It refuses requests, but for probes."""
        return self._state is not BreakerState.CLOSED

    def lets_through(self, now: float) -> int | None:
        """How many requests it would allow now: None for as many as come, 1 for a probe, 0. Takes no probe."""
        if self._state is BreakerState.CLOSED:
            return None
        return int(now >= self._next_probe)

    def allows(self, now: float) -> bool:
        """Whether a request may be made now. True while it is not closed means that this request is the probe."""
        if self._state is BreakerState.CLOSED:
            return True
        if now < self._next_probe:
            return False
        self._next_probe = now + self._limits.probe_interval_seconds
        self._take(BreakerEvent.COOLED_DOWN)
        return True

    def invites(self, now: float) -> bool:
        """Whether a request that can also wait elsewhere may come. While it is not closed one may in each cool-down, to be the probe.

        Without it nobody would find out that somebody whom nobody else asks has come back.
        """
        if self._state is BreakerState.CLOSED:
            return True
        if now < max(self._next_probe, self._next_invitation):
            return False
        self._next_invitation = now + self._limits.cool_down_seconds
        return True

    def succeeded(self, now: float) -> None:
        """An answer came; closes an open breaker."""
        if self._state is not BreakerState.CLOSED:
            self._window_ends = float("-inf")
            self._take(BreakerEvent.ANSWERED)
        self._roll(now)
        self._successes += 1

    def failed(self, now: float) -> None:
        """No answer, or none that can be believed. The next probe's time stays what it was."""
        if self._state is not BreakerState.CLOSED:
            return self._take(BreakerEvent.FAILED)
        self._roll(now)
        self._failures += 1
        if self._failures >= self._limits.failures_min and self._failures >= self._successes:
            self._next_probe = now + self._limits.cool_down_seconds
            self._take(BreakerEvent.FAILED_TOO_OFTEN)
        return None

    def sign_of_life(self, now: float) -> None:
        """The PSP can be reached again: an open breaker lets a probe through at once."""
        if self._state is not BreakerState.CLOSED:
            self._next_probe = min(self._next_probe, now)

    def _take(self, event: BreakerEvent) -> None:
        before, self._state = self._state, TRANSITIONS[self._state][event]
        if self._moved is not None and before is not self._state:
            self._moved(before, self._state)

    def _roll(self, now: float) -> None:
        if now >= self._window_ends:
            self._window_ends = now + self._limits.window_seconds
            self._failures = self._successes = 0
