"""An executor that ends, as at each deploy: what it had not sent is as if it had never claimed it, and answers are waited for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from conftest import PaymentsWorld, ScriptedPsp, payments_world
from guilder.core.outcome import Approved, NotSent
from guilder.payments import create, execute
from guilder.payments.commands import CreatePayment
from guilder.psp.model import Deliver, Operation, Order, Permit, Reason

CLAIMS_WAIT = """
    CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
    CREATE TRIGGER waits BEFORE UPDATE ON attempt_open FOR EACH ROW EXECUTE FUNCTION waits()"""
"""A claim waits for whoever holds that lock; an accept, which only inserts, does not."""


class QueueingPsp(ScriptedPsp):
    """Orders wait in it, as for a connection, and leave when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.queued: list[tuple[Order, Permit]] = []
        self.delivers: list[Deliver] = []

    def submit(self, orders: Sequence[Order], permit: Permit, deliver: Deliver) -> None:
        """Nothing of them is written."""
        self.queued += [(order, permit) for order in orders]
        self.delivers += [deliver for _ in orders]


async def asks(world: PaymentsWorld) -> asyncio.Task:
    """Somebody pays, and waits for the answer."""
    command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card())
    return asyncio.create_task(create(world.services, world.claim(), command))


async def leaves(world: PaymentsWorld) -> None:
    """The executor of the world ends."""
    await world.end_work()
    await world.executor.leave()
    await world.sender.close()


async def another_works(world: PaymentsWorld) -> None:
    """One more executor, in place of the world's."""
    world.executor, world.sender, world._running = await world.new_executor()


async def open_rows(world: PaymentsWorld) -> list[tuple]:
    """How each open attempt stands: its state, whose it is, whether it is due, and whether its time still ends it."""
    sql = "SELECT state, sender, retry_at <= $1 AS due, execute_by IS NOT NULL AS ends FROM attempt_open"
    return [tuple(row) for row in await world.db.fetch(sql, world.clock.now())]


async def test_what_was_claimed_and_not_sent_is_given_back_as_it_was(database: str):
    """The next executor sends it, once; the order that still waits in the connector never leaves. Nobody sees a failed payment."""
    queueing = QueueingPsp()
    async with payments_world(database, lambda world: setattr(world, "psp", queueing)) as world:
        asked = await asks(world)
        await world.until(lambda: queueing.queued)
        await leaves(world)
        assert await open_rows(world) == [("created", None, True, True)]
        [(order, permit)] = queueing.queued
        assert not permit(order)
        world.psp = ScriptedPsp()
        await another_works(world)
        assert (await asked).answer.root.status == "succeeded"
        assert [one.operation for one in world.psp.orders] == [Operation.PURCHASE]


async def test_an_answer_that_comes_while_it_ends_is_booked(world: PaymentsWorld):
    """Nothing is left in doubt, and nobody has to ask the PSP."""
    world.psp.answer = lambda _order: None
    asked = await asks(world)
    await world.until(lambda: world.psp.held)
    await world.end_work()
    leaving = asyncio.create_task(world.executor.leave())
    await world.until(lambda: world.executor._leaving)
    [(order, deliver)] = world.psp.held
    deliver(order, Approved(order.reference, "123456"))
    await leaving
    assert await open_rows(world) == []
    assert (await asked).answer.root.status == "succeeded"


async def test_what_was_sent_and_not_answered_is_in_doubt(world: PaymentsWorld):
    """The end does not wait for ever; the next executor asks what became of it."""
    world.psp.answer = lambda _order: None
    asked = await asks(world)
    await world.until(lambda: world.psp.held)
    await leaves(world)
    assert await open_rows(world) == [("in_doubt", None, True, False)]
    world.psp.answer = lambda order: Approved(order.reference, "123456")
    await another_works(world)
    result = await asked
    assert result.answer.root.status in ("processing", "succeeded")
    await world.until(lambda: world.psp.sent(Operation.QUERY))
    assert len(world.psp.sent(Operation.PURCHASE)) == 1


def claim_waits(watcher: asyncpg.Connection) -> Awaitable[bool]:
    """Whether a claim of this database is under way, and waits for that lock."""
    return watcher.fetchval("""
        SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'advisory' AND query LIKE '%payments_claim%')""")


@asynccontextmanager
async def cut_off(world: PaymentsWorld) -> AsyncIterator[asyncio.Task]:
    """Somebody pays, and work stops while the claim of that is under way, which commits at the end of this."""
    blocker, watcher = await asyncpg.connect(world.dsn), await asyncpg.connect(world.dsn)
    await blocker.execute(CLAIMS_WAIT)
    async with blocker.transaction():
        await blocker.execute("SELECT pg_advisory_xact_lock(1)")
        asked = await asks(world)
        await world.until(lambda: claim_waits(watcher))
        await world.end_work()
        yield asked
    await asyncio.gather(blocker.close(), watcher.close())


async def test_a_claim_that_the_end_cuts_off_is_given_back(world: PaymentsWorld):
    """Its statement is under way, and commits after nobody works here any more."""
    async with cut_off(world) as asked:
        pass
    await world.executor.leave()
    assert world.psp.orders == []
    assert await open_rows(world) == [("created", None, True, True)]
    await world.sender.close()
    await another_works(world)
    assert (await asked).answer.root.status == "succeeded"


async def test_a_claim_that_a_pause_cuts_off_is_given_back_when_work_goes_on(world: PaymentsWorld):
    """As while the clock cannot be believed: the order is sent then, and nothing of it is in doubt."""
    async with cut_off(world) as asked:
        pass
    world.go_on()
    assert (await asked).answer.root.status == "succeeded"
    assert [one.operation for one in world.psp.orders] == [Operation.PURCHASE]


async def test_an_order_whose_turn_comes_while_the_last_claim_is_waited_for_is_given_back_as_well(
    database: str, monkeypatch: pytest.MonkeyPatch
):
    """It is not permitted any more, and whoever is refused that says that it was not sent: nobody's payment fails for it."""
    monkeypatch.setattr(execute, "ANSWERS_SECONDS", 30.0)
    queueing = QueueingPsp()
    async with payments_world(database, lambda world: setattr(world, "psp", queueing)) as world:
        asked = [await asks(world)]
        await world.until(lambda: queueing.queued)
        blocker, watcher = await asyncpg.connect(world.dsn), await asyncpg.connect(world.dsn)
        await blocker.execute(CLAIMS_WAIT)
        async with blocker.transaction():
            await blocker.execute("SELECT pg_advisory_xact_lock(1)")
            asked.append(await asks(world))
            await world.until(lambda: claim_waits(watcher))
            await world.end_work()
            leaving = asyncio.create_task(world.executor.leave())
            await world.until(lambda: world.executor._leaving)
            [(order, permit)], [deliver] = queueing.queued, queueing.delivers
            assert not permit(order)
            deliver(order, NotSent(Reason.FENCED.value))
            await world.until(lambda: not world.executor._in_hand)
        await asyncio.gather(blocker.close(), watcher.close())
        await leaving
        assert await open_rows(world) == [("created", None, True, True)] * 2
        await world.sender.close()
        world.psp = ScriptedPsp()
        await another_works(world)
        assert {one.answer.root.status for one in await asyncio.gather(*asked)} == {"succeeded"}
