"""When an open attempt is looked at again. Durable: the number of tries stands in its row."""

from collections.abc import Mapping
from typing import Final

from guilder.core.clock import DAY, HOUR, MINUTE, SECOND
from guilder.core.retry import Kind, Retry
from guilder.payments.states import AttemptState

# The PSP is asked a second after the doubt, then at doubling waits. A minute at most: people watch `processing`.
ASK: Final = Retry(kind=Kind.EXPONENTIAL, base_seconds=1.0, cap_seconds=60.0)
# A reversal is repeated until it is acknowledged, never dropped; an hour at most.
REVERSE: Final = Retry(kind=Kind.EXPONENTIAL, base_seconds=1.0, cap_seconds=3600.0)
# A refund that could not be sent, or was undone, begins anew.
BEGIN_ANEW: Final = Retry(kind=Kind.EXPONENTIAL, base_seconds=30.0, cap_seconds=6 * 3600.0)

# While a buyer may pay at the PSP's own page. He comes back, or the PSP tells; this is for when neither happens.
AWAIT: Final = Retry(kind=Kind.EXPONENTIAL, base_seconds=5.0, cap_seconds=60.0)

RECHECKS: Final = (1 * MINUTE, 15 * MINUTE, 1 * DAY)
"""When an attempt that ended as undone is asked about again: a request may have been under way all the time."""

AFTER_RECHECKS: Final = sum(RECHECKS) + HOUR
"""When all of them have been made, also where the PSP was away for a while."""

# Tries after which somebody is told; the work goes on all the same.
ALERT_AFTER_TRIES: Final = 3

_BY_STATE: Final[Mapping[str, Retry]] = {
    AttemptState.IN_DOUBT: ASK, AttemptState.AWAITING_BUYER: AWAIT, AttemptState.REVERSING: REVERSE,
}  # fmt: skip


def retry_at(state: str, tries: int, now: int) -> int:
    """When an attempt in this state, after so many tries in it (1 for the first), is looked at again."""
    delay = _BY_STATE[state].delay_after(tries, lambda: 1.0)
    return now + round((delay or 0.0) * SECOND)
