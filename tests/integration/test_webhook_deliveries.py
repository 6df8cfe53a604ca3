"""Deliveries: each event once at each endpoint that wants it, numbered without gaps, whatever the receivers do."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_network
from itertools import count
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio
import stripe
from msgspec import structs
from structlog.testing import capture_logs
from webhook_world import ACCOUNT, SANDBOX, WebhookWorld, webhook_world

from guilder.core.clock import HOUR, MINUTE, SECOND, sleep
from guilder.core.errors import Unavailable
from guilder.db.pages import Page
from guilder.log import TOPIC_EVENTS, partition_of
from guilder.metrics import Metrics
from guilder.shapes.facts import CustomerFacts
from guilder.tuning import RETRIES
from guilder.webhooks import Allowed, UpdateEndpoint, deliver, store
from guilder.webhooks.connection import Answered
from guilder.webhooks.lane import REST
from guilder.webhooks.model import Next, Result
from guilder.webhooks.store import FAN_OUT, store_results
from guilder.webhooks.tidy import call_off, tidy_deliveries
from guilder.webhooks.transport import NotPermitted, Transport, Unreached
from guilder.webhooks.types import DISABLED_EVENT
from receiver import CLOSE, HANG, RESET, Receiver, answer

PAID, CREATED = "payment_intent.succeeded", "payment_intent.created"


@pytest_asyncio.fixture
async def world(database: str) -> AsyncIterator[WebhookWorld]:
    """A room without a worker."""
    async with webhook_world(database) as running:
        yield running


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    receiver = await Receiver().start()
    yield receiver
    await receiver.close()


async def test_an_event_arrives_signed_and_numbered_at_each_endpoint_that_wants_it(world: WebhookWorld, receiver: Receiver):
    """Stripe's own check accepts it; other types, other accounts and the other mode do not come."""
    wants_all = await world.endpoint(receiver.url)
    wants_paid = await world.endpoint(receiver.url + "/paid", PAID)
    await world.endpoint(receiver.url + "/other", account="acct_other")
    await world.endpoint(receiver.url + "/live", livemode=True)
    await world.worker()
    created, paid = await world.announce(CREATED, PAID)
    await world.settled(3)
    by_path = {}
    for request in receiver.requests:
        by_path.setdefault(request.path, []).append((request.event, request.number))
    assert {path: sorted(found, key=lambda one: one[1]) for path, found in by_path.items()} == {
        "/webhooks": [(created, 1), (paid, 2)],
        "/webhooks/paid": [(paid, 1)],
    }
    for request in receiver.requests:
        endpoint = wants_all if request.path == "/webhooks" else wants_paid
        event = stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], world.secret(endpoint))
        assert event.id == request.event
        assert event.pending_webhooks == (2 if event.type == PAID else 1)
    assert await world.states() == ["delivered"] * 3


async def numbers(world: WebhookWorld) -> dict[str, list[int]]:
    """Endpoint -> the numbers of its deliveries in their order."""
    found: dict[str, list[int]] = {}
    for row in await world.rows("SELECT endpoint, number FROM webhook_delivery ORDER BY endpoint, number"):
        found.setdefault(row["endpoint"], []).append(row["number"])
    return found


async def test_every_event_comes_once_and_numbers_have_no_gaps_with_three_workers(world: WebhookWorld, receiver: Receiver):
    """Writers, consumers and deliverers side by side; each endpoint counts for itself."""
    all_ = await world.endpoint(receiver.url + "/all")
    some = await world.endpoint(receiver.url + "/some", PAID)
    for _ in range(3):
        await world.worker()
    announced = await asyncio.gather(*(world.announce(CREATED, PAID, key=f"pi_{number % 40}") for number in range(300)))
    events = {event for pair in announced for event in pair}
    paid = {pair[1] for pair in announced}
    await world.settled(900)
    assert await numbers(world) == {all_.id: list(range(1, 601)), some.id: list(range(1, 301))}
    by_path = {path: [r for r in receiver.requests if r.path == f"/webhooks/{path}"] for path in ("all", "some")}
    assert sorted(request.event for request in by_path["all"]) == sorted(events)
    assert sorted(request.event for request in by_path["some"]) == sorted(paid)
    assert sorted(request.number for request in by_path["all"]) == list(range(1, 601))


async def test_numbers_follow_the_order_of_each_payment(world: WebhookWorld, receiver: Receiver):
    """A receiver that sorts by them sees each payment's events as they happened."""
    await world.endpoint(receiver.url)
    announced: dict[str, list[str]] = {}
    for step in range(20):
        for key in ("pi_a", "pi_b", "pi_c"):
            announced.setdefault(key, []).extend(await world.announce(CREATED, PAID, key=key))
        if step == 10:
            await world.worker()
    await world.settled(120)
    order = [request.event for request in sorted(receiver.requests, key=lambda one: one.number)]
    for events in announced.values():
        assert [event for event in order if event in events] == events


async def test_types_of_our_own_are_sent_only_where_they_are_named(world: WebhookWorld, receiver: Receiver):
    """Clients of `*` have strict lists of Stripe's types."""
    await world.endpoint(receiver.url + "/star")
    await world.endpoint(receiver.url + "/named", DISABLED_EVENT)
    await world.worker()
    await world.announce(DISABLED_EVENT)
    await world.announce(PAID)
    await world.settled(2)
    assert sorted((request.path, json.loads(request.body)["type"]) for request in receiver.requests) == [
        ("/webhooks/named", DISABLED_EVENT), ("/webhooks/star", PAID),
    ]  # fmt: skip


async def test_a_failed_delivery_is_tried_again_on_the_schedule_and_then_given_up(world: WebhookWorld, receiver: Receiver):
    """Each wait within its jitter, three days in all; after the last one nobody tries, and the reason can be read."""
    endpoint = await world.endpoint(receiver.url)
    receiver.behave = lambda _request: answer(500)
    await world.worker()
    await world.announce(PAID)
    policy = RETRIES["webhook"]
    for number in range(1, policy.attempts_max):
        await world.until(lambda number=number: tries(world, number))
        due = await world.db.fetchval("SELECT due_at FROM webhook_retry")
        wait = (due - world.clock.now()) / SECOND
        assert policy.wait(number) / 2 <= wait <= policy.wait(number)
        world.clock.advance(due - world.clock.now() - SECOND)
        await sleep(0.3)
        assert len(receiver.requests) == number
        # The lane rests longer than the first waits; the schedule is what counts once it has rested.
        world.clock.advance(SECOND + round(REST.cap_seconds) * SECOND)
        await world.until(lambda number=number: len(receiver.requests) == number + 1)
    await world.settled(1, "exhausted")
    world.clock.advance(30 * HOUR)
    await sleep(0.4)
    assert len(receiver.requests) == policy.attempts_max
    [listed], _ = await world.deliveries.list(ACCOUNT, Page(), livemode=False, state="exhausted")
    shown = await world.deliveries.retrieve(ACCOUNT, listed.id, livemode=False)
    assert [(one.number, one.status) for one in shown.attempts] == [(number, 500) for number in range(1, policy.attempts_max + 1)]
    assert (shown.endpoint, shown.due_at) == (endpoint.id, None)


async def test_tries_and_what_waits_are_told_as_metrics(world: WebhookWorld, receiver: Receiver):
    """Delivered, failed, given up; what waits for its first try and for another one, of endpoints that are enabled."""
    endpoint = await world.endpoint(receiver.url)
    await world.announce(PAID)
    worker = await world.worker(retry=structs.replace(RETRIES["webhook"], attempts_max=2))
    await world.settled(1)
    receiver.behave = lambda _request: answer(500)
    await world.announce(PAID)
    await world.until(lambda: len(receiver.requests) == 2)
    metrics, traffic = Metrics("worker"), worker.deliverer.traffic
    traffic.expose(metrics)

    async def waits(first: int, again: int) -> bool:
        await traffic.run_once()
        told = metrics.text().decode()
        return all(f'guilder_webhook_backlog{{waits_for="{what}"}} {count}.0' in told for what, count in (("first_try", first), ("retry", again)))

    await world.until(lambda: waits(0, 1))
    world.clock.advance(HOUR)
    await world.settled(1, "exhausted")
    told = metrics.text().decode()
    assert all(f'guilder_webhook_deliveries_total{{outcome="{outcome}"}} 1.0' in told for outcome in ("delivered", "failed", "exhausted"))
    await worker.stop()
    # Nobody works now, so these stay where they are.
    await world.db.execute("UPDATE webhook_lane SET head = head + 3")
    assert await waits(3, 0)
    await world.db.execute("UPDATE webhook_endpoint SET state = 'disabled' WHERE id = $1", endpoint.id)
    assert await waits(0, 0)


async def tries(world: WebhookWorld, number: int) -> bool:
    """Whether the only delivery has been tried so often."""
    return await world.db.fetchval("SELECT tries FROM webhook_delivery") == number


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (RESET, "the connection was closed without an answer"), (CLOSE, "the connection was closed without an answer"),
        (answer(301, Location="http://127.0.0.1:1/"), 301), (answer(404), 404), (answer(500), 500), (b"no HTTP at all\r\n\r\n", None),
    ],
    ids=["reset", "close", "redirect", "404", "500", "garbage"],
)  # fmt: skip
async def test_whatever_is_no_2xx_is_a_failure_and_the_next_try_can_succeed(world: WebhookWorld, receiver: Receiver, behaviour, said):
    """A redirect is not followed; the reason is kept with the try."""
    await world.endpoint(receiver.url)
    receiver.behave = lambda _request: behaviour
    await world.worker()
    await world.announce(PAID)
    await world.until(lambda: tries(world, 1))
    receiver.behave = lambda _request: answer(204)
    world.clock.advance(10 * SECOND)
    await world.settled(1)
    [listed], _ = await world.deliveries.list(ACCOUNT, Page(), livemode=False)
    first, second = (await world.deliveries.retrieve(ACCOUNT, listed.id, livemode=False)).attempts
    assert second.status == 204
    assert said is None or said in (first.status, first.failure)


async def test_a_receiver_that_asks_for_a_pause_has_it_and_others_notice_nothing(world: WebhookWorld, receiver: Receiver):
    """What is new waits as well as what has failed; a retry by hand ends the pause, and so does its end."""
    other = await Receiver().start()
    await world.endpoint(receiver.url)
    await world.endpoint(other.url)
    receiver.behave = lambda _request: answer(503, Retry_After="1800")
    await world.worker()
    [first] = await world.announce(PAID)
    await world.until(lambda: receiver.count == 1)
    await world.announce(PAID, PAID)
    await world.settled(3)
    due = await world.db.fetchval("SELECT due_at FROM webhook_retry")
    assert 0 <= due - world.clock.now() - 1_790 * SECOND <= 10 * SECOND
    world.clock.advance(1_790 * SECOND - SECOND)
    await sleep(0.6)
    assert (receiver.count, other.count) == (1, 3)
    receiver.behave = lambda _request: answer(200)
    waiting, _ = await world.deliveries.list(ACCOUNT, Page(), livemode=False, event=first, state="pending")
    await world.deliveries.retry(ACCOUNT, waiting[0].id, livemode=False)
    await world.settled(6)
    assert set(receiver.events.values()) == {1, 2}
    await other.close()


async def test_a_dead_and_a_hanging_receiver_delay_nobody_else(world: WebhookWorld, receiver: Receiver):
    """While one refuses and ten hang, each with a backlog, the healthy one gets everything at once."""
    dead = await Receiver().start()
    dead_url = dead.url
    await dead.close()
    hanging = await Receiver().start()
    hanging.behave = lambda _request: HANG
    await world.endpoint(dead_url)
    for number in range(10):
        await world.endpoint(f"{hanging.url}/{number}")
    healthy = await world.endpoint(receiver.url)
    await world.worker()
    events = [event for number in range(150) for event in await world.announce(PAID, key=f"pi_{number}")]

    async def healthy_done() -> bool:
        sql = "SELECT count(*) FROM webhook_delivery WHERE endpoint = $1 AND state = 'delivered'"
        return await world.db.fetchval(sql, healthy.id) == 150

    await world.until(healthy_done, seconds=8)
    assert sorted(receiver.events) == sorted(events)
    await hanging.close()


async def test_what_waits_for_a_dead_receiver_arrives_in_full_when_it_comes_back(world: WebhookWorld):
    """It is tried gently meanwhile, not once for each event."""
    gone = await Receiver().start()
    port = gone.port
    await gone.close()
    await world.endpoint(gone.url)
    await world.worker()
    events = [event for number in range(200) for event in await world.announce(PAID, key=f"pi_{number}")]
    await world.until(lambda: failures(world, 5))
    back = await Receiver().start(port)
    for _ in range(20):
        world.clock.advance(5 * MINUTE)
        if len(back.events) == 200:
            break
        await sleep(0.3)
    await world.settled(200)
    assert sorted(back.events) == sorted(events)
    assert await world.db.fetchval("SELECT count(*) FROM webhook_attempt") < 100
    await back.close()


async def failures(world: WebhookWorld, least: int) -> bool:
    """Whether so many tries have failed."""
    return await world.db.fetchval("SELECT count(*) FROM webhook_attempt") >= least


async def test_an_endpoint_that_fails_for_three_days_is_disabled_with_notice(world: WebhookWorld, receiver: Receiver):
    """Others hear of it by an event; what waits stays, and goes on when the merchant enables it again."""
    failing = await world.endpoint(receiver.url + "/failing", PAID)
    await world.endpoint(receiver.url + "/watch", DISABLED_EVENT)
    receiver.behave = lambda request: answer(500 if request.path.endswith("failing") else 200)
    await world.worker()
    await world.announce(PAID, PAID, PAID)
    for _ in range(60):
        world.clock.advance(4 * HOUR)
        await sleep(0.15)
        if [request for request in receiver.requests if request.path.endswith("watch")]:
            break
    [notice] = [request for request in receiver.requests if request.path.endswith("watch")]
    told = json.loads(notice.body)
    assert (told["type"], told["data"]["object"]["id"]) == (DISABLED_EVENT, failing.id)
    assert told["data"]["object"]["guilder"] == {"disabled_reason": "failing"}
    stored = await world.endpoints.retrieve(ACCOUNT, failing.id, livemode=False)
    assert (stored.status, stored.disabled_reason) == ("disabled", "failing")


async def test_a_disabled_endpoint_gets_nothing_and_goes_on_when_it_is_enabled(world: WebhookWorld, receiver: Receiver):
    """What was due meanwhile comes then; events that happened while it was off do not."""
    endpoint = await world.endpoint(receiver.url)
    receiver.behave = lambda _request: answer(503)
    await world.worker()
    [waiting] = await world.announce(PAID)
    await world.until(lambda: tries(world, 1))
    await update(world, endpoint.id, disabled=True)
    await sleep(1.2)
    receiver.behave = lambda _request: answer(200)
    world.clock.advance(HOUR)
    await world.announce(PAID)
    await sleep(0.5)
    assert len(receiver.requests) == 1
    await update(world, endpoint.id, disabled=False)
    await world.settled(1)
    [later] = await world.announce(PAID)
    await world.settled(2)
    assert list(receiver.events) == [waiting, later]
    assert [request.number for request in receiver.requests] == [1, 1, 2]


async def update(world: WebhookWorld, id_: str, **changes) -> None:
    """Change an endpoint as its merchant does."""
    async with world.db.transaction() as connection:
        await world.endpoints.update(connection, ACCOUNT, UpdateEndpoint(endpoint=id_, **changes), livemode=False)


async def test_410_disables_at_once(world: WebhookWorld, receiver: Receiver):
    """The receiver says that it wants nothing any more."""
    endpoint = await world.endpoint(receiver.url)
    receiver.behave = lambda _request: answer(410)
    await world.worker()
    await world.announce(PAID)

    async def disabled() -> bool:
        return (await world.endpoints.retrieve(ACCOUNT, endpoint.id, livemode=False)).disabled_reason == "gone"

    await world.until(disabled)


async def test_what_waits_for_a_deleted_endpoint_is_called_off(world: WebhookWorld, receiver: Receiver):
    """Tried or not; and nothing is left of its lane."""
    endpoint = await world.endpoint(receiver.url)
    receiver.behave = lambda _request: HANG
    await world.announce(PAID)
    worker = await world.worker()
    await world.until(lambda: receiver.requests)
    await worker.stop()
    await world.announce(PAID, PAID)
    other = await world.worker()
    await world.settled(3, "pending")
    await other.stop()
    async with world.db.transaction() as connection:
        await world.endpoints.delete(connection, ACCOUNT, endpoint.id, livemode=False)
    while await call_off(world.db):
        pass
    assert await world.states() == ["canceled"] * 3
    listed, _ = await world.deliveries.list(ACCOUNT, Page(), livemode=False, state="canceled")
    assert len(listed) == 3
    assert await world.rows("SELECT * FROM webhook_lane") == []


async def test_a_worker_that_dies_leaves_its_endpoints_to_another(world: WebhookWorld, receiver: Receiver):
    """Nothing is lost: what it had sent and not stored comes again, everything else once."""
    for name in "abcd":
        await world.endpoint(f"{receiver.url}/{name}")
    first = await world.worker()
    receiver.behave = lambda _request: HANG
    early = [event for number in range(20) for event in await world.announce(PAID, key=f"pi_{number}")]
    await world.until(lambda: len(receiver.requests) >= 20)
    await first.die()
    receiver.behave = lambda _request: answer(200)
    await world.worker()
    late = [event for number in range(20) for event in await world.announce(PAID, key=f"pi_{number}")]
    await world.settled(160)
    assert set(receiver.events) == {*early, *late}


async def test_a_worker_that_is_told_to_end_stores_what_has_landed(world: WebhookWorld, receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    """So that an orderly restart repeats only what is on its way."""
    monkeypatch.setattr(deliver, "STORE_GAP_SECONDS", 60.0)
    monkeypatch.setattr(deliver, "LAST_SECONDS", 10.0)
    await world.endpoint(receiver.url)
    worker = await world.worker()
    await world.announce(*[PAID] * 30)
    await world.until(lambda: len(worker.deliverer._results) == 30)
    await worker.stop()
    assert await world.states() == ["delivered"] * 30


async def test_two_workers_share_the_endpoints_and_hand_them_over_without_doubles(world: WebhookWorld, receiver: Receiver):
    """A second worker gets its half as soon as the first has nothing of it in hand, in the middle of the traffic."""
    for name in "abcdef":
        await world.endpoint(f"{receiver.url}/{name}")
    await world.worker()
    receiver.delay = 0.01
    announced: list[str] = []
    enough = asyncio.Event()

    async def traffic() -> None:
        while not enough.is_set():
            announced.extend(await world.announce(PAID, key=f"pi_{len(announced)}"))
            await sleep(0.01)

    async def shared() -> bool:
        held = await world.rows("SELECT count(*) AS lanes FROM webhook_lane WHERE sender IS NOT NULL GROUP BY sender")
        return [row["lanes"] for row in held] == [3, 3]

    running = asyncio.create_task(traffic())
    await world.until(lambda: len(receiver.requests) > 100)
    await world.worker()
    await world.until(shared)
    enough.set()
    await running
    await world.settled(6 * len(announced))
    assert receiver.events == Counter(dict.fromkeys(announced, 6))


async def taken_back(world: WebhookWorld, to: int) -> None:
    """What a failover does to deliveries that the standby never had: the numbers above `to` are free again."""
    async with world.db.transaction() as connection:
        await connection.execute("DELETE FROM webhook_delivery WHERE number > $1", to)
        await connection.execute("UPDATE webhook_lane SET head = $1, done_to = least(done_to, $1)", to)


async def test_numbers_that_a_failover_has_taken_back_reach_the_receiver_with_other_events(world: WebhookWorld, receiver: Receiver):
    """The worker had gone beyond them, and lives through the failover."""
    await world.endpoint(receiver.url)
    await world.worker()
    await world.announce(CREATED, CREATED, CREATED)
    await world.settled(3)
    await taken_back(world, 1)
    again = await world.announce(PAID, PAID)
    await world.settled(3)
    assert [request.event for request in receiver.requests][3:] == again
    assert await world.rows("SELECT number FROM webhook_delivery WHERE state <> 'delivered'") == []


async def test_what_came_of_an_event_does_not_count_for_another_one_under_its_number(world: WebhookWorld, receiver: Receiver):
    """It was on its way when the failover took its delivery back."""
    endpoint = await world.endpoint(receiver.url)
    await world.db.fetchval(FAN_OUT, world.clock.now(), [(ACCOUNT, False, world.ids.new("evt"), PAID, "*")])
    late = Result(endpoint.id, 1, "evt_of_before", 1, True, world.clock.now(), 5, 200, None, "ok")
    await store_results(world.db, [late])
    assert await world.states() == ["pending"]


async def test_an_event_that_cannot_be_rendered_fails_alone(world: WebhookWorld, receiver: Receiver):
    """Its neighbours arrive; it goes through its schedule, with the reason."""
    await world.endpoint(receiver.url)
    [bad] = await world.announce(PAID, key="pi_1")
    owner = await asyncpg.connect(world.dsn)
    await owner.execute("SET ROLE guilder_owner")
    shape = msgspec.msgpack.encode([99, ["balance", False, [], []]])
    await owner.execute("UPDATE event SET facts = $2 WHERE id = $1", bad, shape)
    await owner.close()
    good = await world.announce(PAID, PAID, key="pi_1")
    with capture_logs():
        await world.worker()
        await world.settled(2)
        await world.until(lambda: failures(world, 1))
    assert sorted(receiver.events) == sorted(good)
    [tried] = await world.rows("SELECT status, failure, url FROM webhook_attempt")
    assert tried == {"status": None, "failure": "the event cannot be rendered", "url": None}


async def test_what_was_read_while_the_database_was_about_to_go_away_is_read_again(world: WebhookWorld, receiver: Receiver):
    """Its bodies could not be made: it was found, and nobody had it in hand."""
    away = [Unavailable("the database has gone")]
    known = world.personal

    async def personal(account: str, ids: Any, livemode: bool) -> Mapping[str, Mapping[str, Any]]:
        if away:
            raise away.pop()
        return await known(account, ids, livemode)

    world.personal = personal
    await world.endpoint(receiver.url)
    sent = await world.announce("customer.created", object_=CustomerFacts("cus_1", False, 1, personal="prs_1"))
    sent += await world.announce(PAID)
    with capture_logs():
        await world.worker()
        await world.settled(2)
    assert (sorted(receiver.events), away) == (sorted(sent), [])


async def test_the_body_of_a_retry_that_lands_while_it_is_read_again_is_not_kept(
    world: WebhookWorld, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    """The read shows it as it was before: due, and in hand, so nobody needs what would be made for it."""
    await world.endpoint(receiver.url)
    behaviours = [answer(500), HANG]
    receiver.behave = lambda _request: behaviours.pop(0)
    worker = await world.worker()
    await world.announce(PAID)
    await world.until(lambda: tries(world, 1))
    known, deliverer = store.next_deliveries, worker.deliverer
    reads: list[int] = []

    async def reading(*asked: Any) -> list[tuple[Next, str]]:
        read = await known(*asked)
        landed = [one for one, state in read if state == "due" and one.number in deliverer._lanes[one.endpoint].in_hand]
        for one in landed:
            await store_results(
                world.db, [Result(one.endpoint, one.number, one.event, one.attempt, True, world.clock.now(), 1, 200, None, None, None)],
            )  # fmt: skip
            deliverer._lanes[one.endpoint].settled(one.number)
            deliverer._bodies.let_go(one.event)
        reads.append(len(landed))
        return read

    monkeypatch.setattr(store, "next_deliveries", reading)
    world.clock.advance(10 * SECOND)
    await world.until(lambda: 1 in reads and len(reads) > reads.index(1) + 1)
    assert deliverer._bodies._made == {}


async def test_a_result_that_cannot_be_stored_does_not_keep_its_neighbours_from_it(world: WebhookWorld, receiver: Receiver):
    """The list is halved until it stands alone."""
    await world.endpoint(receiver.url)
    events = [event for number in range(40) for event in await world.announce(PAID, key=f"pi_{number}")]
    owner = await asyncpg.connect(world.dsn)
    await owner.execute("SET ROLE guilder_owner")
    await owner.execute(f"ALTER TABLE webhook_delivery ADD CHECK (event <> '{events[7]}' OR tries = 0)")
    await owner.close()
    with capture_logs() as said:
        await world.worker()
        await world.settled(39)
        await world.until(lambda: [one for one in said if one["event"] == "result_cannot_be_stored"])
    assert (await world.states()).count("pending") == 1


async def test_a_poisoned_announcement_parks_its_key_and_lets_other_events_pass(world: WebhookWorld, receiver: Receiver):
    """As with every consumer of the log."""
    await world.endpoint(receiver.url)
    async with world.db.transaction() as connection:
        rows = [(1, TOPIC_EVENTS, partition_of("pi_bad"), "pi_bad", b"\xc1 no announcement")]
        await connection.execute("SELECT log_append($1, $2::log_in[], '{t}')", world.clock.now(), rows)
    good = await world.announce(PAID, key="pi_good")
    with capture_logs():
        await world.worker()
        await world.settled(1)
    assert list(receiver.events) == good
    assert [row["key"] for row in await world.rows("SELECT key FROM log_parked")] == ["pi_bad"]


async def test_old_deliveries_are_tidied_away_after_thirty_days(world: WebhookWorld, receiver: Receiver):
    """Not before; with their tries."""
    await world.endpoint(receiver.url)
    await world.worker()
    await world.announce(PAID)
    await world.settled(1)
    world.clock.advance(29 * 24 * HOUR)
    assert await tidy_deliveries(world.db, world.clock.now()) == 0
    world.clock.advance(2 * 24 * HOUR)
    await world.announce(PAID)
    await world.settled(2)
    assert await tidy_deliveries(world.db, world.clock.now()) == 1
    assert await numbers(world) == {(await world.rows("SELECT id FROM webhook_endpoint"))[0]["id"]: [2]}


async def test_erased_personal_data_is_not_sent(world: WebhookWorld, receiver: Receiver):
    """What a record holds is opened at the time of sending, and null when it is gone."""
    await world.endpoint(receiver.url)
    world.records["prs_1"] = {"name": "Ada"}
    for record in ("prs_1", "prs_gone"):
        await world.announce("customer.created", object_=CustomerFacts("cus_1", False, 1, personal=record), key=record)
    await world.worker()
    await world.settled(2)
    assert {json.loads(request.body)["data"]["object"]["name"] for request in receiver.requests} == {"Ada", None}


@pytest.mark.parametrize("body", [b"x" * 3_000_000, b"ok\x00 sk_test_gldabcdefghijkl"], ids=["huge", "secret"])
async def test_of_an_answer_only_the_beginning_is_kept_and_masked(world: WebhookWorld, receiver: Receiver, body: bytes):
    """However much comes."""
    await world.endpoint(receiver.url)
    receiver.behave = lambda _request: answer(200, body)
    await world.worker()
    await world.announce(PAID)
    await world.settled(1)
    kept = await world.db.fetchval("SELECT answer FROM webhook_delivery")
    assert kept in ("x" * 500, "ok\ufffd sk_test_***")


async def test_a_name_that_changes_to_a_private_address_is_not_connected_to(receiver: Receiver):
    """The look is at the address of the connection, whatever the name said before, in every spelling of this machine."""
    public = await Receiver().start(receiver.port, "127.0.0.2")
    public.behave = lambda _request: answer(200, Connection="close")
    answers = iter(["127.0.0.2", "127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "64:ff9b::7f00:1", "10.0.0.1"])

    async def lookup(_host: str, _port: int) -> list[str]:
        return [next(answers)]

    transport = Transport(Allowed(networks=(ip_network("127.0.0.2/32"),), plain_http=True), lambda: True, lookup)
    try:
        outcomes = [await transport.post(f"http://shop.example:{receiver.port}/", {}, b"{}") for _ in range(6)]
    finally:
        await transport.close()
        await public.close()
    assert outcomes[0] == Answered(200, b"")
    assert all(isinstance(outcome, Unreached) and "is not a public address" in outcome.why for outcome in outcomes[1:])
    assert (len(public.requests), receiver.requests, receiver.connections) == (1, [], 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_no_spelling_of_this_machine_is_connected_to_unless_it_is_allowed(receiver: Receiver, host: str):
    """Numbers pass by the resolver; the socket is where they are looked at."""
    transport = Transport(Allowed(plain_http=True), lambda: True)
    try:
        assert isinstance(await transport.post(f"http://{host}:{receiver.port}/", {}, b"{}"), Unreached)
    finally:
        await transport.close()
    assert receiver.connections == 0


async def test_without_the_right_to_send_no_byte_is_written(receiver: Receiver):
    """It is asked for when the connection stands."""
    transport = Transport(SANDBOX, lambda: False)
    try:
        with pytest.raises(NotPermitted):
            await transport.post(receiver.url, {}, b"{}")
    finally:
        await transport.close()
    assert (receiver.requests, receiver.connections) == ([], 1)


async def test_retries_that_have_no_budget_stand_in_nobodys_way(world: WebhookWorld, receiver: Receiver):
    """They are read before what is new, and put off until there is some: what is new is sent meanwhile."""
    await world.endpoint(receiver.url)
    turns = count()
    receiver.behave = lambda _request: answer(500 if next(turns) % 2 else 200)
    await world.worker(retry=structs.replace(RETRIES["webhook"], budget_share=0.1))
    await world.announce(*[CREATED] * 60)
    await world.until(lambda: len(receiver.requests) == 60)
    await world.settled(30)
    receiver.behave = lambda _request: answer(200)
    world.clock.advance(HOUR)
    new = set(await world.announce(*[PAID] * 20))
    await world.settled(80)
    order = [request.event in new for request in receiver.requests[60:]]
    assert (sum(order), len(order)) == (20, 50)
    last = len(order) - order[::-1].index(True)
    assert last - 20 <= 20, "of thirty retries ten have a budget at once, and few earn one while what is new is sent"
