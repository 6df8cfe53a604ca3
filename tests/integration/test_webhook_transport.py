"""One POST over a real socket: what counts as an answer, and which connections are used again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
from steps import until

from guilder.webhooks import Allowed
from guilder.webhooks.connection import ANSWER_BYTES_MAX, HEAD_BYTES_MAX, Answered
from guilder.webhooks.transport import Transport, Unreached

LOOPBACK = Allowed(networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")), plain_http=True)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
GONE = Unreached("the connection was closed without an answer")


class Raw:
    """A receiver that says bytes: to the first request the first of them, and so on; None closes the connection instead."""

    def __init__(self, answers: Sequence[bytes | None], *, closes: bool) -> None:
        self.answers = list(answers)
        self.closes = closes
        self.requests: list[bytes] = []
        self.connections = self.ended = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.writers.append(writer)
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            self.requests.append(head + await reader.readexactly(length))
            said = self.answers.pop(0)
            if said is not None:
                writer.write(said)
                await writer.drain()
            if said is None or self.closes:
                writer.close()
                return


@asynccontextmanager
async def raw(*answers: bytes | None, closes: bool = False) -> AsyncIterator[tuple[Raw, Transport, str]]:
    """Such a receiver, a transport, and the receiver's address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await receiver.serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            receiver.ended += 1
            writer.close()

    receiver = Raw(answers, closes=closes)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = Transport(LOOPBACK, lambda: True)
    try:
        yield receiver, transport, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?a=b%20c"
    finally:
        await transport.close()
        server.close()
        for writer in receiver.writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in receiver.writers), return_exceptions=True)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (OK, Answered(200, b"")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answered(204, b"")),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nwhy", Answered(500, b"why")),
        (b"HTTP/1.1 429 Slow\r\nRETRY-After: 120\r\nContent-Length: 0\r\n\r\n", Answered(429, b"", "120")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n", Answered(200, b"ok!")),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, Answered(200, b"")),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\nbytes", Answered(101, b"")),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Answered(301, b"")),
    ],
    ids=["empty", "without a body", "with a body", "asks for a pause", "chunked", "announced", "another protocol", "a redirect"],
)
async def test_what_a_receiver_answers_is_read(said: bytes, outcome: Answered):
    """The status that ends the exchange, and the beginning of its body."""
    async with raw(said) as (receiver, transport, url):
        assert await transport.post(url, {"Stripe-Signature": "t=1"}, b"{}") == outcome
    [request] = receiver.requests
    host = url.split("/")[2]
    assert request == f"POST /hook?a=b%20c HTTP/1.1\r\nHost: {host}\r\nStripe-Signature: t=1\r\nContent-Length: 2\r\n\r\n{{}}".encode()


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", Answered(200, b"until the end")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", Answered(200, b"half")),
        (None, GONE),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Unreached("the connection was closed within the answer's head")),
        (b"HTTP/1.1 100 Continue\r\n\r\n", Unreached("the connection was closed within the answer's head")),
    ],
    ids=["without a length", "half a body", "nothing", "half a head", "only what announces"],
)
async def test_the_end_of_the_connection_ends_what_has_begun(said: bytes | None, outcome: Answered | Unreached):
    """Once the status is there it counts; before it there is no answer."""
    async with raw(said, closes=True) as (_, transport, url):
        assert await transport.post(url, {}, b"{}") == outcome


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n", "the answer's head is too long"),
    ],
    ids=["another protocol's", "endless"],
)
async def test_what_is_no_answer_is_told_as_such(said: bytes, why: str):
    """And its connection is not used again."""
    async with raw(said, OK) as (receiver, transport, url):
        assert await transport.post(url, {}, b"{}") == Unreached(why)
        assert await transport.post(url, {}, b"{}") == Answered(200, b"")
    assert receiver.connections == 2


async def test_of_a_long_body_only_the_beginning_is_read():
    """The rest is not waited for, and the connection not used again."""
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * (2 * ANSWER_BYTES_MAX)
    async with raw(long, OK) as (receiver, transport, url):
        assert await transport.post(url, {}, b"{}") == Answered(200, b"x" * ANSWER_BYTES_MAX)
        assert await transport.post(url, {}, b"{}") == Answered(200, b"")
    assert receiver.connections == 2


async def test_a_connection_is_kept_for_the_next_delivery():
    """Unless its receiver says otherwise."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    async with raw(OK, OK, closing, OK) as (receiver, transport, url):
        for _ in range(4):
            assert await transport.post(url, {}, b"{}") == Answered(200, b"")
    assert receiver.connections == 2


async def test_a_kept_connection_that_closes_under_us_is_tried_once_more_on_a_fresh_one():
    """A fresh one that does so has not answered."""
    async with raw(OK, None, OK, None, None) as (receiver, transport, url):
        assert await transport.post(url, {}, b"{}") == Answered(200, b"")
        assert await transport.post(url, {}, b"{}") == Answered(200, b"")
        assert await transport.post(url, {}, b"{}") == GONE
    assert receiver.connections == 3


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"x"], ids=["a second answer", "bytes"])
async def test_what_a_receiver_says_unasked_is_never_taken_for_an_answer(unasked: bytes):
    """Said with the last answer or later: the connection is not used again."""
    failing = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
    async with raw(OK + unasked, OK, failing) as (receiver, transport, url):
        assert await transport.post(url, {}, b"{}") == Answered(200, b"")
        assert await transport.post(url, {}, b"{}") == Answered(200, b"")
        assert receiver.connections == 2
        receiver.writers[-1].write(unasked)
        await until(lambda: not any(one.usable for kept in transport._kept.values() for one in kept))
        assert await transport.post(url, {}, b"{}") == Answered(500, b"")
    assert receiver.connections == 3


async def test_a_connection_that_is_not_used_again_is_closed():
    """Also where its receiver goes on talking, and would keep it open for ever."""
    async with raw(OK + OK) as (receiver, transport, url):
        assert await transport.post(url, {}, b"{}") == Answered(200, b"")
        await until(lambda: receiver.ended == 1)


async def test_a_name_with_several_addresses_is_reached_at_the_one_that_answers():
    """Those that nothing is sent to are left out."""

    async def lookup(_host: str, _port: int) -> list[str]:
        return ["10.0.0.1", "127.0.0.9", "127.0.0.1"]

    async with raw(OK) as (receiver, _, url):
        transport = Transport(LOOPBACK, lambda: True, lookup)
        try:
            outcome = await transport.post(url.replace("127.0.0.1", "shop.example"), {}, b"{}")
        finally:
            await transport.close()
    assert (outcome, receiver.connections) == (Answered(200, b""), 1)


async def test_a_port_that_nobody_listens_on_says_so():
    """In the system's words."""
    async with raw() as (_, transport, url):
        nobody = url.replace("127.0.0.1", "127.0.0.9")
        assert await transport.post(nobody, {}, b"{}") == Unreached("Connection refused")
