"""What comes next for an open attempt, and when: pure, so every case is a line."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from payment_simulation import DECLARES, Simulation

from guilder.core.clock import DAY, HOUR, MINUTE, SECOND
from guilder.core.outcome import Approved, Declined, NotSent, Unknown
from guilder.payments.begin import EXECUTE_BY_SECONDS
from guilder.payments.model import Attempt
from guilder.payments.resume import WINDOW_MARGIN_SECONDS, first_order, next_step, resend
from guilder.payments.schedule import RECHECKS, Schedule
from guilder.payments.states import AttemptState
from guilder.psp.model import Operation, Order

SCHEDULE = Schedule()

WITHOUT_KEYS = replace(DECLARES, idempotency_window_seconds=None)


def attempt_of(operation: Operation) -> Attempt:
    """An attempt of this operation, as the verbs make it."""
    world = Simulation(amount=1000, manual=operation in (Operation.AUTHORIZE, Operation.CAPTURE, Operation.VOID))
    world.confirm()
    if operation not in (Operation.PURCHASE, Operation.AUTHORIZE):
        world.run_dry()
        {Operation.CAPTURE: lambda: world.capture(400), Operation.VOID: world.void, Operation.REFUND: lambda: world.refund(400)}[operation]()
    return next(one for one in world.attempts.values() if one.operation is operation)


OPERATIONS = [Operation.PURCHASE, Operation.AUTHORIZE, Operation.CAPTURE, Operation.VOID, Operation.REFUND]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_is_sent_for_an_attempt_names_it_by_what_was_drawn_at_accept(operation: Operation) -> None:
    """Reference, key, time and number are never drawn again; a query and a reversal name the original."""
    attempt = attempt_of(operation)
    first = next_step(attempt, AttemptState.CREATED, 0, attempt.created_at)
    query = next_step(attempt, AttemptState.IN_DOUBT, 1, attempt.created_at)
    reversal = next_step(attempt, AttemptState.REVERSING, 0, attempt.created_at)
    assert all(isinstance(one, Order) for one in (first, query, reversal))
    assert (first.operation, query.operation, reversal.operation) == (operation, Operation.QUERY, Operation.REVERSAL)
    assert (first.first, query.first, reversal.first) == (True, False, False)
    wire = attempt.facts.wire
    assert (first.reference, first.psp_key, first.transmitted_at, first.stan) == (wire.reference, wire.psp_key, wire.transmitted_at, wire.stan)
    assert query.reference == query.original.reference == reversal.original.reference == wire.reference
    assert reversal.reference != wire.reference
    assert reversal == next_step(attempt, AttemptState.REVERSING, 0, attempt.created_at + DAY)
    assert next_step(attempt, AttemptState.REVERSING, 1, attempt.created_at).repeat


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_card_goes_only_with_what_needs_one(operation: Operation) -> None:
    """Never with a query or a reversal."""
    attempt = attempt_of(operation)
    assert (first_order(attempt).payment_method_id is not None) == (operation in (Operation.PURCHASE, Operation.AUTHORIZE))
    for state in (AttemptState.IN_DOUBT, AttemptState.REVERSING):
        order = next_step(attempt, state, 0, attempt.created_at)
        assert (order.payment_method_id, order.send_cvc) == (None, False)


@pytest.mark.parametrize(("micros", "sent"), [(0, True), (EXECUTE_BY_SECONDS * SECOND - 1, True), (EXECUTE_BY_SECONDS * SECOND, False)])
def test_past_its_execute_by_a_first_request_is_not_sent(micros: int, sent: bool) -> None:
    """To the microsecond; a question or a reversal has no such time."""
    attempt = attempt_of(Operation.PURCHASE)
    now = attempt.created_at + micros
    assert isinstance(next_step(attempt, AttemptState.CREATED, 0, now), Order if sent else NotSent)
    assert isinstance(next_step(attempt, AttemptState.IN_DOUBT, 0, now + DAY), Order)


@pytest.mark.parametrize("noted", [Approved("A"), Declined("generic_decline", "05")])
def test_an_answer_that_stands_on_the_attempt_is_booked_first(noted: Approved | Declined) -> None:
    """Nobody is asked what is known; but from reversing on it is only a note."""
    attempt = replace(attempt_of(Operation.PURCHASE), noted=noted)
    assert next_step(attempt, AttemptState.IN_DOUBT, 1, attempt.created_at) == noted
    assert isinstance(next_step(attempt, AttemptState.REVERSING, 1, attempt.created_at), Order)
    trace = replace(attempt, noted=Unknown("in_progress"))
    assert isinstance(next_step(trace, AttemptState.IN_DOUBT, 1, attempt.created_at), Order)


@pytest.mark.parametrize(
    ("operation", "after", "sent"),
    [
        (Operation.PURCHASE, 0, False), (Operation.AUTHORIZE, 0, False), (Operation.CAPTURE, 0, True), (Operation.REFUND, 0, True),
        (Operation.CAPTURE, DAY - WINDOW_MARGIN_SECONDS * SECOND - 1, True), (Operation.CAPTURE, DAY - WINDOW_MARGIN_SECONDS * SECOND, False),
        (Operation.REFUND, DAY, False), (Operation.VOID, 30 * DAY, True),
    ],
)  # fmt: skip
def test_a_request_is_sent_again_only_where_that_is_safe(operation: Operation, after: int, sent: bool) -> None:
    """Inside the PSP's window, less a margin; a void at any time; a new payment never: it is reversed."""
    attempt = attempt_of(operation)
    again = resend(attempt, DECLARES, attempt.created_at + after)
    assert (again is not None) is sent
    if again is not None:
        assert again == replace(first_order(attempt), first=False)
    if operation is not Operation.VOID:
        assert resend(attempt, WITHOUT_KEYS, attempt.created_at) is None


@given(tries=st.integers(1, 10_000), now=st.integers(0, 2**52))
def test_waits_grow_to_their_cap_and_never_end(tries: int, now: int) -> None:
    """Whom the PSP leaves without an answer waits half a minute at most, a refused reversal an hour; the first look comes in a second."""
    silence, refused = (AttemptState.REVERSING, False), (AttemptState.REVERSING, True)
    for (state, answered), cap in (((AttemptState.IN_DOUBT, False), MINUTE // 2), (silence, MINUTE // 2), (refused, HOUR)):
        for draw in (0.0, 0.999):
            wait = SCHEDULE.retry_at(state, tries, now, lambda draw=draw: draw, answered=answered) - now
            assert SECOND // 2 <= wait <= cap
            assert SCHEDULE.retry_at(state, tries + 1, now, lambda draw=draw: draw, answered=answered) - now >= wait
    assert SCHEDULE.retry_at(AttemptState.IN_DOUBT, 1, now, lambda: 1.0) - now == SECOND


def test_undone_attempts_are_asked_about_again_after_a_minute_a_quarter_of_an_hour_and_a_day() -> None:
    """DESIGN section 3."""
    assert RECHECKS == (MINUTE, 15 * MINUTE, DAY)


def test_the_simulation_draws_everything_from_its_seed() -> None:
    """So that what fails fails again."""
    first, second = (Simulation(amount=Random(1).randint(50, 99), manual=False, seed=7) for _ in range(2))
    first.confirm()
    second.confirm()
    assert first.attempts == second.attempts
