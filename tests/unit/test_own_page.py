"""The PSP's own page: what each outcome makes of its attempt and payment, in each state, before the deadline and after it. Pure."""

import pytest
from msgspec.structs import replace
from payment_simulation import DECLARES, Simulation

from guilder.core.clock import SECOND
from guilder.core.outcome import ActionRequired, Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.payments.begin import PAGE_SECONDS, way_to_page
from guilder.payments.model import Attempt, Change, OpenSlot
from guilder.payments.own_page import PageOpen, refuse_while_open, undoing, withdrawn
from guilder.payments.resume import first_order, next_step, resend
from guilder.payments.settle import settle
from guilder.payments.settling import Settling
from guilder.payments.states import AttemptState, PaymentState
from guilder.psp.model import Operation, Order, OwnPage

URL = "https://psp.example/pay/1"
OPEN, PAID = ActionRequired(URL), Approved("REFERENCE123")
LEFT, LATE, NO = Declined("page_canceled"), Declined("page_expired"), Declined("insufficient_funds")
SILENT, OTHER = Unknown("timeout"), Unknown("mismatch")
CREATED, DOUBT, AWAITING, REVERSING = (
    AttemptState.CREATED, AttemptState.IN_DOUBT, AttemptState.AWAITING_BUYER, AttemptState.REVERSING
)  # fmt: skip
ACTION, PROCESSING, PAYABLE, SUCCEEDED = (
    PaymentState.REQUIRES_ACTION, PaymentState.PROCESSING, PaymentState.REQUIRES_PAYMENT_METHOD, PaymentState.SUCCEEDED
)  # fmt: skip


def world_at(state: AttemptState) -> tuple[Simulation, Attempt]:
    """A payment whose attempt at the PSP's page stands so."""
    world = Simulation(amount=1000, manual=False)
    world.confirm()
    [attempt] = world.attempts.values()
    closes_at = attempt.created_at + PAGE_SECONDS * SECOND
    attempt = replace(attempt, facts=replace(attempt.facts, own_page=OwnPage("http://checkout/page/at/secret/return", closes_at)))
    slot = OpenSlot(attempt.slot, attempt.id, state, None, 1 if state != CREATED else 0, own_page=True)
    facts = replace(world.payment.facts, status=ACTION if state == AWAITING else PROCESSING, in_doubt=state in (DOUBT, REVERSING))
    world.payment = replace(world.payment, facts=facts, open_slots=(slot,))
    return world, attempt


def settled(state: AttemptState, outcome: Outcome | NotFound, *, late: bool = False, status: PaymentState | None = None) -> Change:
    """What an outcome makes of it, before the deadline or at it."""
    world, attempt = world_at(state)
    if status is not None:
        world.payment = replace(world.payment, facts=replace(world.payment.facts, status=status))
    asked = Operation.REVERSAL if state == REVERSING else Operation.PURCHASE if state == CREATED else Operation.QUERY
    now = attempt.facts.own_page.closes_at if late else attempt.created_at + SECOND
    return settle(
        Settling(payment=world.payment, attempt=attempt, open=world.payment.open_slots[0], asked=asked, now=now, ids=world.ids), outcome,
    )  # fmt: skip


@pytest.mark.parametrize(("state", "outcome", "attempt", "payment"), [
    (CREATED, OPEN, AWAITING, ACTION),
    (CREATED, SILENT, DOUBT, PROCESSING),
    (CREATED, NotSent("connect"), AttemptState.NOT_SENT, PAYABLE),
    (CREATED, NO, AttemptState.DECLINED, PAYABLE),
    (DOUBT, OPEN, AWAITING, ACTION),
    (DOUBT, PAID, AttemptState.APPROVED, SUCCEEDED),
    (DOUBT, NotFound(), DOUBT, PROCESSING),
    (DOUBT, SILENT, DOUBT, PROCESSING),
    (AWAITING, PAID, AttemptState.APPROVED, SUCCEEDED),
    (AWAITING, OPEN, AWAITING, ACTION),
    (AWAITING, SILENT, AWAITING, ACTION),
    (AWAITING, NotFound(), AWAITING, ACTION),
    (AWAITING, NotSent("connect"), AWAITING, ACTION),
    (AWAITING, LEFT, AttemptState.DECLINED, PAYABLE),
    (AWAITING, LATE, AttemptState.DECLINED, PAYABLE),
    (AWAITING, NO, AttemptState.DECLINED, PAYABLE),
    (AWAITING, OTHER, REVERSING, PROCESSING),
    (REVERSING, PAID, AttemptState.UNDONE, PAYABLE),
])  # fmt: skip
def test_before_the_deadline_only_definite_words_end_the_wait(
    state: AttemptState, outcome: Outcome | NotFound, attempt: AttemptState, payment: PaymentState
) -> None:
    """Each line: where the attempt stood, what the PSP said, where attempt and payment stand then."""
    change = settled(state, outcome)
    assert (change.moves[0].after, change.payment.status) == (attempt, payment)
    assert (change.payment.next_action_url is not None) == (payment == ACTION and state != AWAITING)


@pytest.mark.parametrize(("state", "outcome", "attempt"), [
    (DOUBT, OPEN, REVERSING),
    (DOUBT, SILENT, REVERSING),
    (DOUBT, NotFound(), REVERSING),
    (AWAITING, OPEN, REVERSING),
    (AWAITING, SILENT, REVERSING),
    (AWAITING, NotFound(), REVERSING),
    (AWAITING, PAID, AttemptState.APPROVED),
    (AWAITING, LATE, AttemptState.DECLINED),
])  # fmt: skip
def test_from_the_deadline_on_everything_indefinite_is_undone(
    state: AttemptState, outcome: Outcome | NotFound, attempt: AttemptState
) -> None:
    """What is found paid before it is being undone is paid."""
    assert settled(state, outcome, late=True).moves[0].after == attempt


@pytest.mark.parametrize(("outcome", "code"), [
    (LEFT, "payment_intent_payment_attempt_failed"),
    (Declined("page_declined"), "payment_intent_payment_attempt_failed"),
    (LATE, "payment_intent_payment_attempt_expired"),
    (NO, "card_declined"),
])  # fmt: skip
def test_who_leaves_without_paying_leaves_a_reason(outcome: Declined, code: str) -> None:
    """No charge stands for a page that was left; a card that was declined there has one."""
    change = settled(AWAITING, outcome)
    assert change.payment.last_payment_error.code == code
    assert bool(change.charges) == (outcome is NO)


def test_a_canceled_payment_stays_canceled_when_its_page_is_undone() -> None:
    """The reversal's acknowledgement ends the attempt, and nothing else."""
    change = settled(REVERSING, PAID, status=PaymentState.CANCELED)
    assert (change.moves[0].after, change.payment.status, change.events) == (AttemptState.UNDONE, PaymentState.CANCELED, ())


def test_the_next_question_never_lies_behind_the_deadline() -> None:
    """So the page is closed when its time is over, not a minute later."""
    _, attempt = world_at(AWAITING)
    change = settled(AWAITING, OPEN)
    assert change.moves[0].retry_at <= attempt.facts.own_page.closes_at


def test_an_open_page_is_undone_before_anything_else_is_done() -> None:
    """Refused first; the change that undoes it takes the address away."""
    world, _ = world_at(AWAITING)
    with pytest.raises(PageOpen):
        refuse_while_open(world.payment)
    change = withdrawn(world.payment, now=1, ids=world.ids)
    assert (change.moves, change.payment.status, change.payment.next_action_url) == (undoing(world.payment, 1), PROCESSING, None)
    assert change.moves[0].after == REVERSING
    closing, _ = world_at(REVERSING)
    assert withdrawn(closing.payment, now=1, ids=world.ids) is None
    with pytest.raises(PageOpen):
        refuse_while_open(closing.payment)


def test_an_order_for_a_page_carries_no_card_and_is_sent_again_while_it_may_be_paid() -> None:
    """Nobody has its address, so under its key it is one page."""
    _, attempt = world_at(DOUBT)
    order = first_order(attempt)
    assert (order.payment_method_id, order.own_page) == (None, attempt.facts.own_page)
    assert isinstance(next_step(attempt, AWAITING, 1, attempt.created_at), Order)
    again = resend(attempt, DECLARES, attempt.created_at)
    assert (again.psp_key, again.first) == (order.psp_key, False)
    assert resend(attempt, DECLARES, attempt.facts.own_page.closes_at) is None
    assert resend(attempt, replace(DECLARES, idempotency_window_seconds=None), attempt.created_at) is None


def test_the_way_back_begins_with_the_way_there() -> None:
    """One secret for both."""
    assert way_to_page(OwnPage("http://checkout/page/at/secret/return", 0)) == "http://checkout/page/at/secret"
