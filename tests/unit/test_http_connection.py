"""A connection alone, on a wire that the test holds: bytes in any pieces, and bytes of any kind."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from guilder.core.clock import ManualClock
from guilder.core.errors import Refusal
from guilder.http_server import Incoming, Outgoing
from guilder.http_server.connection import Connection
from guilder.http_server.limits import DRAIN_BYTES_MAX, LINGER_SECONDS
from guilder.http_server.server import Server

# Turns of the loop after which nothing can be under way any more: handlers here never wait for anything but their body.
TURNS = 10


class Wire(asyncio.Transport):
    """A transport that keeps each write, and how the connection ended."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False
        self.paused = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "nothing is written on a closed connection"
        self.writes.append(data)

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


class Echo:
    """Says what it understood. What begins with /unread it answers without its body."""

    async def answer(self, incoming: Incoming) -> Outgoing:
        try:
            body = b"" if incoming.path.startswith("/unread") else await incoming.body(1000)
        except Refusal as refusal:
            return self.refuse(refusal)
        return Outgoing(body=b"%s %s " % (incoming.method.encode(), incoming.path.encode()) + body)

    def refuse(self, refusal: Refusal) -> Outgoing:
        return Outgoing(status=refusal.status, body=str(refusal).encode())


async def talk(pieces: Sequence[bytes]) -> tuple[Wire, Server]:
    """A connection that is sent these pieces, as far as it reads them."""
    server = Server(Echo(), ManualClock())
    connection, wire = Connection(server), Wire()
    connection.connection_made(wire)
    for piece in pieces:
        for _ in range(TURNS * 100):
            if not wire.paused:
                break
            await asyncio.sleep(0)
        connection.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(TURNS * 100):
        await asyncio.sleep(0)
        if connection.task is None and not wire.paused:
            break
    return wire, server


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


def request(method: str, path: str, body: bytes, chunked: bool) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n".encode()
    if chunked:
        parts = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part]
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + b"0\r\n\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


requests = st.builds(
    request,
    st.sampled_from(["GET", "POST", "DELETE", "HEAD"]),
    st.sampled_from(["/", "/v1/x?y=z", "/%20"]),
    st.binary(max_size=1200),
    st.booleans(),
)


@given(st.lists(requests, min_size=1, max_size=6), st.lists(st.integers(min_value=0), max_size=12))
def test_the_pieces_that_a_request_arrives_in_mean_nothing(stream: list[bytes], places: list[int]) -> None:
    """The same bytes bring the same answers, head and body of each in one write."""
    data = b"".join(stream)
    at_once, _ = asyncio.run(talk([data]))
    in_pieces, _ = asyncio.run(talk(cut(data, places)))
    assert in_pieces.writes == at_once.writes
    assert len(at_once.writes) == len(stream)


@given(st.lists(requests, max_size=2), st.binary(max_size=300), st.lists(st.integers(min_value=0), max_size=6))
@example([], b"\r\n\r\n", [])
@example([], b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", [])
@example([], b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab\r\n", [30])
def test_any_bytes_are_answered_or_waited_for(before: list[bytes], noise: bytes, places: list[int]) -> None:
    """Nothing is raised, requests before the noise have their answers, a 400 ends the connection, and time ends every other."""

    async def hear() -> None:
        wire, server = await talk(cut(b"".join(before) + noise, places))
        statuses = [int(write[9:12]) for write in wire.writes]
        assert statuses[: len(before)].count(400) == 0
        assert len(statuses) >= len(before)
        if 400 in statuses:
            assert statuses.index(400) == len(statuses) - 1
            assert wire.closed
        for _ in range(3):
            server.expire(float(10**9))
            for _ in range(TURNS):
                await asyncio.sleep(0)
        assert wire.closed

    asyncio.run(hear())


def test_what_follows_the_end_is_forgotten_up_to_a_limit() -> None:
    """A client that writes on is cut off in the end, by its bytes or by the time."""

    async def write_on(*, for_ever: bool) -> Wire:
        server = Server(Echo(), ManualClock())
        connection, wire = Connection(server), Wire()
        connection.connection_made(wire)
        connection.data_received(b"nonsense\r\n\r\n")
        wire.closed = False
        if for_ever:
            for _ in range(DRAIN_BYTES_MAX // 1_000_000 + 1):
                connection.data_received(b"x" * 1_000_000)
        else:
            server.expire(server.loop.time() + LINGER_SECONDS + 1)
        return wire

    assert asyncio.run(write_on(for_ever=True)).closed
    assert asyncio.run(write_on(for_ever=False)).closed
