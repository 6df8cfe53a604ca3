"""When an open attempt is looked at again. Durable: the number of tries stands in its row."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from guilder.core.clock import DAY, HOUR, MINUTE, SECOND
from guilder.core.retry import Retry
from guilder.payments.states import AttemptState
from guilder.tuning import RETRIES, Tuning

RECHECKS: Final = (1 * MINUTE, 15 * MINUTE, 1 * DAY)
"""When an attempt that ended as undone is asked about again: a request may have been under way all the time."""

AFTER_RECHECKS: Final = sum(RECHECKS) + HOUR
"""When all of them have been made, also where the PSP was away for a while."""

# Tries after which somebody is told; the work goes on all the same.
ALERT_AFTER_TRIES: Final = 3


class Schedule(Struct, frozen=True, kw_only=True):
    """The policies of one connector (tuning.py says what each is for)."""

    query: Retry = RETRIES["psp-query"]
    reversal: Retry = RETRIES["psp-reversal"]
    refund: Retry = RETRIES["psp-refund"]
    wait: Retry = RETRIES["psp-wait"]
    resend: Retry = RETRIES["psp-resend"]
    page: Retry = RETRIES["psp-page"]

    @classmethod
    def of(cls, tuning: Tuning, connector: str) -> "Schedule":
        """What the configuration says for a connector."""
        return cls(**{name: tuning.policy(f"psp-{name}", connector) for name in cls.__struct_fields__})

    def retry_at(self, state: str, tries: int, now: int, uniform: Callable[[], float], *, answered: bool = False) -> int:
        """When an attempt in this state, after so many tries in it (1 for the first), is looked at again.

        `answered`: the PSP is there, and has said something else than what is waited for.
        """
        return after_wait(self._by_state(state, answered=answered), tries, now, uniform)

    def _by_state(self, state: str, *, answered: bool) -> Retry:
        match state:
            case AttemptState.REVERSING if answered:
                return self.reversal
            case AttemptState.CREATED:
                return self.wait
            case AttemptState.AWAITING_BUYER:
                return self.page
            case _:
                return self.query


def after_wait(policy: Retry, tries: int, now: int, uniform: Callable[[], float]) -> int:
    """The instant at which the wait after so many tries is over; the policy is one that never ends."""
    return now + round((policy.delay_after(tries, uniform) or 0.0) * SECOND)
