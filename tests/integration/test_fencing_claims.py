"""Claims: every byte about an attempt leaves under a claim of its row, and who has lost the claim moves nothing by not knowing."""

import asyncio

import asyncpg
import pytest
from structlog.testing import capture_logs

from guilder.core.clock import HOUR, MINUTE, SECOND
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Unknown
from guilder.log import TOPIC_ATTEMPTS, hold_partitions
from guilder.payments import capture, confirm, create, refund
from guilder.payments.claim import claim, forget_breakers, set_free
from guilder.payments.commands import CapturePayment, ConfirmPayment, CreatePayment, CreateRefund
from guilder.payments.execute import CHANNEL
from guilder.psp.model import Operation


async def pay(world, **more):
    """Take a payment; returns its answer."""
    command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card(), **more)
    return (await create(world.services, world.claim(), command)).answer


async def accepted(world, number: int = 1) -> list[asyncio.Task]:
    """So many payments accepted and claimed by nobody: the executor of the world has been stopped."""
    world._running.cancel()
    await asyncio.gather(world._running, return_exceptions=True)
    asked = [asyncio.create_task(pay(world)) for _ in range(number)]

    async def all_there():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open") == number

    await world.until(all_there)
    return asked


async def given_up(asked: list[asyncio.Task]) -> None:
    """End requests whose answer nobody waits for."""
    for one in asked:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


async def in_time(world, condition) -> None:
    """Until the condition holds, ten seconds later at each look."""

    async def later():
        world.clock.advance(10 * SECOND)
        return await condition()

    await world.until(later)


async def registered(world, name: str) -> str:
    """A living sender with its share of the partitions."""
    await world.db.execute("INSERT INTO sender (id, role, epoch, beat) VALUES ($1, 'executor', 1, 0)", name)
    return name


async def claimed(world, sender: str, *, epoch: int = 1, due: bool = True) -> list[str]:
    """What this sender can claim now."""
    return [one.attempt.id for one in await claim(world.hot, sender, epoch, now=world.clock.now(), due=due)]


async def test_two_executors_never_claim_the_same_row(world):
    """However often both ask at once: by the log, and by the time that has come."""
    asked = await accepted(world, 40)
    world.clock.advance(10 * SECOND)
    await world.sender.close()
    senders = [await registered(world, f"snd_{number}") for number in range(4)]
    for sender in senders:
        await hold_partitions(world.db, "executor", sender, 1, role="executor")
    found: list[str] = []
    for _ in range(6):
        for ids in await asyncio.gather(*(claimed(world, sender) for sender in senders)):
            found += ids
    assert (len(found), len(set(found))) == (40, 40)
    await given_up(asked)


async def test_a_lost_sender_claims_nothing(world):
    """Not by the log and not by time; nor does one with an epoch that is not its own."""
    asked = await accepted(world)
    world.clock.advance(10 * SECOND)
    one = await registered(world, "snd_one")
    assert await claimed(world, one, epoch=2) == []
    assert await world.db.fetchval("SELECT sender_take_over('snd_one', 1, 0, 0)")
    assert await claimed(world, one) == []
    assert await claimed(world, one, epoch=2) == []
    assert len(await claimed(world, await registered(world, "snd_two"))) == 1
    await given_up(asked)


async def test_a_lost_log_entry_and_a_lost_notification_cost_seconds(world):
    """The entry is only the trigger: rows that nobody has claimed are found by their time."""
    asked = await accepted(world)
    await world.db.execute("DELETE FROM log_entry WHERE topic = 1")
    one = await registered(world, "snd_one")
    assert await claimed(world, one) == []
    world.clock.advance(5 * SECOND)
    assert len(await claimed(world, one)) == 1
    await given_up(asked)


async def test_a_log_entry_that_names_no_attempt_is_passed_over(world):
    """Whatever its bytes are: its neighbours are claimed."""
    asked = await accepted(world)
    [row] = await world.db.fetch("SELECT partition, key FROM log_entry WHERE topic = 1")
    bad = [(1, TOPIC_ATTEMPTS, row["partition"], row["key"], payload) for payload in (b"\xff\0", b"", b"at_\\x")]
    await world.db.execute("SELECT log_append($1, $2::log_in[], '{t}')", world.clock.now(), bad)
    await world.sender.close()
    sender = await registered(world, "snd_one")
    await hold_partitions(world.db, "executor", sender, 1, role="executor")
    assert len(await claimed(world, sender, due=False)) == 1
    assert await world.db.fetchval("SELECT max(applied_to) FROM log_consumer WHERE consumer = 'executor'") == 4
    await given_up(asked)


async def test_a_takeover_leaves_what_was_certainly_not_sent_and_doubts_the_rest(world):
    """Rows without a sender stay `created`; the lost sender's are in doubt, and due at once."""
    asked = await accepted(world, 2)
    one = await registered(world, "snd_one")
    first = (await world.db.fetchval("SELECT attempt FROM attempt_open ORDER BY attempt LIMIT 1"))
    await world.db.execute("UPDATE attempt_open SET sender = $1, epoch = 1 WHERE attempt = $2", one, first)
    assert await world.db.fetchval("SELECT sender_take_over('snd_one', 1, 0, $1)", world.clock.now())
    rows = await world.db.fetch("SELECT attempt, state, sender, retry_at <= $1 AS due FROM attempt_open", world.clock.now())
    assert {(row["attempt"] == first, row["state"], row["sender"], row["due"]) for row in rows} == {
        (True, "in_doubt", None, True), (False, "created", None, False),
    }  # fmt: skip
    await given_up(asked)


async def test_an_answer_that_is_kept_waits_for_its_time_though_the_one_for_sending_is_over(world):
    """It was sent; what was not, ends meanwhile."""
    asked = await accepted(world, 2)
    await world.sender.close()
    sender = await registered(world, "snd_one")
    await hold_partitions(world.db, "executor", sender, 1, role="executor")
    kept, unsent = await claimed(world, sender, due=False)
    await world.db.execute("UPDATE attempt_open SET sender = NULL, epoch = NULL WHERE attempt = $1", unsent)
    world.clock.advance(MINUTE)
    await world.store.note(kept, Approved("KEPT"), world.clock.now() + MINUTE)
    assert await claimed(world, sender) == [unsent]
    world.clock.advance(MINUTE)
    assert await claimed(world, sender) == [kept]
    await given_up(asked)


async def test_breakers_that_are_gone_are_forgotten_in_the_order_in_which_all_lock(world):
    """By the attempts' ids, so that nobody who works on some of them at the same time stands in a circle with it."""
    await world.pause()
    for number in (2, 1):
        await world.db.execute(
            "INSERT INTO attempt_open (payment, slot, attempt, state, since_at, retry_at, breaker) "
            "VALUES ($1, 'payment', $2, 'created', 0, $3, 'gone')",
            f"pi_{number}", f"at_{number}", world.clock.now() - number,
        )  # fmt: skip
    other, watcher = await asyncpg.connect(world.dsn), await asyncpg.connect(world.dsn)
    async with other.transaction():
        await other.execute("SELECT FROM attempt_open WHERE attempt = 'at_1' FOR UPDATE")
        forgetting = asyncio.create_task(forget_breakers(world.db, ["cardnet.purchase"]))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        await world.until(lambda: watcher.fetchval(waiting))
        await other.execute("SELECT FROM attempt_open WHERE attempt = 'at_2' FOR UPDATE NOWAIT")
    await forgetting
    await asyncio.gather(other.close(), watcher.close())
    assert await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE breaker IS NULL") == 2


async def test_rows_without_a_call_in_hand_are_set_free_and_those_with_one_stay(world):
    """A claim whose answer was lost leaves such rows."""
    asked = await accepted(world, 2)
    one = await registered(world, "snd_one")
    await world.db.execute("UPDATE attempt_open SET sender = $1, epoch = 1", one)
    kept, freed = [row["attempt"] for row in await world.db.fetch("SELECT attempt FROM attempt_open ORDER BY attempt")]
    assert await set_free(world.db, one, [kept], world.clock.now()) == 1
    rows = {row["attempt"]: (row["state"], row["sender"]) for row in await world.db.fetch("SELECT * FROM attempt_open")}
    assert rows == {kept: ("created", one), freed: ("in_doubt", None)}
    await given_up(asked)


@pytest.mark.parametrize("outcome", [NotSent("fenced"), Unknown("timeout")])
async def test_what_is_not_definite_counts_only_from_who_holds_the_row(world, outcome):
    """A sender that was paused reports its failure late: meanwhile another one has asked, or is asking."""
    world.psp.answer = lambda order: None
    asked = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    order, deliver = world.psp.held.pop()
    await world.db.execute("UPDATE attempt_open SET sender = 'snd_another', epoch = 1, state = 'in_doubt'")
    deliver(order, outcome)
    await world.until(lambda: not world.executor._in_hand)
    row = await world.db.fetchrow("SELECT state, sender, tries FROM attempt_open")
    assert tuple(row) == ("in_doubt", "snd_another", 0)
    await given_up([asked])


@pytest.mark.parametrize(("outcome", "status"), [(Approved("A"), "succeeded"), (Declined("generic_decline", "05"), "requires_payment_method")])
async def test_a_definite_answer_counts_whoever_brings_it(world, outcome, status):
    """By compare-and-set on the state; what the other one finds out afterwards changes nothing."""
    world.psp.answer = lambda order: None
    asked = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    order, deliver = world.psp.held.pop()
    await world.db.execute("UPDATE attempt_open SET sender = 'snd_another', epoch = 1, state = 'in_doubt'")
    deliver(order, outcome)
    assert (await asked).root.status == status
    assert await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0
    await world.books_agree()


async def test_the_same_approval_from_two_sides_is_booked_once(world):
    """The late answer and the answer to the question, at once."""
    world.psp.answer = lambda order: Unknown("timeout") if order.operation is Operation.PURCHASE else None
    payment = (await pay(world)).root.id
    world.clock.advance(2 * SECOND)
    await world.until(lambda: world.psp.held)
    order, deliver = world.psp.held.pop()
    for _ in range(3):
        world.executor.late(world.psp.sent(Operation.PURCHASE)[0], Approved("late"))
    deliver(order, Approved("found"))

    async def paid():
        return (await world.payment(payment)).status == "succeeded"

    await world.until(paid)
    await world.until(lambda: not world.executor._tasks)
    assert await world.db.fetchval("SELECT count(*) FROM charge") == 1
    assert world.psp.sent(Operation.REVERSAL) == []
    await world.books_agree()


async def test_an_approval_that_comes_after_the_reversal_is_undone_at_once(world):
    """In the slot in which the attempt is asked about again, and is for the rest of the schedule; nobody waits for that time."""
    said = {Operation.PURCHASE: Unknown("timeout"), Operation.QUERY: NotFound()}
    world.psp.answer = lambda order: said.get(order.operation, Approved(order.reference))
    payment = (await pay(world)).root.id

    async def undone():
        return (await world.payment(payment)).status == "requires_payment_method"

    await in_time(world, undone)
    assert len(world.psp.sent(Operation.REVERSAL)) == 1
    world.executor.late(world.psp.sent(Operation.PURCHASE)[0], Approved("much too late"))
    await world.until(lambda: len(world.psp.sent(Operation.REVERSAL)) == 2)
    assert (await world.payment(payment)).status == "requires_payment_method"
    assert await world.db.fetchval("SELECT count(*) FROM charge WHERE succeeded") == 0

    async def gone():
        world.clock.advance(HOUR)
        return await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0

    await world.until(gone)


async def test_a_late_approval_beside_another_try_is_undone_and_the_other_try_counts(world):
    """The buyer has paid with a second card meanwhile: one charge in the end."""
    said = {Operation.PURCHASE: Unknown("timeout"), Operation.QUERY: NotFound()}
    world.psp.answer = lambda order: said.get(order.operation, Approved(order.reference))
    payment = (await pay(world)).root.id

    async def undone():
        return (await world.payment(payment)).status == "requires_payment_method"

    await in_time(world, undone)
    del said[Operation.PURCHASE]
    first = world.psp.sent(Operation.PURCHASE)[0]
    again = await confirm(world.services, world.claim(), ConfirmPayment(payment=payment, payment_method=world.card()))
    assert again.answer.root.status == "succeeded"
    world.executor.late(first, Approved("late"))
    await world.until(lambda: len(world.psp.sent(Operation.REVERSAL)) == 2)
    assert (await world.payment(payment)).status == "succeeded"
    assert {order.original.reference for order in world.psp.sent(Operation.REVERSAL)} == {first.reference}
    assert await world.db.fetchval("SELECT count(*) FROM charge WHERE succeeded") == 1
    await world.books_agree()


async def test_an_answer_with_another_amount_is_reversed_and_no_later_answer_approves_it(world):
    """Whatever was done, it is not what was asked for."""
    said = {Operation.PURCHASE: Unknown("mismatch"), Operation.REVERSAL: Unknown("timeout")}
    world.psp.answer = lambda order: said.get(order.operation, Approved(order.reference))
    with capture_logs() as logs:
        answer = await pay(world)
    assert (answer.root.status, answer.root.in_doubt) == ("processing", True)
    assert "psp_answer_mismatch" in {entry["event"] for entry in logs}
    await world.until(lambda: world.psp.sent(Operation.REVERSAL))
    assert world.psp.sent(Operation.QUERY) == []
    world.executor.late(world.psp.sent(Operation.PURCHASE)[0], Approved("right after all"))
    del said[Operation.REVERSAL]

    async def undone():
        return (await world.payment(answer.root.id)).status == "requires_payment_method"

    await in_time(world, undone)
    assert await world.db.fetchval("SELECT count(*) FROM ledger_transfer") == 0


@pytest.mark.parametrize("operation", ["capture", "refund"])
async def test_a_capture_or_refund_whose_answer_does_not_fit_is_asked_about(world, operation):
    """It is not undone: it stays in doubt until the PSP says what was done."""
    payment = (await pay(world, **({"capture_method": "manual"} if operation == "capture" else {}))).root.id
    said = {Operation(operation): Unknown("mismatch"), Operation.QUERY: Unknown("mismatch")}
    world.psp.answer = lambda order: said.get(order.operation, Approved(order.reference))
    if operation == "capture":
        await capture(world.services, world.claim(), CapturePayment(payment=payment))
    else:
        await refund(world.services, world.claim(), CreateRefund(payment=payment))

    async def asked():
        return world.psp.sent(Operation.QUERY)

    await in_time(world, asked)
    assert await world.db.fetchval("SELECT state FROM attempt_open") == "in_doubt"
    said.clear()

    async def done():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE state <> 'recheck'") == 0

    await in_time(world, done)
    assert world.psp.sent(Operation.REVERSAL) == []
    await world.books_agree()


async def test_an_executor_that_hears_nothing_finds_its_work_by_itself(world, database):
    """Its listening session is gone: the poll behind it costs a quarter of a second."""
    operator = await asyncpg.connect(database)
    listening = "FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE $1 AND pid <> pg_backend_pid()"
    await operator.execute(f"SELECT pg_terminate_backend(pid) {listening}", f"LISTEN%{CHANNEL}%")
    await operator.close()
    assert (await pay(world)).root.status == "succeeded"
