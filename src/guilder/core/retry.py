"""When to try again: one policy type. Durable schedules store the attempt number and ask `delay_after` for the next wait."""

from collections.abc import Callable
from enum import Enum
from typing import assert_never

from msgspec import Struct


class Kind(Enum):
    """How the wait grows from try to try."""

    IMMEDIATE = "immediate"
    FIXED = "fixed"
    INCREMENTAL = "incremental"
    EXPONENTIAL = "exponential"


class Retry(Struct, frozen=True, kw_only=True):
    """A retry policy.

    Args:
        base_seconds: the first wait; fixed repeats it, incremental adds it each time, exponential doubles it.
        cap_seconds: no wait is longer.
        attempts_max: tries in all, None for without end (reversals are never dropped).
        jitter: full jitter, a uniform draw between zero and the wait.
    """

    kind: Kind
    base_seconds: float = 0.0
    cap_seconds: float = 3600.0
    attempts_max: int | None = None
    jitter: bool = False

    def delay_after(self, tries: int, uniform: Callable[[], float]) -> float | None:
        """Seconds to wait after so many tries (1 for the first); None when there is no further try.

        `uniform` draws from [0, 1) and is used only with jitter.
        """
        if self.attempts_max is not None and tries >= self.attempts_max:
            return None
        match self.kind:
            case Kind.IMMEDIATE:
                wait = 0.0
            case Kind.FIXED:
                wait = self.base_seconds
            case Kind.INCREMENTAL:
                wait = self.base_seconds * tries
            case Kind.EXPONENTIAL:
                wait = self.base_seconds * 2.0 ** min(tries - 1, 62)
            case _:
                assert_never(self.kind)
        wait = min(wait, self.cap_seconds)
        return wait * uniform() if self.jitter else wait
