"""Payments without a buyer while their PSP is down: they cost next to nothing until its breaker lets them through, and then all go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conftest import DECLARES, PaymentsWorld, ScriptedPsp, payments_world, root
from guilder.breaker import Breaker
from guilder.core.clock import HOUR, MINUTE, SECOND
from guilder.core.outcome import Approved, NotFound, NotSent, Outcome
from guilder.payments.commands import CreatePayment
from guilder.payments.create import create
from guilder.psp.model import Operation, Order
from guilder.psp.router import Route
from guilder.tuning import Breaking, Fallback, Tuning

WAITING = 60
LIMITS = Breaking(failures_min=1, cool_down_seconds=0.5, probe_interval_seconds=0.5)


class BrokenPsp(ScriptedPsp):
    """A PSP that is down behind a real breaker, until `down` is over. Counts what it was given, and what went through to it."""

    def __init__(self, name: str = "cardnet") -> None:
        super().__init__(name)
        self.down = True
        self.breaker = Breaker(LIMITS)
        self.given = 0
        self.through = 0
        self.answer = self.behind_its_breaker

    def behind_its_breaker(self, order: Order) -> Outcome | NotFound:
        """What a connector does with an order."""
        now = asyncio.get_running_loop().time()
        self.given += 1
        if not self.breaker.allows(now):
            return NotSent("breaker_open")
        self.through += 1
        if self.down:
            self.breaker.failed(now)
            return NotSent("connect")
        self.breaker.succeeded(now)
        return Approved(order.reference)


@asynccontextmanager
async def waiting_world(database: str, *more: ScriptedPsp) -> AsyncIterator[PaymentsWorld]:
    """A world whose only PSP is down, or that has others beside it to which nothing falls back."""
    psp = BrokenPsp()

    def lets_through(name: str, _operation: Operation) -> int | None:
        return psp.breaker.lets_through(asyncio.get_running_loop().time()) if name == psp.name else None

    def change(world: PaymentsWorld) -> None:
        world.tuning = Tuning(fallback=Fallback(wait_seconds=24 * 3_600))
        world.psp, world.lets_through = psp, lets_through
        for other in more:
            world.connectors[other.name] = other
            world.routes.append(Route(connector=other.name, psp_merchant="M2", livemode=False, declares=DECLARES))

    async with payments_world(database, change) as world:
        yield world


async def pays(world: PaymentsWorld) -> str:
    """A payment that may wait; returns its status once the caller is answered."""
    command = CreatePayment(amount=1_000, currency="eur", confirm=True, payment_method=world.card(), off_session=True)
    return root(await create(world.services, world.claim(), command)).status


async def stopped_by_the_breaker(world: PaymentsWorld) -> None:
    """All of them wait, and all but the ones that failed themselves wait for the breaker."""
    await asyncio.gather(*(pays(world) for _ in range(WAITING)))

    async def all_wait() -> bool:
        world.clock.advance(MINUTE)
        return await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE breaker = 'cardnet.purchase'") >= WAITING - 2

    await world.until(all_wait)


async def succeeded(world: PaymentsWorld) -> bool:
    """Whether all have. A second passes with each look: a probe that failed a moment ago is tried again at its time."""
    world.clock.advance(SECOND)
    return await world.db.fetchval("SELECT count(*) FROM payment WHERE state = 'succeeded'") == WAITING


async def test_what_waits_for_an_open_breaker_is_claimed_as_a_probe_only(database: str):
    """Not again and again when its time comes; each claim of it goes through to the PSP, or nearly."""
    async with waiting_world(database) as world:
        await stopped_by_the_breaker(world)
        given, through = world.psp.given, world.psp.through

        # Hours of retry times in seconds of probes.
        async def probed() -> bool:
            world.clock.advance(MINUTE)
            return world.psp.through >= through + 3

        await world.until(probed)
        # A probe that fails, and the same payment when it meets the breaker at its time.
        assert world.psp.given - given <= 3 * (world.psp.through - through)


async def test_all_that_waited_goes_as_soon_as_the_psp_is_back_whatever_its_time(database: str):
    """Nobody's retry time comes: it is an hour away, and business time moves by minutes."""
    async with waiting_world(database) as world:
        await stopped_by_the_breaker(world)
        world.psp.down = False
        await world.db.execute("UPDATE attempt_open SET retry_at = $1 WHERE breaker IS NOT NULL", world.clock.now() + HOUR)
        world.clock.advance(MINUTE)
        await world.until(lambda: succeeded(world))
        await world.books_agree()


async def test_what_waits_ends_by_its_time_while_the_breaker_is_open(database: str):
    """Nothing was sent, so each ends without its PSP."""
    async with waiting_world(database) as world:
        await stopped_by_the_breaker(world)
        given = world.psp.given
        world.clock.advance(25 * HOUR)

        async def ended() -> bool:
            return await world.db.fetchval("SELECT count(*) FROM attempt WHERE state = 'not_sent'") == WAITING

        await world.until(ended)
        assert world.psp.given <= given + 2


async def test_a_line_behind_one_psp_holds_up_no_other_one(database: str):
    """Also of what waits for its time at the other one."""
    other = ScriptedPsp("other")
    async with waiting_world(database, other) as world:
        await stopped_by_the_breaker(world)
        world.routes.pop(0)
        other.answer = lambda _order: NotSent("connect")
        assert await pays(world) == "processing"
        other.answer = lambda order: Approved(order.reference)
        world.clock.advance(MINUTE)
        await world.until(lambda: len(other.orders) == 2)


async def test_what_waits_for_a_connector_that_is_gone_is_claimed_by_its_time(database: str):
    """It is not sent, because nobody here can send it."""
    async with waiting_world(database) as world:
        await stopped_by_the_breaker(world)
        await world.pause()
        await world.db.execute("UPDATE attempt_open SET breaker = 'gone.purchase' WHERE breaker IS NOT NULL")
        world.psp.down = False
        world.go_on()
        world.clock.advance(MINUTE)
        await world.until(lambda: succeeded(world))
