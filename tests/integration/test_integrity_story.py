"""One payment's story, told from every table that knows of it."""

import pytest

from guilder.core.clock import SECOND
from guilder.core.outcome import Approved, Declined, NotFound, Unknown
from guilder.integrity import NoSuchPayment, story_rows, tell
from guilder.payments.capture import capture
from guilder.payments.commands import CapturePayment, CreatePayment, CreateRefund
from guilder.payments.create import create
from guilder.payments.model import Till
from guilder.payments.refund import refund
from guilder.payments.till import take_at_till
from guilder.psp.model import Operation


async def pay(world, claim=None, **more):
    command = CreatePayment(amount=1099, currency="eur", confirm=True, payment_method=world.card(), **more)
    return (await create(world.services, claim or world.claim(), command)).answer.root


def told(story, kind):
    """What the moments of one kind say, in order."""
    return [moment.what for moment in story.moments if moment.kind == kind]


async def test_a_paid_and_refunded_payment_is_told_from_request_to_ledger(world):
    """Requests, attempts with their way, messages, transfers with account names, balance transactions, events; in order."""
    paid = await pay(world, world.claim("key-of-the-payment"))
    world.clock.advance(60_000_000)
    command = CreateRefund(payment=paid.id, amount=300)
    back = (await refund(world.services, world.claim("key-of-the-refund"), command)).answer.root
    story = await tell(world.dsn, paid.id)
    assert (story.payment, story.state, story.amount, story.currency) == (paid.id, "succeeded", 1099, "eur")
    assert story.all_events
    assert [moment.at for moment in story.moments] == sorted(moment.at for moment in story.moments)
    assert [moment.detail for moment in story.moments if moment.kind == "request"] == [
        "idempotency key key-of-the-payment", "idempotency key key-of-the-refund",
    ]  # fmt: skip
    assert all("answered 200" in what for what in told(story, "request"))
    assert [what.split(" accepted")[0] for what in told(story, "attempt")] == ["purchase of 10.99 EUR", "refund of 3.00 EUR"]
    assert told(story, "outcome") == ["purchase approved", "refund approved"]
    assert told(story, "ledger") == [
        "captured: 10.99 EUR", "fee: 0.16 EUR", "refund reserved (hold): 3.00 EUR", "refund settled (post): 3.00 EUR",
    ]  # fmt: skip
    assert [moment.detail.partition(", index")[0] for moment in story.moments if moment.kind == "ledger"][:2] == [
        "debit psp_clearing of cardnet, credit pending until 2026-01-03",
        "debit pending until 2026-01-03, credit fees of guilder",
    ]  # fmt: skip
    assert told(story, "balance") == ["charge: 10.99 EUR, fee 0.16 EUR", "refund: -3.00 EUR"]
    assert told(story, "event") == [
        "payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "refund.created", "charge.refunded",
        "refund.updated", "charge.refund.updated",
    ]  # fmt: skip
    assert await tell(world.dsn, back.id) == await tell(world.dsn, paid.latest_charge) == story


async def test_a_plain_approval_keeps_no_messages_so_they_are_told_by_its_row(world):
    """What was sent and what came back follow from the attempt and the charge that it made."""
    story = await tell(world.dsn, (await pay(world)).id)
    sent, received = [moment for moment in story.moments if moment.kind == "psp"]
    reference = world.psp.orders[0].reference
    assert sent.told_by_row
    assert sent.detail.startswith(f"purchase reference {reference}, DE 7 ")
    assert received.told_by_row
    assert received.detail == "approved, authorization code 123456"


async def test_a_decline_is_told_with_the_issuers_code(world):
    """Ours and theirs, and what the merchant was answered."""
    world.psp.answer = lambda order: Declined("insufficient_funds", "51")
    story = await tell(world.dsn, (await pay(world)).id)
    received = [moment.detail for moment in story.moments if moment.what == "received"]
    assert received == ["declined: insufficient_funds, response code 51"]
    assert told(story, "request")[0].endswith("answered 402 card_declined insufficient_funds")


@pytest.mark.parametrize(("till", "where"), [(Till("tmr_1", "tml_1"), "reader tmr_1, location tml_1,"), (Till("tmr_2"), "reader tmr_2")])
async def test_a_payment_at_a_till_is_told_with_its_reader_and_where_that_stands(world, till, where):
    """A reader that stands nowhere is told alone; a refund goes to no reader."""
    command = CreatePayment(amount=1099, currency="eur", payment_method_types=("card_present",))
    payment = (await create(world.services, world.claim(), command)).answer.root
    await take_at_till(world.services, world.claim(), payment.id, world.card(), till)
    await refund(world.services, world.claim(), CreateRefund(payment=payment.id, amount=300))
    charged, back = told(await tell(world.dsn, payment.id), "attempt")
    assert charged.startswith(f"purchase of 10.99 EUR at {where} accepted for cardnet")
    assert back.startswith("refund of 3.00 EUR accepted for cardnet")


async def test_a_doubt_is_told_while_it_lasts(world):
    """What stands open is the last that is told: in which state, and when somebody looks again."""
    world.psp.answer = lambda order: Unknown("timeout")
    story = await tell(world.dsn, (await pay(world)).id)
    assert story.state == "processing"
    assert story.moments[-1].kind == "open"
    assert story.moments[-1].what == "in doubt: will be looked at again"
    assert told(story, "event") == ["payment_intent.created", "payment_intent.processing"]


async def test_a_reversed_payment_is_told_to_its_end(world):
    """Doubt, question, reversal, and the inquiry that is still to come."""
    said = {Operation.PURCHASE: Unknown("timeout"), Operation.QUERY: NotFound(), Operation.REVERSAL: Approved("R")}
    world.psp.answer = lambda order: said[order.operation]
    payment = await pay(world)
    world.clock.advance(2_000_000)

    async def ended():
        return (await world.payment(payment.id)).status == "requires_payment_method"

    await world.until(ended)
    story = await tell(world.dsn, payment.id)
    assert told(story, "outcome") == ["purchase undone"]
    assert told(story, "open") == ["recheck: will be looked at again"]


async def test_another_payments_rows_do_not_slip_in(world):
    """Two payments at the same moment, each with its own story."""
    first, second = await pay(world), await pay(world, capture_method="manual")
    await capture(world.services, world.claim(), CapturePayment(payment=second.id, amount_to_capture=500))
    story = await tell(world.dsn, second.id)
    assert told(story, "ledger") == [
        "authorized (hold): 10.99 EUR", "hold captured (post): 5.00 EUR", "hold moved: 5.00 EUR", "fee: 0.08 EUR",
    ]  # fmt: skip
    assert "charge.captured" in told(story, "event")
    assert not {moment.about for moment in story.moments} & {moment.about for moment in (await tell(world.dsn, first.id)).moments}


async def test_on_a_busy_system_the_events_around_a_payments_own_moments_are_found(world, monkeypatch):
    """An event does not know its payment: beyond a bound not every one since is looked through."""
    monkeypatch.setattr(story_rows, "SCANNED_MAX", 20)
    before = [await pay(world) for _ in range(4)]
    world.clock.advance(60_000_000)
    payment = await pay(world)
    world.clock.advance(60_000_000)
    for _ in range(12):
        await pay(world)
    story = await tell(world.dsn, payment.id)
    assert before
    assert not story.all_events
    assert told(story, "event") == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


@pytest.mark.parametrize("id_", ["pi_000000000000000000000000", "re_x", "nonsense", "", "cus_1"])
async def test_what_does_not_exist_has_no_story(world, id_):
    """Whatever the id looks like."""
    with pytest.raises(NoSuchPayment, match="there is nothing with the id"):
        await tell(world.dsn, id_)


async def test_each_try_of_a_webhook_is_told_with_its_answer(world):
    """The one that failed and the one that arrived, behind the event that they tell of."""
    paid = await pay(world)
    [event] = await world.db.fetch("SELECT id, account, created_at FROM event WHERE type = 'payment_intent.succeeded'")
    sent_at = event["created_at"] + SECOND
    await world.db.execute(
        """INSERT INTO webhook_delivery (id, account, livemode, endpoint, number, event, type, fanout, state, tries, created_at, sent_at, status)
        VALUES ('whd_1', $1, false, 'we_1', 4, $2, 'payment_intent.succeeded', 1, 'delivered', 2, $3, $4, 200)""",
        event["account"], event["id"], event["created_at"], sent_at + SECOND,
    )  # fmt: skip
    await world.db.execute(
        "INSERT INTO webhook_attempt (endpoint, number, try, sent_at, milliseconds, failure) VALUES ('we_1', 4, 1, $1, 10, 'reset')", sent_at,
    )
    story = await tell(world.dsn, paid.id)
    assert [(one.what, one.detail, one.about) for one in story.moments if one.kind == "webhook"] == [
        ("payment_intent.succeeded not answered: reset", "to we_1, number 4", event["id"]),
        ("payment_intent.succeeded answered 200", "to we_1, number 4", event["id"]),
    ]
