"""Declined tries on the payment page, by address and by session."""

from contextlib import ExitStack

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


def test_a_network_is_one_address() -> None:
    """Whoever has one IPv6 address has 2^64 of them; an IPv4 address written as one of those is itself."""
    velocity = Velocity(ManualClock())
    for number in range(LIVE_ADDRESS[0].tries_max):
        velocity.count(f"2001:db8:1:2::{number:x}", f"cs_{number}", livemode=True)
        velocity.count(f"::ffff:10.0.0.{number}", f"cs_{number}", livemode=True)
    assert velocity.wait_seconds("2001:db8:1:2:ffff::1", "cs_new", livemode=True) == LIVE_ADDRESS[0].seconds
    assert velocity.wait_seconds("2001:db8:1:3::1", "cs_new", livemode=True) == 0
    assert velocity.wait_seconds("::ffff:10.0.1.1", "cs_new", livemode=True) == 0


def test_tries_that_are_under_way_count_for_the_widest_window() -> None:
    """Else whoever sends all tries at once meets no limit; a try that was not declined leaves nothing behind."""
    velocity = Velocity(ManualClock())
    widest = LIVE_ADDRESS[-1].tries_max
    with ExitStack() as under_way:
        for number in range(widest):
            assert velocity.wait_seconds("1.2.3.4", f"cs_{number}", livemode=True) == 0
            under_way.enter_context(velocity.trying("1.2.3.4", f"cs_{number}", livemode=True))
        assert velocity.wait_seconds("1.2.3.4", "cs_new", livemode=True) > 0
        assert velocity.wait_seconds("5.6.7.8", "cs_new", livemode=True) == 0
    assert velocity.wait_seconds("1.2.3.4", "cs_new", livemode=True) == 0


def test_what_is_declined_in_the_sandbox_says_nothing_of_live_buyers() -> None:
    """Whoever tests a shop may pay in it too."""
    velocity = Velocity(ManualClock())
    for number in range(LIVE_ADDRESS[0].tries_max):
        velocity.count("1.2.3.4", f"cs_test_{number}", livemode=False)
    assert velocity.wait_seconds("1.2.3.4", "cs_live_1", livemode=True) == 0
