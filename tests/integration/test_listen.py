"""What `guilder listen` runs: a merchant's events followed over the API and forwarded, whatever becomes of either side.

And `guilder events tail --follow`, which follows them in the database.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import stripe
from api_world import ApiWorld, Merchant, api_world, database_name, fresh_database

from certificates import Authority
from guilder.core.clock import SystemClock, sleep
from guilder.core.ids import Ids
from guilder.log import NewEvent, announce
from guilder.security import Signer, webhook_secret
from guilder.shapes.facts import BalanceFacts
from guilder.webhooks.forward import Forwarded, Forwarder
from guilder.webhooks.listen import ApiRefused, KeyRefused, Listening
from receiver import CLOSE, Receiver, answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = webhook_secret(bytes(range(30)))
CREATED = "customer.created"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("listen")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def merchant(api: ApiWorld) -> Merchant:
    """A merchant of the test's own, without any event."""
    return await api.merchant()


@pytest_asyncio.fixture(loop_scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    receiver = await Receiver().start()
    yield receiver
    await receiver.close()


class Door:
    """A way to the API that can be shut."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> "Door":
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", port, family=socket.AF_INET)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, inner_writer}

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer), return_exceptions=True)

    def shut(self) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()


class Heard:
    """A listener under way, and what it has told."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.got: list[dict[str, Any]] = []
        self.forwarded: list[Forwarded] = []
        self.told: list[str] = []
        self.task: asyncio.Task[None]

    async def until(self, condition: Any) -> None:
        """Wait until it holds."""
        for _ in range(1_000):
            if condition():
                return
            await sleep(0.02)
        pytest.fail(f"waited too long: {self.told} {self.forwarded[-3:]}")


@asynccontextmanager
async def listening(
    api: str, key: str, url: str | None = None, *types: str, verify: bool = True, wait: bool = True, **headers: str,
) -> AsyncIterator[Heard]:  # fmt: skip
    """A listener until the block ends; one that is ready, or has ended already, unless there is no waiting for it."""
    heard = Heard()
    forwarder = url and Forwarder(url=url, headers=headers, verify=verify, signer=Signer([SECRET]), clock=SystemClock())
    listener = Listening(
        api=api, key=key, types=types, forwarder=forwarder or None, got=heard.got.append, forwarded=heard.forwarded.append,
        away=heard.told.append, back=lambda: heard.told.append("back"),
    )  # fmt: skip
    heard.task = asyncio.create_task(listener.run(heard.ready.set))
    if wait:
        await heard.until(lambda: heard.ready.is_set() or heard.task.done())
    try:
        yield heard
    finally:
        heard.task.cancel()
        await asyncio.gather(heard.task, return_exceptions=True)


async def happen(api: ApiWorld, merchant: Merchant, count: int, type_: str = CREATED) -> list[str]:
    """So many events, at the same moment; their ids in order."""
    ids = Ids(SystemClock())
    facts = BalanceFacts(False, (("eur", 1),), ())
    events = [NewEvent(id=ids.new("evt"), account=merchant.id, type=type_, object=facts) for _ in range(count)]
    async with api.db.transaction() as connection:
        await announce(connection, livemode=False, now=SystemClock().now(), key="cus_1", events=events)
    return [event.id for event in events]


def in_order(receiver: Receiver) -> list[str]:
    """The events that a receiver got, by the number that they bear."""
    return [request.event for request in sorted(receiver.requests, key=lambda one: one.number)]


@pytest.mark.parametrize("before", [0, 1])
async def test_all_of_more_events_than_a_page_holds_are_forwarded_once_and_in_order(
    api: ApiWorld, merchant: Merchant, receiver: Receiver, before: int,
) -> None:  # fmt: skip
    """Whether the merchant had an event before or none at all; what was there before does not come."""
    await happen(api, merchant, before)
    async with listening(api.base, merchant.secret, receiver.url) as heard:
        events = await happen(api, merchant, 230)
        await heard.until(lambda: len(heard.forwarded) >= 230)
        events += await happen(api, merchant, 1)
        await heard.until(lambda: len(heard.forwarded) >= 231)
    assert [event["id"] for event in heard.got] == in_order(receiver) == events
    assert [request.number for request in sorted(receiver.requests, key=lambda one: one.number)] == list(range(1, 232))
    event = stripe.Webhook.construct_event(receiver.requests[0].body, receiver.requests[0].headers["stripe-signature"], SECRET.reveal())
    assert event.type == CREATED


async def test_a_system_that_is_away_is_waited_for_and_nothing_is_lost(api: ApiWorld, merchant: Merchant, receiver: Receiver) -> None:
    """From the start on, and later; each time it is told once, with the reason."""
    door = await Door(api.settings.ports.api).start()
    door.shut()
    async with listening(f"http://127.0.0.1:{door.port}", merchant.secret, receiver.url, wait=False) as heard:
        await heard.until(lambda: heard.told)
        assert not heard.ready.is_set()
        await door.start(door.port)
        await heard.until(heard.ready.is_set)
        assert heard.told == ["Connection refused", "back"]
        door.shut()
        await heard.until(lambda: len(heard.told) == 3)
        events = await happen(api, merchant, 130)
        await door.start(door.port)
        await heard.until(lambda: len(heard.forwarded) >= 130)
        assert len(heard.told) == 4
        assert heard.told[-1] == "back"
        assert in_order(receiver) == events
    door.shut()


async def test_a_key_that_is_not_accepted_ends_it_with_the_apis_own_words(api: ApiWorld, merchant: Merchant, receiver: Receiver) -> None:
    """At the start, and when it is revoked while events are forwarded; what was on its way has been answered then."""
    async with listening(api.base, "sk_test_gldwrong", receiver.url) as heard:
        with pytest.raises(KeyRefused, match=r"answers 401: .+"):
            await heard.task
        assert not heard.ready.is_set()
    receiver.delay = 0.3
    async with listening(api.base, merchant.secret, receiver.url) as heard:
        await happen(api, merchant, 1)
        await heard.until(lambda: heard.got)
        [key] = [one for one in await api.merchants.list_keys(merchant.id) if one.kind == "secret" and not one.livemode]
        await api.merchants.revoke_key(merchant.id, key.id)
        with pytest.raises(KeyRefused) as refused:
            await asyncio.wait_for(heard.task, 15)
        assert [one.status for one in heard.forwarded] == [200]
        assert heard.told == []
        assert merchant.secret not in str(refused.value)


async def test_what_is_no_api_ends_it(receiver: Receiver) -> None:
    """Something else listens at its port: to ask it again would not help."""
    for body, word in ((b"<html>", "no list of events"), (b'{"data": 1}', "no list of events")):
        receiver.behave = lambda _request, body=body: answer(200, body)
        async with listening(f"http://127.0.0.1:{receiver.port}", "sk_test_x") as heard:
            with pytest.raises(ApiRefused, match=word):
                await heard.task
    receiver.behave = lambda _request: answer(404, b"nothing here")
    async with listening(f"http://127.0.0.1:{receiver.port}", "sk_test_x") as heard:
        with pytest.raises(ApiRefused, match="answers 404: without a reason"):
            await heard.task


async def test_only_the_types_that_were_asked_for_come(api: ApiWorld, merchant: Merchant) -> None:
    """Without an address of a receiver they are shown."""
    async with listening(api.base, merchant.secret, None, "customer.*", "charge.failed") as heard:
        for type_ in ("charge.succeeded", CREATED, "charge.failed"):
            await happen(api, merchant, 1, type_)
        await heard.until(lambda: len(heard.got) == 2)
    assert [event["type"] for event in heard.got] == [CREATED, "charge.failed"]
    assert heard.got[0]["data"]["object"]["object"] == "balance"
    assert heard.forwarded == []


async def test_headers_of_ones_own_are_sent_beside_ours(api: ApiWorld, merchant: Merchant, receiver: Receiver) -> None:
    """As they are written."""
    async with listening(api.base, merchant.secret, receiver.url, Authorization="Bearer mine") as heard:
        await happen(api, merchant, 1)
        await heard.until(lambda: heard.forwarded)
    [request] = receiver.requests
    assert request.headers["authorization"] == "Bearer mine"
    assert "stripe-signature" in request.headers


async def test_a_forward_that_failed_says_why(api: ApiWorld, merchant: Merchant, receiver: Receiver, tmp_path: Path) -> None:
    """In words about the receiver, not with the address over again; `verify` off takes any certificate."""
    secured = await Receiver().start(tls=Authority(tmp_path).server("127.0.0.1"))
    secure = f"https://127.0.0.1:{secured.port}/"
    receiver.behave = lambda _request: CLOSE

    async def failure(url: str, *, verify: bool = True) -> str | int | None:
        async with listening(api.base, merchant.secret, url, verify=verify) as heard:
            await happen(api, merchant, 1)
            await heard.until(lambda: heard.forwarded)
            return heard.forwarded[0].failure or heard.forwarded[0].status

    try:
        assert await failure("http://127.0.0.1:1/") == "Connection refused"
        assert await failure("http://no-such-name.invalid/") == "the name cannot be resolved"
        assert await failure(receiver.url) == "the connection was closed without an answer"
        assert await failure(f"http://127.0.0.1:{secured.port}/") == "the connection was closed without an answer"
        assert await failure(receiver.url.replace("http:", "https:")) == "the connection was closed without an answer"
        assert "the certificate is not valid" in str(await failure(secure))
        assert await failure(secure, verify=False) == 200
        receiver.behave = lambda _request: b"garbage\r\n\r\n"
        assert await failure(receiver.url) == "the answer is not HTTP"
    finally:
        await secured.close()
    assert json.loads(secured.requests[0].body)["type"] == CREATED


async def test_the_first_events_of_a_merchant_are_all_shown_as_they_come(api: ApiWorld, merchant: Merchant) -> None:
    """`guilder events tail --follow`, with more of them at once than a page holds."""
    words = ["events", "tail", "--follow", "--json", "-n", "0", "--account", merchant.id, "--data", str(api.settings.data_dir)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "guilder", *words, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GUILDER_DATABASE_URL": str(api.settings.database_url)},
    )  # fmt: skip
    try:
        # So many it asks for when it looks for new ones, and not before.
        looks = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'guilder events' AND query LIKE '%LIMIT 101'"
        connection = await asyncpg.connect(api.settings.database_url)
        for _ in range(1_000):
            if followed := await connection.fetchval(looks):
                break
            await sleep(0.02)
        await connection.close()
        assert followed
        events = await happen(api, merchant, 130)
        assert process.stdout is not None
        shown = [json.loads(await asyncio.wait_for(process.stdout.readline(), 20))["id"] for _ in events]
        assert shown == events
    finally:
        process.kill()
        await process.wait()
