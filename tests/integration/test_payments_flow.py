"""One payment from accept to outcome, on a real PostgreSQL."""

import asyncio

import pytest
from steps import pay

from guilder.core.errors import Refusal
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Unknown
from guilder.payments.cancel import cancel
from guilder.payments.capture import capture
from guilder.payments.commands import CancelPayment, CapturePayment, CreateRefund
from guilder.payments.refund import refund
from guilder.psp.model import Operation


async def test_an_approved_purchase_is_booked_with_its_outcome(world):
    """State, charge, ledger, balance transaction, events and the stored answer come from one commit."""
    result = await pay(world)
    facts = result.answer.root
    assert (result.answer.status, facts.status, facts.amount_received) == (200, "succeeded", 1000)
    assert await world.event_types() == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]
    entry = await world.db.fetchrow("SELECT amount, fee, type FROM balance_transaction")
    assert tuple(entry) == (1000, 15, "charge")
    assert await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0
    await world.books_agree()


async def test_a_declined_purchase_answers_402_and_leaves_a_failed_charge(world):
    """The payment asks for another card; nothing is in the books."""
    world.psp.answer = lambda order: Declined("insufficient_funds", "51")
    result = await pay(world)
    assert (result.answer.status, result.answer.error.code, result.answer.error.decline_code) == (402, "card_declined", "insufficient_funds")
    facts = result.answer.root
    assert (facts.status, facts.payment_method) == ("requires_payment_method", None)
    assert await world.event_types() == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    assert await world.db.fetchval("SELECT count(*) FROM ledger_transfer") == 0


async def test_a_repeated_request_gets_its_answer_and_nothing_happens_twice(world):
    """Same key, same parameters: the stored answer; other parameters: idempotency_error."""
    first = await pay(world, claim=world.claim("k"))
    again = await pay(world, claim=world.claim("k"))
    assert again.replayed and again.answer == first.answer
    assert len(world.psp.orders) == 1
    with pytest.raises(Refusal) as refused:
        await pay(world, claim=world.claim("k", fingerprint=b"other"))
    assert refused.value.facts.type == "idempotency_error"


async def test_a_part_of_an_authorization_is_captured_and_the_rest_let_go(world):
    """One balance transaction for what was captured, and nothing is held any more."""
    authorized = await pay(world, capture_method="manual")
    assert authorized.answer.root.status == "requires_capture"
    done = await capture(world.services, world.claim(), CapturePayment(payment=authorized.answer.root.id, amount_to_capture=400))
    assert (done.answer.root.status, done.answer.root.amount_received, done.answer.root.amount_capturable) == ("succeeded", 400, 0)
    assert [tuple(row) for row in await world.db.fetch("SELECT amount, fee FROM balance_transaction")] == [(400, 6)]
    await world.books_agree()


async def test_a_canceled_authorization_is_voided_at_the_psp_first(world):
    """The void names the authorization; the payment is canceled when it is acknowledged."""
    authorized = await pay(world, capture_method="manual")
    done = await cancel(world.services, world.claim(), CancelPayment(payment=authorized.answer.root.id, cancellation_reason="abandoned"))
    assert (done.answer.root.status, done.answer.root.cancellation_reason) == ("canceled", "abandoned")
    void = world.psp.sent(Operation.VOID)[0]
    assert void.original.reference == world.psp.sent(Operation.AUTHORIZE)[0].reference
    await world.books_agree()


async def test_refunds_in_part_and_then_the_rest_leave_nothing_to_refund(world):
    """A refund over what is left is refused by parameter; a refund of nothing by code."""
    paid = (await pay(world)).answer.root
    first = await refund(world.services, world.claim(), CreateRefund(payment=paid.id, amount=300))
    assert first.answer.root.status == "succeeded"
    over = await refund(world.services, world.claim(), CreateRefund(payment=paid.id, amount=701))
    assert (over.answer.status, over.answer.error.param) == (400, "amount")
    second = await refund(world.services, world.claim(), CreateRefund(payment=paid.id))
    assert (second.answer.root.amount, second.answer.root.status) == (700, "succeeded")
    none = await refund(world.services, world.claim(), CreateRefund(payment=paid.id))
    assert none.answer.error.code == "charge_already_refunded"
    assert "charge.refunded" in await world.event_types()
    await world.books_agree()


async def test_an_unknown_outcome_shows_processing_until_the_psp_has_been_asked(world):
    """Unknown is not failed: the answer is `processing`, and the query's approval is booked."""
    answers = iter([Unknown("timeout")])
    world.psp.answer = lambda order: next(answers, None) or Approved(order.reference)
    result = await pay(world)
    assert (result.answer.status, result.answer.root.status) == (200, "processing")
    world.clock.advance(2_000_000)
    await world.until(lambda: world.psp.sent(Operation.QUERY))

    async def settled():
        return (await world.payment(result.answer.root.id)).status == "succeeded"

    await world.until(settled)
    assert (await world.event_types())[1:] == ["payment_intent.processing", "charge.succeeded", "payment_intent.succeeded"]
    await world.books_agree()


async def test_not_found_is_no_proof_of_absence_so_the_authorization_is_reversed(world):
    """The reversal is repeated until it is acknowledged; only then does the payment ask for a card again."""
    said = {Operation.PURCHASE: Unknown("timeout"), Operation.QUERY: NotFound(), Operation.REVERSAL: Unknown("timeout")}
    world.psp.answer = lambda order: said[order.operation]
    payment = (await pay(world)).answer.root.id
    world.clock.advance(2_000_000)
    await world.until(lambda: world.psp.sent(Operation.REVERSAL))
    assert (await world.payment(payment)).status == "processing"
    said[Operation.REVERSAL] = Approved("R")
    world.clock.advance(60_000_000)

    async def undone():
        return (await world.payment(payment)).status == "requires_payment_method"

    await world.until(undone)
    assert await world.db.fetchval("SELECT state FROM attempt WHERE payment = $1", payment) == "undone"


async def test_what_was_certainly_not_sent_fails_at_once_and_may_be_tried_again(world):
    """Not sent: 402 processing_error, nothing charged, no charge object."""
    world.psp.answer = lambda order: NotSent("connect")
    result = await pay(world)
    assert (result.answer.status, result.answer.error.code) == (402, "processing_error")
    assert await world.db.fetchval("SELECT count(*) FROM charge") == 0


async def test_a_hundred_payments_at_once_are_all_booked(world):
    """They share flushes; nobody's answer gets mixed up."""
    results = await asyncio.gather(*(pay(world, amount=100 + number) for number in range(100)))
    assert [result.answer.root.amount_received for result in results] == [100 + number for number in range(100)]
    assert await world.db.fetchval("SELECT sum(amount) FROM balance_transaction") == sum(range(100, 200))
    await world.books_agree()
