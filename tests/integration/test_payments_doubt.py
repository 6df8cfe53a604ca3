"""Unknown is not failed: what happens to an attempt that nobody got an answer for, operation by operation."""

import asyncio

import pytest
from msgspec import structs
from steps import pay, says, status_is
from structlog.testing import capture_logs

from guilder.core.clock import DAY, HOUR, MINUTE, SECOND
from guilder.core.errors import Refusal
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Unknown
from guilder.payments import cancel, capture, expire_authorizations, offer_refunds, refund, update
from guilder.payments.commands import CancelPayment, CapturePayment, CreateRefund, UpdatePayment
from guilder.payments.model import pack
from guilder.payments.offer import note_accounts
from guilder.psp.model import Operation


async def attempt_state(world, payment, operation):
    return await world.db.fetchval("SELECT state FROM attempt WHERE payment = $1 AND operation = $2", payment, operation)


async def test_a_capture_in_doubt_is_sent_again_with_its_stored_key_when_the_psp_does_not_know_it(world):
    """The resend has the same key and reference; it is booked once."""
    payment = (await pay(world, capture_method="manual")).answer.root.id
    said = says(world, capture=Unknown("timeout"), query=NotFound())
    answer = (await capture(world.services, world.claim(), CapturePayment(payment=payment))).answer
    assert (answer.status, answer.root.status) == (200, "processing")
    said[Operation.CAPTURE] = Approved("C")
    world.clock.advance(2 * SECOND)
    await status_is(world, payment, "succeeded")
    first, again = world.psp.sent(Operation.CAPTURE)[:2]
    assert (first.psp_key, first.reference, first.first) == (again.psp_key, again.reference, True)
    assert again.first is False
    assert await world.db.fetchval("SELECT count(*) FROM balance_transaction") == 1
    await world.books_agree()


async def test_a_void_in_doubt_keeps_the_payment_processing_until_it_is_acknowledged(world):
    """Then the authorization is let go and the payment canceled."""
    payment = (await pay(world, capture_method="manual")).answer.root.id
    said = says(world, void=Unknown("reset"), query=Unknown("timeout"))
    await cancel(world.services, world.claim(), CancelPayment(payment=payment))
    assert (await world.payment(payment)).status == "processing"
    said[Operation.QUERY] = Approved("V")
    world.clock.advance(5 * MINUTE)
    await status_is(world, payment, "canceled")
    await world.books_agree()


async def test_a_refund_in_doubt_shows_pending_and_its_money_counts_as_gone(world):
    """The reservation stands while nobody knows; the outcome posts it."""
    payment = (await pay(world)).answer.root.id
    said = says(world, refund=Unknown("timeout"), query=Unknown("timeout"))
    answer = (await refund(world.services, world.claim(), CreateRefund(payment=payment, amount=400))).answer
    assert answer.root.status == "pending"
    await world.books_agree()
    said[Operation.QUERY] = Approved("R")
    world.clock.advance(5 * MINUTE)

    async def paid_back():
        return await world.db.fetchval("SELECT state FROM refund") == "succeeded"

    await world.until(paid_back)
    assert (await world.event_types())[-3:] == ["charge.refunded", "refund.updated", "charge.refund.updated"]
    await world.books_agree()


async def test_a_declined_refund_gives_the_reserved_money_back(world):
    """A balance transaction of type refund_failure; the charge can be refunded again."""
    payment = (await pay(world)).answer.root.id
    said = says(world, refund=Declined("generic_decline", "05"))
    answer = (await refund(world.services, world.claim(), CreateRefund(payment=payment))).answer
    assert (answer.status, answer.root.status) == (200, "failed")
    assert [row["amount"] for row in await world.db.fetch("SELECT amount FROM balance_transaction ORDER BY created_at, id")] == [1000, -1000, 1000]
    del said[Operation.REFUND]
    assert (await refund(world.services, world.claim(), CreateRefund(payment=payment))).answer.root.status == "succeeded"
    await world.books_agree()


async def test_a_refund_that_could_not_be_sent_stays_pending_and_is_begun_anew(world):
    """A new attempt with a new key, on the schedule; the money stays reserved."""
    payment = (await pay(world)).answer.root.id
    said = says(world, refund=NotSent("connect"))
    assert (await refund(world.services, world.claim(), CreateRefund(payment=payment))).answer.root.status == "pending"
    del said[Operation.REFUND]
    world.clock.advance(1 * MINUTE)

    async def paid_back():
        return await world.db.fetchval("SELECT state FROM refund") == "succeeded"

    await world.until(paid_back)
    first, second = world.psp.sent(Operation.REFUND)
    assert first.psp_key != second.psp_key
    await world.books_agree()


async def test_a_late_approval_during_a_reversal_is_noted_and_never_approves(world):
    """From reversing on only the reversal's acknowledgement leads out."""
    said = says(world, purchase=Unknown("timeout"), query=NotFound(), reversal=Unknown("timeout"))
    payment = (await pay(world)).answer.root.id
    world.clock.advance(2 * SECOND)
    await world.until(lambda: world.psp.sent(Operation.REVERSAL))
    world.executor.late(world.psp.sent(Operation.PURCHASE)[0], Approved("LATE"))

    async def noted():
        return await world.db.fetchval("SELECT noted FROM attempt WHERE payment = $1", payment)

    await world.until(noted)
    assert (await world.payment(payment)).status == "processing"
    said[Operation.REVERSAL] = Approved("R")
    world.clock.advance(HOUR)
    await status_is(world, payment, "requires_payment_method")
    assert await attempt_state(world, payment, "purchase") == "undone"
    assert await world.db.fetchval("SELECT count(*) FROM ledger_transfer") == 0


async def test_an_undone_attempt_is_asked_about_three_times_more(world):
    """After a minute, a quarter of an hour and a day; then its slot is gone."""
    says(world, purchase=Unknown("timeout"), query=NotFound())
    payment = (await pay(world)).answer.root.id
    world.clock.advance(2 * SECOND)
    await status_is(world, payment, "requires_payment_method")

    async def settled():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE retry_at <= $1 OR sender IS NOT NULL", world.clock.now()) == 0

    for number, wait in enumerate((1 * MINUTE, 15 * MINUTE, 1 * DAY), 2):
        world.clock.advance(wait)
        await world.until(lambda number=number: len(world.psp.sent(Operation.QUERY)) == number)
        # The next wait counts from when this answer is stored.
        await world.until(settled)

    async def gone():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0

    await world.until(gone)


async def test_an_approval_found_for_an_undone_attempt_is_undone_at_once(world):
    """It never moves the payment, which may be paid by another card meanwhile."""
    said = says(world, purchase=Unknown("timeout"), query=NotFound())
    payment = (await pay(world)).answer.root.id
    world.clock.advance(2 * SECOND)
    await status_is(world, payment, "requires_payment_method")
    said[Operation.QUERY] = Approved("FOUND")
    world.clock.advance(1 * MINUTE)
    await world.until(lambda: len(world.psp.sent(Operation.REVERSAL)) == 2)
    assert (await world.payment(payment)).status == "requires_payment_method"
    assert await attempt_state(world, payment, "purchase") == "undone"


async def test_a_command_that_needs_a_taken_slot_is_told_to_come_again(world):
    """409 lock_timeout with Stripe-Should-Retry, not stored with the key; metadata can be changed all the same."""
    authorized = (await pay(world, capture_method="manual")).answer.root.id
    world.psp.answer = lambda order: None
    first = asyncio.create_task(capture(world.services, world.claim(), CapturePayment(payment=authorized)))
    await world.until(lambda: world.psp.held)
    with pytest.raises(Refusal) as refused:
        await capture(world.services, world.claim("second"), CapturePayment(payment=authorized))
    assert (refused.value.status, refused.value.facts.code, refused.value.should_retry) == (409, "lock_timeout", True)
    changed = await update(world.services, world.claim(), UpdatePayment(payment=authorized, metadata={"order": "7"}))
    assert changed.answer.root.metadata == (("order", "7"),)
    order, deliver = world.psp.held.pop()
    deliver(order, Approved("C"))
    done = (await first).answer.root
    assert (done.status, done.metadata) == ("succeeded", (("order", "7"),))


async def test_cancel_closes_an_attempt_that_nobody_has_claimed(world):
    """Not sent, in the cancel's own commit; the first request gets its answer, nothing reaches the PSP."""
    world._running.cancel()
    await asyncio.gather(world._running, return_exceptions=True)
    claim = world.claim("first")
    first = asyncio.create_task(pay(world, claim=claim))

    async def accepted():
        return await world.db.fetchval("SELECT id FROM payment")

    payment = await world.until(accepted)
    done = await cancel(world.services, world.claim(), CancelPayment(payment=payment))
    assert done.answer.root.status == "canceled"
    answer = (await first).answer
    assert (answer.status, answer.error.code) == (402, "processing_error")
    assert world.psp.orders == []
    assert await attempt_state(world, payment, "purchase") == "not_sent"


async def test_an_attempt_past_its_execute_by_is_closed_as_not_sent(world):
    """The buyer has gone: nothing may be sent any more."""
    world._running.cancel()
    await asyncio.gather(world._running, return_exceptions=True)
    first = asyncio.create_task(pay(world))

    async def accepted():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open")

    await world.until(accepted)
    world.clock.advance(2 * MINUTE)
    _, _, world._running = await world.new_executor()
    answer = (await first).answer
    assert (answer.status, answer.error.code) == (402, "processing_error")
    assert world.psp.orders == []


async def test_an_expired_authorization_is_voided_at_the_psp_and_then_let_go(world):
    """The payment is canceled with the reason `expired`."""
    payment = (await pay(world, capture_method="manual")).answer.root.id
    assert await expire_authorizations(world.services) == 0
    world.clock.advance(7 * DAY + HOUR)
    assert await expire_authorizations(world.services) == 1
    await status_is(world, payment, "canceled")
    assert (await world.payment(payment)).cancellation_reason == "expired"
    assert "charge.expired" in await world.event_types()
    assert await expire_authorizations(world.services) == 0
    await world.books_agree()


async def test_a_refund_beyond_the_overdraft_waits_for_money_and_is_offered_again(world):
    """Pending without an attempt; the next payment brings the money."""
    world.terms = type(world.terms)(price_version=1, basis_points=150, overdraft_units=0)
    first = (await pay(world, amount=10_000)).answer.root.id
    waiting = (await refund(world.services, world.claim(), CreateRefund(payment=first))).answer.root
    assert (waiting.status, waiting.pending_reason) == ("pending", "insufficient_funds")
    assert world.psp.sent(Operation.REFUND) == []
    await note(world)
    assert await offer_refunds(world.services) == 0
    await world.books_agree()
    await pay(world, amount=10_000)
    await note(world)
    assert await offer_refunds(world.services) == 1

    async def paid_back():
        return await world.db.fetchval("SELECT state FROM refund") == "succeeded"

    await world.until(paid_back)
    await world.books_agree()


async def spoil(world, payment):
    """Have a payment that nobody can read."""
    await world.db.execute("UPDATE payment SET facts = '\\xc1' WHERE id = $1", payment)


async def test_an_authorization_that_cannot_be_ended_keeps_no_other_from_its_end(world):
    """It is looked at first, each time."""
    spoilt = (await pay(world, capture_method="manual")).answer.root.id
    world.clock.advance(SECOND)
    payment = (await pay(world, capture_method="manual")).answer.root.id
    await spoil(world, spoilt)
    world.clock.advance(7 * DAY + HOUR)
    with capture_logs() as told:
        assert await expire_authorizations(world.services) == 1
    assert [one["payment"] for one in told if one["event"] == "authorization_not_expired"] == [spoilt]
    await status_is(world, payment, "canceled")


async def test_a_refund_that_cannot_be_offered_keeps_no_other_from_its_money(world):
    """It has waited for longer."""
    world.terms = type(world.terms)(price_version=1, basis_points=150, overdraft_units=0)
    for _ in range(2):
        world.clock.advance(DAY)
        payment = (await pay(world, amount=10_000)).answer.root.id
        await refund(world.services, world.claim(), CreateRefund(payment=payment))
    assert await world.db.fetchval("SELECT count(*) FROM refund WHERE waiting") == 2
    spoilt = await world.db.fetchrow("SELECT id, payment FROM refund ORDER BY id LIMIT 1")
    await spoil(world, spoilt["payment"])
    await pay(world, amount=10_000)
    await note(world)
    with capture_logs() as told:
        assert await offer_refunds(world.services) == 1
    assert [one["refund"] for one in told if one["event"] == "refund_not_offered"] == [spoilt["id"]]


async def note(world):
    async with world.db.transaction() as connection:
        await note_accounts(connection, [(world.account, False)])


async def test_the_second_of_two_executors_works_on_when_the_first_is_paused_past_its_lease(world):
    """What the first held is in doubt for the second: it asks before anything is sent again."""
    world.psp.answer = lambda order: None
    first = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    # The first executor goes quiet: no beat, no round.
    world.sender._task.cancel()
    world._running.cancel()
    await asyncio.gather(world._running, world.sender._task, return_exceptions=True)
    says(world)
    before = len(world.psp.orders)
    _, second, running = await world.new_executor()
    world.clock.advance(2 * SECOND)
    answer = (await first).answer
    assert answer.root.status == "succeeded"
    assert [order.operation for order in world.psp.orders[before:]] == [Operation.QUERY]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await second.close()
    await world.books_agree()


async def test_two_partial_refunds_at_once_never_give_back_more_than_was_taken(world):
    """Both reserve on the charge under the payment's version; the one too many is refused."""
    payment = (await pay(world)).answer.root.id
    answers = await asyncio.gather(
        *(refund(world.services, world.claim(), CreateRefund(payment=payment, amount=400)) for _ in range(4))
    )
    statuses = sorted(answer.answer.status for answer in answers)
    assert statuses == [200, 200, 400, 400]
    assert await world.db.fetchval("SELECT refunded FROM charge") == 800
    await world.books_agree()


async def test_a_caller_that_goes_away_during_a_flush_does_not_take_the_payment_back(world):
    """The payment is taken all the same, and its key answers the retry."""
    claim = world.claim("gone")
    caller = asyncio.create_task(pay(world, claim=claim))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)

    async def paid():
        return await world.db.fetchval("SELECT count(*) FROM charge WHERE succeeded")

    await world.until(paid)
    again = await pay(world, claim=world.claim("gone"))
    assert again.replayed and again.answer.root.status == "succeeded"


async def test_a_refund_that_comes_back_from_the_bank_has_failed_after_all(world):
    """The PSP said to ask again; a balance transaction returns the money, and the charge can be refunded once more."""
    payment = (await pay(world)).answer.root.id
    said = says(world, refund=Approved("R", ask_again_seconds=5), query=Declined("processing_error", "00", "returned"))
    assert (await refund(world.services, world.claim(), CreateRefund(payment=payment))).answer.root.status == "succeeded"
    await world.books_agree()
    world.clock.advance(10 * SECOND)

    async def failed():
        return await world.db.fetchval("SELECT state FROM refund") == "failed"

    await world.until(failed)
    assert (await world.event_types())[-2:] == ["refund.failed", "charge.refund.updated"]
    assert await world.db.fetchval("SELECT refunded FROM charge") == 0
    assert await world.db.fetchval("SELECT sum(amount) FROM balance_transaction") == 1000
    del said[Operation.REFUND]
    await world.books_agree()


async def test_a_capture_that_the_psp_never_knew_is_undone_when_its_finality_horizon_has_passed(world):
    """Past the key's window it is only asked about; then the authorization stands as before and can be captured again."""
    payment = (await pay(world, capture_method="manual")).answer.root.id
    said = says(world, capture=Unknown("timeout"), query=NotFound())
    await capture(world.services, world.claim(), CapturePayment(payment=payment))
    world.clock.advance(DAY)
    await world.until(lambda: world.psp.sent(Operation.QUERY))
    sent = len(world.psp.sent(Operation.CAPTURE))
    assert (await world.payment(payment)).status == "processing"
    world.clock.advance(2 * DAY + HOUR)
    await status_is(world, payment, "requires_capture")
    assert len(world.psp.sent(Operation.CAPTURE)) == sent
    del said[Operation.CAPTURE]
    assert (await capture(world.services, world.claim(), CapturePayment(payment=payment))).answer.root.status == "succeeded"
    await world.books_agree()


async def test_a_psp_that_has_shown_a_trace_and_then_knows_nothing_has_forgotten_so_nothing_is_undone(world):
    """A refund that was in progress once is asked about for ever; a second attempt could pay it twice."""
    payment = (await pay(world)).answer.root.id
    said = says(world, refund=Unknown("in_progress"), query=NotFound())
    await refund(world.services, world.claim(), CreateRefund(payment=payment))
    for days in (1, 2, 3):
        asked = len(world.psp.sent(Operation.QUERY))
        world.clock.advance(days * DAY)
        await world.until(lambda asked=asked: len(world.psp.sent(Operation.QUERY)) > asked)
    assert await world.db.fetchval("SELECT count(*) FROM attempt WHERE refund IS NOT NULL") == 1
    said[Operation.QUERY] = Approved("R")
    world.clock.advance(DAY)

    async def paid_back():
        return await world.db.fetchval("SELECT state FROM refund") == "succeeded"

    await world.until(paid_back)
    await world.books_agree()


async def test_an_attempt_of_which_nothing_can_be_made_stops_nobody_elses(world):
    """It stays where it is, for a person; whoever comes after it is paid."""
    world.psp.answer = lambda order: Unknown("timeout")
    await pay(world)
    await world.pause()
    id_ = await world.db.fetchval("SELECT attempt FROM attempt_open")
    facts = (await world.store.attempt(id_)).facts
    broken = structs.replace(facts, wire=structs.replace(facts.wire, reference=""))
    await world.db.execute("UPDATE attempt SET facts = $2 WHERE id = $1", id_, pack(broken))
    await world.db.execute("UPDATE attempt_open SET state = 'reversing', sender = NULL, retry_at = 0 WHERE attempt = $1", id_)
    world.psp.answer = lambda order: Approved(order.reference)
    world.go_on()

    async def claimed():
        return await world.db.fetchval("SELECT sender FROM attempt_open WHERE attempt = $1", id_)

    await world.until(claimed)
    assert (await pay(world)).answer.root.status == "succeeded"
    assert await world.db.fetchval("SELECT state FROM attempt_open WHERE attempt = $1", id_) == "reversing"
