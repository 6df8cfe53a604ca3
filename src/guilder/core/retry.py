"""When to try again: one policy type for everything that is tried more than once, and the budget that bounds extra calls.

A policy is data. It decides and never waits: durable schedules store how often something was tried, ask for the next wait
and store when that is over, so that they survive a restart; a loop in memory asks it the same question.

    immediate      no wait
    fixed          the base, each time
    incremental    the base, twice the base, three times the base
    exponential    the base, the base times the factor, times its square

Jitter may stand on any of them, so that what failed together does not come back together: full draws between nothing and the
wait, equal between half the wait and the wait, decorrelated between the first wait and three times the one before.
"""

from collections.abc import Callable, Collection
from enum import Enum
from typing import Final, assert_never

from msgspec import Struct

# What a decorrelated wait may grow to, in terms of the one before (Brooker, "Exponential Backoff And Jitter").
DECORRELATED_GROWTH: Final = 3.0
# A float's exponent ends at 1,023: the largest factor to this power is below it, and no sensible cap is above that.
EXPONENT_MAX: Final = 62
FACTOR_MAX: Final = 1_000
# Longer than anybody means, and short enough that the instant at its end can be stored.
WAIT_SECONDS_MAX: Final = 366 * 86_400
# More than any schedule needs, and few enough for the columns that count them.
ATTEMPTS_MAX: Final = 10_000
# Extra calls that may be made at once before any first call has earned one: an incident begins with a handful.
BUDGET_BURST: Final = 10.0
# Extra calls that time earns, so that what waits for one goes on where nothing new is called: no counterpart notices so many.
BUDGET_PER_SECOND: Final = 5.0


class Kind(Enum):
    """How the wait grows from try to try."""

    IMMEDIATE = "immediate"
    FIXED = "fixed"
    INCREMENTAL = "incremental"
    EXPONENTIAL = "exponential"


class Jitter(Enum):
    """What chance makes of a wait."""

    NONE = "none"
    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"


class Retry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A retry policy.

    Args:
        base_seconds: the first wait.
        factor: what an exponential wait is multiplied by from try to try.
        cap_seconds: no wait is longer.
        attempts_max: tries in all, the first one included; None for without end (reversals are never dropped).
        elapsed_max_seconds: no try is begun later than this after the first one; None for without end.
        budget_share: extra calls for each first call, at most, counted by whoever calls with a `Budget`; None for no bound.
        hopeless: errors, by their names, that no further try can mend. All others are worth one.
    """

    kind: Kind
    base_seconds: float = 0.0
    factor: float = 2.0
    cap_seconds: float = 3600.0
    attempts_max: int | None = None
    elapsed_max_seconds: float | None = None
    jitter: Jitter = Jitter.NONE
    budget_share: float | None = None
    hopeless: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what could never be meant, by field (ValueError)."""
        for name in ("base_seconds", "cap_seconds"):
            if not 0 <= getattr(self, name) <= WAIT_SECONDS_MAX:
                raise ValueError(f"{name} must lie between 0 and {WAIT_SECONDS_MAX:,}")
        if not 1 <= self.factor <= FACTOR_MAX:
            raise ValueError(f"factor must lie between 1 and {FACTOR_MAX:,}")
        if self.attempts_max is not None and not 1 <= self.attempts_max <= ATTEMPTS_MAX:
            raise ValueError(f"attempts_max counts the first try too: it lies between 1 and {ATTEMPTS_MAX:,}")
        if self.elapsed_max_seconds is not None and not self.elapsed_max_seconds > 0:
            raise ValueError("elapsed_max_seconds must be above zero")
        if self.budget_share is not None and not 0 <= self.budget_share <= 1:
            raise ValueError("budget_share must lie between 0 and 1: 0.1 is one extra call for ten first calls")

    def delay_after(
        self, tries: int, uniform: Callable[[], float], *, elapsed_seconds: float | None = None, previous_seconds: float | None = None,
        error: Collection[str] = (),
    ) -> float | None:  # fmt: skip
        """Seconds to wait after so many tries (1 for the first); None when there is to be no further try.

        Args:
            uniform: draws from [0, 1); used only with jitter.
            elapsed_seconds: how long ago the first try began; None for the waits of the schedule so far, without jitter.
            previous_seconds: the last wait, for decorrelated jitter; None draws one as the schedule would have had it, so
                that a durable schedule has nothing more to store than its tries.
            error: the names of what went wrong, the most special first.
        """
        if not self.worth(error) or (self.attempts_max is not None and tries >= self.attempts_max):
            return None
        wait = self._jittered(tries, uniform, previous_seconds)
        if self.elapsed_max_seconds is not None:
            elapsed = sum(map(self.wait, range(1, tries))) if elapsed_seconds is None else elapsed_seconds
            if elapsed + wait > self.elapsed_max_seconds:
                return None
        return wait

    def worth(self, error: Collection[str]) -> bool:
        """Whether another try may mend this error, given by its names."""
        return self.hopeless.isdisjoint(error)

    def wait(self, tries: int) -> float:
        """The wait after so many tries without jitter, in seconds."""
        match self.kind:
            case Kind.IMMEDIATE:
                wait = 0.0
            case Kind.FIXED:
                wait = self.base_seconds
            case Kind.INCREMENTAL:
                wait = self.base_seconds * tries
            case Kind.EXPONENTIAL:
                wait = self.base_seconds * self.factor ** min(tries - 1, EXPONENT_MAX)
            case _:
                assert_never(self.kind)
        return min(wait, self.cap_seconds)

    def _jittered(self, tries: int, uniform: Callable[[], float], previous: float | None) -> float:
        wait = self.wait(tries)
        match self.jitter:
            case Jitter.NONE:
                return wait
            case Jitter.FULL:
                return wait * uniform()
            case Jitter.EQUAL:
                return wait * (1 + uniform()) / 2
            case Jitter.DECORRELATED:
                return self._decorrelated(tries, uniform, previous)
            case _:
                assert_never(self.jitter)

    def _decorrelated(self, tries: int, uniform: Callable[[], float], previous: float | None) -> float:
        """From the first wait to three times the last one; never beyond three times what the kind itself would wait."""
        first = self.wait(1)
        drawn = first if previous is None else previous
        for number in range(1 if previous is None else tries, tries + 1):
            most = min(DECORRELATED_GROWTH * drawn, DECORRELATED_GROWTH * self.wait(number), self.cap_seconds)
            drawn = first + max(most - first, 0.0) * uniform()
        return drawn


class Budget:
    """A token bucket: first calls earn a share of an extra call each, each second earns a few, an extra call takes a whole one.

    So under load extra calls are never more than that share of the first ones (beside those few), however long an outage lasts
    and however many policies ask; and without load nothing waits for ever. One for each process and counterpart, in memory:
    a restart begins with the burst.

    Args:
        boot: the clock's seconds since the machine started.
    """

    def __init__(self, share: float, boot: Callable[[], float], *, burst: float = BUDGET_BURST) -> None:
        self._share = share
        self._boot = boot
        self._burst = burst
        self._tokens = burst
        self._counted = boot()

    @property
    def empty(self) -> bool:
        """No extra call may be made now."""
        now = self._boot()
        self._tokens = min(self._burst, self._tokens + BUDGET_PER_SECOND * (now - self._counted))
        self._counted = now
        return self._tokens < 1

    def earn(self, first_calls: int = 1) -> None:
        """So many first calls were made."""
        self._tokens = min(self._burst, self._tokens + self._share * first_calls)

    def spend(self) -> bool:
        """Take an extra call; False when there is none left."""
        if self.empty:
            return False
        self._tokens -= 1
        return True
