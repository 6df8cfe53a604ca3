"""Webhooks with everything real but the payments: PostgreSQL, the log, a worker's consumer and deliverer, receivers that listen."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from guilder.core.clock import ManualClock, Micros, SystemClock, sleep
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.db.sender import Sender
from guilder.jobs import Job, run_jobs
from guilder.log import TOPIC_EVENTS, Consumer, NewEvent, Outbox, announce, hold_partitions
from guilder.security import PurposeKeys
from guilder.shapes.facts import BalanceFacts, Facts, WebhookEndpointFacts
from guilder.webhooks import Allowed, CreateEndpoint, Deliveries, Endpoints
from guilder.webhooks.addresses import LOOPBACK
from guilder.webhooks.deliver import Deliverer
from guilder.webhooks.disable import disable_failing
from guilder.webhooks.fan_out import CONSUMER, FanOut

ACCOUNT = "acct_00000000000000000000test"
SANDBOX = Allowed(networks=LOOPBACK, plain_http=True)


class MovedClock(ManualClock):
    """Business time as the test moves it; real time and boot time of the machine, as signatures and heartbeats need them."""

    def real(self) -> Micros:
        return SystemClock().real()

    def boot(self) -> float:
        return SystemClock().boot()


class Worker:
    """One process that delivers: a sender, a consumer, a deliverer."""

    def __init__(self, world: "WebhookWorld", **options: Any) -> None:
        self.world = world
        self.options = {"allowed": (world.allowed, world.allowed), **options}

    async def start(self) -> "Worker":
        world = self.world
        self.beats = await Database.connect(world.dsn, role="guilder_app", max_size=1, name="beats")
        self.sender = Sender(self.beats, world.clock, world.ids, role="worker", lost=lambda _before: None)
        await self.sender.start()
        self.deliverer = Deliverer(
            db=world.db, sender=self.sender, clock=world.clock, ids=world.ids, keys=world.keys, personal=world.personal, role="worker",
            **self.options,
        )
        self.consumer = Consumer(
            world.db, world.clock, world.ids, reader=Outbox(world.db).reader(CONSUMER, TOPIC_EVENTS, lambda: self.sender.id),
            handle=FanOut(world.clock).handle,
        )

        async def hold() -> int:
            await hold_partitions(world.db, CONSUMER, self.sender.id, self.sender.epoch, role="worker")
            return 0

        async def fan_out() -> int:
            count = await self.consumer.run_once()
            if count:
                self.deliverer.wake()
            return count

        jobs = (
            Job("hold", 0.2, hold), Job("fan_out", 0.02, fan_out),
            Job("disable", 0.2, lambda: disable_failing(world.db, world.clock, world.ids)),
        )  # fmt: skip
        self.tasks = [asyncio.create_task(self.deliverer.run()), asyncio.create_task(run_jobs(jobs))]
        return self

    async def die(self) -> None:
        """End without giving anything back, as SIGKILL does."""
        assert self.sender._task is not None
        self.sender._task.cancel()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, self.sender._task, return_exceptions=True)
        await self.beats.close()

    async def stop(self) -> None:
        """End in order."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.sender.close()
        await self.beats.close()


class WebhookWorld:
    """What the tests hold in their hands."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.clock = MovedClock()
        self.ids = Ids(self.clock)
        self.keys = PurposeKeys(bytes(range(32)))
        self.allowed = SANDBOX
        self.records: dict[str, dict[str, Any]] = {}
        self.workers: list[Worker] = []

    async def start(self) -> None:
        self.db = await Database.connect(self.dsn, role="guilder_app", max_size=4, name="test")
        self.endpoints = Endpoints(self.db, self.keys, self.clock, self.ids, allowed=(self.allowed, self.allowed))
        self.deliveries = Deliveries(self.db, self.clock)

    async def personal(self, _account: str, ids: Any, _livemode: bool) -> Mapping[str, Mapping[str, Any]]:
        return {id_: self.records[id_] for id_ in ids if id_ in self.records}

    async def worker(self, **options: Any) -> Worker:
        """One more worker, running."""
        worker = await Worker(self, **options).start()
        self.workers.append(worker)
        return worker

    async def close(self) -> None:
        for worker in self.workers:
            if not worker.tasks[0].done():
                await worker.stop()
        await self.db.close()

    async def endpoint(self, url: str, *types: str, account: str = ACCOUNT, livemode: bool = False) -> WebhookEndpointFacts:
        """A new endpoint for these types, all by default."""
        async with self.db.transaction() as connection:
            command = CreateEndpoint(url=url, enabled_events=types or ("*",))
            return await self.endpoints.create(connection, account, command, livemode=livemode)

    def secret(self, endpoint: WebhookEndpointFacts, account: str = ACCOUNT) -> str:
        return self.endpoints.open(account, endpoint).reveal()

    async def announce(
        self, *types: str, key: str = "pi_1", account: str = ACCOUNT, livemode: bool = False, object_: Facts | None = None,
    ) -> list[str]:
        """Announce events of these types in one commit; their ids."""
        events = [
            NewEvent(id=self.ids.new("evt"), account=account, type=one, object=object_ or BalanceFacts(livemode, (("eur", 1),), ()))
            for one in types
        ]
        async with self.db.transaction() as connection:
            await announce(connection, livemode=livemode, now=self.clock.now(), key=key, events=events)
        return [event.id for event in events]

    async def rows(self, sql: str, *arguments: object) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.db.fetch(sql, *arguments)]

    async def states(self) -> list[str]:
        """The states of all deliveries, by endpoint and number."""
        return [row["state"] for row in await self.db.fetch("SELECT state FROM webhook_delivery ORDER BY endpoint, number")]

    async def until(self, condition: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Wait until the condition holds (it may be a coroutine function); fails the test after so long."""
        for _ in range(int(seconds / 0.02)):
            value = condition()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                return value
            await sleep(0.02)
        pytest.fail("waited too long")

    async def settled(self, number: int, state: str = "delivered") -> None:
        """Wait until so many deliveries are in this state."""

        async def there() -> bool:
            return await self.db.fetchval("SELECT count(*) FROM webhook_delivery WHERE state = $1", state) >= number

        await self.until(there)


@asynccontextmanager
async def webhook_world(dsn: str) -> AsyncIterator[WebhookWorld]:
    """A running room on a database, without a worker."""
    world = WebhookWorld(dsn)
    await world.start()
    try:
        yield world
    finally:
        await world.close()
