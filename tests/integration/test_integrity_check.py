"""`guilder check` on books that are sound, and on books that somebody has tampered with in each of the ways that it looks for."""

import asyncio

import msgspec
import pytest
from orders_world import orders_on, placed, standing, tried
from steps import stop_executor, tamper

from guilder.core.clock import HOUR, MINUTE
from guilder.core.outcome import Approved, Declined, NotFound, Unknown
from guilder.integrity import CHECKS, examine
from guilder.orders import complete, expire
from guilder.payments.cancel import cancel
from guilder.payments.capture import capture
from guilder.payments.commands import CancelPayment, CapturePayment, CreatePayment, CreateRefund
from guilder.payments.create import create
from guilder.payments.refund import refund
from guilder.psp.model import Operation
from guilder.security import PurposeKeys
from guilder.webhooks import Allowed, CreateEndpoint, Endpoints


async def pay(world, amount=1000, currency="eur", **more):
    command = CreatePayment(amount=amount, currency=currency, confirm=True, payment_method=world.card(), **more)
    return (await create(world.services, world.claim(), command)).answer.root


async def found(world, *, witness=None, running=True, now=None):
    """What each check finds, by name."""
    results = examine(world.dsn, now=now or world.clock.now(), running=running, witness=witness, tell=lambda _progress: None)
    return {result.name: result async for result in results}


async def broken(world, **more):
    """The names of the checks that find something."""
    return {name for name, result in (await found(world, **more)).items() if result.violated}


async def busy_history(world):
    """One of everything: paid, declined, captured in part, canceled, refunded, refused by the issuer, in other currencies."""
    paid = await pay(world)
    await refund(world.services, world.claim(), CreateRefund(payment=paid.id, amount=300))
    await refund(world.services, world.claim(), CreateRefund(payment=paid.id))
    await pay(world, 1500, "jpy")
    held = await pay(world, 5000, "kwd", capture_method="manual")
    await capture(world.services, world.claim(), CapturePayment(payment=held.id, amount_to_capture=2000))
    given_up = await pay(world, 700, capture_method="manual")
    await cancel(world.services, world.claim(), CancelPayment(payment=given_up.id))
    await pay(world, 800, capture_method="manual")
    refused = await pay(world, 900)
    orders = orders_on(world)
    bought = await placed(orders, world)
    await tried(orders, world, bought)
    await complete(orders, await standing(orders, bought))
    await expire(orders, world.claim(), (await placed(orders, world)).facts.id)
    world.psp.answer = lambda order: Declined("insufficient_funds", "51")
    await pay(world)
    await refund(world.services, world.claim(), CreateRefund(payment=refused.id))
    world.psp.answer = lambda order: Approved(order.reference, "123456")
    await fan_out(world)


async def fan_out(world):
    """An endpoint that wants everything that has happened so far; nobody delivers."""
    keys = PurposeKeys(bytes(32))
    endpoints = Endpoints(world.db, keys, world.clock, world.ids, allowed=(Allowed(), Allowed()))
    async with world.db.transaction() as connection:
        command = CreateEndpoint(url="https://example.com/", enabled_events=("*",))
        await endpoints.create(connection, world.account, command, livemode=False)
        rows = await connection.fetch("SELECT account, livemode, id, type, '*' AS wildcard FROM event ORDER BY number")
        await connection.execute("SELECT webhook_fan_out($1, $2::webhook_event_in[])", world.clock.now(), [tuple(row) for row in rows])


async def test_books_of_a_busy_history_are_sound(world):
    """No check finds anything, each has looked at something, and the one that needs a witness says that it has none."""
    await busy_history(world)
    results = await found(world)
    assert {name: result.violations for name, result in results.items() if result.violated} == {}
    assert list(results) == [check.name for check in CHECKS]
    assert [name for name, result in results.items() if result.skipped] == ["truth"]
    assert all(result.examined for result in results.values() if not result.skipped)


async def test_a_fresh_installation_is_sound(world):
    """Nothing has happened yet, and nothing is wrong with that."""
    assert await broken(world, witness=lambda: iter(())) == set()


TAMPERED = [
    ("a transfer is gone", "DELETE FROM ledger_transfer WHERE index = 2", "ledger_index"),
    ("a transfer is beyond the head", "UPDATE ledger_head SET last_index = last_index - 1 WHERE NOT livemode", "ledger_index"),
    ("a transfer was dated back", "UPDATE ledger_transfer SET created_at = 1 WHERE index = 3", "ledger_index"),
    ("a transfer's amount was changed", "UPDATE ledger_transfer SET amount = amount + 1 WHERE index = 1", "ledger_accounts"),
    ("a transfer was turned", "UPDATE ledger_transfer SET debit = credit, credit = debit WHERE index = 1", "ledger_accounts"),
    ("a transfer's currency was changed", "UPDATE ledger_transfer SET currency = 'usd' WHERE index = 1", "ledger_accounts"),
    (
        "more was posted than was held",
        "UPDATE ledger_transfer t SET amount = p.amount + 1 FROM ledger_transfer p WHERE p.id = t.pending_id AND t.kind = 2",
        "ledger_accounts",
    ),
    (
        "an account's balance was changed",
        "UPDATE ledger_standing SET debits_posted = debits_posted + 1 WHERE number = (SELECT max(number) FROM ledger_standing)",
        "trial_balance",
    ),
    (
        "both sides of two accounts were changed",
        "UPDATE ledger_standing SET debits_posted = debits_posted + 1, credits_posted = credits_posted + 1 WHERE last_chunk >= first_chunk",
        "ledger_accounts",
    ),
    (
        "an account's newest balance row was changed",
        "UPDATE ledger_balance SET debits_posted = debits_posted + 1 WHERE (chunk, number, created_at) IN ("
        "SELECT DISTINCT ON (number) chunk, number, created_at FROM ledger_balance ORDER BY number, created_at DESC)",
        "ledger_accounts",
    ),
    ("an account's balance rows are gone", "DELETE FROM ledger_balance", "ledger_accounts"),
    ("an account stands nowhere", "DELETE FROM ledger_standing", "ledger_accounts"),
    ("an account is booked in another currency", "UPDATE ledger_standing SET currency = 'usd'", "ledger_accounts"),
    ("a closed day takes money again", "UPDATE ledger_standing SET closed = NOT closed", "ledger_accounts"),
    ("a balance transaction was raised", "UPDATE balance_transaction SET amount = amount + 1 WHERE type = 'charge'", "wallet"),
    ("a fee was lowered", "UPDATE balance_transaction SET fee = 0 WHERE fee > 0", "wallet"),
    ("a balance transaction is gone", "DELETE FROM balance_transaction WHERE type = 'refund'", "balance_transactions"),
    (
        "a balance transaction stands twice",
        "INSERT INTO balance_transaction SELECT 'txn_x', account, livemode, day, created_at, amount, fee, currency, type, source "
        "FROM balance_transaction WHERE type = 'charge' LIMIT 1",
        "balance_transactions",
    ),
    ("a charge says that it took more", "UPDATE charge SET captured = captured + 1 WHERE captured > 0", "charges"),
    ("a charge failed after all", "UPDATE charge SET succeeded = false WHERE captured > 0", "charges"),
    ("a charge is gone", "DELETE FROM charge WHERE captured > 0", "charges"),
    ("a refund was forgotten by its charge", "UPDATE charge SET refunded = 0 WHERE refunded > 0", "charges"),
    ("a hold was lost", "UPDATE charge SET hold = 'ltr_x' WHERE hold IS NOT NULL", "charges"),
    ("a failed refund was paid", "UPDATE attempt SET state = 'approved' WHERE state = 'declined' AND refund > ''", "refunds"),
    (
        "a refund was paid twice",
        "UPDATE attempt SET refund = (SELECT min(id) FROM refund) WHERE state = 'approved' AND refund IS NOT NULL",
        "refunds",
    ),
    ("a refund was paid by nobody", "UPDATE refund SET state = 'succeeded' WHERE state = 'failed'", "refunds"),
    ("a refund waits for nobody", "UPDATE refund SET state = 'pending' WHERE state = 'failed'", "refunds"),
    ("a payment was set back", "UPDATE payment SET state = 'requires_capture' WHERE state = 'succeeded'", "payments"),
    ("a payment is processed by nobody", "UPDATE payment SET state = 'processing' WHERE state = 'succeeded'", "payments"),
    ("a payment shows what it is not", "UPDATE payment SET state = 'canceled' WHERE state = 'succeeded'", "shown"),
    ("a charge shows other amounts", "UPDATE charge SET captured = captured * 2, refunded = 0 WHERE captured > 0", "shown"),
    ("a refund's amount was changed", "UPDATE refund SET amount = amount + 1 WHERE state = 'succeeded'", "shown"),
    ("an order was paid and has expired", "UPDATE checkout_session SET state = 'expired' WHERE state = 'complete'", "sessions"),
    ("an order's payment is gone", "UPDATE checkout_session SET payment = 'pi_x' WHERE state = 'complete'", "sessions"),
    ("an order's end was never told", "UPDATE event SET type = 'x' WHERE type = 'checkout.session.expired'", "sessions"),
    ("stored facts cannot be read", "UPDATE payment SET facts = '\\x00'", "shown"),
    ("an answer is gone", "UPDATE idempotency_key SET answer = NULL", "idempotency_keys"),
    ("a log entry is gone", "DELETE FROM log_entry WHERE topic = 2 AND position = 2", "log"),
    ("the newest log entries are gone", "DELETE FROM log_entry WHERE topic = 2", "log"),
    ("a consumer has run ahead", "UPDATE log_consumer SET applied_to = 1000", "log"),
    (
        "what waits was never read",
        "INSERT INTO log_parked (consumer, key, topic, partition, position, payload, retry_at) VALUES ('refunds', 'pi_x', 2, 3, 999, '', 0)",
        "log",
    ),
    ("an event is gone", "DELETE FROM event WHERE number = 3", "events"),
    ("an event was never made", "UPDATE event SET type = 'x' WHERE type = 'payment_intent.succeeded'", "events"),
    ("a delivery is gone", "DELETE FROM webhook_delivery WHERE number = 3", "deliveries"),
    ("an endpoint's counter was set back", "UPDATE webhook_lane SET head = head - 1", "deliveries"),
    ("a delivery is passed over", "UPDATE webhook_lane SET done_to = 3", "deliveries"),
    ("a delivery that failed has no next try", "UPDATE webhook_delivery SET tries = 1 WHERE number = 2", "deliveries"),
    ("a delivery is of an event that is not there", "UPDATE webhook_delivery SET event = 'evt_x' WHERE number = 2", "deliveries"),
    ("an attempt is open again", "UPDATE attempt SET state = NULL WHERE state = 'declined' AND refund IS NULL", "attempts"),
    (
        "an attempt that ended holds its slot",
        "INSERT INTO attempt_open SELECT payment, slot, id, 'created', NULL, NULL, 0, 0, 0 FROM attempt WHERE state = 'declined'",
        "attempts",
    ),
    ("nothing holds a slot", "INSERT INTO attempt_open VALUES ('pi_x', 'p', 'at_x', 'created', NULL, NULL, 0, 0, 0)", "attempts"),
]


@pytest.mark.parametrize(("sql", "check"), [row[1:] for row in TAMPERED], ids=[row[0] for row in TAMPERED])
async def test_what_was_tampered_with_is_named(world, sql, check):
    """Each in its own check, with a subject and words."""
    await busy_history(world)
    await stop_executor(world)
    await tamper(world, sql)
    result = (await found(world))[check]
    assert result.violated
    assert len(result.violations) == min(result.violated, 20)
    assert all(violation.check == check and violation.subject and violation.message for violation in result.violations)


async def test_entries_that_were_tidied_away_after_use_are_no_gap(world):
    """Applied by every consumer: the bottom of a partition may go, and the whole of it too."""
    await busy_history(world)
    await stop_executor(world)
    heads = "SELECT head FROM log_head h WHERE (h.topic, h.partition) = (c.topic, c.partition)"
    await tamper(world, f"UPDATE log_consumer c SET applied_to = ({heads})")
    await tamper(world, "DELETE FROM log_entry WHERE position = 1")
    await tamper(world, "DELETE FROM log_entry WHERE topic = 1")
    assert await broken(world) == set()


async def test_an_attempt_in_doubt_is_noted_with_its_age(world):
    """Unknown is allowed; that it is unknown is shown, and for how long."""
    world.psp.answer = lambda order: Unknown("timeout")
    payment = await pay(world)
    world.clock.advance(2 * HOUR + 5 * MINUTE)
    results = await found(world)
    assert not any(result.violated for result in results.values())
    (note,) = results["attempts"].notes
    assert f"purchase of {payment.id} is in doubt, for 2 h 5 min" in note.message


async def test_an_attempt_that_nobody_sends_is_a_violation_a_minute_after_its_time(world):
    """Where somebody runs; on a stopped system it waits for the next start, and is noted."""
    await stop_executor(world)
    paying = asyncio.create_task(pay(world))
    attempt = await world.until(lambda: world.db.fetchval("SELECT attempt FROM attempt_open"))
    assert await broken(world, now=world.clock.now() + 119 * 1_000_000) == set()
    results = await found(world, now=world.clock.now() + 121 * 1_000_000)
    assert [violation.subject for violation in results["attempts"].violations] == [attempt]
    stopped = await found(world, now=world.clock.now() + 121 * 1_000_000, running=False)
    assert not stopped["attempts"].violated
    assert [note.subject for note in stopped["attempts"].notes] == [attempt]
    paying.cancel()
    await asyncio.gather(paying, return_exceptions=True)


# --- the bank's truth -----------------------------------------------------------------------------------------------

TOLD_AS = {
    Operation.PURCHASE: ("authorization", "capture"), Operation.AUTHORIZE: ("authorization",), Operation.CAPTURE: ("capture",),
    Operation.VOID: ("void",), Operation.REFUND: ("refund",),
}  # fmt: skip


def effects_of(order):
    """What a bank that did as it was told would tell of an order."""
    original = order.original.reference if order.original else None
    kinds = TOLD_AS.get(order.operation, ())
    return [effect(order.reference, kind, order.amount_minor, order.currency, original) for kind in kinds]


def effect(reference, kind, amount, currency="eur", original=None, undone=None):
    told = {"reference": reference, "original": original, "kind": kind, "amount": amount, "currency": currency, "time": 1}
    return told | ({"reversed": undone} if undone else {})


def telling(effects):
    """A witness that tells of these effects."""
    return lambda: iter([msgspec.json.encode(one) for one in effects])


async def truth_of_busy_history(world):
    """The effects of the busy history, its declined orders left out."""
    await busy_history(world)
    approved = {row["reference"] for row in await world.db.fetch("SELECT reference FROM attempt WHERE state = 'approved'")}
    return [one for order in world.psp.orders if order.reference in approved for one in effects_of(order)]


async def test_a_bank_that_did_what_the_books_say_agrees(world):
    """Every kind of operation, in three currencies."""
    effects = await truth_of_busy_history(world)
    result = (await found(world, witness=telling(effects)))["truth"]
    assert (result.violations, result.notes, result.examined) == ((), (), len(effects))


def index_of(effects, kind):
    return next(number for number, one in enumerate(effects) if one["kind"] == kind)


@pytest.mark.parametrize("kind", ["authorization", "capture", "void", "refund"])
async def test_an_effect_that_the_bank_does_not_know_is_a_violation(world, kind):
    """Approved in the books, and nothing happened."""
    effects = await truth_of_busy_history(world)
    del effects[index_of(effects, kind)]
    assert await broken(world, witness=telling(effects)) == {"truth"}


@pytest.mark.parametrize("change", [{"amount": 1}, {"currency": "chf"}, {"reference": "UNKNOWN00000"}])
@pytest.mark.parametrize("kind", ["authorization", "capture", "refund"])
async def test_an_effect_of_another_amount_currency_or_reference_is_a_violation(world, kind, change):
    """To the minor unit, and each under its own intent."""
    effects = await truth_of_busy_history(world)
    effects[index_of(effects, kind)] |= change
    assert await broken(world, witness=telling(effects)) == {"truth"}


async def test_an_effect_without_an_intent_is_named(world):
    """The bank took money that we never meant to take."""
    effects = await truth_of_busy_history(world)
    stray = effect("NEVERMEANTTO", "authorization", 700)
    result = (await found(world, witness=telling([*effects, stray])))["truth"]
    assert [(one.subject, "never meant to" in one.message) for one in result.violations] == [("NEVERMEANTTO", True)]


async def test_what_was_charged_twice_is_named(world):
    """The same reference with two captures."""
    effects = await truth_of_busy_history(world)
    again = effects[index_of(effects, "capture")]
    assert await broken(world, witness=telling([*effects, again])) == {"truth"}


async def test_a_refund_of_another_payments_money_is_named(world):
    """The amount is right and the card is not."""
    effects = await truth_of_busy_history(world)
    own = effects[index_of(effects, "refund")]
    own["original"] = next(one["reference"] for one in effects if one["currency"] == "jpy")
    assert await broken(world, witness=telling(effects)) == {"truth"}


async def test_a_reversed_purchase_that_the_books_count_is_named(world):
    """Undone at the bank, paid in the books."""
    paid = await pay(world)
    (order,) = world.psp.orders
    undone = [effect("R", "reversal", 1000, original=order.reference, undone=kind) for kind in ("authorization", "capture")]
    result = (await found(world, witness=telling(effects_of(order) + undone)))["truth"]
    assert result.violated == 1
    assert paid.status == "succeeded"


async def test_a_declined_payment_that_the_bank_took_is_named(world):
    """And once the bank has undone it, all is well again."""
    world.psp.answer = lambda order: Declined("generic_decline", "05")
    await pay(world)
    (order,) = world.psp.orders
    taken = effects_of(order)
    assert await broken(world, witness=telling(taken)) == {"truth"}
    undone = [effect("R", "reversal", 1000, original=order.reference, undone=kind) for kind in ("authorization", "capture")]
    assert await broken(world, witness=telling(taken + undone)) == set()


async def test_a_refund_that_the_bank_paid_twice_is_named_until_the_second_is_booked(world):
    """As an adjustment of this refund; a third one is named again, and so is an adjustment of what the bank paid once."""
    paid = await pay(world)
    await refund(world.services, world.claim(), CreateRefund(payment=paid.id, amount=300))
    bought, back = [effects_of(order) for order in world.psp.orders]
    assert await broken(world, witness=telling(bought + back * 2)) == {"truth"}
    await tamper(
        world,
        "INSERT INTO balance_transaction SELECT id || 'x', account, livemode, day, created_at, amount, fee, currency, 'adjustment', source, payment "
        "FROM balance_transaction WHERE type = 'refund'",
    )
    assert "truth" not in await broken(world, witness=telling(bought + back * 2))
    assert "truth" in await broken(world, witness=telling(bought + back * 3))
    assert "truth" in await broken(world, witness=telling(bought + back))


async def test_a_refund_that_failed_and_was_paid_beyond_its_room_is_all_adjustment(world):
    """Its amount is not counted as the refund itself then: what the bank paid once is what was booked as beyond it."""
    paid = await pay(world)
    await refund(world.services, world.claim(), CreateRefund(payment=paid.id, amount=300))
    bought, back = [effects_of(order) for order in world.psp.orders]
    await tamper(
        world,
        "INSERT INTO balance_transaction SELECT id || 'x', account, livemode, day, created_at, amount, fee, currency, 'adjustment', source, payment "
        "FROM balance_transaction WHERE type = 'refund'",
    )
    await tamper(world, "UPDATE refund SET state = 'failed'")
    assert "truth" not in await broken(world, witness=telling(bought + back))


async def test_what_is_in_doubt_may_have_happened_or_not(world):
    """But not with more than was meant."""
    world.psp.answer = lambda order: Unknown("timeout")
    await pay(world)
    order = world.psp.orders[0]
    for effects in ([], effects_of(order)):
        assert await broken(world, witness=telling(effects)) == set()
    assert await broken(world, witness=telling([effect(order.reference, "authorization", 1001)])) == {"truth"}


async def test_an_undone_payment_that_the_bank_took_after_all_is_noted_while_it_will_be_asked_about_again(world):
    """The later inquiries are there to find just this."""
    said = {Operation.PURCHASE: Unknown("timeout"), Operation.QUERY: NotFound(), Operation.REVERSAL: Approved("R")}
    world.psp.answer = lambda order: said[order.operation]
    payment = await pay(world)
    world.clock.advance(2_000_000)

    async def undone():
        return (await world.payment(payment.id)).status == "requires_payment_method"

    await world.until(undone)
    order = world.psp.sent(Operation.PURCHASE)[0]
    result = (await found(world, witness=telling(effects_of(order))))["truth"]
    assert not result.violated
    assert "will be asked about again" in result.notes[0].message


async def test_a_truth_that_is_older_than_the_books_is_read_again(world):
    """A payment that was made while we looked is no violation: what does not agree is looked at once more."""
    await pay(world)
    effects = [one for order in world.psp.orders for one in effects_of(order)]
    readings = map(telling, [[], effects])

    def witness():
        return next(readings)()

    assert await broken(world, witness=witness) == set()
    assert await broken(world, witness=telling([]), running=False) == {"truth"}
