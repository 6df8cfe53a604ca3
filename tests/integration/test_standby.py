"""A synchronous standby: what is acknowledged is there, what is claimed is there before a byte is sent, and a canceled wait proves nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from webhook_world import webhook_world

from conftest import ACCOUNT, PaymentsWorld, payments_world
from guilder.core.clock import SECOND
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.outcome import Approved, NotFound
from guilder.db import Database
from guilder.idempotency.once import find
from guilder.log import hold_partitions
from guilder.payments.claim import CONSUMER, claim
from guilder.payments.commands import CreatePayment
from guilder.payments.create import create
from guilder.payments.execute import ROLE
from guilder.psp.model import Operation
from guilder.webhooks import deliver
from kafka_world import kafka_world
from receiver import OK, Receiver, Request
from standby import Pair

STORING, CLAIMING, KEPT, APPENDING = "payments_flush", "payments_claim", "pg_logical_emit_message", "log_append"
ANSWERING, DELIVERED = "answer IS NOT NULL", "webhook_results"
CLAIMED = "SELECT count(*) FROM attempt_open WHERE sender IS NOT NULL"
# A payment that nobody pays yet.
MADE = CreatePayment(amount=1_000, currency="eur")
STORED = "SELECT count(*) FROM payment"
PAID, READING = "payment_intent.succeeded", "webhook_next"
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%{}%'"


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


async def test_an_outcome_whose_wait_was_canceled_is_not_answered_before_the_standby_has_it(pair: Pair, world: PaymentsWorld) -> None:
    """After a failover the payment would end the same, with a charge under another id: two answers under one key."""
    world.psp.answer = lambda _order: None
    paying = asyncio.create_task(create(world.services, world.claim(), bought(world)))
    await world.until(lambda: world.psp.held)
    order, deliver_outcome = world.psp.held.pop()
    pair.hold()
    deliver_outcome(order, Approved(order.reference, "123456"))

    async def read() -> bool:
        await pair.cancel(but=ANSWERING)
        return bool(paying.done() or await pair.ask(WAITS.format(ANSWERING)))

    try:
        await world.until(read)
        assert not paying.done()
    finally:
        pair.let_go()
    assert (await paying).answer.root.id


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


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    receiver = await Receiver().start()
    yield receiver
    await receiver.close()


async def test_no_webhook_leaves_before_the_standby_has_it(pair: Pair, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failover its number would be another event's, and whoever counts by it would take that for a repetition."""
    # Which endpoints it has is settled for as long as this takes.
    monkeypatch.setattr(deliver, "HOLD_SECONDS", 600.0)
    async with webhook_world(pair.primary.dsn()) as world:
        await world.endpoint(receiver.url)
        await world.worker()
        await world.announce(PAID)
        await world.settled(1)
        pair.hold()
        announcing = asyncio.create_task(world.announce(PAID))

        async def read() -> bool:
            await pair.cancel(but=READING)
            return bool(len(receiver.requests) > 1 or await pair.ask(WAITS.format(READING)))

        try:
            await world.until(read)
            assert len(receiver.requests) == 1
        finally:
            pair.let_go()
        await world.until(lambda: len(receiver.requests) == 2)
        await asyncio.gather(announcing, return_exceptions=True)


async def test_a_webhook_counts_as_delivered_when_the_standby_knows_it(pair: Pair, receiver: Receiver) -> None:
    """Nobody would come back to it: what is delivered is passed for good, and after a failover it would be waiting."""

    def taken(_request: Request) -> bytes:
        pair.hold()
        return OK

    receiver.behave = taken
    async with webhook_world(pair.primary.dsn()) as world:
        await world.endpoint(receiver.url)
        await world.worker()
        await world.announce(PAID)
        await pair.waiting(DELIVERED)
        await pair.cancel(DELIVERED)
        # What is repeated finds it delivered, and has nothing to commit.
        await pair.waiting(KEPT)
        pair.let_go()
        await world.settled(1)


async def _count(world: PaymentsWorld, sql: str) -> int:
    return int(await world.db.fetchval(sql))
