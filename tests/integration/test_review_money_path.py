"""Found by reading the money path: each of these was once wrong, or could be proved only by an interleaving."""

import asyncio
from importlib import import_module
from types import SimpleNamespace

from steps import pay, says, status_is, stop_executor

import guilder.payments.waiting as waiting_module
from guilder.core.clock import DAY, HOUR, MINUTE, SECOND, ManualClock
from guilder.core.ensure import InvariantBroken
from guilder.core.errors import Unavailable
from guilder.core.outcome import Approved, NotFound, NotSent, Unknown
from guilder.db.sender import Sender
from guilder.payments import cancel, execute, expire_authorizations, note_waiting, offer_refunds, outcomes, refund
from guilder.payments.commands import CancelPayment, CreateRefund
from guilder.payments.offer import note_accounts
from guilder.psp.model import Direction, Exchange, Operation


def start_executor(world):
    world._running = asyncio.create_task(world.executor.run({"cardnet": world.psp}))


async def go_away(request):
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


async def no_overdraft(world):
    world.terms = type(world.terms)(price_version=1, basis_points=150, overdraft_units=0)


# --- the finality horizon -------------------------------------------------------------------------------------------


async def test_a_refund_that_was_sent_late_is_not_taken_for_undone_because_it_was_accepted_long_ago(world):
    """The horizon counts from when it may have been sent: "not found" a second after the send is no proof of absence."""
    payment = (await pay(world)).answer.root.id
    await stop_executor(world)
    said = says(world, refund=Unknown("timeout"), query=NotFound())
    request = asyncio.create_task(refund(world.services, world.claim(), CreateRefund(payment=payment)))

    async def attempts():
        return await world.db.fetchval("SELECT count(*) FROM attempt WHERE refund IS NOT NULL")

    await world.until(attempts)
    await go_away(request)
    world.clock.advance(5 * DAY)
    start_executor(world)
    await world.until(lambda: world.psp.sent(Operation.REFUND))

    async def tries():
        return await world.db.fetchval("SELECT max(tries) FROM attempt_open") or 0

    async def in_doubt():
        return await tries() >= 1

    await world.until(in_doubt)
    world.clock.advance(5 * SECOND)
    await world.until(lambda: world.psp.sent(Operation.QUERY))

    async def asked():
        return await attempts() > 1 or await tries() >= 2

    await world.until(asked)
    assert await attempts() == 1
    said[Operation.QUERY] = Approved("R")
    world.clock.advance(HOUR)

    async def paid_back():
        return await world.db.fetchval("SELECT state FROM refund") == "succeeded"

    await world.until(paid_back)
    await world.books_agree()


async def test_a_void_is_sent_again_however_old_it_is(world):
    """A second void of the same authorization harms nothing; what is held would else stay held."""
    payment = (await pay(world, capture_method="manual")).answer.root.id
    said = says(world, void=Unknown("timeout"), query=Unknown("timeout"))
    await cancel(world.services, world.claim(), CancelPayment(payment=payment))
    said.update({Operation.QUERY: NotFound(), Operation.VOID: Approved("V")})
    world.clock.advance(7 * DAY)
    await status_is(world, payment, "canceled")
    await world.books_agree()


# --- the executor ---------------------------------------------------------------------------------------------------


async def test_a_stream_of_new_payments_does_not_keep_the_executor_from_what_is_due(world, monkeypatch):
    """Though each claim is full, so that the next one follows at once: else a doubt would stand for as long as the load lasts."""
    monkeypatch.setattr(execute, "CLAIM_EACH", 1)
    said = says(world, purchase=Unknown("timeout"), query=Unknown("timeout"))
    await pay(world)
    said[Operation.PURCHASE] = Approved("P")
    world.clock.advance(HOUR)

    async def stream():
        while not world.psp.sent(Operation.QUERY):
            await asyncio.gather(*(pay(world) for _ in range(5)))

    async with asyncio.timeout(10):
        await stream()


async def test_messages_that_cannot_be_kept_leave_nothing_in_hand(world, monkeypatch):
    """Else the attempt would count as under way in this process for ever, and nobody would set its row free."""

    async def away(_messages):
        raise Unavailable("away")

    monkeypatch.setattr(world.store, "keep_messages", away)
    said = says(world, purchase=Unknown("timeout"), query=Unknown("timeout"))
    payment = (await pay(world)).answer.root.id
    attempt = world.psp.orders[0].attempt_id
    world.executor.record(Exchange(attempt, Direction.SENT, "0200", world.clock.now()))
    said[Operation.QUERY] = Approved("P")
    world.clock.advance(HOUR)
    await status_is(world, payment, "succeeded")
    await world.until(lambda: not world.executor._in_hand)


async def test_the_end_of_an_older_call_does_not_take_a_newer_one_out_of_hand(world):
    """The row may have been claimed again before the task of the call before has ended."""
    world.psp.answer = lambda _order: None
    request = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    hand = world.executor._in_hand
    [attempt] = hand.attempts()
    newer = hand.get((attempt, "payment"))
    hand.done(execute.Claimed(newer.attempt, newer.open, newer.payment, newer.sender, False))
    assert hand.get((attempt, "payment")) is newer
    order, deliver = world.psp.held.pop()
    deliver(order, Approved("P"))
    assert (await request).answer.root.status == "succeeded"


async def test_an_outcome_that_cannot_be_decided_at_first_is_decided_from_a_fresh_reading(world, monkeypatch):
    """An error in the quick way must not leave the attempt in hand for ever."""
    decide, calls = outcomes.settle, []

    def settle(settling, outcome):
        calls.append(outcome)
        if len(calls) == 1:
            raise InvariantBroken("not this time")
        return decide(settling, outcome)

    monkeypatch.setattr(outcomes, "settle", settle)
    assert (await pay(world)).answer.root.status == "succeeded"
    await world.until(lambda: not world.executor._in_hand)


async def test_a_cvc_is_dropped_when_a_query_brings_the_approval_that_it_was_sent_for(world):
    """Not only when the first answer does: nothing keeps a CVC after the authorization that carried it."""
    says(world, purchase=Unknown("timeout"))
    card = world.card()
    card = world.card(id=card.id, card=type(card.card)("visa", "4242", 12, 2040, "f", iin="424242", cvc_check="unchecked"))
    payment = (await pay(world, payment_method=card)).answer.root.id
    assert world.psp.orders[0].send_cvc
    assert world.forgotten == []
    world.clock.advance(2 * SECOND)
    await status_is(world, payment, "succeeded")
    await world.until(lambda: world.forgotten == [card.id])


async def test_an_undone_attempt_is_not_asked_about_each_second_while_the_psp_is_away(world):
    """It is no payment that anybody waits for: a minute between two questions without an answer."""
    said = says(world, purchase=Unknown("timeout"), query=NotFound())
    payment = (await pay(world)).answer.root.id
    world.clock.advance(2 * SECOND)
    await status_is(world, payment, "requires_payment_method")
    said[Operation.QUERY] = Unknown("connect")
    asked = len(world.psp.sent(Operation.QUERY))
    world.clock.advance(MINUTE)
    await world.until(lambda: len(world.psp.sent(Operation.QUERY)) > asked)

    async def next_look():
        return await world.db.fetchval("SELECT retry_at - $1 FROM attempt_open WHERE state = 'recheck' AND sender IS NULL", world.clock.now())

    async def moved():
        return (await next_look() or 0) > 0

    await world.until(moved)
    assert await next_look() >= 59 * SECOND


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_a_key_that_nobody_has_answered_is_answered_though_the_request_would_now_be_refused(world):
    """The process that took the first request died, and no executor works: a repeated full refund is told what is known."""
    payment = (await pay(world)).answer.root.id
    await stop_executor(world)
    claim = world.claim("once")
    request = asyncio.create_task(refund(world.services, claim, CreateRefund(payment=payment)))

    async def accepted():
        return await world.db.fetchval("SELECT count(*) FROM refund")

    await world.until(accepted)
    await go_away(request)
    world.clock.advance(11 * SECOND)
    again = await refund(world.services, world.claim("once"), CreateRefund(payment=payment))
    assert (again.answer.status, again.answer.root.status, again.replayed) == (200, "pending", True)
    assert await world.db.fetchval("SELECT count(*) FROM refund") == 1


async def test_an_answer_that_cannot_be_read_does_not_end_the_reading_of_answers(world, monkeypatch):
    """One bad row is reported; whoever waits for another key still learns of it."""
    read, calls = waiting_module.answer_all, []

    async def answer_all(db, keys):
        calls.append(keys)
        if len(calls) == 1:
            raise ValueError("a row from nowhere")
        return await read(db, keys)

    monkeypatch.setattr(waiting_module, "answer_all", answer_all)
    assert (await asyncio.wait_for(pay(world), 5)).answer.root.status == "succeeded"


# --- the worker -----------------------------------------------------------------------------------------------------


async def test_an_expired_authorization_whose_void_cannot_be_sent_is_not_tried_without_end(world):
    """An outage of the PSP makes one attempt a quarter of an hour, not two a second."""
    payment = (await pay(world, capture_method="manual")).answer.root.id
    said = says(world, void=NotSent("connect"))
    world.clock.advance(8 * DAY)
    assert await expire_authorizations(world.services) == 1
    await status_is(world, payment, "requires_capture")
    assert await expire_authorizations(world.services) == 0
    del said[Operation.VOID]
    world.clock.advance(15 * MINUTE)
    assert await expire_authorizations(world.services) == 1
    await status_is(world, payment, "canceled")
    await world.books_agree()


async def test_a_refund_waits_behind_others_of_its_currency_only(world, monkeypatch):
    """As many refunds in euros as one round offers, which no money will ever reach, do not keep a small one in dollars waiting."""
    monkeypatch.setattr(import_module("guilder.payments.offer"), "OFFERS_MAX", 1)
    await no_overdraft(world)
    euros = (await pay(world, amount=10_000)).answer.root.id
    dollars = (await pay(world, amount=10_000, currency="usd")).answer.root.id
    for payment in (euros, dollars):
        assert (await refund(world.services, world.claim(), CreateRefund(payment=payment))).answer.root.pending_reason == "insufficient_funds"
    await pay(world, amount=10_000, currency="usd")
    async with world.db.transaction() as connection:
        await note_accounts(connection, [(world.account, False)])
    assert await offer_refunds(world.services) == 1
    await world.books_agree()


async def test_a_refund_whose_offer_was_lost_is_offered_again(world):
    """The money came before the refund began to wait, or the worker died with the note in hand: it is noted again by and by."""
    await no_overdraft(world)
    payment = (await pay(world, amount=10_000)).answer.root.id
    await refund(world.services, world.claim(), CreateRefund(payment=payment))
    await pay(world, amount=10_000)
    assert await offer_refunds(world.services) == 0
    assert await note_waiting(world.db) == 1
    assert await offer_refunds(world.services) == 1
    await world.books_agree()


# --- senders --------------------------------------------------------------------------------------------------------


async def test_a_sender_that_gives_everything_back_may_not_send_any_more():
    """Its rows are another's from that moment on; frames that still wait in this process must not leave."""
    may_send: list[bool] = []

    class Db:
        async def execute(self, sql, *_arguments):
            if "sender_take_over" in sql:
                may_send.append(sender.may_send(sender.id))
            return ""

        async def fetchrow(self, *_arguments):
            return {"epoch": 1, "beat": 1}

    clock = ManualClock()
    sender = Sender(Db(), clock, SimpleNamespace(new=lambda prefix: f"{prefix}_1"), role="executor", lost=lambda _: None)
    await sender._register()
    assert sender.may_send("snd_1")
    await sender.close()
    assert may_send == [False]


