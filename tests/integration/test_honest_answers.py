"""An answer never lies: 503 only when nothing can have been stored, 409 never for a request's own work, no late answer lost."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from wire_cutter import ANSWER, REQUEST, SENT, WireCutter

from guilder.core.clock import SECOND
from guilder.core.errors import ErrorFacts, ResultUnknown
from guilder.core.outcome import Approved
from guilder.db import Connection
from guilder.idempotency import once
from guilder.idempotency.once import store_answer
from guilder.payments import capture, create, refund
from guilder.payments.commands import CapturePayment, CreatePayment, CreateRefund
from guilder.shapes.facts import SHAPE, Answer

REFUSED = Answer(SHAPE, 400, None, ErrorFacts(type="invalid_request_error", message="No."))
OPERATIONS = ["purchase", "capture", "refund"]


class Cutter(WireCutter):
    """With `then_bar`, the first cut's question is answered; then what is sent again is cut too, and nobody gets a new connection."""

    def __init__(self) -> None:
        super().__init__()
        self.then_bar = ""
        self.turned_away = 0
        self._asked = False

    def taken(self, data: bytes, *kinds: str) -> str | None:
        """As its parent."""
        kind = super().taken(data, *kinds)
        if not self.then_bar or self.cuts != 1 or self._barred:
            return kind
        # The question names the key; others are answered with no rows too.
        self._asked = self._asked or (kind is None and self.then_bar.encode() in data)
        if self._asked and b"SELECT 0" in data:
            self._barred = True
            self.order(REQUEST, self.then_bar)
        return kind

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.turned_away += self._barred
        await super()._connected(reader, writer)


@pytest.fixture
def cutter() -> Cutter:
    """The only way to the database."""
    return Cutter()


@pytest.fixture
async def database(database: str, cutter: Cutter) -> AsyncIterator[str]:
    """The database behind the cutter."""
    yield await cutter.start(database)
    cutter.close()


async def pay(world, key=None, **more):
    command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card(id="pm_one"), **more)
    return (await create(world.services, world.claim(key), command)).answer


async def do(world, operation, payment, key):
    match operation:
        case "capture":
            return (await capture(world.services, world.claim(key), CapturePayment(payment=payment))).answer
        case "refund":
            return (await refund(world.services, world.claim(key), CreateRefund(payment=payment))).answer
    return await pay(world, key)


async def prepared(world, operation):
    if operation == "purchase":
        return None
    return (await pay(world, **({"capture_method": "manual"} if operation == "capture" else {}))).root.id


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_commit_that_was_not_found_may_still_be_under_way_when_the_database_is_gone(world, cutter: Cutter, operation: str):
    """Then nobody can say that nothing was stored: the result is not known, and the same key finds out."""
    payment = await prepared(world, operation)
    cutter.then_bar = f"lost-{operation}"
    cutter.order(REQUEST, f"lost-{operation}")
    with pytest.raises(ResultUnknown):
        await do(world, operation, payment, f"lost-{operation}")
    cutter.then_bar = ""
    cutter.let_in()
    answer = await do(world, operation, payment, f"lost-{operation}")
    assert (answer.status, answer.root.status) == (200, "succeeded")
    await world.books_agree()


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_request_that_meets_its_own_commit_is_answered_and_not_refused(world, cutter: Cutter, database: str, operation: str):
    """It was looked for too early, and sent again; the key that is taken is its own."""
    payment = await prepared(world, operation)
    blocker, watcher = await asyncpg.connect(database), await asyncpg.connect(database)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT 1 FROM log_head FOR UPDATE")
    cutter.order(SENT, f"own-{operation}")
    asked = asyncio.create_task(do(world, operation, payment, f"own-{operation}"))
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def both_wait():
        return await watcher.fetchval(blocked) == 2

    await world.until(both_wait)
    await transaction.commit()
    await blocker.close()
    await watcher.close()
    answer = await asked
    assert (answer.status, answer.root.status) == (200, "succeeded")
    assert await world.db.fetchval("SELECT count(*) FROM attempt WHERE operation = $1", operation) == 1


async def test_a_plain_command_whose_commit_lost_its_answer_is_found_out_by_its_key(world, cutter: Cutter):
    """One effect, and the answer that was stored with it."""
    effects = []

    async def effect(connection: Connection) -> Answer:
        effects.append(await connection.fetchval("SELECT 1"))
        return REFUSED

    cutter.order(ANSWER, "COMMIT")
    assert (await once(world.db, world.claim("plain"), world.clock.now(), effect)).answer == REFUSED
    assert (cutter.cuts, len(effects)) == (1, 1)
    again = await once(world.db, world.claim("plain"), world.clock.now(), effect)
    assert (again.answer, again.replayed, len(effects)) == (REFUSED, True, 1)


async def test_a_plain_command_whose_commit_never_arrived_is_not_said_to_be_stored(world, cutter: Cutter):
    """Nor that it was not: it may be on its way."""

    async def effect(_connection: Connection) -> Answer:
        return REFUSED

    cutter.order(REQUEST, "COMMIT")
    with pytest.raises(ResultUnknown):
        await once(world.db, world.claim("plain"), world.clock.now(), effect)
    assert not (await once(world.db, world.claim("plain"), world.clock.now(), effect)).replayed


async def test_a_refusal_whose_commit_lost_its_answer_is_found_out_by_its_key(world, cutter: Cutter):
    """As a plain command."""
    cutter.order(ANSWER, "refusal-key")
    assert (await store_answer(world.db, world.claim("refusal-key"), world.clock.now(), REFUSED)).answer == REFUSED
    assert cutter.cuts == 1


async def test_a_late_answer_that_finds_no_database_is_booked_when_it_is_back(world, cutter: Cutter):
    """Nobody else has it."""
    world.psp.answer = lambda order: None
    asked = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    order, _ = world.psp.held.pop()
    cutter.bar()
    world.executor.late(order, Approved(order.reference, "123456"))
    before = cutter.turned_away
    await world.until(lambda: cutter.turned_away > before + 3)
    cutter.let_in()
    answer = await asked
    assert answer.root.status in ("processing", "succeeded")

    async def paid():
        return (await world.payment(answer.root.id)).status == "succeeded"

    await world.until(paid)
    await world.books_agree()


async def test_keeping_an_answer_on_its_attempt_takes_its_locks_in_the_order_of_a_flush(world, database: str):
    """The open row first: while that is another's, the attempt's own row is free."""
    world.psp.answer = lambda order: None
    asked = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    attempt = world.psp.orders[0].attempt_id
    other, watcher = await asyncpg.connect(database), await asyncpg.connect(database)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT 1 FROM attempt_open WHERE attempt = $1 FOR UPDATE", attempt)
    note = asyncio.create_task(world.store.note(attempt, Approved("KEPT"), 0))

    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def waits():
        return await watcher.fetchval(blocked)

    await world.until(waits)
    await other.execute("SELECT 1 FROM attempt WHERE id = $1 FOR UPDATE NOWAIT", attempt)
    await transaction.commit()
    await note
    await other.close()
    await watcher.close()
    world.clock.advance(SECOND)
    assert (await asked).root.status == "succeeded"
