"""Declined tries on the payment page, by address and by session."""

from guilder.core.clock import SECOND, ManualClock
from guilder.risk import Velocity
from guilder.risk.velocity import LIVE_ADDRESS, SESSION


def test_a_session_waits_after_its_limit_and_no_longer_than_the_window() -> None:
    """The wait counts down from the oldest decline that still counts."""
    clock = ManualClock()
    velocity = Velocity(clock)
    [limit] = SESSION
    for _ in range(limit.tries_max):
        assert velocity.wait_seconds("1.2.3.4", "cs_1", livemode=True) == 0
        velocity.count("1.2.3.4", "cs_1", livemode=True)
        clock.advance(SECOND)
    assert velocity.wait_seconds("1.2.3.4", "cs_1", livemode=True) == limit.seconds - limit.tries_max
    assert velocity.wait_seconds("1.2.3.4", "cs_2", livemode=True) == 0
    clock.advance((limit.seconds - limit.tries_max) * SECOND)
    assert velocity.wait_seconds("1.2.3.4", "cs_1", livemode=True) == 0


def test_an_address_is_limited_over_all_its_sessions() -> None:
    """Who tests cards takes a new session for each; another address is not concerned."""
    clock = ManualClock()
    velocity = Velocity(clock)
    for number in range(LIVE_ADDRESS[0].tries_max):
        velocity.count("1.2.3.4", f"cs_{number}", livemode=True)
    assert velocity.wait_seconds("1.2.3.4", "cs_new", livemode=True) == LIVE_ADDRESS[0].seconds
    assert velocity.wait_seconds("5.6.7.8", "cs_new", livemode=True) == 0


def test_the_memory_has_a_bound() -> None:
    """The one that was declined longest ago goes first."""
    velocity = Velocity(ManualClock(), keys_max=10)
    for number in range(100):
        velocity.count(f"10.0.0.{number}", f"cs_{number}", livemode=True)
    assert len(velocity._declines) == 10
