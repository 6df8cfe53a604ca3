"""How many endpoints there may be, when a failed delivery is tried again, and when an endpoint is given up: pure."""

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from guilder.core.clock import DAY, HOUR, SECOND, Micros
from guilder.core.retry import Budget, Retry

# Stripe's limit, for each account and mode. Each endpoint costs every event a row.
ENDPOINTS_MAX: Final = 16

# A receiver that has too much to do, or is away for a while, may say so.
OVERLOADED: Final = frozenset({429, 503})
# What it may ask for at once. Who needs more is asked again after it; a slip of the pen must not cost a day's events.
ASKED_WAIT_MAX: Final = 1 * HOUR
# However often it asks, no wait that it asked for ends later than so long after the delivery began.
ASKED_WAIT_ENDS: Final = 3 * DAY

# An endpoint is disabled when nothing has succeeded for so long ...
FAILING_MAX: Final = 3 * DAY
# ... and so many tries have failed meanwhile: more than a single event has, or one bad event would end an endpoint.
FAILURES_MIN: Final = 20
# "Gone": the receiver says that it wants nothing any more (Standard Webhooks).
GONE: Final = 410

# What is kept of an answer, for people to read.
ANSWER_CHARACTERS_MAX: Final = 500


def asked_wait(status: int, retry_after: str | None, real_now: Micros) -> int:
    """How many microseconds a receiver wants to be left alone, at most ASKED_WAIT_MAX; 0 where it does not say, or nothing sensible.

    Args:
        retry_after: the header as it came, seconds or a date (RFC 9110, 10.2.3); it counts with 429 and 503 only.
        real_now: the wall clock's time, which a date is compared with.
    """
    if status not in OVERLOADED or retry_after is None:
        return 0
    text = retry_after.strip()
    # More digits than anybody means, so that nobody has us read a number of a thousand.
    if text.isascii() and text.isdigit():
        return ASKED_WAIT_MAX if len(text) > len(str(ASKED_WAIT_MAX)) else min(int(text) * SECOND, ASKED_WAIT_MAX)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0
    until = int(date.replace(tzinfo=date.tzinfo or UTC).timestamp()) * SECOND
    return min(max(until - real_now, 0), ASKED_WAIT_MAX)


def next_due(policy: Retry, tries: int, now: Micros, uniform: Callable[[], float], *, asked: int, began: Micros) -> Micros | None:
    """When the next try is due after so many have failed; None when that was the last one.

    Args:
        uniform: draws from [0, 1).
        asked: how long the receiver wants to be left alone, as `asked_wait` says; makes a wait longer, never shorter.
        began: when the delivery was made.
    """
    wait = policy.delay_after(tries, uniform)
    if wait is None:
        return None
    return Micros(max(now + round(wait * SECOND), min(now + asked, began + ASKED_WAIT_ENDS)))


def in_budget(budget: Budget | None, attempt: int) -> bool:
    """Whether this try may be made: a first one always, and it earns a share of a retry; a retry takes one. None: no bound."""
    if budget is None:
        return True
    if attempt > 1:
        return budget.spend()
    budget.earn()
    return True


def succeeded(status: int) -> bool:
    """Whether an answer says that the event has arrived: any 2xx. A redirect is a failure: nothing is followed."""
    return 200 <= status < 300
