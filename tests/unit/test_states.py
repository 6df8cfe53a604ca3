"""The tables of states: what they allow, what they must never allow, and that nothing in them is out of reach."""

from collections.abc import Mapping
from enum import StrEnum

import pytest

from guilder.core.ensure import InvariantBroken
from guilder.payments.states import (
    ATTEMPT,
    FINAL_ATTEMPT_STATES,
    PAYMENT,
    REFUND,
    AttemptEvent,
    AttemptState,
    PaymentEvent,
    PaymentState,
    RefundEvent,
    RefundState,
    after,
    allows,
)

TABLES = {
    "payment": (PAYMENT, PaymentState, PaymentEvent, {PaymentState.REQUIRES_PAYMENT_METHOD}),
    "attempt": (ATTEMPT, AttemptState, AttemptEvent, {AttemptState.CREATED}),
    "refund": (REFUND, RefundState, RefundEvent, {RefundState.PENDING}),
}
Table = Mapping[StrEnum, Mapping[StrEnum, StrEnum]]


@pytest.mark.parametrize("name", TABLES)
def test_every_state_has_its_line_and_can_be_reached(name: str) -> None:
    """From the first state, by some events."""
    table, states, _, reached = TABLES[name]
    assert set(table) == set(states)
    reached = set(reached)
    while new := {after_ for state in reached for after_ in table[state].values()} - reached:  # type: ignore[index]
        reached |= new
    assert reached == set(states)


@pytest.mark.parametrize("name", TABLES)
def test_every_event_moves_something(name: str) -> None:
    """An event that no state knows is a word without a meaning."""
    table, _, events, _ = TABLES[name]
    assert {event for moves in table.values() for event in moves} == set(events)


@pytest.mark.parametrize("name", TABLES)
def test_a_move_that_is_not_in_the_table_is_an_error_that_names_it(name: str) -> None:
    """State and event, both."""
    table, states, events, _ = TABLES[name]
    for state in states:
        for event in events:
            assert allows(table, state, event) is (event in table[state])
            if event not in table[state]:
                with pytest.raises(InvariantBroken, match=f"{state} by {event}"):
                    after(table, state, event)


def reachable(table: Table, state: StrEnum, *, without: frozenset[StrEnum] = frozenset()) -> set[StrEnum]:
    """The states that can follow, by any number of events but these."""
    found: set[StrEnum] = set()
    new = {state}
    while new:
        new = {next_ for one in new for event, next_ in table[one].items() if event not in without} - found
        found |= new
    return found


def test_from_reversing_no_answer_approves_the_attempt_any_more() -> None:
    """Nor declines it: it ends as undone, or not at all. (A fact that is found about an attempt that has ended is no answer.)"""
    assert reachable(ATTEMPT, AttemptState.REVERSING, without=frozenset({AttemptEvent.FOUND})) == {AttemptState.REVERSING, AttemptState.UNDONE}
    assert ATTEMPT[AttemptState.REVERSING][AttemptEvent.APPROVAL] is AttemptState.REVERSING


def test_a_doubt_is_never_ended_by_not_having_sent_something() -> None:
    """Only a first request can be not sent; what wrote nothing later leaves the attempt as it was."""
    for state in (AttemptState.IN_DOUBT, AttemptState.REVERSING):
        assert ATTEMPT[state][AttemptEvent.PROVED_UNSENT] is state
        assert AttemptState.NOT_SENT not in reachable(ATTEMPT, state)
    assert ATTEMPT[AttemptState.CREATED][AttemptEvent.PROVED_UNSENT] is AttemptState.NOT_SENT


def test_an_unknown_outcome_is_never_final() -> None:
    """Unknown is not failed: neither is a lost sender."""
    for event in (AttemptEvent.NO_DEFINITE_ANSWER, AttemptEvent.SENDER_LOST):
        assert {moves[event] for moves in ATTEMPT.values() if event in moves} & FINAL_ATTEMPT_STATES == set()


def test_an_attempt_is_undone_only_on_evidence() -> None:
    """The reversal's acknowledgement, or the end of the PSP's horizon."""
    assert AttemptState.UNDONE not in reachable(
        ATTEMPT, AttemptState.CREATED, without=frozenset({AttemptEvent.REVERSAL_ACKNOWLEDGED, AttemptEvent.FINALITY_PASSED})
    )


def test_final_states_stay() -> None:
    """Of attempts, payments and refunds; but a refund may come back, and facts may be found."""
    assert {"approved", "declined", "action_required", "not_sent", "undone"} == FINAL_ATTEMPT_STATES
    assert PAYMENT[PaymentState.SUCCEEDED] == PAYMENT[PaymentState.CANCELED] == {}
    assert REFUND[RefundState.SUCCEEDED] == {RefundEvent.RETURNED: RefundState.FAILED}
    assert REFUND[RefundState.FAILED] == {RefundEvent.FOUND: RefundState.SUCCEEDED}
    assert REFUND[RefundState.CANCELED] == {}
    for state in FINAL_ATTEMPT_STATES:
        assert ATTEMPT[state] in ({}, {AttemptEvent.FOUND: AttemptState.APPROVED})


def test_nothing_but_an_outcome_ends_processing() -> None:
    """Cancel comes through as an outcome too: of the void, or of what was certainly not sent."""
    assert set(PAYMENT[PaymentState.PROCESSING]) == {
        PaymentEvent.PAID, PaymentEvent.AUTHORIZED, PaymentEvent.FAILED, PaymentEvent.ACTION_WANTED, PaymentEvent.CAPTURED,
        PaymentEvent.CAPTURE_FAILED, PaymentEvent.CANCEL_FAILED, PaymentEvent.CANCELED,
    }  # fmt: skip


def test_a_decline_never_ends_a_payment() -> None:
    """It takes another card."""
    assert PAYMENT[PaymentState.PROCESSING][PaymentEvent.FAILED] is PaymentState.REQUIRES_PAYMENT_METHOD
    assert PaymentState.SUCCEEDED in reachable(PAYMENT, PaymentState.REQUIRES_PAYMENT_METHOD)


def test_the_states_have_the_names_that_the_api_shows() -> None:
    """A payment's and a refund's are Stripe's words."""
    assert {state.value for state in PaymentState} == {
        "requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture", "succeeded", "canceled",
    }  # fmt: skip
    assert {state.value for state in RefundState} <= {"pending", "requires_action", "succeeded", "failed", "canceled"}
