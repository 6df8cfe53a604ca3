"""What is found about attempts that have ended: nothing the PSP did after all is lost, and the books follow its truth."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from bank_behind import BankBehind
from steps import says

from guilder.core.clock import DAY, HOUR, MINUTE, SECOND
from guilder.core.errors import Unavailable
from guilder.core.outcome import Approved, Declined, NotFound, Unknown
from guilder.integrity import examine
from guilder.payments import cancel, capture, create, refund, told_by_psp
from guilder.payments.commands import CancelPayment, CapturePayment, CreatePayment, CreateRefund
from guilder.payments.refund import REFUNDS_MAX
from guilder.payments.schedule import AFTER_RECHECKS, RECHECKS
from guilder.psp.model import Direction, Exchange, Operation

# When nobody waits for a request any more: the key's window of a day, and the horizon of two.
PAST_HORIZON = 73 * HOUR


@pytest.fixture
def bank(world, tmp_path: Path) -> Iterator[BankBehind]:
    """The bank world's rules behind the PSP."""
    bank = BankBehind(tmp_path, world.clock)
    world.psp.answer = bank.answer
    yield bank
    bank.close()


async def pay(world, amount=1000, **more):
    command = CreatePayment(amount=amount, currency="eur", confirm=True, payment_method=world.card(), **more)
    return (await create(world.services, world.claim(), command)).answer.root.id


async def give_back(world, payment, amount=400):
    return (await refund(world.services, world.claim(), CreateRefund(payment=payment, amount=amount))).answer.root


async def ended(world, operation, state):
    """Wait until an attempt of this operation has ended so."""

    async def there():
        return await world.db.fetchval("SELECT id FROM attempt WHERE operation = $1 AND state = $2", operation, state)

    return await world.until(there)


async def nothing_open(world):
    async def closed():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0

    await world.until(closed)


async def waiting_to_be_asked(world, state="recheck"):
    """Wait until the one attempt that has ended is to be asked about later."""
    waiting = "SELECT count(*) FROM attempt_open WHERE state = $2 AND sender IS NULL AND retry_at > $1"

    async def waits():
        return await world.db.fetchval(waiting, world.clock.now(), state) == 1

    await world.until(waits)


async def sound(world, bank=None):
    """Every invariant holds, the bank's truth among them."""
    results = examine(world.dsn, now=world.clock.now(), running=True, witness=bank.witness if bank else None, tell=lambda _: None)
    assert {result.name: result.violations for result in [one async for one in results] if result.violated} == {}
    await world.books_agree()


async def entries(world):
    rows = await world.db.fetch("SELECT type, amount FROM balance_transaction WHERE type <> 'charge' ORDER BY created_at, id")
    return [(row["type"], row["amount"]) for row in rows]


# --- refunds --------------------------------------------------------------------------------------------------------


async def test_a_refund_that_was_paid_after_its_horizon_is_found_before_it_is_begun_anew(world, bank: BankBehind):
    """Paid once: the successor that nobody has sent is closed, and the reservation posted."""
    payment = await pay(world)
    bank.late = {Operation.REFUND}
    await give_back(world, payment)
    world.clock.advance(PAST_HORIZON)
    undone = await ended(world, "refund", "undone")
    assert isinstance(bank.deliver(), Approved)
    world.clock.advance(RECHECKS[0])
    assert await ended(world, "refund", "approved") == undone
    await ended(world, "refund", "not_sent")
    await nothing_open(world)
    assert await world.db.fetchval("SELECT state FROM refund") == "succeeded"
    assert (await world.event_types())[-3:] == ["charge.refunded", "refund.updated", "charge.refund.updated"]
    assert await entries(world) == [("refund", -400)]
    world.clock.advance(AFTER_RECHECKS + DAY)
    await sound(world, bank)
    assert len({order.reference for order in world.psp.sent(Operation.REFUND)}) == 1


async def test_a_refund_that_the_psp_paid_twice_is_booked_twice_and_shown_once(world, bank: BankBehind):
    """Nobody asked for the second one: an adjustment, which neither the refund nor the charge counts."""
    payment = await pay(world)
    bank.late = {Operation.REFUND}
    await give_back(world, payment)
    world.clock.advance(PAST_HORIZON)
    await ended(world, "refund", "undone")
    [first] = bank.on_the_wire.values()
    bank.late = set()
    world.clock.advance(AFTER_RECHECKS)
    await ended(world, "refund", "approved")
    # The executor may have asked meanwhile: a late answer needs no question.
    world.executor.late(first, bank.deliver())

    async def adjusted():
        return await entries(world) == [("refund", -400), ("adjustment", -400)]

    await world.until(adjusted)
    row = await world.db.fetchrow("SELECT refunded, refunding FROM charge")
    assert (row["refunded"], row["refunding"]) == (400, 0)
    assert await world.db.fetchval("SELECT count(*) FROM attempt WHERE state = 'approved' AND refund IS NOT NULL") == 2
    await sound(world, bank)


async def test_a_second_answer_that_a_refund_was_paid_changes_nothing(world, bank: BankBehind):
    """The attempt is approved already."""
    payment = await pay(world)
    await give_back(world, payment)
    order = world.psp.sent(Operation.REFUND)[0]
    world.executor.late(order, Approved(order.reference))
    await world.until(lambda: not world.executor._tasks)
    assert await entries(world) == [("refund", -400)]
    await nothing_open(world)
    await sound(world, bank)


async def test_a_fact_about_a_refund_waits_while_another_attempt_of_it_is_under_way(world, bank: BankBehind):
    """What it means is known when that one has ended."""
    payment = await pay(world)
    bank.late = {Operation.REFUND}
    await give_back(world, payment)
    world.clock.advance(PAST_HORIZON)
    await ended(world, "refund", "undone")
    [first] = bank.on_the_wire.values()
    bank.late, bank.lost = set(), {Operation.REFUND, Operation.QUERY}
    world.clock.advance(AFTER_RECHECKS)
    await world.until(lambda: len({order.reference for order in world.psp.sent(Operation.REFUND)}) == 2)
    paid = bank.deliver()
    world.executor.late(first, paid)

    async def noted():
        return await world.db.fetchval("SELECT count(*) FROM attempt WHERE noted IS NOT NULL AND state = 'undone'")

    await world.until(noted)
    assert await entries(world) == [("refund", -400)]
    bank.lost = set()

    async def adjusted():
        world.clock.advance(MINUTE)
        return await entries(world) == [("refund", -400), ("adjustment", -400)]

    await world.until(adjusted)
    await sound(world, bank)


@pytest.mark.parametrize("room", [True, False])
async def test_a_refund_that_had_failed_and_was_paid_has_succeeded_where_the_charge_has_room(world, room):
    """Else the money was given back a second time meanwhile: an adjustment."""
    payment = await pay(world)
    said = says(world, refund=Declined("generic_decline", "05"))
    failed = await give_back(world, payment, 1000)
    del said[Operation.REFUND]
    if not room:
        await give_back(world, payment, 1000)
    order = world.psp.sent(Operation.REFUND)[0]
    world.executor.late(order, Approved(order.reference))
    last = ("refund" if room else "adjustment", -1000)

    async def booked():
        return (await entries(world))[-1] == last

    await world.until(booked)
    state = await world.db.fetchval("SELECT state FROM refund WHERE id = $1", failed.id)
    assert state == ("succeeded" if room else "failed")
    assert await world.db.fetchval("SELECT refunded FROM charge") == 1000
    assert await world.db.fetchval("SELECT sum(amount) FROM balance_transaction") == (0 if room else -1000)
    await sound(world)


async def test_what_was_paid_beyond_a_refund_may_come_back(world):
    """Its return goes where it came from; the refund that succeeded stays as it is."""
    payment = await pay(world)
    said = says(world, refund=Declined("generic_decline", "05"))
    await give_back(world, payment, 1000)
    del said[Operation.REFUND]
    await give_back(world, payment, 1000)
    order = world.psp.sent(Operation.REFUND)[0]
    world.executor.late(order, Approved(order.reference, ask_again_seconds=5))
    said[Operation.QUERY] = Declined("processing_error", "00", "returned")

    await waiting_to_be_asked(world)
    world.clock.advance(10 * SECOND)

    async def came_back():
        return (await entries(world))[-2:] == [("adjustment", -1000), ("adjustment", 1000)]

    await world.until(came_back)
    assert sorted(row["state"] for row in await world.db.fetch("SELECT state FROM refund")) == ["failed", "succeeded"]
    await sound(world)


async def test_an_undone_refund_is_not_taken_for_returned_when_the_psp_says_that_it_refused_it(world):
    """Its successor has paid; the question is about the first attempt."""
    payment = await pay(world)
    said = says(world, refund=Unknown("timeout"), query=NotFound())
    await give_back(world, payment)
    world.clock.advance(PAST_HORIZON)
    await ended(world, "refund", "undone")
    del said[Operation.REFUND]
    world.clock.advance(AFTER_RECHECKS)
    await ended(world, "refund", "approved")
    said[Operation.QUERY] = Declined("processing_error", "05")
    for _ in RECHECKS[1:]:
        await waiting_to_be_asked(world)
        world.clock.advance(DAY)
    await nothing_open(world)
    assert await world.db.fetchval("SELECT state FROM refund") == "succeeded"
    await sound(world)


async def test_a_refund_that_was_sent_again_and_paid_more_than_once_is_found_and_booked(world):
    """The PSP did not honour the key, and tells it when it is asked: each surplus is an adjustment, once; a person is told."""
    payment, surplus, asked = await pay(world), 0, 0

    def answer(order):
        nonlocal asked
        if order.operation is Operation.QUERY:
            asked += 1
            return NotFound() if asked == 1 else Approved(order.reference, surplus=surplus)
        return Unknown("timeout") if order.operation is Operation.REFUND and order.first else Approved(order.reference)

    world.psp.answer = answer
    await give_back(world, payment)
    surplus = 2
    world.clock.advance(2 * SECOND)
    await ended(world, "refund", "approved")
    assert await entries(world) == [("refund", -400)]
    for number in (1, 2, 2, 2):
        await waiting_to_be_asked(world)
        world.clock.advance(DAY)

        async def booked(number=number):
            return await entries(world) == [("refund", -400), *[("adjustment", -400)] * number]

        await world.until(booked)
    await waiting_to_be_asked(world)
    world.clock.advance(DAY)
    await nothing_open(world)
    assert len(await entries(world)) == 3
    assert await world.db.fetchval("SELECT refunded FROM charge") == 400
    await sound(world)


async def test_a_refund_that_was_sent_again_is_asked_about_also_where_a_question_has_found_it(world):
    """The resend is answered by nobody, and done after the question: paid twice all the same."""
    payment = await pay(world)
    said = says(world, refund=Unknown("timeout"), query=NotFound())
    await give_back(world, payment)
    world.clock.advance(2 * SECOND)
    await world.until(lambda: len(world.psp.sent(Operation.REFUND)) == 2)
    await waiting_to_be_asked(world, "in_doubt")
    said[Operation.QUERY] = Approved("first")
    world.clock.advance(MINUTE)
    await ended(world, "refund", "approved")
    said[Operation.QUERY] = Approved("first", surplus=1)
    await waiting_to_be_asked(world)
    world.clock.advance(RECHECKS[0])

    async def booked():
        return await entries(world) == [("refund", -400), ("adjustment", -400)]

    await world.until(booked)
    await sound(world)


@pytest.mark.parametrize("operation", [Operation.CAPTURE, Operation.REFUND])
async def test_that_a_resend_is_declined_says_nothing_of_what_was_sent_before(world, operation):
    """It was done, and could not be done twice: the question finds it, and nobody was told that it had failed."""
    payment = await pay(world, capture_method="manual" if operation is Operation.CAPTURE else "automatic")
    asked = 0

    def answer(order):
        nonlocal asked
        if order.operation is Operation.QUERY:
            asked += 1
            return NotFound() if asked == 1 else Approved(order.reference)
        return Unknown("timeout") if order.first else Declined("processing_error", "not_allowed")

    world.psp.answer = answer
    if operation is Operation.CAPTURE:
        await capture(world.services, world.claim(), CapturePayment(payment=payment))
    else:
        await give_back(world, payment)
    world.clock.advance(2 * SECOND)
    await world.until(lambda: len(world.psp.sent(operation)) == 2)
    for _ in range(2):
        world.clock.advance(MINUTE)
    await ended(world, operation.value, "approved")
    assert not {"refund.failed", "charge.failed", "payment_intent.payment_failed"} & set(await world.event_types())
    await sound(world)


async def test_a_late_word_that_a_resend_is_declined_says_nothing_of_it_either(world):
    """As one that comes in time: nobody is told that it had failed, and the question finds it."""
    payment = await pay(world)
    said = says(world, refund=Unknown("timeout"), query=NotFound())
    refunded = await give_back(world, payment)
    world.clock.advance(2 * SECOND)
    await world.until(lambda: len(world.psp.sent(Operation.REFUND)) == 2)
    said[Operation.QUERY] = Unknown("timeout")
    world.executor.late(world.psp.sent(Operation.REFUND)[1], Declined("processing_error", "not_allowed"))
    await world.until(lambda: not world.executor._tasks)
    assert await world.db.fetchval("SELECT state FROM refund WHERE id = $1", refunded.id) == "pending"
    del said[Operation.QUERY]
    world.clock.advance(MINUTE)
    await ended(world, "refund", "approved")
    assert "refund.failed" not in await world.event_types()
    await sound(world)


async def test_a_payment_takes_a_limited_number_of_refunds(world):
    """All of them are read with it at each decision; one more is refused by name."""
    payment = await pay(world, 100_000)
    await world.db.execute(
        "INSERT INTO refund SELECT 're_many' || n, account, livemode, payment, id, 'failed', 1, false, created_at, $1 "
        "FROM charge, generate_series(1, $2::int) n",
        await facts_of_a_refund(world, payment), REFUNDS_MAX - 2,
    )  # fmt: skip
    assert (await give_back(world, payment, 1)).status == "succeeded"
    refused = (await refund(world.services, world.claim(), CreateRefund(payment=payment, amount=1))).answer
    assert (refused.status, refused.error.code) == (400, "refund_limit_reached")


async def facts_of_a_refund(world, payment):
    await give_back(world, payment, 1)
    return await world.db.fetchval("SELECT facts FROM refund")


# --- captures and voids ---------------------------------------------------------------------------------------------


async def test_a_capture_that_took_effect_after_its_horizon_is_reversed_and_never_moves_the_payment(world, bank: BankBehind):
    """The payment can be captured as far as we know; the bank says no more, and the authorization can be given up."""
    payment = await pay(world, capture_method="manual")
    bank.late = {Operation.CAPTURE}
    await capture(world.services, world.claim(), CapturePayment(payment=payment))
    world.clock.advance(PAST_HORIZON)
    await ended(world, "capture", "undone")
    bank.deliver()
    world.clock.advance(RECHECKS[0])
    await world.until(lambda: world.psp.sent(Operation.REVERSAL))
    assert (await world.payment(payment)).status == "requires_capture"
    assert [line for line in bank.witness() if b'"reversed":"capture"' in line]
    again = (await capture(world.services, world.claim(), CapturePayment(payment=payment))).answer
    assert (again.status, again.error.code) == (402, "processing_error")
    assert (await cancel(world.services, world.claim(), CancelPayment(payment=payment))).answer.root.status == "canceled"
    for wait in RECHECKS[1:]:
        await waiting_to_be_asked(world)
        world.clock.advance(wait)
    await nothing_open(world)
    await sound(world, bank)


async def test_a_late_approval_of_a_capture_that_was_declined_is_reversed_at_once(world):
    """In a slot of its own; the payment may be captured again meanwhile."""
    payment = await pay(world, capture_method="manual")
    said = says(world, capture=Declined("processing_error", "06"))
    await capture(world.services, world.claim(), CapturePayment(payment=payment))
    del said[Operation.CAPTURE]
    said[Operation.QUERY] = Declined("processing_error", "00", "reversed")
    order = world.psp.sent(Operation.CAPTURE)[0]
    assert (await capture(world.services, world.claim(), CapturePayment(payment=payment))).answer.root.status == "succeeded"
    world.executor.late(order, Approved(order.reference))
    await world.until(lambda: world.psp.sent(Operation.REVERSAL))
    assert world.psp.sent(Operation.REVERSAL)[0].original.reference == order.reference
    assert (await world.payment(payment)).status == "succeeded"
    await sound(world)


async def test_a_void_that_was_done_after_all_cancels_the_payment(world, bank: BankBehind):
    """Nothing brings the authorization back, and its hold would stand in the books for nothing."""
    payment = await pay(world, capture_method="manual")
    world.psp.answer = lambda order: Declined("processing_error", "06")
    await cancel(world.services, world.claim(), CancelPayment(payment=payment, cancellation_reason="abandoned"))
    assert (await world.payment(payment)).status == "requires_capture"
    world.psp.answer = bank.answer
    # The bank has the authorization of a payment of its own; what it says about the void is all that counts here.
    order = world.psp.sent(Operation.VOID)[0]
    world.executor.late(order, bank.carry_out(order))

    async def canceled():
        return (await world.payment(payment)).status == "canceled"

    await world.until(canceled)
    assert (await world.payment(payment)).cancellation_reason == "abandoned"
    assert (await world.event_types())[-1] == "payment_intent.canceled"
    await nothing_open(world)
    await sound(world, bank)


async def test_a_void_that_is_found_while_the_payment_is_captured_waits_for_the_capture(world):
    """Which the PSP refuses, for the authorization is gone; then the payment is canceled."""
    payment = await pay(world, capture_method="manual")
    said = says(world, void=Declined("processing_error", "06"), capture=Unknown("timeout"), query=Unknown("timeout"))
    await cancel(world.services, world.claim(), CancelPayment(payment=payment))
    await capture(world.services, world.claim(), CapturePayment(payment=payment))
    order = world.psp.sent(Operation.VOID)[0]
    world.executor.late(order, Approved(order.reference))

    async def waits():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE state = 'recheck'")

    await world.until(waits)
    assert (await world.payment(payment)).status == "processing"
    del said[Operation.QUERY]
    world.psp.answer = lambda order: (
        Declined("processing_error", "79") if order.original.operation is Operation.CAPTURE else Approved(order.reference)
    )

    async def canceled():
        world.clock.advance(MINUTE)
        return (await world.payment(payment)).status == "canceled"

    await world.until(canceled)
    await sound(world)


# --- payments -------------------------------------------------------------------------------------------------------


async def test_a_payment_that_arrives_when_the_bank_has_forgotten_its_reversal_is_found_and_taken_back(world, bank: BankBehind):
    """A day after the reversal. The second one is the same message, and it has its effect: its memory has gone with the first's."""
    bank.late = {Operation.PURCHASE}
    payment = await pay(world)
    world.clock.advance(2 * SECOND)
    await ended(world, "purchase", "undone")
    for wait in RECHECKS[:-1]:
        await waiting_to_be_asked(world)
        world.clock.advance(wait)
    await waiting_to_be_asked(world)
    world.clock.advance(RECHECKS[-1] - MINUTE)
    assert isinstance(bank.deliver(), Approved)
    world.clock.advance(MINUTE)
    await nothing_open(world)
    assert len(world.psp.sent(Operation.REVERSAL)) == 2
    assert (await world.payment(payment)).status == "requires_payment_method"
    await sound(world, bank)


async def test_a_payment_that_arrives_within_a_day_of_its_reversal_is_declined(world, bank: BankBehind):
    """The bank remembers; nothing has to be found."""
    bank.late = {Operation.PURCHASE}
    await pay(world)
    world.clock.advance(2 * SECOND)
    await ended(world, "purchase", "undone")
    await waiting_to_be_asked(world)
    world.clock.advance(RECHECKS[0])
    assert isinstance(bank.deliver(), Declined)
    await sound(world, bank)


async def test_what_was_found_and_undone_is_asked_about_for_the_rest_of_the_schedule(world):
    """A reversal may be answered from memory: each is the same message. What is still there the next time is reversed again."""
    said = says(world, purchase=Unknown("timeout"), query=NotFound())
    payment = await pay(world)
    world.clock.advance(2 * SECOND)
    await ended(world, "purchase", "undone")
    said[Operation.QUERY] = Approved("FOUND")
    for number, wait in enumerate(RECHECKS, 1):
        await waiting_to_be_asked(world)
        world.clock.advance(wait)
        await world.until(lambda number=number: len(world.psp.sent(Operation.REVERSAL)) == 1 + number)
    await nothing_open(world)
    assert (await world.payment(payment)).status == "requires_payment_method"


async def test_a_reversal_that_is_not_answered_in_this_slot_is_repeated_each_minute(world):
    """It is never dropped, and never forgets how often was asked."""
    said = says(world, purchase=Unknown("timeout"), query=NotFound())
    await pay(world)
    world.clock.advance(2 * SECOND)
    await ended(world, "purchase", "undone")
    said |= {Operation.QUERY: Approved("FOUND"), Operation.REVERSAL: Unknown("timeout")}
    await waiting_to_be_asked(world)
    for number in range(4):
        world.clock.advance(MINUTE)
        await world.until(lambda number=number: len(world.psp.sent(Operation.REVERSAL)) == 2 + number)
        await waiting_to_be_asked(world, "reversing")
    assert all(order.repeat for order in world.psp.sent(Operation.REVERSAL)[1:])
    del said[Operation.REVERSAL]
    said[Operation.QUERY] = NotFound()
    world.clock.advance(MINUTE)
    await waiting_to_be_asked(world)
    assert await world.db.fetchval("SELECT tries FROM attempt_open") == 1


async def test_another_amount_that_is_found_for_an_undone_payment_is_taken_back(world):
    """As when it is found while the attempt is open."""
    said = says(world, purchase=Unknown("timeout"), query=NotFound())
    await pay(world)
    world.clock.advance(2 * SECOND)
    await ended(world, "purchase", "undone")
    said[Operation.QUERY] = Unknown("mismatch")
    world.clock.advance(RECHECKS[0])
    await world.until(lambda: len(world.psp.sent(Operation.REVERSAL)) == 2)
    said[Operation.QUERY] = NotFound()
    for wait in RECHECKS[1:]:
        await waiting_to_be_asked(world)
        world.clock.advance(wait)
    await nothing_open(world)


async def test_another_amount_that_is_found_for_an_undone_refund_is_told_and_asked_about_no_more_often_than_planned(world):
    """A person is told each time; nobody can take back what the PSP says."""
    payment = await pay(world)
    said = says(world, refund=Unknown("timeout"), query=NotFound())
    await give_back(world, payment)
    world.clock.advance(PAST_HORIZON)
    await ended(world, "refund", "undone")
    said[Operation.QUERY] = Unknown("mismatch")
    asked = len(world.psp.sent(Operation.QUERY))
    for wait in RECHECKS:
        await waiting_to_be_asked(world)
        world.clock.advance(wait)

    async def let_be():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE state = 'recheck'") == 0

    await world.until(let_be)
    assert len(world.psp.sent(Operation.QUERY)) == asked + len(RECHECKS)


async def test_answers_that_come_unasked_do_not_shorten_the_schedule(world):
    """However often the network repeats them: the last look is still a day later."""
    said = says(world, purchase=Unknown("timeout"), query=NotFound())
    await pay(world)
    world.clock.advance(2 * SECOND)
    await ended(world, "purchase", "undone")
    order = world.psp.sent(Operation.PURCHASE)[0]
    for number in range(4):
        await waiting_to_be_asked(world)
        world.executor.late(order, Approved(order.reference))
        await world.until(lambda number=number: len(world.psp.sent(Operation.REVERSAL)) == 2 + number)
    said[Operation.QUERY] = NotFound()
    asked = len(world.psp.sent(Operation.QUERY))
    for wait in RECHECKS:
        await waiting_to_be_asked(world)
        world.clock.advance(wait)
    await nothing_open(world)
    assert len(world.psp.sent(Operation.QUERY)) == asked + len(RECHECKS)


async def test_what_the_psp_tells_while_it_is_being_asked_is_to_be_told_again(world, bank: BankBehind):
    """The answer that is on its way may be older than the news; a moment later the PSP is asked because of them."""
    world.psp.answer = lambda order: None if order.operation is Operation.QUERY else Unknown("timeout")
    payment = await pay(world)
    world.clock.advance(MINUTE)
    await world.until(lambda: world.psp.held)
    attempt = await world.store.attempt(await world.db.fetchval("SELECT id FROM attempt WHERE payment = $1", payment))
    told = (attempt.id, attempt.facts.connector, attempt.facts.wire.reference)
    with pytest.raises(Unavailable):
        await told_by_psp(world.services, *told)
    world.psp.answer = lambda order: Approved(order.reference)
    for order, deliver in world.psp.held:
        deliver(order, Unknown("in_progress"))
    assert await told_by_psp(world.services, *told)
    await ended(world, "purchase", "approved")


async def test_what_a_psp_says_in_bytes_that_are_no_text_is_kept_for_the_story(world):
    """That is when somebody will want to read it."""
    world.psp.answer = lambda order: None
    asking = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    [(order, deliver)] = world.psp.held
    world.executor.record(Exchange(order.attempt_id, Direction.SENT, "POST", world.clock.now()))
    world.executor.record(Exchange(order.attempt_id, Direction.RECEIVED, "200 \0 oops", world.clock.now()))
    world.psp.answer = lambda order: Approved(order.reference)
    deliver(order, Unknown("unreadable"))
    await asking

    async def kept():
        rows = await world.db.fetch("SELECT text FROM attempt_message WHERE attempt = $1 ORDER BY text", order.attempt_id)
        return [row["text"] for row in rows]

    assert await world.until(kept) == ["received: 200 \ufffd oops", "sent: POST"]


async def test_what_was_said_about_an_attempt_that_another_has_taken_over_is_kept_for_its_story(world):
    """And not in memory for ever: nobody settles it here any more."""
    world.psp.answer = lambda order: None
    asking = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    [(order, deliver)] = world.psp.held
    world.executor.record(Exchange(order.attempt_id, Direction.SENT, "0200", world.clock.now()))
    world.executor.lost(world.sender.id)
    deliver(order, Unknown("reset"))

    async def kept():
        return await world.db.fetchval("SELECT text FROM attempt_message WHERE attempt = $1", order.attempt_id)

    assert await world.until(kept) == "sent: 0200"
    world.psp.answer = lambda order: Approved(order.reference)
    await asking
