"""Webhooks from a running system: receivers that hang, reset, redirect, fail, are slow and come back; workers that die."""

import asyncio
import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import stripe
from buyer import CHALLENGED, at_bank, bought, come_back, fetch, session_of
from payments_system import Shop, running_shop, wait
from sdk import client
from whole_system import GUILDER, environment

from payment_page import filled
from receiver import CLOSE, HANG, RESET, Receiver, answer

pytestmark = pytest.mark.slow

PAID = "payment_intent.succeeded"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(autouse=True)
def _without_endpoints(shop: Shop) -> Iterator[None]:
    """Each test has endpoints of its own."""
    yield
    shop.crash_file.unlink(missing_ok=True)
    for endpoint in shop.get("/v1/webhook_endpoints?limit=100")["data"]:
        assert shop.insist("DELETE", f"/v1/webhook_endpoints/{endpoint['id']}").status == 200


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """A receiver on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    receiver = asyncio.run_coroutine_threadsafe(Receiver().start(port), loop).result(10)
    try:
        yield receiver
    finally:
        asyncio.run_coroutine_threadsafe(receiver.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def endpoint(shop: Shop, url: str, *types: str) -> dict[str, Any]:
    """A new endpoint, for payments that succeeded unless other types are named."""
    made = shop.insist("POST", "/v1/webhook_endpoints", {"url": url, "enabled_events": list(types or (PAID,))})
    assert made.status == 200, made.body
    return made.body


def pay(shop: Shop, count: int) -> set[str]:
    """Take payments; the ids of their events."""
    payments = {shop.paid()["id"] for _ in range(count)}
    found = shop.get(f"/v1/events?type={PAID}&limit=100")["data"]
    return {event["id"] for event in found if event["data"]["object"]["id"] in payments}


def delivered(shop: Shop, endpoint_: str, count: int) -> None:
    """Wait until so many deliveries of an endpoint have arrived, as the database has it."""
    sql = "SELECT count(*) AS n FROM webhook_delivery WHERE endpoint = $1 AND state = 'delivered'"
    wait(lambda: shop.rows(sql, endpoint_)[0]["n"] == count, f"{count} deliveries have arrived")


def test_the_sdk_makes_an_endpoint_and_verifies_what_comes(shop: Shop) -> None:
    """The official SDK from the endpoint's creation to `construct_event`; the snapshot is the payment's."""
    sdk = client(shop)
    with receiving() as receiver:
        made = sdk.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": [PAID, "charge.succeeded"]})
        assert isinstance(made, stripe.WebhookEndpoint)
        paid = shop.paid(metadata={"order": "7"})
        delivered(shop, made.id, 2)
        events = [
            stripe.Webhook.construct_event(one.body, one.headers["stripe-signature"], made.secret) for one in receiver.requests
        ]
        [succeeded] = [event for event in events if event.type == PAID]
        assert (succeeded.data.object.id, succeeded.data.object.metadata["order"]) == (paid["id"], "7")
        assert succeeded.request.idempotency_key is not None
        assert sdk.v1.webhook_endpoints.retrieve(made.id).status == "enabled"
        assert sdk.v1.webhook_endpoints.update(made.id, {"disabled": True}).status == "disabled"
        assert [one.id for one in sdk.v1.webhook_endpoints.list().data] == [made.id]
        assert sdk.v1.webhook_endpoints.delete(made.id).deleted


@pytest.mark.parametrize("behaviour", [HANG, RESET, CLOSE, answer(302, Location="http://127.0.0.1:1/"), answer(500)],
                         ids=["hangs", "resets", "closes", "redirects", "500"])  # fmt: skip
def test_a_receiver_that_fails_and_comes_back_gets_everything_and_delays_nobody(shop: Shop, behaviour: bytes) -> None:
    """Under the moved clock; meanwhile the healthy endpoint has got its own."""
    with receiving() as bad, receiving() as good:
        bad.behave = lambda _request: behaviour
        failing, healthy = endpoint(shop, bad.url), endpoint(shop, good.url)
        events = pay(shop, 12)
        delivered(shop, healthy["id"], 12)
        assert set(good.events) == events
        wait(lambda: bad.requests, "it has been tried")
        bad.behave = lambda _request: answer(200)
        for _ in range(10):
            assert shop.command("clock", "advance", "2m").returncode == 0
            if len(set(bad.events)) == 12:
                break
            shop.rows("SELECT pg_sleep(0.5)")
        if behaviour == HANG:
            # Those that hang are given up after the deadline, which is real time.
            wait(lambda: shop.rows("SELECT 1 FROM webhook_attempt WHERE endpoint = $1", failing["id"]), "the deadline has passed")
            shop.command("clock", "advance", "2m")
        delivered(shop, failing["id"], 12)
        assert set(bad.events) == events
        assert {request.number for request in bad.requests} == set(range(1, 13))


def test_a_slow_receiver_gets_everything(shop: Shop) -> None:
    """Half a second each, several at once."""
    with receiving() as receiver:
        receiver.delay = 0.5
        made = endpoint(shop, receiver.url)
        events = pay(shop, 20)
        delivered(shop, made["id"], 20)
        assert receiver.events == Counter(events)
        assert receiver.flying_most > 1


@pytest.mark.parametrize("point", ["fan_out", "deliver.before", "deliver.sent", "deliver.stored"])
def test_the_worker_dies_during_a_delivery(shop: Shop, point: str) -> None:
    """SIGKILL at each point: every event arrives; what was sent and not stored comes twice, nothing else does."""
    with receiving() as receiver:
        made = endpoint(shop, receiver.url)
        shop.crash_at(point)
        events = pay(shop, 15)
        wait(shop.crashed, "the worker is dead")
        delivered(shop, made["id"], 15)
        assert set(receiver.events) == events
        numbers = shop.rows("SELECT number FROM webhook_delivery WHERE endpoint = $1 ORDER BY number", made["id"])
        assert [row["number"] for row in numbers] == list(range(1, 16))
        if point in ("fan_out", "deliver.before"):
            assert max(receiver.events.values()) <= 1 + (point == "deliver.before")


def test_a_worker_that_stood_still_sends_nothing_under_its_old_right(shop: Shop) -> None:
    """Others have taken its endpoints over meanwhile; it goes on under a new id, and everything arrives."""
    with receiving() as receiver:
        made = endpoint(shop, receiver.url)
        of_endpoint = "SELECT sender FROM webhook_lane WHERE endpoint = $1 AND sender IS NOT NULL"
        [held] = wait(lambda: shop.rows(of_endpoint, made["id"]), "somebody delivers")
        with shop.stopped("worker"):
            events = pay(shop, 10)
            wait(lambda: shop.rows("SELECT 1 FROM sender WHERE id = $1 AND lost", held["sender"]), "it is taken over")
            assert receiver.requests == []
        delivered(shop, made["id"], 10)
        assert receiver.events == Counter(events)
        assert shop.rows(of_endpoint, made["id"]) != [held]


def test_the_worker_and_the_database_die_under_traffic(shop: Shop) -> None:
    """Again and again; in the end each event has arrived."""
    with receiving() as receiver:
        made = endpoint(shop, receiver.url)
        receiver.delay = 0.05
        events: set[str] = set()
        for victim in ("worker", "postgres", "worker"):
            events |= pay(shop, 8)
            shop.kill(victim)
        events |= pay(shop, 8)
        delivered(shop, made["id"], 32)
        assert set(receiver.events) == events


def test_orders_are_told_once_whoever_dies_while_they_are_paid(shop: Shop) -> None:
    """The page, the worker and the bank die over an order with a challenge each; the numbers have no gap."""
    completed = "checkout.session.completed"
    with receiving() as receiver:
        made = endpoint(shop, receiver.url, completed)
        for victim in ("checkout", "worker", "network"):
            session, _ = bought(shop, CHALLENGED)
            back = at_bank(session_of(shop, session["id"])["payment_intent"]["next_action"]["redirect_to_url"]["url"])
            shop.kill(victim)
            come_back(back)
            seen = fetch(session["url"])
            if seen.fields:
                # Without a word from its issuer a card is declined; another one pays.
                fetch(session["url"], filled(seen))
        delivered(shop, made["id"], 3)
        told = [json.loads(request.body)["data"]["object"]["id"] for request in receiver.requests]
        numbers = shop.rows("SELECT number FROM webhook_delivery WHERE endpoint = $1 ORDER BY number", made["id"])
    assert len(set(told)) == 3
    assert [row["number"] for row in numbers] == [1, 2, 3]


def test_the_commands_list_show_and_repeat(shop: Shop) -> None:
    """`guilder webhooks`, for people and for programs."""
    with receiving() as receiver:
        made = endpoint(shop, receiver.url)
        [event] = pay(shop, 1)
        delivered(shop, made["id"], 1)
        listed = json.loads(shop.command("webhooks", "list", "--endpoint", made["id"], "--json").stdout)["webhook_deliveries"]
        [one] = listed
        assert (one["event"], one["state"], one["sequence"]) == (event, "delivered", 1)
        shown = shop.command("webhooks", "show", one["id"])
        assert shown.returncode == 0
        [request] = receiver.requests
        for word in (event, receiver.url, "200", "ok", "Stripe-Signature", "t=***,v1=***", "Guilder-Sequence", '"type": "payment_intent.succeeded"'):
            assert word in shown.stdout
        sent = json.loads(request.body)
        hidden = sent["data"]["object"]["client_secret"]
        sent["data"]["object"]["client_secret"] = hidden.partition("_secret_")[0] + "_secret_***"
        told = json.loads(shop.command("webhooks", "show", one["id"], "--json").stdout)
        assert told["request"]["body"] == sent
        assert [(tried["url"], tried["status"], tried["answer"]) for tried in told["attempts"]] == [(receiver.url, 200, "ok")]
        for secret in (hidden, request.headers["stripe-signature"], made["secret"]):
            assert secret not in shown.stdout
        again = shop.command("webhooks", "retry", one["id"], "--json")
        assert json.loads(again.stdout)["state"] == "pending"
        wait(lambda: len(receiver.requests) == 2, "it has come again")
        assert shop.command("webhooks", "show", "whd_none").returncode == 1


@contextmanager
def listening(shop: Shop, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """`guilder listen` with these flags, under way."""
    words = [GUILDER, "listen", *flags, "--data", str(shop.data)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def heard(process: subprocess.Popen[str]) -> str:
    """The next line that it says."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_listen_forwards_what_happens_with_a_secret_of_its_own(shop: Shop) -> None:
    """`guilder listen --forward-to`: the secret that it prints verifies what it forwards; `--events` chooses."""
    with receiving() as receiver, listening(shop, "--forward-to", receiver.url.removeprefix("http://"), "--events", "charge.*") as process:
        secret = next(word for word in heard(process).split() if word.startswith("whsec_"))
        paid = shop.paid()
        wait(lambda: receiver.requests, "the event is forwarded")
        [request] = receiver.requests
        event = stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], secret)
        assert (event.type, event.data.object.payment_intent) == ("charge.succeeded", paid["id"])
        assert "-->  charge.succeeded" in heard(process)
        assert "<--  [200] POST" in heard(process)
        shop.kill("api")
        paid = shop.paid()
        wait(lambda: len(receiver.requests) == 2, "it has connected again")
        assert json.loads(receiver.requests[1].body)["data"]["object"]["payment_intent"] == paid["id"]
    assert shop.command("listen", "--print-secret").stdout.strip() == secret


def test_listen_shows_what_happens_where_nothing_is_forwarded(shop: Shop) -> None:
    """In a line each, and with --json as webhooks have them."""
    with listening(shop, "--events", PAID) as process, listening(shop, "--events", PAID, "--json") as programs:
        assert "Ready" in heard(process)
        assert json.loads(heard(programs))["ready"]
        [event] = pay(shop, 1)
        assert heard(process) == f"  -->  {PAID} [{event}]\n"
        assert json.loads(heard(programs)) == shop.get(f"/v1/events/{event}")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("listen", "--forward-to", "ftp://x.y/z"), ("ftp://x.y/z", "only http:// and https://", "localhost:4242")),
        (("listen", "--forward-to", ":4242"), ("names no host", "a port as 4242")),
        (("listen", "--headers", "x"), ("'Key: value'",)),
        (("listen", "--events", "charge.*,payment_intent.suceeded"), ("did you mean 'payment_intent.succeeded'?",)),
        (("events", "tail", "--type", "refund.udpated"), ("did you mean 'refund.updated'?",)),
    ],
)
def test_a_slip_of_the_pen_is_refused_at_the_start_with_what_would_be_right(
    shop: Shop, command: tuple[str, ...], words: tuple[str, ...],
) -> None:  # fmt: skip
    """One line, and exit status 1."""
    done = shop.command(*command)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    for word in words:
        assert word in done.stderr


def test_types_that_nothing_sends_yet_are_told(shop: Shop) -> None:
    """Stripe has them, so they are no slip; nobody waits for them without a word."""
    done = shop.command("events", "tail", "--type", "payout.*", "--type", PAID)
    assert done.returncode == 0
    assert "nothing of payout.* is sent yet" in done.stderr


def test_listen_ends_with_what_to_do_when_the_sandbox_merchants_key_is_not_accepted(shop: Shop) -> None:
    """At the start and in the middle, without a traceback, with exit status 1; the key itself stands nowhere."""
    file = shop.data / "sandbox.json"
    before = file.read_text()
    made = json.loads(shop.command("keys", "create", "--json").stdout)
    file.write_text(json.dumps(json.loads(before) | {"secret_key": made["secret"]}))
    try:
        with listening(shop) as process:
            assert "Ready" in heard(process)
            assert shop.command("keys", "revoke", made["key"]["id"]).returncode == 0
            assert process.stderr is not None
            said = [process.stderr.read(), shop.command("listen").stderr]
            assert process.wait() == 1
    finally:
        file.write_text(before)
    for line in said:
        assert line.count("\n") == 1
        assert "401" in line
        assert "`guilder up`" in line
        assert made["secret"] not in line
