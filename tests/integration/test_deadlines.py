"""A caller's deadline: what it no longer waits for is dropped before it is accepted or sent, and never after."""

import asyncio

import pytest

from conftest import PaymentsWorld, root
from guilder.core.clock import SECOND
from guilder.core.errors import Unavailable
from guilder.payments import capture, confirm, create
from guilder.payments.commands import CapturePayment, ConfirmPayment, CreatePayment


def bought(world: PaymentsWorld, **changes) -> CreatePayment:
    """A payment with the buyer present."""
    return CreatePayment(amount=1_000, currency="eur", confirm=True, payment_method=world.card(), **changes)


async def test_what_comes_too_late_is_not_accepted(world: PaymentsWorld) -> None:
    """Nothing is stored, for any verb; a key that was seen before gets its answer all the same."""
    over = world.clock.now()
    with pytest.raises(Unavailable, match="own time is over"):
        await create(world.services, world.claim(deadline=over), bought(world))
    assert await world.db.fetchval("SELECT count(*) FROM payment") == 0
    made = root(await create(world.services, world.claim("once"), bought(world, capture_method="manual")))
    with pytest.raises(Unavailable):
        await capture(world.services, world.claim(deadline=over), CapturePayment(payment=made.id))
    again = await create(world.services, world.claim("once", deadline=over), bought(world, capture_method="manual"))
    assert (again.replayed, root(again).id) == (True, made.id)
    assert len(world.psp.orders) == 1


async def test_a_payment_is_not_sent_after_its_callers_deadline(world: PaymentsWorld) -> None:
    """The executor that comes to it later ends it as not sent: nothing was charged, and another try is open."""
    payment = root(await create(world.services, world.claim(), CreatePayment(amount=1_000, currency="eur"))).id
    await world.pause()
    claim = world.claim(deadline=world.clock.now() + 2 * SECOND)
    paying = asyncio.create_task(confirm(world.services, claim, ConfirmPayment(payment=payment, payment_method=world.card())))

    async def accepted() -> bool:
        return bool(await world.db.fetchval("SELECT count(*) FROM attempt_open"))

    await world.until(accepted)
    world.clock.advance(2 * SECOND)
    world.go_on()
    answer = (await paying).answer
    assert (answer.status, answer.error.code, world.psp.orders) == (402, "processing_error", [])
    assert (await world.payment(payment)).status == "requires_payment_method"


async def test_a_deadline_that_is_further_away_changes_nothing(world: PaymentsWorld) -> None:
    """A payment may be sent for as long as a buyer waits, and no longer."""
    await create(world.services, world.claim(deadline=world.clock.now() + 600 * SECOND), bought(world))
    row = await world.db.fetchrow("SELECT execute_by - created_at AS may_be_sent FROM attempt")
    assert row["may_be_sent"] == 60 * SECOND
