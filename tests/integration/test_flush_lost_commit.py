"""A COMMIT whose answer is lost: what became of it is found out, and nothing is done twice for not knowing.

The wire to the database is cut for real: before the flush arrives, or between its commit and its answer.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest
from wire_cutter import ANSWER, REQUEST, ROWS, SENT, WireCutter

from guilder.core.clock import SECOND
from guilder.core.errors import ErrorFacts, Refusal, ResultUnknown
from guilder.core.outcome import Approved, Declined, NotFound, Unknown
from guilder.db import Connection
from guilder.idempotency import once
from guilder.payments import cancel, capture, create, refund
from guilder.payments.commands import CancelPayment, CapturePayment, CreatePayment, CreateRefund
from guilder.psp.model import Operation
from guilder.shapes.facts import SHAPE, Answer

CASES = ["purchase", "authorize", "capture", "void", "refund"]
GOOD = {"purchase": "succeeded", "authorize": "requires_capture", "capture": "succeeded", "void": "canceled", "refund": "succeeded"}


@pytest.fixture
def cutter() -> WireCutter:
    """The only way to the database."""
    return WireCutter()


@pytest.fixture
async def database(database: str, cutter: WireCutter) -> AsyncIterator[str]:
    """The database as the payments room finds it: behind the cutter."""
    yield await cutter.start(database)
    cutter.close()


async def prepared(world, operation: str) -> str | None:
    """A payment on which the operation can be done."""
    if operation in ("purchase", "authorize"):
        return None
    manual = {} if operation == "refund" else {"capture_method": "manual"}
    command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card(), **manual)
    return (await create(world.services, world.claim(), command)).answer.root.id


async def do(world, operation: str, payment: str | None, key: str):
    """The operation under this key; returns its answer."""
    services, claim = world.services, world.claim(key)
    match operation:
        case "capture":
            return (await capture(services, claim, CapturePayment(payment=payment))).answer
        case "void":
            return (await cancel(services, claim, CancelPayment(payment=payment))).answer
        case "refund":
            return (await refund(services, claim, CreateRefund(payment=payment))).answer
    manual = {"capture_method": "manual"} if operation == "authorize" else {}
    command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card(id="pm_one"), **manual)
    return (await create(services, claim, command)).answer


async def once_and_for_all(world, operation: str, key: str, answer: Answer, payment: str | None) -> None:
    """One attempt, one request to the PSP, one answer under the key, and the books agree."""
    assert (answer.status, answer.root.status) == (200, GOOD[operation])
    assert await do(world, operation, payment, key) == answer
    assert len(world.psp.sent(Operation(operation))) == 1
    assert world.psp.sent(Operation.REVERSAL) == []
    assert await world.db.fetchval("SELECT count(*) FROM attempt WHERE operation = $1", operation) == 1
    assert await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0
    await world.books_agree()


@pytest.mark.parametrize("what", [REQUEST, ANSWER])
@pytest.mark.parametrize("operation", CASES)
async def test_an_accept_whose_commit_is_not_known_is_found_out(world, cutter: WireCutter, operation: str, what: str):
    """It was stored, or it was not and is sent again; the caller notices nothing but the time."""
    payment = await prepared(world, operation)
    # The idempotency key goes to the database with the accept, and before it only where there is something to look up.
    cutter.order(what, f"lost-{operation}")
    answer = await do(world, operation, payment, f"lost-{operation}")
    assert cutter.cuts == 1
    await once_and_for_all(world, operation, f"lost-{operation}", answer, payment)


@pytest.mark.parametrize("what", [REQUEST, ANSWER])
@pytest.mark.parametrize("operation", CASES)
async def test_an_outcome_whose_commit_is_not_known_is_booked_once(world, cutter: WireCutter, operation: str, what: str):
    """It is decided again on what stands there: nothing is booked twice, nothing is reversed."""
    payment = await prepared(world, operation)
    seen: list[str] = []

    def answer(order):
        # From here on the next thing that names the attempt to the database is its outcome.
        seen.append(order.attempt_id)
        cutter.order(what, order.attempt_id)
        return Approved(order.reference, "123456")

    world.psp.answer = answer
    done = await do(world, operation, payment, "key")
    assert (cutter.cuts, len(seen)) == (1, 1)
    await once_and_for_all(world, operation, "key", done, payment)


@pytest.mark.parametrize("operation", CASES)
async def test_an_accept_that_is_still_under_way_when_its_wire_is_cut_is_not_done_twice(world, cutter: WireCutter, database: str, operation: str):
    """Looked for too early it is not there yet, and is sent again: the second one must neither be stored nor free the key."""
    payment, key = await prepared(world, operation), f"still-{operation}"
    # Two sessions: what one sees of the others' waits stands still while it has a transaction open.
    blocker, watcher = await asyncpg.connect(database), await asyncpg.connect(database)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT 1 FROM log_head FOR UPDATE")
    cutter.order(SENT, key)
    asked = asyncio.create_task(do(world, operation, payment, key))
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def both_wait():
        return await watcher.fetchval(blocked) == 2

    await world.until(both_wait)
    await transaction.commit()
    await blocker.close()
    await watcher.close()
    with suppress(Refusal):
        await asked

    async def answered():
        with suppress(Refusal):
            return await do(world, operation, payment, key)

    await once_and_for_all(world, operation, key, await world.until(answered), payment)


async def test_a_decline_whose_commit_is_not_known_leaves_one_failed_charge(world, cutter: WireCutter):
    """The buyer is told once, and may try again."""

    def answer(order):
        cutter.order(ANSWER, order.attempt_id)
        return Declined("insufficient_funds", "51")

    world.psp.answer = answer
    done = await do(world, "purchase", None, "key")
    assert (cutter.cuts, done.status, done.error.decline_code) == (1, 402, "insufficient_funds")
    assert await world.db.fetchval("SELECT count(*) FROM charge") == 1
    assert (await world.event_types()).count("payment_intent.payment_failed") == 1


async def test_a_claim_whose_answer_is_lost_is_set_free_and_asked_about(world, cutter: WireCutter):
    """Rows that nobody has in hand are in doubt: nothing was sent, and that is what the PSP says."""
    world.psp.answer = lambda order: NotFound() if order.operation is Operation.QUERY else Approved(order.reference)
    # The rows of the claim hold the attempt's facts, and those the key.
    cutter.order(ROWS, "lost-claim")
    asked = asyncio.create_task(do(world, "purchase", None, "lost-claim"))
    await world.until(lambda: cutter.cuts)

    async def undone():
        # For the tidying of what nobody has in hand, and for every retry after it.
        world.clock.advance(SECOND)
        return await world.db.fetchval("SELECT count(*) FROM attempt WHERE state = 'undone'")

    await world.until(undone)
    answer = await asked
    assert (answer.status, answer.error.code) == (402, "processing_error")
    assert [order.operation for order in world.psp.orders] == [Operation.QUERY, Operation.REVERSAL]
    await world.books_agree()


async def test_a_result_that_nobody_can_find_out_is_said_to_be_unknown(world, cutter: WireCutter):
    """The database is gone with the answer. The same key finds out later; the payment was taken once."""
    # Nobody claims it meanwhile: a claim that is lost with everything else is another test.
    await world.pause()
    cutter.order(ANSWER, "lost-for-long", bar=True)
    with pytest.raises(ResultUnknown):
        await do(world, "purchase", None, "lost-for-long")
    assert cutter.cuts == 1
    cutter.let_in()
    await world.until(lambda: world.sender.may_send(world.sender.id))
    world.go_on()

    async def answered():
        return await world.db.fetchval("SELECT count(*) FROM idempotency_key WHERE answer IS NOT NULL")

    await world.until(answered)
    answer = await do(world, "purchase", None, "lost-for-long")
    await once_and_for_all(world, "purchase", "lost-for-long", answer, None)


async def test_many_that_share_a_lost_flush_each_get_their_own_answer(world, cutter: WireCutter):
    """Eighty payments, one wire; none is lost, none is taken twice, nobody gets another's answer."""

    async def pay(number: int):
        command = CreatePayment(amount=1000 + number, currency="eur", confirm=True, payment_method=world.card())
        return (await create(world.services, world.claim(f"many-{number:02}"), command)).answer

    cutter.order(ANSWER, "many-40")
    answers = await asyncio.gather(*(pay(number) for number in range(80)))
    assert cutter.cuts == 1
    assert [answer.root.amount_received for answer in answers] == [1000 + number for number in range(80)]
    assert len(world.psp.orders) == 80
    await world.books_agree()


@pytest.mark.parametrize("what", [REQUEST, ANSWER])
async def test_a_doubt_whose_commit_is_not_known_stays_a_doubt_and_is_resolved(world, cutter: WireCutter, what: str):
    """The row is the reporter's no more, or still: either way somebody asks, and the approval is booked once."""

    def answer(order):
        if order.operation is Operation.QUERY:
            return Approved(order.reference)
        cutter.order(what, order.attempt_id)
        return Unknown("timeout")

    world.psp.answer = answer
    done = await do(world, "purchase", None, "key")
    assert (cutter.cuts, done.root.status) == (1, "processing")
    world.clock.advance(2 * SECOND)

    async def paid():
        return await world.db.fetchval("SELECT count(*) FROM charge WHERE succeeded")

    await world.until(paid)
    assert len(world.psp.sent(Operation.PURCHASE)) == 1
    assert (await world.event_types()).count("payment_intent.processing") == 1
    await world.books_agree()


@pytest.mark.parametrize("bar", [False, True])
async def test_a_plain_command_whose_commit_is_not_known_has_its_answer_under_the_key(world, cutter: WireCutter, bar: bool):
    """Found out at once where the database can be asked; else nobody says that nothing was stored, and the same key tells later."""
    claim = world.claim("plain")
    effects = []

    async def effect(connection: Connection) -> Answer:
        effects.append(await connection.fetchval("SELECT 1"))
        cutter.order(ANSWER, "COMMIT", bar=bar)
        return Answer(SHAPE, 400, None, ErrorFacts(type="invalid_request_error", message="any answer"))

    async def command():
        return await once(world.db, claim, world.clock.now(), effect)

    if bar:
        with pytest.raises(ResultUnknown):
            await command()
        cutter.let_in()
    else:
        assert (await command()).answer.error.message == "any answer"
    assert cutter.cuts == 1
    again = await command()
    assert (again.replayed, again.answer.error.message, len(effects)) == (True, "any answer", 1)


async def test_an_executor_that_may_not_send_claims_nothing(world):
    """After an outage of more than three seconds, until its next beat: what it cannot send would end as not sent, for nothing."""
    await world.until(lambda: world.db.fetchval("SELECT beat FROM sender WHERE id = $1", world.sender.id))
    world.sender._renewed = float("-inf")
    answer = await do(world, "purchase", None, "key")
    await once_and_for_all(world, "purchase", "key", answer, None)
