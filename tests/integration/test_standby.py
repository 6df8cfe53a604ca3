"""A synchronous standby: what is acknowledged is there, what is claimed is there before a byte is sent, and a canceled wait proves nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from conftest import ACCOUNT, PaymentsWorld, payments_world
from guilder.core.clock import SECOND
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.outcome import NotFound
from guilder.db import Database
from guilder.idempotency.once import find
from guilder.log import hold_partitions
from guilder.payments.claim import CONSUMER, claim
from guilder.payments.commands import CreatePayment
from guilder.payments.create import create
from guilder.payments.execute import ROLE
from guilder.psp.model import Operation
from kafka_world import kafka_world
from standby import Pair

STORING, CLAIMING, KEPT, APPENDING = "payments_flush", "payments_claim", "pg_logical_emit_message", "log_append"
CLAIMED = "SELECT count(*) FROM attempt_open WHERE sender IS NOT NULL"
# A payment that nobody pays yet.
MADE = CreatePayment(amount=1_000, currency="eur")
STORED = "SELECT count(*) FROM payment"


@pytest.fixture
async def world(pair: Pair) -> AsyncIterator[PaymentsWorld]:
    """A payments room on the primary."""
    async with payments_world(pair.primary.dsn()) as world:
        yield world


def bought(world: PaymentsWorld) -> CreatePayment:
    """A payment with the buyer present."""
    return CreatePayment(amount=1_000, currency="eur", confirm=True, payment_method=world.card())


async def test_nothing_is_sent_before_the_standby_knows_the_claim(pair: Pair, world: PaymentsWorld) -> None:
    """The claim's commit waits for it; a wait that is canceled claims nothing that may be sent, and the PSP is only asked."""
    world.psp.answer = lambda order: NotFound() if order.operation is Operation.QUERY else None
    await world.pause()
    paying = asyncio.create_task(create(world.services, world.claim(), bought(world)))
    await world.until(lambda: _count(world, "SELECT count(*) FROM attempt_open"))
    sender = world.sender
    await hold_partitions(world.db, CONSUMER, sender.id, sender.epoch, role=ROLE)
    pair.hold()
    claiming = asyncio.create_task(claim(world.hot, sender.id, sender.epoch, now=world.clock.now(), due=False))
    await pair.waiting(CLAIMING)
    assert not claiming.done()
    assert not await _count(world, CLAIMED), "nobody sees it before the standby has it"
    await pair.cancel(CLAIMING)
    with pytest.raises(ResultUnknown):
        await claiming
    assert await _count(world, CLAIMED)
    pair.let_go()
    world.go_on()

    async def asked() -> bool:
        world.clock.advance(SECOND)
        return bool(world.psp.sent(Operation.REVERSAL))

    await world.until(asked, 20)
    assert world.psp.sent(Operation.PURCHASE) == []
    paying.cancel()


async def test_a_payment_whose_wait_was_canceled_is_never_acknowledged_and_may_be_lost(pair: Pair, world: PaymentsWorld) -> None:
    """Neither the request nor one that repeats it gets an answer from what only the primary has; after a failover there is none."""
    pair.hold()
    requests: list[asyncio.Task] = [asyncio.create_task(create(world.services, world.claim("once"), MADE))]
    await pair.waiting(STORING)
    await pair.cancel(STORING)
    await pair.waiting(KEPT)
    assert await _count(world, STORED) == 1, "every reader of the primary sees it"
    # As another process does with a repeated request.
    requests.append(asyncio.create_task(find(world.db, world.claim("once"))))
    await pair.until(f"SELECT count(*) - 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%{KEPT}%'")
    assert not any(request.done() for request in requests)
    await pair.promote()
    lost = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(one, ResultUnknown | Unavailable) for one in lost), lost
    async with payments_world(pair.standby.dsn()) as after:
        assert await _count(after, STORED) == 0
        answer = await create(after.services, after.claim("once"), MADE)
        assert (answer.replayed, answer.answer.status) == (False, 200)


async def test_a_commit_whose_wait_was_canceled_is_acknowledged_once_the_standby_has_it(pair: Pair, world: PaymentsWorld) -> None:
    """Nobody has to repeat anything when the standby is back within the time that a caller waits."""
    pair.hold()
    paying = asyncio.create_task(create(world.services, world.claim(), MADE))
    await pair.waiting(STORING)
    await pair.cancel(STORING)
    await pair.waiting(KEPT)
    assert not paying.done()
    pair.let_go()
    answer = await paying
    assert answer.answer.status == 200
    await pair.promote()
    async with payments_world(pair.standby.dsn()) as after:
        assert await after.store.read(answer.answer.root.id, ACCOUNT, False) is not None


async def test_the_relay_publishes_nothing_that_the_standby_does_not_know(pair: Pair, kafka: str) -> None:
    """After a failover that position would be another entry's, and whoever has read this one from Kafka would pass the other over."""
    db = await Database.connect(pair.primary.dsn(), role="guilder_app", max_size=4, name="test")
    async with kafka_world(pair.primary.dsn(), db, kafka) as world:
        before = await world.positions()
        pair.hold()
        writing = asyncio.create_task(world.log.append(("a", b"a0")))
        await pair.waiting(APPENDING)
        await pair.cancel(APPENDING)
        await writing
        copying = asyncio.create_task(world.copy())
        await pair.until("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        assert await world.positions() == before
        pair.let_go()
        await copying
        assert sum(map(len, (await world.positions()).values())) == sum(map(len, before.values())) + 1
    await db.close()


async def _count(world: PaymentsWorld, sql: str) -> int:
    return int(await world.db.fetchval(sql))
