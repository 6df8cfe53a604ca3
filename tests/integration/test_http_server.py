"""HTTP over a real socket, byte for byte: order, framing, limits, deadlines, and the end of a connection."""

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from typing import Any

import pytest
import uvloop
from http_world import BODY_MAX, Client, Echo, HttpWorld, echo, http_world, replies
from steps import until

from guilder.core.clock import SECOND, ManualClock
from guilder.http_server import Incoming, Outgoing, limits, serve_http
from guilder.http_server import server as server_module

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Both loops: ours is uvloop, and what we rely on is to be promised by neither alone."""
    with asyncio.Runner(loop_factory=request.param) as made:
        yield made


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that runs in the runner's loop."""

    @wraps(test)
    def run(*, runner: asyncio.Runner, **fixtures: Any) -> None:
        runner.run(test(**fixtures))

    asked = inspect.signature(test)
    first = inspect.Parameter("runner", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = asked.replace(parameters=[*asked.parameters.values(), first])
    return run


@pytest.fixture
def app() -> Echo:
    return Echo()


@pytest.fixture
def http(app: Echo, runner: asyncio.Runner) -> Iterator[HttpWorld]:
    world = http_world(app)
    yield runner.run(world.__aenter__())
    runner.run(world.__aexit__(None, None, None))


def post(body: bytes, *headers: bytes, path: bytes = b"/p") -> bytes:
    """A POST with its length."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n" % (path, len(body), lines) + body


class Gate:
    """A handler that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, incoming: Incoming) -> Outgoing:
        answer = await echo(incoming)
        await self.open.wait()
        return answer


# --- requests in their order ------------------------------------------------------------------------------------------


@on_both_loops
async def test_a_connection_serves_one_request_after_the_other(http: HttpWorld) -> None:
    """It stays open until the client says that this is the last."""
    client = await http.connect()
    for body in (b"", b"x=1", b"y" * 50_000):
        await client.send(post(body, path=b"/p?q=1"))
        reply = await client.read_reply()
        assert (reply.status, reply.body) == (200, b"POST /p?q=1 " + body)
        assert "connection" not in reply.headers
    await client.send(LAST)
    (reply,) = replies(await client.read_all())
    assert (reply.body, reply.headers["connection"]) == (b"GET /last? ", "close")


@on_both_loops
async def test_http_1_0_is_answered_and_closed(http: HttpWorld) -> None:
    """Its clients read until the end."""
    (reply,) = await http.exchange(b"GET /a?b=c HTTP/1.0\r\n\r\n")
    assert (reply.status, reply.body, reply.headers["connection"]) == (200, b"GET /a?b=c ", "close")


@on_both_loops
async def test_pipelined_requests_are_answered_in_their_order_one_at_a_time(http: HttpWorld, app: Echo) -> None:
    """The next is begun when the one before is answered."""
    app.handler = gate = Gate()
    client = await http.connect(post(b"1", path=b"/1") + post(b"2", path=b"/2") + post(b"3", b"Connection: close", path=b"/3"))
    await until(lambda: bool(app.begun))
    assert app.begun == ["/1"]
    gate.open.set()
    assert [reply.body for reply in replies(await client.read_all())] == [b"POST /1? 1", b"POST /2? 2", b"POST /3? 3"]


@on_both_loops
async def test_a_client_that_does_not_wait_for_answers_is_not_read_on(http: HttpWorld, app: Echo) -> None:
    """What stands in memory of its requests is bounded, and all are answered in the end."""
    app.handler = gate = Gate()
    count = 20_000
    client = await http.connect()
    client.writer.write(GET * count + LAST)
    await until(lambda: bool(http.connections) and http.connections[0]._paused)
    (connection,) = http.connections
    assert len(connection._waiting) <= limits.PIECE_BYTES // len(GET) + 1
    gate.open.set()
    answered = replies(await client.read_all())
    assert len(answered) == count + 1
    assert answered[-1].body == b"GET /last? "


@on_both_loops
async def test_what_follows_a_last_request_is_not_read(http: HttpWorld, app: Echo) -> None:
    """Neither behind `close` nor behind an upgrade, which is not taken up."""
    upgrade = b"GET /u HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    for last in (LAST, upgrade):
        app.begun.clear()
        (reply,) = await http.exchange(last + GET)
        assert reply.status == 200
        assert len(app.begun) == 1


@on_both_loops
async def test_head_is_answered_without_a_body(http: HttpWorld) -> None:
    """But with the length that GET's would have, and what follows is in step."""
    client = await http.connect(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
    reply = await client.read_reply(body=False)
    assert reply.headers["content-length"] == str(len(b"HEAD /a? "))
    await client.send(GET)
    assert (await client.read_reply()).body == b"GET /a? "


@pytest.mark.parametrize(
    ("target", "understood"),
    [
        (b"*", b"*?"),
        (b"http://shop.example/v1/x?y=1", b"/v1/x?y=1"),
        (b"/%2Fa%20b?c=%20", b"//a b?c=%20"),
        (b"//a", b"//a?"),
    ],
)
@on_both_loops
async def test_addresses_come_in_several_forms(http: HttpWorld, target: bytes, understood: bytes) -> None:
    """A path, a whole address, an asterisk; the query stays as it came."""
    client = await http.connect(b"OPTIONS %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    assert (await client.read_reply()).body == b"OPTIONS " + understood + b" "


@on_both_loops
async def test_every_answer_bears_the_date(http: HttpWorld) -> None:
    """The server's second, looked at by the sweep."""
    client = await http.connect(GET)
    assert (await client.read_reply()).headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    clock = http.server._clock
    assert isinstance(clock, ManualClock)
    clock.advance(61 * SECOND)
    http.server.look_at_clock()
    await client.send(GET)
    assert (await client.read_reply()).headers["date"] == "Thu, 01 Jan 2026 00:01:01 GMT"


# --- bodies -----------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_chunked_bodies_are_put_together(http: HttpWorld) -> None:
    """Chunk by chunk, extensions and trailers ignored."""
    head = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = await http.connect(head)
    for chunk in (b"3\r\nabc\r\n", b"1;x=y\r\nd\r\n", b"0\r\n", b"Trailer: 1\r\n\r\n"):
        await client.send(chunk)
    assert (await client.read_reply()).body == b"POST /c? abcd"
    await client.send(GET)
    assert (await client.read_reply()).status == 200


@on_both_loops
async def test_a_client_that_asks_is_told_to_go_on(http: HttpWorld) -> None:
    """Once, and only when somebody wants the body."""
    head = b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    client = await http.connect(head)
    assert (await client.read_reply()).status == 100
    await client.send(b"abc")
    assert (await client.read_reply()).body == b"POST /e? abc"


@on_both_loops
async def test_a_body_that_would_be_refused_is_not_asked_for(http: HttpWorld) -> None:
    """413 stands in place of 100."""
    head = b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (BODY_MAX + 1)
    client = await http.connect(head)
    reply = await client.read_reply()
    assert (reply.status, reply.headers["connection"]) == (413, "close")


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n\r\n%s", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"])
@on_both_loops
async def test_a_body_over_the_limit_is_413_after_it_was_read(http: HttpWorld, framing: bytes) -> None:
    """To the byte; a client that is cut off never sees why. The connection goes on."""
    client = await http.connect()
    for size, status in ((BODY_MAX, 200), (BODY_MAX + 1, 413), (5 * BODY_MAX, 413), (3, 200)):
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing % (size, b"x" * size))
        assert (await client.read_reply()).status == status


@on_both_loops
async def test_a_body_without_end_is_answered_before_it_ends(http: HttpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """413 when more has been read than anybody can have sent by mistake."""
    monkeypatch.setattr("guilder.http_server.model.DRAIN_BYTES_MAX", 300_000)
    client = await http.connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n" + b"x" * 450_000)
    reply = await client.read_reply()
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert await client.read_all() == b""


@on_both_loops
async def test_an_answer_may_come_before_the_body_is_read(http: HttpWorld, app: Echo) -> None:
    """Little is kept of a body that nobody asks for, its sender sees the answer, and nothing of it is taken for a request."""

    async def refuse(_incoming: Incoming) -> Outgoing:
        return Outgoing(status=401, body=b"no")

    app.handler = refuse
    client = await http.connect(post(GET * 40_000))
    reply = await client.read_reply()
    assert (reply.status, reply.headers["connection"]) == (401, "close")
    assert app.begun == ["/p"]


@on_both_loops
async def test_an_unasked_body_is_not_read_on(http: HttpWorld, app: Echo) -> None:
    """Until the handler wants it."""
    wanted = asyncio.Event()

    async def later(incoming: Incoming) -> Outgoing:
        await wanted.wait()
        return Outgoing(body=b"%d" % len(await incoming.body(10_000_000)))

    app.handler = later
    client = await http.connect()
    client.writer.write(post(b"x" * 10_000_000))
    await until(lambda: bool(http.connections) and http.connections[0]._paused)
    assert http.connections[0]._arriving.unasked_bytes < 1_000_000
    wanted.set()
    assert (await client.read_reply()).body == b"10000000"


# --- what is refused --------------------------------------------------------------------------------------------------

CL, TE = b"Content-Length: 3", b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\n" + CL + b"\r\n" + TE + b"\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n" + TE + b"\r\n" + CL + b"\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n" + CL + b"\r\n" + CL + b"\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\n" + CL + b"\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\n" + TE + b"\r\n" + TE + b"\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: x\r\n" + TE + b"\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT shop.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)  # fmt: skip
@on_both_loops
async def test_what_is_no_plain_request_is_400_and_ends_the_connection(http: HttpWorld, app: Echo, request_: bytes) -> None:
    """Nothing that somebody before us could have read as two requests, or as one of another length, reaches the application."""
    client = await http.connect(request_ + GET)
    client.writer.write_eof()
    (reply,) = replies(await client.read_all())
    assert (reply.status, reply.headers["connection"]) == (400, "close")
    assert app.done == []


@pytest.mark.parametrize(
    "chunks", [b"3\r\nabcd\r\n0\r\n\r\n", b"-3\r\nabc\r\n0\r\n\r\n", b"3\nabc\r\n0\r\n\r\n", b"fffffffffffffffff\r\nabc", b"x\r\n"]
)
@on_both_loops
async def test_a_malformed_chunk_is_400(http: HttpWorld, app: Echo, chunks: bytes) -> None:
    """Told by the request that it belongs to."""
    client = await http.connect(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await until(lambda: app.begun == ["/"])
    await client.send(chunks)
    client.writer.write_eof()
    (reply,) = replies(await client.read_all())
    assert (reply.status, app.done) == (400, [])


@on_both_loops
async def test_those_before_a_malformed_request_are_answered(http: HttpWorld, app: Echo) -> None:
    """Then comes the 400."""
    app.handler = gate = Gate()
    client = await http.connect(GET + GET + b"nonsense\r\n\r\n")
    await until(lambda: bool(app.begun))
    gate.open.set()
    assert [reply.status for reply in replies(await client.read_all())] == [200, 200, 400]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * (limits.URL_BYTES_MAX - 1)), 200),
        (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * limits.URL_BYTES_MAX), 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * (limits.HEADERS_MAX - 1) + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * limits.HEADERS_MAX + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * (limits.HEAD_BYTES_MAX - 15) + b"\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * (limits.HEAD_BYTES_MAX - 14) + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 10_000_000, 431),
        (b"GET /" + b"b" * 10_000_000, 431),
    ],
    ids=["url", "url+1", "headers", "headers+1", "bytes", "bytes+1", "endless header", "endless address"],
)
@on_both_loops
async def test_heads_have_limits(http: HttpWorld, head: bytes, status: int) -> None:
    """The size of the address, the number of headers, the size of everything."""
    client = await http.connect(head)
    assert (await client.read_reply()).status == status


@on_both_loops
async def test_trailers_and_extensions_have_limits(http: HttpWorld) -> None:
    """What never ends is not kept, also behind a large body; chunks of one byte are a body like any other."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = await http.connect(head + b"1\r\nx\r\n" * 90_000 + b"0\r\n\r\n")
    assert (await client.read_reply()).status == 200
    await client.send(head + b"15f90\r\n%s\r\n0\r\nTrailer: " % (b"x" * 90_000) + b"x" * 1_000_000)
    assert (await client.read_reply()).status == 400
    client = await http.connect(head + b"1;x=" + b"x" * 1_000_000)
    assert (await client.read_reply()).status == 400


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHo"])
@on_both_loops
async def test_a_head_that_does_not_come_is_408(http: HttpWorld, begun: bytes) -> None:
    """Each has its time from the first byte on; a first request from the connection's start on."""
    client = await http.connect(begun)
    await until(lambda: bool(http.connections))
    http.later(limits.HEAD_SECONDS - 1)
    http.later(limits.HEAD_SECONDS + 1)
    (reply,) = replies(await client.read_all())
    assert (reply.status, reply.headers["connection"]) == (408, "close")


@on_both_loops
async def test_a_slow_head_gets_no_more_time_by_sending_a_little(http: HttpWorld) -> None:
    """The time counts from its first byte."""
    client = await http.connect(GET)
    await client.read_reply()
    (connection,) = http.connections
    await client.send(b"GET /")
    await until(lambda: connection._in_head)
    before = connection.deadline
    await client.send(b"abc")
    await until(lambda: connection._raw > 0)
    assert connection.deadline == before


@on_both_loops
async def test_a_body_that_does_not_come_is_408(http: HttpWorld) -> None:
    """It may be sent again."""
    client = await http.connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    await until(lambda: bool(http.app.begun))
    http.later(limits.BODY_SECONDS - 1)
    http.later(limits.BODY_SECONDS + 1)
    (reply,) = replies(await client.read_all())
    assert (reply.status, reply.headers["connection"]) == (408, "close")


@on_both_loops
async def test_an_idle_connection_is_closed_without_a_word(http: HttpWorld) -> None:
    """A word would be taken for the answer to the next request."""
    client = await http.connect(GET)
    await client.read_reply()
    http.later(limits.IDLE_SECONDS - 1)
    await client.send(GET)
    assert (await client.read_reply()).status == 200
    http.later(limits.IDLE_SECONDS + 1)
    assert await client.read_all() == b""


@on_both_loops
async def test_a_request_that_is_being_answered_has_no_deadline_here(http: HttpWorld, app: Echo) -> None:
    """Handlers have limits of their own, and what they began must be finished."""
    app.handler = gate = Gate()
    client = await http.connect(GET)
    await until(lambda: bool(app.begun))
    http.later(1_000_000)
    gate.open.set()
    assert (await client.read_reply()).status == 200


@on_both_loops
async def test_a_client_that_reads_no_answers_gets_no_more_and_is_cut_off(http: HttpWorld, app: Echo) -> None:
    """Its next request is not begun while the answers before fill the buffers."""

    async def large(_incoming: Incoming) -> Outgoing:
        return Outgoing(body=b"x" * 20_000_000)

    app.handler = large
    await http.connect(GET * 50)
    await until(lambda: bool(http.connections) and http.connections[0]._unread and http.connections[0].task is None)
    assert len(app.begun) == 1
    http.later(limits.WRITE_SECONDS + 1)
    await until(lambda: not http.connections)


@on_both_loops
async def test_a_client_that_reads_slowly_gets_everything(http: HttpWorld, app: Echo) -> None:
    """The next request is begun when there is room again."""

    async def large(_incoming: Incoming) -> Outgoing:
        return Outgoing(body=b"x" * 5_000_000)

    app.handler = large
    client = await http.connect(GET * 3 + LAST)
    assert [len(reply.body) for reply in replies(await client.read_all())] == [5_000_000] * 4


# --- when things go wrong ---------------------------------------------------------------------------------------------


@on_both_loops
async def test_work_goes_on_when_its_client_hangs_up(http: HttpWorld, app: Echo) -> None:
    """What was begun is finished; only the answer is dropped."""
    app.handler = gate = Gate()
    client = await http.connect(GET)
    await until(lambda: bool(app.begun))
    client.reset()
    await until(lambda: http.connections[0]._gone)
    gate.open.set()
    await until(lambda: not http.connections)
    assert (app.begun, app.done) == (["/a"], ["/a"])


@on_both_loops
async def test_a_client_that_hangs_up_in_its_body_is_nobody(http: HttpWorld, app: Echo) -> None:
    """The handler is told, and nothing is answered."""
    for hang_up in (Client.close, Client.reset):
        app.begun.clear()
        client = await http.connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        await until(lambda: bool(app.begun))
        hang_up(client)
        await until(lambda: not http.connections)
    assert (app.hung_up, app.done) == (2, [])


@on_both_loops
async def test_a_client_may_say_that_it_is_done_and_wait(http: HttpWorld, app: Echo) -> None:
    """Half closed connections are answered."""
    app.handler = gate = Gate()
    client = await http.connect(GET + GET)
    client.writer.write_eof()
    await until(lambda: bool(app.begun))
    gate.open.set()
    assert [reply.body for reply in replies(await client.read_all())] == [b"GET /a? "] * 2


@on_both_loops
async def test_a_failing_handler_is_500_without_its_reasons(http: HttpWorld, app: Echo) -> None:
    """The connection goes on."""

    async def fail(_incoming: Incoming) -> Outgoing:
        raise RuntimeError("secret")

    app.handler = fail
    client = await http.connect(GET)
    reply = await client.read_reply()
    assert reply.status == 500
    assert b"secret" not in reply.body
    app.handler = echo
    await client.send(GET)
    assert (await client.read_reply()).status == 200


@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: b", b"a\nb", b"a\rb", b"a\0b", b"a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"])
@on_both_loops
async def test_a_header_that_would_become_another_is_never_sent(http: HttpWorld, app: Echo, value: bytes) -> None:
    """500 instead, whether it stands in a name or in a value."""
    for header in ((b"x", value), (value, b"x")):

        async def inject(_incoming: Incoming, header: tuple[bytes, bytes] = header) -> Outgoing:
            return Outgoing(body=b"ok", headers=[header])

        app.handler = inject
        client = await http.connect(GET)
        reply = await client.read_reply()
        assert reply.status == 500
        assert set(reply.headers) == {"date", "content-length"}


@on_both_loops
async def test_one_connection_more_than_the_limit_is_503(http: HttpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those much later are cut off; the others are served, and a place that becomes free is given."""
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 2)
    monkeypatch.setattr(server_module, "REFUSED_MAX", 1)
    served = [await http.connect(GET) for _ in range(2)]
    assert [(await client.read_reply()).status for client in served] == [200, 200]
    refused = await http.connect(GET)
    assert (await refused.read_reply()).status == 503
    cut = await http.connect()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await cut.read_reply()
    for client in (refused, cut, served[0]):
        client.close()
    await until(lambda: len(http.connections) == 1)
    again = await http.connect(GET)
    assert (await again.read_reply()).status == 200


# --- the end ----------------------------------------------------------------------------------------------------------


class Serving:
    """serve_http in a task of its own, as a role runs it."""

    def __init__(self, app: Echo, listener: socket.socket) -> None:
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        self.clients: list[Client] = []
        self.port = listener.getsockname()[1]
        self.task = asyncio.ensure_future(serve_http(app, listener, clock=ManualClock(), ready=self.ready.set, stop=self.stop))

    async def connect(self, data: bytes) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        await client.send(data)
        return client

    async def __aenter__(self) -> "Serving":
        await self.ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.gone()
        self.stop.set()
        await self.task


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


@on_both_loops
async def test_stopping_closes_what_is_idle_and_answers_what_is_under_way(app: Echo, listener: socket.socket) -> None:
    """Nobody new is taken; the answer says that the connection ends."""
    app.handler = gate = Gate()
    async with Serving(app, listener) as serving:
        idle = await serving.connect(b"")
        busy = await serving.connect(GET)
        await until(lambda: bool(app.begun))
        serving.stop.set()
        assert await idle.read_all() == b""
        with pytest.raises(OSError, match="Connect"):
            await serving.connect(GET)
        gate.open.set()
        (reply,) = replies(await busy.read_all())
        assert (reply.body, reply.headers["connection"]) == (b"GET /a? ", "close")


@on_both_loops
async def test_what_takes_too_long_is_cut_off_at_the_end(app: Echo, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor waits little longer."""
    monkeypatch.setattr(server_module, "GRACE_SECONDS", 0.01)
    app.handler = Gate()
    async with Serving(app, listener) as serving:
        busy = await serving.connect(GET)
        await until(lambda: bool(app.begun))
        serving.stop.set()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await busy.read_reply()


@on_both_loops
async def test_servers_share_a_listening_socket(app: Echo, listener: socket.socket) -> None:
    """As several API processes do; when one ends, the others go on."""
    async with Serving(app, listener.dup()) as first, Serving(app, listener.dup()) as second:
        first.stop.set()
        await first.task
        client = await second.connect(GET)
        assert (await client.read_reply()).status == 200
