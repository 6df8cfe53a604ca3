"""The till: 8 seconds, one way or the other, with a PSP that answers, is silent, loses answers, or is never reached."""

import asyncio
from contextlib import contextmanager, nullcontext
from importlib import import_module

import pytest

from guilder.core.clock import MINUTE, SECOND
from guilder.core.errors import Refusal, ResultUnknown, Unavailable
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Unknown
from guilder.payments import create, till
from guilder.payments.commands import ConfirmPayment, CreatePayment
from guilder.payments.confirm import confirm
from guilder.payments.model import Till
from guilder.payments.till import take_at_till
from guilder.psp.model import Operation

READER = Till("tmr_1", "tml_1")


@pytest.fixture
def short(monkeypatch):
    """Half a second in place of eight, where nothing has to come of it."""
    monkeypatch.setattr(till, "TILL_SECONDS", 0.5)


@contextmanager
def ends_after_the_order_is_sent(world):
    """The buyer's time is over half a second after an order has reached the PSP, however long the way there took."""
    waiting = world.services.waiting
    answer = waiting.answer

    async def half_a_second_more(claim, _seconds):
        await world.until(lambda: world.psp.orders)
        return await answer(claim, 0.5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "answer", half_a_second_more)
        yield


async def at_reader(world, **more):
    """A payment for a card at a reader."""
    command = CreatePayment(amount=1000, currency="eur", payment_method_types=("card_present",), **more)
    return (await create(world.services, world.claim(), command)).answer.root


async def take(world, payment, key=None):
    """Hold a card to the reader; returns the answer."""
    claim = world.claim(key, fingerprint=b"till")
    return (await take_at_till(world.services, claim, payment.id, world.card(), READER)).answer


async def comes_to(world, payment, state):
    """Wait until the payment is in this state, while time passes."""

    async def there():
        world.clock.advance(SECOND)
        return (await world.payment(payment.id)).status == state

    await world.until(there)


async def attempt_state(world, payment):
    """Where the payment's attempt ended."""
    return await world.db.fetchval("SELECT state FROM attempt WHERE payment = $1", payment.id)


async def test_a_card_at_the_till_is_charged_and_the_charge_names_the_reader(world):
    """execute_by is 8 seconds; the PSP hears that the card was there; no CVC."""
    payment = await at_reader(world)
    answer = await take(world, payment)
    assert (answer.status, answer.root.status, answer.root.amount_received) == (200, "succeeded", 1000)
    [order] = world.psp.orders
    assert order.card_present and not order.send_cvc
    row = await world.db.fetchrow("SELECT execute_by, created_at FROM attempt")
    assert row["execute_by"] - row["created_at"] == 8 * SECOND
    charge = (await world.store.read(answer.root.latest_charge, world.account, False)).charge.facts
    assert (charge.reader, charge.location) == ("tmr_1", "tml_1")
    await world.books_agree()


async def test_a_declined_card_at_the_till_is_declined(world):
    """402, and another card may be held to the reader."""
    payment = await at_reader(world)
    world.psp.answer = lambda order: Declined("insufficient_funds", "51")
    answer = await take(world, payment)
    assert (answer.status, answer.error.decline_code) == (402, "insufficient_funds")
    world.psp.answer = lambda order: Approved(order.reference)
    assert (await take(world, payment)).root.status == "succeeded"


async def test_a_payment_that_was_tried_too_often_is_taken_by_no_reader(world, monkeypatch):
    """The same limit as anywhere else, and nothing is sent."""
    payment = await at_reader(world)
    monkeypatch.setattr(import_module("guilder.payments.confirm"), "CONFIRMATIONS_MAX", 1)
    world.psp.answer = lambda order: Declined("insufficient_funds", "51")
    await take(world, payment)
    refused = await take(world, payment)
    assert (refused.status, refused.error.code) == (400, "payment_intent_unexpected_state")
    assert len(world.psp.orders) == 1


async def test_a_soft_decline_at_the_till_is_a_decline(world):
    """There is no page to send the buyer to."""
    payment = await at_reader(world)
    world.psp.answer = lambda order: Declined("authentication_required", "65", wants_authentication=True)
    answer = await take(world, payment)
    assert answer.status == 402 and len(world.psp.orders) == 1


@pytest.mark.usefixtures("short")
async def test_a_payment_that_nobody_claims_in_time_is_certainly_not_sent(world):
    """No executor works: the till is told that nothing was charged, and nothing is sent when one comes back."""
    payment = await at_reader(world)
    await world.pause()
    answer = await take(world, payment)
    assert (answer.status, answer.error.code, answer.root.status) == (402, "processing_error", "requires_payment_method")
    assert await attempt_state(world, payment) == "not_sent"
    world.go_on()
    await asyncio.sleep(0.3)
    assert world.psp.orders == []


async def test_a_silent_bank_is_told_to_undo_before_the_till_is_told_not_paid(world):
    """Reversing is committed first; the reversal is repeated until it is acknowledged; then another card may be taken."""
    payment = await at_reader(world)
    said = {Operation.PURCHASE: None, Operation.REVERSAL: Unknown("timeout")}
    world.psp.answer = lambda order: said[order.operation]
    with ends_after_the_order_is_sent(world):
        answer = await take(world, payment)
    assert (answer.status, answer.error.code, answer.root.in_doubt) == (402, "processing_error", True)
    assert "being undone" in answer.error.message
    assert await world.db.fetchval("SELECT state FROM attempt_open") == "reversing"
    await world.until(lambda: world.psp.sent(Operation.REVERSAL))
    assert (await world.payment(payment.id)).status == "processing"
    said[Operation.REVERSAL] = Approved("R")
    await comes_to(world, payment, "requires_payment_method")
    assert await attempt_state(world, payment) == "undone"
    said[Operation.PURCHASE] = Approved("P")
    assert (await take(world, payment)).root.status == "succeeded"
    await world.books_agree()


async def test_an_approval_that_comes_after_not_paid_was_said_never_approves(world):
    """It is noted, the reversal goes on, and nothing is in the books."""
    payment = await at_reader(world)
    said = {Operation.PURCHASE: None, Operation.REVERSAL: Unknown("timeout"), Operation.QUERY: Approved("P")}
    world.psp.answer = lambda order: said[order.operation]
    with ends_after_the_order_is_sent(world):
        first = await take(world, payment, "k")
    [(order, deliver)] = world.psp.held
    deliver(order, Approved(order.reference))
    said[Operation.REVERSAL] = Approved("R")
    await comes_to(world, payment, "requires_payment_method")
    assert await world.db.fetchval("SELECT count(*) FROM charge") == 0
    assert await take(world, payment, "k") == first
    await world.books_agree()


@pytest.mark.usefixtures("short")
async def test_what_the_accept_took_is_not_waited_once_more(world, monkeypatch):
    """The time counts from the moment in which the card was held to the reader."""
    payment = await at_reader(world)
    await world.pause()
    left = []
    answer = world.services.waiting.answer

    async def waited(claim, seconds):
        left.append(seconds)
        return await answer(claim, seconds)

    monkeypatch.setattr(world.services.waiting, "answer", waited)
    async with world.db.transaction() as other:
        await other.execute("SELECT 1 FROM payment WHERE id = $1 FOR UPDATE", payment.id)
        asked = asyncio.create_task(take(world, payment))
        await asyncio.sleep(till.TILL_SECONDS)
    assert (await asked).status == 402
    assert left[0] < till.TILL_SECONDS / 2


@pytest.mark.parametrize("found", [Approved("P"), NotFound(), Declined("generic_decline", "05")])
async def test_a_doubt_is_cleared_up_within_the_time_or_undone(world, found):
    """No "processing" for the till: what the question brings within the time counts, and not found is reversed."""
    payment = await at_reader(world)
    said = {Operation.PURCHASE: Unknown("reset"), Operation.QUERY: found, Operation.REVERSAL: Approved("R")}
    world.psp.answer = lambda order: said[order.operation]
    # What is not found is asked about until the time is over.
    with ends_after_the_order_is_sent(world) if isinstance(found, NotFound) else nullcontext():
        asked = asyncio.create_task(take(world, payment))
        await world.until(lambda: world.psp.orders)
        world.clock.advance(2 * SECOND)
        answer = await asked
    assert answer.status == (200 if isinstance(found, Approved) else 402)
    await comes_to(world, payment, "succeeded" if isinstance(found, Approved) else "requires_payment_method")
    await world.books_agree()


async def test_an_approval_that_is_found_when_nobody_waits_any_more_is_undone(world):
    """The process that waited is gone, and the buyer with it: what the bank did is taken back."""
    payment = await at_reader(world)
    said = {Operation.PURCHASE: Unknown("reset"), Operation.QUERY: Unknown("timeout"), Operation.REVERSAL: Approved("R")}
    world.psp.answer = lambda order: said[order.operation]
    asked = asyncio.create_task(take(world, payment))
    await world.until(lambda: world.psp.orders)
    asked.cancel()
    world.clock.advance(MINUTE)
    said[Operation.QUERY] = Approved("P")
    await comes_to(world, payment, "requires_payment_method")
    assert await attempt_state(world, payment) == "undone"
    assert world.psp.sent(Operation.REVERSAL)


async def test_an_approval_that_is_found_too_late_by_one_who_has_lost_the_row_is_undone(world):
    """The word is definite, whoever brings it: it does not wait for the row's next owner."""
    payment = await at_reader(world)
    said = {Operation.PURCHASE: Unknown("reset"), Operation.QUERY: None, Operation.REVERSAL: Approved("R")}
    world.psp.answer = lambda order: said[order.operation]
    asked = asyncio.create_task(take(world, payment))
    await world.until(lambda: world.psp.orders)
    asked.cancel()
    world.clock.advance(MINUTE)
    await world.until(lambda: world.psp.held)
    await world.pause()
    await world.db.execute("UPDATE attempt_open SET sender = NULL, epoch = NULL")
    [(order, _deliver)] = world.psp.held
    world.executor.late(order, Approved("P"))

    async def reversing():
        return await world.db.fetchval("SELECT state FROM attempt_open") == "reversing"

    await world.until(reversing)
    world.go_on()
    await comes_to(world, payment, "requires_payment_method")


async def test_whoever_repeats_after_the_process_died_gets_the_end_of_it(world):
    """The time counts from the accept: past it the repeat closes what is open."""
    payment = await at_reader(world)
    world.psp.answer = lambda order: None if order.operation is Operation.PURCHASE else Unknown("timeout")
    asked = asyncio.create_task(take(world, payment, "k"))
    await world.until(lambda: world.psp.held)
    asked.cancel()
    world.clock.advance(9 * SECOND)
    answer = await take(world, payment, "k")
    assert answer.status == 402 and "being undone" in answer.error.message
    assert await take(world, payment, "k") == answer


async def test_a_closing_commit_that_cannot_be_made_is_not_known_yet(world, monkeypatch):
    """The same key later closes it, or finds its end."""
    payment = await at_reader(world)
    world.psp.answer = lambda order: None if order.operation is Operation.PURCHASE else Unknown("timeout")
    whole = world.store.commit

    async def away(change):
        if change.moves:
            raise Unavailable("the database is away")
        return await whole(change)

    monkeypatch.setattr(world.store, "commit", away)
    with ends_after_the_order_is_sent(world), pytest.raises(ResultUnknown):
        await take(world, payment, "k")
    assert (await world.payment(payment.id)).status == "processing"
    monkeypatch.setattr(world.store, "commit", whole)
    world.clock.advance(9 * SECOND)
    assert (await take(world, payment, "k")).status == 402
    assert await world.db.fetchval("SELECT state FROM attempt_open") == "reversing"


async def test_two_cards_at_once_charge_one(world):
    """The second reader is told that the first one is at it, or that the payment is paid."""
    payment = await at_reader(world)
    results = await asyncio.gather(*(take(world, payment) for _ in range(5)), return_exceptions=True)
    paid = [one for one in results if not isinstance(one, Exception) and one.status == 200]
    assert len(paid) == 1
    assert {type(one) for one in results} <= {type(paid[0]), Refusal}
    assert await world.db.fetchval("SELECT count(*) FROM charge WHERE succeeded") == 1


async def test_a_payment_for_a_reader_cannot_be_confirmed_and_another_cannot_be_processed(world):
    """Each in its own way."""
    payment = await at_reader(world)
    answer = (await confirm(world.services, world.claim(), ConfirmPayment(payment=payment.id, payment_method=world.card()))).answer
    assert (answer.status, answer.error.code) == (400, "payment_intent_unexpected_state")
    other = (await create(world.services, world.claim(), CreatePayment(amount=1000, currency="eur"))).answer.root
    refused = await take(world, other)
    assert (refused.status, refused.error.code) == (400, "payment_intent_incompatible_payment_method")


async def test_it_does_not_wait_for_the_log(world):
    """Its log entry is lost: an executor takes it all the same, at once."""
    payment = await at_reader(world)
    await world.pause()
    asked = asyncio.create_task(take(world, payment))

    async def accepted():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open")

    await world.until(accepted)
    await world.db.execute("UPDATE log_consumer SET applied_to = 1000000 WHERE consumer = 'executor'")
    world.go_on()
    assert (await asked).root.status == "succeeded"


async def test_a_manual_capture_at_the_till_is_held_and_what_was_not_sent_may_be_tried_again(world):
    """As for any other payment."""
    payment = await at_reader(world, capture_method="manual")
    world.psp.answer = lambda order: NotSent("connect")
    assert (await take(world, payment)).error.code == "processing_error"
    world.psp.answer = lambda order: Approved(order.reference)
    assert (await take(world, payment)).root.status == "requires_capture"
    await world.books_agree()
