"""Many who wait in vain for a slow PSP at the same moment: each gets an answer that stands, and others are served beside them."""

import asyncio

import asyncpg
import pytest

from conftest import PaymentsWorld, root
from guilder.core.errors import Refusal
from guilder.core.outcome import Approved
from guilder.payments import accept as module
from guilder.payments import create, refund
from guilder.payments.commands import CreatePayment, CreateRefund
from guilder.shapes.facts import PaymentIntentFacts, RefundFacts

CROWD = 300
WAIT_SECONDS = 2.0
# A connection is there at once, or not at all while the crowd holds them.
SOON_SECONDS = 3.0


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ten seconds here."""
    monkeypatch.setattr(module, "ANSWER_WAIT_SECONDS", WAIT_SECONDS)


def pays(world: PaymentsWorld, key: str, **more):
    """Ask for a payment under a key."""
    return create(world.services, world.claim(key), CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card(), **more))


async def accepted(world: PaymentsWorld, count: int) -> None:
    """So many attempts are stored."""

    async def stored() -> bool:
        return await world.db.fetchval("SELECT count(*) FROM attempt") == count

    await world.until(stored)


async def test_a_crowd_whose_wait_ends_leaves_connections_to_others(world: PaymentsWorld):
    """While the table that all of them ask is locked, what asks another one is answered; then each of them is told the truth."""
    world.psp.answer = lambda _order: None
    asked = [asyncio.create_task(pays(world, f"k{number}")) for number in range(CROWD)]
    await accepted(world, CROWD)
    blocker = await asyncpg.connect(world.dsn)
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE idempotency_key IN ACCESS EXCLUSIVE MODE")
        await world.until(lambda: not world.waiting._waiting)
        async with asyncio.timeout(SOON_SECONDS):
            assert await world.db.fetchval("SELECT count(*) FROM payment") == CROWD
    await blocker.close()
    results = await asyncio.gather(*asked)
    assert {root(result).status for result in results} == {"processing"}
    assert len({root(result).id for result in results}) == CROWD
    again = await asyncio.gather(*(pays(world, f"k{number}") for number in range(CROWD)))
    assert [root(result).id for result in again] == [root(result).id for result in results]
    assert all(result.replayed for result in again)


async def test_an_answer_that_comes_in_the_last_moment_is_the_one_that_stands(world: PaymentsWorld):
    """The list writes only where none stands; payments, a refund and what was answered meanwhile stand in one list."""
    first = root(await pays(world, "paid"))
    world.psp.answer = lambda _order: None
    asked = [asyncio.create_task(pays(world, f"k{number}")) for number in range(20)]
    asked.append(asyncio.create_task(refund(world.services, world.claim("back"), CreateRefund(payment=first.id))))
    await world.until(lambda: len(world.psp.held) == 21)
    blocker = await asyncpg.connect(world.dsn)
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE idempotency_key IN ACCESS EXCLUSIVE MODE")
        await world.until(lambda: not world.waiting._waiting)
        for order, deliver in world.psp.held[:10]:
            deliver(order, Approved(order.reference))
    await blocker.close()
    results = await asyncio.gather(*asked)
    assert {type(root(result)) for result in results[:20]} == {PaymentIntentFacts}
    assert (type(root(results[20])), root(results[20]).status) == (RefundFacts, "pending")
    for number, result in enumerate(results[:20]):
        again = await pays(world, f"k{number}")
        assert (root(again).id, root(again).status) == (root(result).id, root(result).status)


async def test_each_of_a_crowd_is_answered_by_its_own_parameters(world: PaymentsWorld):
    """A key that somebody else's parameters were used with is refused to him alone."""
    world.psp.answer = lambda _order: None
    asked = [asyncio.create_task(pays(world, f"k{number}")) for number in range(10)]
    await accepted(world, 10)
    await world.db.execute("UPDATE idempotency_key SET fingerprint = 'other' WHERE key = 'k3'")
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [number for number, result in enumerate(results) if isinstance(result, Refusal)] == [3]
