"""The one retry policy: how each kind grows, what chance makes of it, what bounds it, and the budget of extra calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import ValidationError, convert

from guilder.core.clock import DAY, SECOND, ManualClock
from guilder.core.retry import BUDGET_BURST, FACTOR_MAX, Budget, Jitter, Kind, Retry
from guilder.tuning import NEVER_DROPPED, RETRIES


def never() -> float:
    """For policies without jitter: nothing is drawn."""
    raise AssertionError("nothing is left to chance")


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (Retry(kind=Kind.IMMEDIATE, base_seconds=9), [0, 0, 0, 0]),
        (Retry(kind=Kind.FIXED, base_seconds=5), [5, 5, 5, 5]),
        (Retry(kind=Kind.INCREMENTAL, base_seconds=5), [5, 10, 15, 20]),
        (Retry(kind=Kind.EXPONENTIAL, base_seconds=5), [5, 10, 20, 40]),
        (Retry(kind=Kind.EXPONENTIAL, base_seconds=5, factor=12, cap_seconds=3600), [5, 60, 720, 3600]),
        (Retry(kind=Kind.EXPONENTIAL, base_seconds=5, cap_seconds=12), [5, 10, 12, 12]),
    ],
)
def test_each_kind_grows_in_its_own_way_up_to_the_cap(policy: Retry, waits: list[float]) -> None:
    """Seconds after the first, second, third and fourth try."""
    assert [policy.delay_after(tries, never) for tries in range(1, 5)] == waits


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("draw", "full", "equal"), [(0.0, 0.0, 0.5), (0.5, 0.5, 0.75)])
def test_full_and_equal_jitter_stand_on_any_kind(kind: Kind, draw: float, full: float, equal: float) -> None:
    """A share of the wait: from nothing, or from half of it."""
    plain = Retry(kind=kind, base_seconds=8)
    for jitter, share in ((Jitter.FULL, full), (Jitter.EQUAL, equal)):
        policy = Retry(kind=kind, base_seconds=8, jitter=jitter)
        assert policy.delay_after(3, lambda: draw) == plain.wait(3) * share


@given(
    kind=st.sampled_from([Kind.FIXED, Kind.INCREMENTAL, Kind.EXPONENTIAL]), tries=st.integers(1, 40), draw=st.floats(0, 0.999),
    previous=st.none() | st.floats(8, 600),
)  # fmt: skip
def test_decorrelated_jitter_lies_between_the_first_wait_and_three_times_the_last(
    kind: Kind, tries: int, draw: float, previous: float | None
) -> None:
    """Also where the last wait was not kept: then the schedule's own is drawn again."""
    policy = Retry(kind=kind, base_seconds=8, cap_seconds=600, jitter=Jitter.DECORRELATED)
    wait = policy.delay_after(tries, lambda: draw, previous_seconds=previous)
    assert wait is not None
    assert 8 <= wait <= 600
    assert wait <= 3 * policy.wait(tries)
    assert previous is None or wait <= 3 * previous


def test_a_policy_ends_by_attempts_by_time_and_by_what_cannot_be_mended() -> None:
    """None says that there is no further try."""
    policy = Retry(kind=Kind.FIXED, base_seconds=10, attempts_max=4, elapsed_max_seconds=25, hopeless=frozenset({"Gone"}))
    assert policy.delay_after(1, never) == 10
    assert policy.delay_after(4, never, elapsed_seconds=0) is None, "four tries in all"
    assert policy.delay_after(2, never, elapsed_seconds=15) == 10
    assert policy.delay_after(2, never, elapsed_seconds=15.1) is None, "the next would begin too late"
    assert policy.delay_after(3, never) is None, "without a measured time the schedule's own waits count"
    assert policy.delay_after(1, never, error=("Gone", "Exception")) is None
    assert policy.delay_after(1, never, error=("Lost", "Exception")) == 10


@pytest.mark.parametrize("tries", [63, 100_000])
def test_the_steepest_schedule_has_a_wait_after_however_many_tries(tries: int) -> None:
    """What is never dropped is tried so often, and a wait that cannot be computed would drop it."""
    steepest = Retry(kind=Kind.EXPONENTIAL, base_seconds=1, factor=FACTOR_MAX, cap_seconds=60)
    assert steepest.wait(tries) == 60


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"kind": "fixed", "base_seconds": -1}, "base_seconds"),
        ({"kind": "fixed", "cap_seconds": float("inf")}, "cap_seconds"),
        ({"kind": "fixed", "base_seconds": 1e15}, "base_seconds"),
        ({"kind": "fixed", "cap_seconds": 1e15}, "cap_seconds"),
        ({"kind": "exponential", "factor": 0.5}, "factor"),
        ({"kind": "exponential", "factor": 1e6}, "factor"),
        ({"kind": "fixed", "attempts_max": 0}, "attempts_max"),
        ({"kind": "fixed", "attempts_max": 100_000}, "attempts_max"),
        ({"kind": "fixed", "elapsed_max_seconds": 0}, "elapsed_max_seconds"),
        ({"kind": "fixed", "budget_share": 2}, "budget_share"),
        ({"kind": "sometimes"}, "kind"),
        ({"kind": "fixed", "wait": 3}, "wait"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_field(content: dict[str, object], field: str) -> None:
    """As it is read from a file."""
    with pytest.raises(ValidationError, match=field):
        convert(content, Retry)


@given(calls=st.integers(0, 5_000), share=st.sampled_from([0.0, 0.1, 0.5]))
def test_a_budget_never_lets_more_than_its_share_pass(calls: int, share: float) -> None:
    """However many extra calls are asked for after each first one: the share of the first ones, and the burst."""
    budget, extra = Budget(share, ManualClock().boot), 0
    for _ in range(calls):
        budget.earn()
        while budget.spend():
            extra += 1
    assert extra <= calls * share + BUDGET_BURST
    assert budget.empty or not calls, "all that was earned could be spent"


def test_a_budget_that_is_used_up_fills_again_though_nothing_new_is_called() -> None:
    """What waits for an extra call would otherwise wait for ever, in a system that nobody uses at night."""
    clock = ManualClock()
    budget = Budget(0.1, clock.boot)
    while budget.spend():
        pass
    clock.advance(SECOND)
    assert [budget.spend() for _ in range(6)] == [True] * 5 + [False]
    clock.advance(DAY)
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]


def test_what_must_be_settled_is_never_dropped() -> None:
    """Queries, reversals, refunds: no bound of their own ends them."""
    for name in NEVER_DROPPED:
        assert RETRIES[name].delay_after(1_000_000, lambda: 0.5) is not None
