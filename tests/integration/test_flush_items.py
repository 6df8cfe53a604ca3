"""What shares a flush: a bad item never fails its neighbours, and results equal those of one after the other."""

import asyncio
import random

import asyncpg
import pytest
from steps import pay
from structlog.testing import capture_logs

from guilder.core.clock import DAY, MINUTE, SECOND
from guilder.core.errors import Refusal
from guilder.core.outcome import Approved, Declined
from guilder.payments import cancel, capture, confirm, create, refund, update
from guilder.payments.commands import CancelPayment, CapturePayment, ConfirmPayment, CreatePayment, CreateRefund, UpdatePayment
from guilder.psp.model import Operation

MANY = 200
CALLERS = 50


async def owned(database: str, sql: str) -> None:
    """Change the schema, as its owner."""
    connection = await asyncpg.connect(database, server_settings={"role": "guilder_owner"})
    await connection.execute(sql)
    await connection.close()


@pytest.mark.parametrize("place", [0, 99, 100, 150, 199])
async def test_a_poisoned_item_among_two_hundred_fails_alone(world, place):
    """A key that PostgreSQL cannot store: its caller gets the error, the 199 others are paid."""
    claims = [world.claim(f"key-{number}" if number != place else "key\x00poison") for number in range(MANY)]
    results = await asyncio.gather(*(pay(world, 1000 + n, claim) for n, claim in enumerate(claims)), return_exceptions=True)
    assert isinstance(results.pop(place), asyncpg.PostgresError)
    assert {result.answer.root.status for result in results} == {"succeeded"}
    assert len(world.psp.orders) == MANY - 1
    await world.books_agree()


async def test_an_outcome_that_cannot_be_booked_is_kept_and_booked_again_and_its_neighbours_are_not_held_up(world, database):
    """The answer stands on the attempt until the fault is mended; the bank is not asked to do it again."""
    await owned(database, "ALTER TABLE charge ADD CONSTRAINT fault CHECK (captured <> 6660)")
    with capture_logs() as logs:
        asked = [asyncio.create_task(pay(world, 6660 if number == 30 else 1000 + number)) for number in range(60)]
        others = [one for number, one in enumerate(asked) if number != 30]
        assert {result.answer.root.status for result in await asyncio.gather(*others)} == {"succeeded"}

        async def noted():
            return await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE state = 'in_doubt' AND sender IS NULL")

        await world.until(noted)
    assert "outcome_not_booked" in {entry["event"] for entry in logs}
    assert await world.db.fetchval("SELECT count(*) FROM charge") == 59
    await owned(database, "ALTER TABLE charge DROP CONSTRAINT fault")
    world.clock.advance(2 * MINUTE)
    assert (await asked[30]).answer.root.amount_received == 6660
    assert len(world.psp.orders) == 60
    await world.books_agree()


async def test_fifty_callers_with_one_key_have_one_effect(world):
    """One of them is answered, the others are told to come again or get the same answer; then all get it."""

    async def once():
        try:
            return (await pay(world, claim=world.claim("one-key"))).answer
        except Refusal as refusal:
            assert (refusal.status, refusal.facts.code, refusal.should_retry) == (409, "idempotency_key_in_use", True)
            return None

    answers = {answer for answer in await asyncio.gather(*(once() for _ in range(CALLERS))) if answer is not None}
    assert len(answers) == 1
    assert {await once() for _ in range(3)} == answers
    assert len(world.psp.orders) == 1
    assert await world.db.fetchval("SELECT count(*) FROM payment") == 1
    await world.books_agree()


async def test_fifty_callers_with_one_key_and_other_parameters_are_one_payment_and_refusals(world):
    """Whoever comes first has the key; whoever means something else is told so."""

    async def once(number: int):
        try:
            return (await pay(world, 1000 + number, world.claim("one-key", fingerprint=bytes([number])))).answer.root.amount
        except Refusal as refusal:
            return refusal.facts.type

    said = await asyncio.gather(*(once(number) for number in range(CALLERS)))
    assert said.count("idempotency_error") == CALLERS - 1
    assert await world.db.fetchval("SELECT count(*) FROM payment") == len(world.psp.orders) == 1


async def test_updates_of_one_payment_at_once_are_all_kept(world):
    """Each waits for the one before: the result is that of one after the other."""
    payment = (await create(world.services, world.claim(), CreatePayment(amount=1000, currency="eur"))).answer.root.id
    await asyncio.gather(
        *(update(world.services, world.claim(), UpdatePayment(payment=payment, metadata={f"k{n}": str(n)})) for n in range(20))
    )
    assert dict((await world.payment(payment)).metadata) == {f"k{n}": str(n) for n in range(20)}


async def test_captures_of_one_authorization_at_once_take_it_once(world):
    """One is sent; the others are told that the slot is taken, or that there is nothing left to capture."""
    payment = (await pay(world, capture_method="manual")).answer.root.id

    async def once():
        try:
            return (await capture(world.services, world.claim(), CapturePayment(payment=payment))).answer.status
        except Refusal as refusal:
            return refusal.status

    statuses = await asyncio.gather(*(once() for _ in range(10)))
    assert sorted(set(statuses) - {409}) in ([200], [200, 400])
    assert statuses.count(200) == len(world.psp.sent(Operation.CAPTURE)) == 1
    await world.books_agree()


async def test_a_confirm_and_a_cancel_at_once_end_in_one_of_both(world):
    """Never a canceled payment that was charged, nor two attempts."""
    for _ in range(10):
        created = await create(world.services, world.claim(), CreatePayment(amount=1000, currency="eur", payment_method=world.card()))
        payment, before = created.answer.root.id, len(world.psp.orders)
        await asyncio.gather(
            confirm(world.services, world.claim(), ConfirmPayment(payment=payment)),
            cancel(world.services, world.claim(), CancelPayment(payment=payment)),
            return_exceptions=True,
        )

        async def at_rest(payment=payment):
            return not await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE payment = $1", payment)

        await world.until(at_rest)
        status = (await world.payment(payment)).status
        assert (status, len(world.psp.orders) - before) in (("succeeded", 1), ("canceled", 0))
    await world.books_agree()


async def test_the_amount_cannot_be_changed_under_an_attempt(world):
    """While it is under way an update of what was sent is refused, one of what was not is taken; the outcome keeps it."""
    world.psp.answer = lambda order: None
    asked = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    payment = await world.db.fetchval("SELECT id FROM payment")
    for change in ({"amount": 1}, {"currency": "usd"}, {"payment_method": world.card()}, {"capture_method": "manual"}):
        answer = (await update(world.services, world.claim(), UpdatePayment(payment=payment, **change))).answer
        assert (answer.status, answer.error.code) == (400, "payment_intent_unexpected_state")
    await update(world.services, world.claim(), UpdatePayment(payment=payment, description="meanwhile"))
    order, deliver = world.psp.held.pop()
    deliver(order, Approved("late"))
    paid = (await asked).answer.root
    assert (paid.status, paid.amount_received, paid.description) == ("succeeded", 1000, "meanwhile")
    await world.books_agree()


async def test_a_first_full_refund_may_overdraw_by_the_fee_that_is_kept(world):
    """The merchant never had the fee; the overdraft lends it."""
    paid = (await pay(world)).answer.root
    back = (await refund(world.services, world.claim(), CreateRefund(payment=paid.id))).answer.root
    assert (back.status, back.amount) == ("succeeded", 1000)
    assert await world.db.fetchval("SELECT sum(amount - fee) FROM balance_transaction") == -15
    await world.books_agree()


async def test_a_live_payment_without_a_live_connector_is_refused(world):
    """Nobody takes it: 400 with the parameter's name, and nothing is stored."""
    claim = world.claim("live")
    live = type(claim)(account=claim.account, livemode=True, key="live", fingerprint=b"f", request_id="req_live")
    command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card(livemode=True))
    answer = (await create(world.services, live, command)).answer
    assert (answer.status, answer.error.code) == (400, "payment_intent_incompatible_payment_method")
    assert await world.db.fetchval("SELECT count(*) FROM payment") == 0
    assert world.psp.orders == []


async def test_a_key_that_nobody_answered_in_time_is_answered_once_by_whoever_asks(world):
    """Ten seconds after the accept the present state is the answer, for ever; the outcome does not change it."""
    world.psp.answer = lambda order: None
    gone = asyncio.create_task(pay(world, claim=world.claim("slow")))
    await world.until(lambda: world.psp.held)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    with pytest.raises(Refusal) as refused:
        await pay(world, claim=world.claim("slow"))
    assert refused.value.facts.code == "idempotency_key_in_use"
    world.clock.advance(11 * SECOND)
    told = await pay(world, claim=world.claim("slow"))
    assert (told.answer.status, told.answer.root.status) == (200, "processing")
    order, deliver = world.psp.held.pop()
    deliver(order, Approved("late"))

    async def paid():
        return (await world.payment(told.answer.root.id)).status == "succeeded"

    await world.until(paid)
    assert (await pay(world, claim=world.claim("slow"))).answer == told.answer


async def test_a_key_works_for_as_long_as_its_payment(world):
    """A retry after a long outage must not charge again: day 1, 30, 400."""
    first = await pay(world, claim=world.claim("old"))
    for days in (1, 29, 370):
        world.clock.advance(days * DAY)
        again = await pay(world, claim=world.claim("old"))
        assert (again.answer, again.replayed) == (first.answer, True)
    assert len(world.psp.orders) == 1


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_comes_at_once_from_two_processes_leaves_the_books_right(world, seed):
    """Captures, cancels, refunds and updates of the same payments in two processes: no deadlock, no double, all final."""
    chance = random.Random(seed)
    world.psp.answer = lambda order: Declined("generic_decline", "05") if chance.random() < 0.1 else Approved(order.reference, "1")
    payments = []
    for number in range(12):
        answer = (await pay(world, 1000, capture_method="manual" if number % 2 else "automatic_async")).answer
        payments.append(answer.root.id)
    other = type(world)(world.dsn)
    other.clock, other.psp = world.clock, world.psp
    await other.start()
    try:

        async def one(at, payment):
            services, claim = at.services, world.claim(f"{seed}-{chance.getrandbits(60)}")
            verbs = (
                lambda: capture(services, claim, CapturePayment(payment=payment, amount_to_capture=chance.randint(1, 1000))),
                lambda: cancel(services, claim, CancelPayment(payment=payment)),
                lambda: refund(services, claim, CreateRefund(payment=payment, amount=chance.randint(1, 600))),
                lambda: update(services, claim, UpdatePayment(payment=payment, description=str(chance.random()))),
                lambda: confirm(services, claim, ConfirmPayment(payment=payment, payment_method=world.card())),
            )
            try:
                return (await chance.choice(verbs)()).answer.status
            except Refusal as refusal:
                return refusal.status

        statuses = await asyncio.gather(*(one(chance.choice((world, other)), chance.choice(payments)) for _ in range(150)))
        assert set(statuses) <= {200, 400, 402, 409}

        async def at_rest():
            return not await world.db.fetchval("SELECT count(*) FROM attempt_open")

        await world.until(at_rest)
        rows = await world.db.fetch("SELECT captured, refunded, refunding FROM charge WHERE succeeded")
        assert all(row["refunding"] == 0 and row["refunded"] <= row["captured"] <= 1000 for row in rows)
        taken = "SELECT count(*) FROM attempt WHERE state = 'approved' AND operation IN ('purchase', 'capture') GROUP BY payment"
        assert {row["count"] for row in await world.db.fetch(taken)} <= {1}
        await world.books_agree()
    finally:
        await other.close()
