"""The circuit breaker: opens on an outage, not on a hiccup, and finds back by single requests."""

from guilder.breaker import TRANSITIONS, Breaker, BreakerEvent, BreakerState
from guilder.tuning import Breaking

LIMITS = Breaking(window_seconds=10.0, failures_min=3, cool_down_seconds=5.0, probe_interval_seconds=1.0)


def opened(at: float = 0.0) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(LIMITS)
    for _ in range(LIMITS.failures_min):
        breaker.failed(at)
    return breaker


def test_a_few_failures_leave_it_closed() -> None:
    """One lost answer is no outage."""
    breaker = Breaker(LIMITS)
    for _ in range(LIMITS.failures_min - 1):
        breaker.failed(0.0)
    assert breaker.allows(0.0)
    assert not breaker.is_open


def test_enough_failures_open_it() -> None:
    """Then everything is refused until the cool-down has passed."""
    breaker = opened()
    assert breaker.is_open
    assert not breaker.allows(4.9)


def test_of_those_that_can_wait_elsewhere_one_may_come_in_each_cool_down() -> None:
    """To be the probe; all of them once it is closed."""
    breaker = opened()
    assert not breaker.invites(4.9)
    assert [breaker.invites(now) for now in (5.0, 5.1, 9.9, 10.0, 10.1)] == [True, False, False, True, False]
    assert breaker.allows(10.2)
    breaker.succeeded(10.3)
    assert breaker.invites(10.3)
    assert breaker.invites(10.3)


def test_failures_among_more_successes_leave_it_closed() -> None:
    """Less than half of a window's outcomes are no reason to stop."""
    breaker = Breaker(LIMITS)
    for _ in range(10):
        breaker.succeeded(0.0)
    for _ in range(9):
        breaker.failed(1.0)
    assert not breaker.is_open


def test_failures_of_an_earlier_window_do_not_count() -> None:
    """A failure every few seconds never adds up."""
    breaker = Breaker(LIMITS)
    for second in (0.0, 1.0, 11.0, 12.0):
        breaker.failed(second)
    assert not breaker.is_open


def test_after_the_cool_down_single_requests_go_through() -> None:
    """One per interval, not a stampede."""
    breaker = opened()
    assert breaker.allows(5.0)
    assert not breaker.allows(5.5)
    assert breaker.allows(6.0)


def test_a_success_closes_it() -> None:
    """And the failures of before are forgotten."""
    breaker = opened()
    breaker.allows(5.0)
    breaker.succeeded(5.1)
    breaker.failed(5.2)
    assert breaker.allows(5.2)


def test_failures_of_requests_from_before_do_not_keep_it_open_longer() -> None:
    """They time out one by one long after it has opened."""
    breaker = opened()
    breaker.failed(4.0)
    assert breaker.allows(5.0)


def test_a_sign_of_life_lets_a_probe_through_at_once() -> None:
    """A new connection that was signed on is worth a try before the cool-down is over."""
    breaker = opened()
    breaker.sign_of_life(1.0)
    assert breaker.allows(1.0)
    assert not breaker.allows(1.1)


def test_every_move_stands_in_the_one_table() -> None:
    """What is not there can never happen: a closed breaker has nothing to cool down from, an open one cannot open."""
    missing = {(state, event) for state in BreakerState for event in BreakerEvent if event not in TRANSITIONS[state]}
    assert missing == {
        (BreakerState.CLOSED, BreakerEvent.COOLED_DOWN), (BreakerState.OPEN, BreakerEvent.FAILED_TOO_OFTEN),
        (BreakerState.HALF_OPEN, BreakerEvent.FAILED_TOO_OFTEN),
    }  # fmt: skip


def test_it_tells_each_change_once() -> None:
    """Opened, half open for a probe, open again when that fails, closed by an answer."""
    told: list[tuple[str, str]] = []
    breaker = Breaker(LIMITS, lambda before, after: told.append((before.value, after.value)))
    for _ in range(LIMITS.failures_min + 2):
        breaker.failed(0.0)
    breaker.allows(5.0)
    breaker.failed(5.5)
    breaker.allows(6.0)
    breaker.succeeded(6.1)
    breaker.succeeded(6.2)
    assert told == [
        ("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("open", "half_open"), ("half_open", "closed"),
    ]  # fmt: skip


def test_a_late_answer_closes_it_without_a_probe() -> None:
    """Whoever answers is there."""
    breaker = opened()
    breaker.succeeded(1.0)
    assert breaker.allows(1.0)
    assert breaker.state is BreakerState.CLOSED
