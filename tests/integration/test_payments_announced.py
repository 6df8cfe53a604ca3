"""A payment that was made with its first attempt is announced once, by that attempt's first outcome, and before what the outcome tells."""

import asyncio

import pytest
from steps import pay

from guilder.core.clock import SECOND
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Unknown
from guilder.payments import cancel, confirm, create
from guilder.payments.claim import set_free
from guilder.payments.commands import CancelPayment, ConfirmPayment, CreatePayment
from guilder.psp.model import Operation

CREATED = "payment_intent.created"


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Approved("1", "123456"), ["charge.succeeded", "payment_intent.succeeded"]),
        (Declined("insufficient_funds", "51"), ["charge.failed", "payment_intent.payment_failed"]),
        (NotSent("connect"), ["payment_intent.payment_failed"]),
        (Unknown("timeout"), ["payment_intent.processing"]),
        (Unknown("mismatch"), ["payment_intent.processing"]),
    ],
)
async def test_whatever_the_first_outcome_is_it_announces_the_payment_first(world, outcome, told):
    """As it was before it was sent."""
    world.psp.answer = lambda order: outcome if order.operation is Operation.PURCHASE else Unknown("timeout")
    await pay(world)
    assert await world.event_types() == [CREATED, *told]


async def test_a_payment_in_doubt_is_announced_once_however_often_it_is_asked_about(world):
    """The first outcome is the doubt; inquiry, reversal and their end follow it."""
    said = {Operation.PURCHASE: Unknown("timeout"), Operation.QUERY: NotFound(), Operation.REVERSAL: Unknown("timeout")}
    world.psp.answer = lambda order: said.get(order.operation, Approved(order.reference))
    await pay(world)

    async def reversed_twice():
        world.clock.advance(10 * SECOND)
        return len(world.psp.sent(Operation.REVERSAL)) >= 2

    await world.until(reversed_twice)
    del said[Operation.REVERSAL]

    async def undone():
        world.clock.advance(10 * SECOND)
        return (await world.event_types())[-1] == "payment_intent.payment_failed"

    await world.until(undone)
    assert await world.event_types() == [CREATED, "payment_intent.processing", "payment_intent.payment_failed"]


async def test_an_attempt_that_was_set_free_before_any_outcome_announces_its_payment_with_the_next(world):
    """Its sender went away with the call in hand; whoever asks next brings the first outcome."""
    world.psp.answer = lambda order: None if order.operation is Operation.PURCHASE else Approved(order.reference, "123456")
    asked = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.sent(Operation.PURCHASE))
    assert await world.event_types() == []
    assert await set_free(world.db, world.sender.id, [], world.clock.now()) == 1

    async def settled():
        world.clock.advance(SECOND)
        return await world.event_types()

    await world.until(settled)
    await asked
    assert await world.event_types() == [CREATED, "charge.succeeded", "payment_intent.succeeded"]
    await world.books_agree()


async def test_a_payment_that_is_canceled_before_anybody_sent_it_is_announced_by_the_cancel(world):
    """Nobody claims it: the executor is away."""
    world._running.cancel()
    asked = asyncio.create_task(pay(world))

    async def accepted():
        return await world.db.fetchval("SELECT id FROM payment")

    payment = await world.until(accepted)
    await cancel(world.services, world.claim(), CancelPayment(payment=payment))
    assert await world.event_types() == [CREATED, "payment_intent.canceled"]
    assert (await asked).answer.status == 402


async def test_a_payment_that_is_confirmed_later_was_announced_when_it_was_made(world):
    """Its accept without an attempt has nobody else to tell it."""
    made = await create(world.services, world.claim(), CreatePayment(amount=1000, currency="eur", payment_method=world.card()))
    assert await world.event_types() == [CREATED]
    await confirm(world.services, world.claim(), ConfirmPayment(payment=made.answer.root.id))
    assert await world.event_types() == [CREATED, "charge.succeeded", "payment_intent.succeeded"]
