"""Orders on a real database: one payment to a session, changes that lose a race, and a session's end against its payment."""

import asyncio
from importlib import import_module

import pytest
from orders_world import asked, orders_on, placed, standing, tried

from guilder import orders
from guilder.core.clock import DAY, HOUR, SECOND
from guilder.core.errors import Refusal, ResultUnknown, Unavailable
from guilder.core.outcome import Approved, Declined
from guilder.orders import Buyer, Pay, UpdateSession, attend_sessions
from guilder.orders.attend import AGAIN_SECONDS
from guilder.orders.expire import ended_of, expire
from guilder.orders.pay import _make_payment
from guilder.orders.store import STALE, note
from guilder.payments import confirm
from guilder.payments.cancel import cancel, given_up
from guilder.payments.commands import CancelPayment
from guilder.shapes.facts import OrderedPaymentFacts


async def count(world, table):
    """Rows of a table."""
    return await world.db.fetchval(f"SELECT count(*) FROM {table}")


async def test_a_session_gets_one_payment_however_many_ask(world):
    """Ten at once on one session: one payment is stored and announced, and the session names it."""
    services = orders_on(world)
    session = await asked(services, world)
    await asyncio.gather(*(_make_payment(services, session) for _ in range(10)))
    stored = await services.store.find(session.facts.id)
    assert await count(world, "payment") == 1
    assert stored.facts.payment_intent == await world.db.fetchval("SELECT id FROM payment")
    assert await world.event_types() == ["payment_intent.created"]


async def test_a_change_of_a_session_that_has_moved_on_stores_nothing_of_its_payment(world):
    """The session's lock comes first, and without its version not a row of the flush is written."""
    services = orders_on(world)
    session = await placed(services, world)
    payment = (await standing(services, session)).payment
    await orders.update(services, world.claim(), UpdateSession(session=session.facts.id, metadata={"a": "b"}))
    ended, happened = ended_of(session, world.ids, None)
    change = given_up(payment, None, None, "expired", now=world.clock.now(), ids=world.ids)
    assert await services.store.commit_with_payment(ended, change) == STALE
    assert (await world.payment(payment.facts.id)).status == "requires_payment_method"
    assert happened.type not in await world.event_types()


async def test_a_change_of_a_payment_that_has_moved_on_leaves_its_session_open(world):
    """Both or neither: the payment was tried since it was read."""
    services = orders_on(world)
    session = await placed(services, world)
    payment = (await standing(services, session)).payment
    world.psp.answer = lambda order: Declined("insufficient_funds", "51")
    await tried(services, world, session)
    ended, _ = ended_of(session, world.ids, None)
    change = given_up(payment, None, None, "expired", now=world.clock.now(), ids=world.ids)
    assert await services.store.commit_with_payment(ended, change) == STALE
    assert (await services.store.find(session.facts.id)).facts.status == "open"


async def test_a_try_with_an_old_number_charges_nothing(world):
    """The number is checked under the payment's version, so two at once are one."""
    services = orders_on(world)
    session = await placed(services, world)
    world.psp.answer = lambda order: Declined("insufficient_funds", "51")
    results = await asyncio.gather(*(tried(services, world, session) for _ in range(6)), return_exceptions=True)
    refused = [one for one in results if isinstance(one, Refusal)]
    assert len(refused) == 5 and {one.status for one in refused} == {409}
    assert len(world.psp.orders) == 1


async def test_nobody_else_confirms_or_cancels_a_sessions_payment(world):
    """The refusal names the session."""
    services = orders_on(world)
    session = await placed(services, world)
    result = await cancel(world.services, world.claim(), CancelPayment(payment=session.facts.payment_intent))
    assert result.answer.status == 400
    assert session.facts.id in result.answer.error.message


async def test_what_nobody_has_sent_yet_ends_with_its_session(world):
    """The attempt is closed as not sent, the payment canceled, the session expired, in one commit; the buyer is told."""
    services = orders_on(world)
    session = await placed(services, world)
    await world.pause()
    trying = asyncio.create_task(tried(services, world, session))
    await world.until(lambda: count(world, "attempt_open"))
    result = await expire(services, world.claim(), session.facts.id)
    assert result.answer.root.status == "expired"
    assert (await trying).answer.status == 402
    world.go_on()
    assert (await world.payment(session.facts.payment_intent)).status == "canceled"
    assert world.psp.orders == []


async def test_a_session_whose_payment_is_under_way_is_not_expired(world):
    """409 while the PSP is asked; afterwards it is complete, and 400."""
    services = orders_on(world)
    session = await placed(services, world)
    world.psp.answer = lambda _order: None
    trying = asyncio.create_task(tried(services, world, session))
    await world.until(lambda: world.psp.held)
    with pytest.raises(Refusal) as refused:
        await expire(services, world.claim(), session.facts.id)
    assert refused.value.facts.code == "lock_timeout"
    order, deliver = world.psp.held[0]
    deliver(order, Approved(order.reference, "123456"))
    await trying
    assert (await expire(services, world.claim(), session.facts.id)).answer.status == 400


async def test_the_worker_completes_and_announces_once(world):
    """However often it looks, and whoever else has completed it meanwhile."""
    services = orders_on(world)
    session = await placed(services, world)
    await tried(services, world, session)
    now = await standing(services, session)
    await asyncio.gather(*(orders.complete(services, now) for _ in range(5)))
    await world.db.execute("UPDATE checkout_session SET due_at = 0")
    await attend_sessions(services)
    await attend_sessions(services)
    assert (await services.store.find(session.facts.id)).facts.payment_status == "paid"
    assert (await world.event_types()).count("checkout.session.completed") == 1
    assert await world.db.fetchval("SELECT count(*) FROM checkout_session WHERE due_at IS NOT NULL") == 0


@pytest.mark.parametrize(("outcome", "status"), [(Approved("", "123456"), "complete"), (Declined("lost_card", "41"), "expired")])
async def test_a_time_that_passes_while_the_psp_is_asked_waits_for_the_outcome(world, outcome, status):
    """Meanwhile the worker looks again soon, and changes nothing."""
    services = orders_on(world)
    session = await placed(services, world)
    world.psp.answer = lambda _order: None
    trying = asyncio.create_task(tried(services, world, session))
    await world.until(lambda: world.psp.held)
    world.clock.advance(DAY)
    assert await attend_sessions(services) == 1
    assert (await services.store.find(session.facts.id)).facts.status == "open"
    assert await attend_sessions(services) == 0
    order, deliver = world.psp.held[0]
    deliver(order, Approved(order.reference, "123456") if isinstance(outcome, Approved) else outcome)
    await trying
    world.clock.advance(AGAIN_SECONDS * SECOND)
    assert await attend_sessions(services) == 1
    assert (await services.store.find(session.facts.id)).facts.status == status


async def test_a_session_ends_at_its_own_time(world):
    """Not before; with half an hour at least and a day at most."""
    services = orders_on(world)
    now = world.clock.now() // SECOND
    session = await asked(services, world, expires_at=now + 3600)
    assert await attend_sessions(services) == 0
    world.clock.advance(HOUR)
    assert await attend_sessions(services) == 1
    assert (await services.store.find(session.facts.id)).facts.status == "expired"
    now = world.clock.now() // SECOND
    for wrong in (now, now + 60, now + 2 * 24 * 3600):
        with pytest.raises(Refusal):
            await asked(services, world, expires_at=wrong)


async def test_an_order_whose_authorization_is_let_go_before_anybody_looked_is_complete_all_the_same(world):
    """The buyer had placed it; its session neither stays open nor ends unpaid, and the worker is done with it."""
    services = orders_on(world)
    session = await placed(services, world, payment=OrderedPaymentFacts(capture_method="manual"))
    await tried(services, world, session)
    canceled = await cancel(world.services, world.claim(), CancelPayment(payment=session.facts.payment_intent))
    assert canceled.answer.root.status == "canceled"
    world.clock.advance(DAY)
    assert await attend_sessions(services) == 1
    stored = await services.store.find(session.facts.id)
    assert (stored.facts.status, stored.facts.payment_status, stored.due_at) == ("complete", "unpaid", None)
    assert (await world.event_types()).count("checkout.session.completed") == 1


async def test_news_that_comes_while_the_worker_looks_is_looked_at_too(world):
    """What the worker decides on older news does not put off the newer."""
    services = orders_on(world)
    session = await placed(services, world)
    now = world.clock.now()
    await note(world.db, [session.facts.payment_intent], now)
    [looked_at] = await services.store.due(now, 10)
    world.clock.advance(SECOND)
    await note(world.db, [session.facts.payment_intent], world.clock.now())
    await services.store.look_later(looked_at, looked_at.facts.expires_at * SECOND)
    assert [one.facts.id for one in await services.store.due(world.clock.now(), 10)] == [session.facts.id]


async def test_a_payment_after_which_nobody_can_look_is_not_said_to_be_uncharged(world, monkeypatch):
    """The card was charged; the database is away when the page looks at what came of it."""
    services = orders_on(world)
    session = await placed(services, world)
    services.methods = Taken(world)

    async def away(_id):
        raise Unavailable("the database is away")

    async def then_away(*arguments):
        result = await confirm(*arguments)
        monkeypatch.setattr(services.store, "find", away)
        return result

    monkeypatch.setattr(import_module("guilder.orders.pay"), "confirm", then_away)
    buyer = Buyer(email="ada@example.com", name="Ada")
    with pytest.raises(ResultUnknown):
        await orders.pay(services, Pay(session=session.facts.id, number=1, card=None, buyer=buyer))
    assert (await world.payment(session.facts.payment_intent)).status == "succeeded"


async def test_a_payment_that_was_tried_too_often_keeps_no_more_cards(world, monkeypatch):
    """Whoever has the page's address cannot fill the vault with it."""
    services = orders_on(world)
    session = await placed(services, world)
    services.methods = taken = Taken(world)
    monkeypatch.setattr(import_module("guilder.payments.confirm"), "CONFIRMATIONS_MAX", 2)
    world.psp.answer = lambda order: Declined("insufficient_funds", "51")
    buyer = Buyer(email="ada@example.com", name="Ada")
    for number in (1, 2):
        await orders.pay(services, Pay(session=session.facts.id, number=number, card=None, buyer=buyer))
    for _ in range(3):
        with pytest.raises(Refusal) as refused:
            await orders.pay(services, Pay(session=session.facts.id, number=3, card=None, buyer=buyer))
        assert refused.value.facts.code == "payment_intent_unexpected_state"
    assert taken.kept == 2


class Taken:
    """Stands where cards are kept: counts them, and gives the same one back."""

    def __init__(self, world):
        self._card = world.card()
        self.kept = 0

    async def prepare(self, *_arguments, **_named):
        return self._card

    async def store_now(self, card):
        self.kept += 1
        return card
