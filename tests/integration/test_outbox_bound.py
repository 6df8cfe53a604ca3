"""The outbox has a bound: past it nothing that moves money is accepted, and what was accepted before is finished."""

import asyncpg
import pytest

from guilder.core.errors import Unavailable
from guilder.log import Backlog
from guilder.log.backlog import backlog
from guilder.payments.capture import capture
from guilder.payments.commands import CapturePayment, CreatePayment
from guilder.payments.create import create

BOUND = 12


@pytest.fixture
async def bounded(world):
    """A payments room whose outbox is small, and in which nobody consumes events."""
    world.services.backlog = Backlog(world.db, BOUND)
    return world


def payment(world) -> CreatePayment:
    """A payment that can be executed."""
    return CreatePayment(amount=1000, currency="eur", payment_method=world.card(), confirm=True)


async def consume(world) -> None:
    """Whoever reads has applied everything."""
    owner = await asyncpg.connect(world.dsn)
    await owner.execute(
        "UPDATE log_consumer c SET applied_to = h.head FROM log_head h WHERE h.topic = c.topic AND h.partition = c.partition AND c.topic = 2"
    )
    await owner.close()


async def fill(world) -> None:
    """Pay until there is too much."""
    while await world.services.backlog.look():
        result = await create(world.services, world.claim(), payment(world))
        assert result.answer.status == 200


async def test_past_the_bound_nothing_is_accepted_and_nothing_is_stored(bounded):
    """Until those who read have caught up."""
    await fill(bounded)
    stored = await bounded.db.fetchval("SELECT count(*) FROM payment")
    sent = len(bounded.psp.orders)
    claim = bounded.claim()
    with pytest.raises(Unavailable, match="outbox"):
        await create(bounded.services, claim, payment(bounded))
    assert await bounded.db.fetchval("SELECT count(*) FROM payment") == stored
    assert await bounded.db.fetchval("SELECT count(*) FROM idempotency_key WHERE key = $1", claim.key) == 0
    assert len(bounded.psp.orders) == sent
    await consume(bounded)
    assert await bounded.services.backlog.look()
    assert (await create(bounded.services, claim, payment(bounded))).answer.status == 200


async def test_a_key_that_was_seen_before_has_its_answer_past_the_bound_too(bounded):
    """503 is said only where nothing was stored."""
    first = await create(bounded.services, bounded.claim("first"), payment(bounded))
    await fill(bounded)
    again = await create(bounded.services, bounded.claim("first"), payment(bounded))
    assert (again.answer, again.replayed) == (first.answer, True)
    with pytest.raises(Unavailable):
        await capture(bounded.services, bounded.claim(), CapturePayment(payment=first.answer.root.id))


async def test_what_the_relay_has_not_copied_does_not_count(bounded):
    """Nobody waits for a copy."""
    await consume(bounded)
    await fill(bounded)
    await consume(bounded)
    owner = await asyncpg.connect(bounded.dsn)
    await owner.execute("INSERT INTO log_consumer (consumer, topic, partition, applied_to, awaited) SELECT 'relay.events', 2, p, 0, false FROM generate_series(0, 15) p")
    await owner.close()
    assert await backlog(bounded.db) == 0
