"""cardnet against acquirers that misbehave on the wire itself, which the sandbox's own never does.

Each acquirer here is a few lines: it says what it sends back for a message, in raw bytes.
"""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from guilder.breaker import BreakerState
from guilder.core.clock import ManualClock
from guilder.core.outcome import Approved, NotFound, NotSent, Outcome, Unknown
from guilder.core.retry import Kind, Retry
from guilder.iso8583 import FrameReader, Message, Mti, decode, encode
from guilder.psp import Exchange, Operation, Order, Reason, original_of, query_about, reversal_of
from guilder.psp.connectors.cardnet import Cardnet, CardnetSettings, Limits
from guilder.psp.connectors.cardnet.connection import Connection
from guilder.psp.measure import Measures, Wait
from guilder.security import Pan, Secret
from guilder.tuning import Breaking
from guilder.vault import Card, Reveal

QUICK = Limits(
    answer_seconds=0.3, queue_seconds=0.3, reveal_seconds=0.2, sweep_seconds=0.02, connect_seconds=0.2,
    reconnect=Retry(kind=Kind.EXPONENTIAL, base_seconds=0.01, cap_seconds=0.05), echo_every_seconds=0.1, echo_answer_seconds=0.1,
)  # fmt: skip
CARD = Card(number=Pan("4242424242424242"), exp_month=12, exp_year=2034, cvc=Secret("123"), postal_code="12345")

Answering = Callable[[Message], bytes | None]
"""What an acquirer sends back for a message; None closes the connection."""


def order(number: int = 1, operation: Operation = Operation.PURCHASE, **changes: Any) -> Order:
    """The n-th order; two of the same number are the same request."""
    fields: dict[str, Any] = {
        "attempt_id": f"att_{number}", "operation": operation, "first": True, "account": "acct_1", "livemode": False,
        "psp_merchant": "M1", "amount_minor": 1050, "currency": "eur", "psp_key": "k", "reference": f"{number:012d}",
        "transmitted_at": "0101000000", "stan": "000001", "payment_method_id": "pm_1", "send_cvc": True,
    }  # fmt: skip
    return Order(**(fields | changes))


def network_answer(message: Message, code: str = "00") -> bytes:
    """The answer to a sign-on or an echo."""
    return encode("0810", {number: message.fields[number] for number in (7, 11)} | {39: code, 70: message.fields[70]})


def approval(message: Message, **changes: str) -> bytes:
    """The answer that approves, with fields changed (`de37="..."`)."""
    if message.mti == Mti.NETWORK:
        return network_answer(message)
    fields = {number: message.fields[number] for number in (4, 7, 11, 32, 37, 49)} | {39: "00"}
    return encode(Mti.ANSWERS[message.mti], fields | {int(name[2:]): value for name, value in changes.items()})


def silent(message: Message) -> bytes:
    """An acquirer that takes orders and says nothing."""
    return network_answer(message) if message.mti == Mti.NETWORK else b""


def hangs_up(message: Message) -> bytes | None:
    """One that closes the connection on the first order."""
    return network_answer(message) if message.mti == Mti.NETWORK else None


def declines(message: Message) -> bytes:
    """One whose issuers have no money."""
    return approval(message) if message.mti == Mti.NETWORK else approval(message, de39="51")


def without_echo(message: Message) -> bytes:
    """One that signs us on and then dies without a word."""
    return approval(message) if message.fields.get(70) != "301" else b""


class Acquirer:
    """Listens, keeps what it was told, answers as told. Counts the connections that it took."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.told: list[Message] = []
        self.connections = 0
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.serving: list[asyncio.Task[None]] = []

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A new connection. No coroutine: it is there before the loop can end."""
        self.writers.append(writer)
        self.serving.append(asyncio.ensure_future(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        frames = FrameReader()
        while data := await reader.read(65_536):
            for body in frames.feed(data):
                message = decode(body)
                self.told.append(message)
                answer = self.answering(message)
                if answer is None:
                    writer.close()
                    return
                writer.write(answer)
        writer.close()

    def say(self, data: bytes) -> None:
        """Send something on the newest connections without having been asked."""
        for writer in self.writers[-2:]:
            writer.write(data)


@asynccontextmanager
async def listening(answering: Answering) -> AsyncIterator[Acquirer]:
    """An acquirer on a free port."""
    acquirer = Acquirer(answering)
    server = await asyncio.start_server(acquirer.take, "127.0.0.1", 0)
    acquirer.port = server.sockets[0].getsockname()[1]
    try:
        yield acquirer
    finally:
        server.close()
        for writer in acquirer.writers:
            writer.close()
        await asyncio.gather(*acquirer.serving, return_exceptions=True)


class Client:
    """A connector and what it has delivered."""

    def __init__(self, port: int, limits: Limits, reveal: Callable[..., Awaitable[list[Card | None]]]) -> None:
        self.delivered: list[tuple[Order, Outcome | NotFound]] = []
        self.late: list[tuple[Order, Outcome | NotFound]] = []
        self.exchanges: list[Exchange] = []
        self.allowed = True
        self.asked = 0
        self.measures = Measures("cardnet")
        self.connector = Cardnet(
            CardnetSettings(host="127.0.0.1", port=port), reveal=reveal, clock=ManualClock(), limits=limits,
            late=lambda order, outcome: self.late.append((order, outcome)), recorder=self.exchanges.append,
            measures=self.measures,
        )  # fmt: skip

    def permit(self, order: Order) -> bool:
        """As allowed."""
        self.asked += 1
        return self.allowed

    def submit(self, *orders: Order) -> None:
        """Hand orders over."""
        self.connector.submit(orders, self.permit, lambda order, outcome: self.delivered.append((order, outcome)))

    async def outcomes(self, *orders: Order) -> list[Outcome | NotFound]:
        """Hand orders over and wait for as many results; in the order of their numbers."""
        before = len(self.delivered)
        self.submit(*orders)
        await until(lambda: len(self.delivered) == before + len(orders))
        return [outcome for _, outcome in sorted(self.delivered[before:], key=lambda result: result[0].reference)]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come true within five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def reveal_all(asked: list[Reveal]) -> list[Card | None]:
    """A vault that has every card."""
    return [CARD] * len(asked)


@asynccontextmanager
async def connected(
    port: int, limits: Limits = QUICK, reveal: Callable[..., Awaitable[list[Card | None]]] = reveal_all
) -> AsyncIterator[Client]:
    """A connector that talks to this port."""
    client = Client(port, limits, reveal)
    await client.connector.start()
    try:
        yield client
    finally:
        await client.connector.close()


async def test_a_malformed_frame_makes_everything_in_flight_unknown() -> None:
    """The connection is closed, whose answers can no longer be told apart; the next order goes over a new one."""
    frames: list[Message] = []

    def answering(message: Message) -> bytes:
        if message.mti == Mti.NETWORK:
            return network_answer(message)
        frames.append(message)
        return b"" if len(frames) < 3 else b"\x00\x20" + b"0210" + b"z" * 28 if len(frames) == 3 else approval(message)

    async with listening(answering) as acquirer, connected(acquirer.port) as client:
        assert await client.outcomes(order(1), order(2), order(3)) == [Unknown("unreadable")] * 3
        assert await client.outcomes(order(4)) == [Approved("000000000004")]


async def test_answers_before_a_malformed_frame_are_taken() -> None:
    """Nothing that came whole is lost."""

    def answering(message: Message) -> bytes:
        return approval(message) + (b"" if message.mti == Mti.NETWORK else b"\xff\xff\xff")

    async with listening(answering) as acquirer, connected(acquirer.port) as client:
        assert await client.outcomes(order(1)) == [Approved("000000000001")]


async def test_a_connection_that_ends_after_the_write_leaves_the_order_unknown() -> None:
    """Reset: the request may have arrived."""
    async with listening(hangs_up) as acquirer, connected(acquirer.port) as client:
        assert await client.outcomes(order(1)) == [Unknown("reset")]
        assert [message.mti for message in acquirer.told if message.mti != Mti.NETWORK] == ["0200"]


async def test_a_name_that_can_be_none_is_one_that_nobody_knows() -> None:
    """It is tried again and again, and told each time."""
    limits = Limits(reconnect=Retry(kind=Kind.FIXED, base_seconds=0.01))
    with capture_logs() as said:
        nowhere = Cardnet(
            CardnetSettings(host="no..name", port=1), reveal=reveal_all, clock=ManualClock(), limits=limits, late=lambda *_: None,
        )  # fmt: skip
        await nowhere.start()
        await until(lambda: len([one for one in said if one["event"] == "psp_connect_failed"]) >= 4)
        await nowhere.close()


async def test_an_acquirer_that_refuses_the_sign_on_gets_no_order() -> None:
    """Not sent, as if nobody listened."""
    async with listening(lambda message: network_answer(message, "05")) as acquirer, connected(acquirer.port) as client:
        assert await client.outcomes(order(1), order(2, first=False)) == [NotSent("connect"), Unknown("connect")]
        assert {message.mti for message in acquirer.told} == {Mti.NETWORK}


async def test_an_acquirer_that_never_answers_the_sign_on_gets_no_order() -> None:
    """A half-open peer is no connection."""
    async with listening(lambda message: b"") as acquirer, connected(acquirer.port) as client:
        assert await client.outcomes(order(1)) == [NotSent("connect")]


async def test_a_connection_without_an_echo_is_replaced() -> None:
    """A peer that has died without a word is noticed while it is quiet."""
    async with listening(without_echo) as acquirer, connected(acquirer.port):
        await until(lambda: acquirer.connections >= 4)


async def test_what_is_in_flight_on_a_connection_without_an_echo_is_unknown() -> None:
    """It is not left to its own timeout: the answer cannot come any more."""
    limits = Limits(echo_every_seconds=0.05, echo_answer_seconds=0.05)
    answering = {Mti.NETWORK: without_echo, Mti.PURCHASE: silent}
    async with listening(lambda message: answering[message.mti](message)) as acquirer, connected(acquirer.port, limits) as client:
        assert await client.outcomes(order(1)) == [Unknown("reset")]


async def test_a_quiet_connection_that_echoes_is_kept() -> None:
    """One connection per lane, however long nothing is sold."""
    async with listening(approval) as acquirer, connected(acquirer.port):
        await until(lambda: sum(message.fields.get(70) == "301" for message in acquirer.told) >= 4)
        assert acquirer.connections == 2


async def test_an_answer_that_nobody_waits_for_is_ignored() -> None:
    """Another reference, another time, another acquirer: none of them is this order's answer."""
    for change in ({"de37": "000000000009"}, {"de7": "0101000001"}, {"de32": "99"}):

        def answering(message: Message, change: dict[str, str] = change) -> bytes:
            return approval(message) if message.mti == Mti.NETWORK else approval(message, **change)

        async with listening(answering) as acquirer, connected(acquirer.port) as client:
            assert await client.outcomes(order(1)) == [Unknown("timeout")]
            assert client.late == []


async def test_the_same_request_twice_at_once_is_sent_once() -> None:
    """The second has no answer of its own: it is unknown, never not sent."""
    async with listening(approval) as acquirer, connected(acquirer.port) as client:
        first = order(1)
        client.submit(first, first)
        await until(lambda: len(client.delivered) == 2)
        assert {type(outcome) for _, outcome in client.delivered} == {Approved, Unknown}
        assert sum(message.mti == Mti.PURCHASE for message in acquirer.told) == 1


async def test_no_byte_leaves_without_permission() -> None:
    """A first request is then not sent, a resend or a reversal unknown: the attempt stays as it was."""
    async with listening(approval) as acquirer, connected(acquirer.port) as client:
        client.allowed = False
        orders = (order(1), order(2, first=False), reversal_of(order(3)))
        assert await client.outcomes(*orders) == [NotSent("fenced"), Unknown("fenced"), Unknown("fenced")]
        assert {message.mti for message in acquirer.told} <= {Mti.NETWORK}


async def test_a_permission_that_cannot_be_told_is_none() -> None:
    """An error in the caller's check fails closed and hurts no neighbour."""
    async with listening(approval) as acquirer, connected(acquirer.port) as client:

        def permit(asked: Order) -> bool:
            return 1 // (asked.amount_minor - 1) > -1

        client.connector.submit(
            [order(1, amount_minor=1), order(2)], permit, lambda order, outcome: client.delivered.append((order, outcome))
        )
        await until(lambda: len(client.delivered) == 2)
        assert {o.reference: type(outcome) for o, outcome in client.delivered} == {
            "000000000001": NotSent, "000000000002": Approved
        }  # fmt: skip


async def test_an_error_in_one_callback_keeps_no_other_order_from_its_answer() -> None:
    """Each order's delivery stands alone."""
    async with listening(approval) as acquirer, connected(acquirer.port) as client:

        def deliver(taken: Order, outcome: Outcome | NotFound) -> None:
            client.delivered.append((taken, outcome))
            raise ValueError("a broken caller")

        client.connector.submit([order(1), order(2)], client.permit, deliver)
        await until(lambda: len(client.delivered) == 2)


async def test_all_orders_of_one_turn_leave_in_one_write_and_the_vault_is_asked_once() -> None:
    """The acquirer commits what comes together in one go."""
    lists: list[int] = []

    async def reveal(asked: list[Reveal]) -> list[Card | None]:
        lists.append(len(asked))
        return [CARD] * len(asked)

    async with listening(approval) as acquirer, connected(acquirer.port, reveal=reveal) as client:
        client.submit(*(order(number) for number in range(20)))
        client.submit(*(order(number) for number in range(20, 50)))
        await until(lambda: len(client.delivered) == 50)
        assert lists == [50]
        assert client.asked == 50


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (None, "no_card"),
        (Card(number=CARD.number, exp_month=12, exp_year=2034), "no_cvc"),
        (Card(number=Pan("42424242x"), exp_month=12, exp_year=2034, cvc=Secret("123")), "unfit"),
    ],
)
async def test_an_order_whose_card_cannot_go_with_it_is_not_sent(card: Card | None, reason: str) -> None:
    """No card in the vault, a CVC that is gone, a number that no message can hold."""

    async def reveal(asked: list[Reveal]) -> list[Card | None]:
        return [card] * len(asked)

    async with listening(approval) as acquirer, connected(acquirer.port, reveal=reveal) as client:
        assert await client.outcomes(order(1), order(2, first=False)) == [NotSent(reason), Unknown(reason)]


async def test_with_the_vault_down_nothing_is_sent() -> None:
    """Refused or hanging, the orders come back; those that need no card go on."""

    async def hangs(asked: list[Reveal]) -> list[Card | None]:
        await asyncio.Event().wait()
        return []

    async def refuses(asked: list[Reveal]) -> list[Card | None]:
        raise ConnectionRefusedError

    limits = Limits(reveal_seconds=0.1, queue_seconds=60)
    for reveal in (hangs, refuses):
        async with listening(approval) as acquirer, connected(acquirer.port, limits, reveal) as client:
            outcomes = await client.outcomes(order(1), order(2, first=False), reversal_of(order(3)))
            assert sorted(map(str, outcomes)) == sorted(map(str, [NotSent("vault"), Unknown("vault"), Approved("I00000000003")]))


async def test_a_full_bulkhead_refuses_payments_and_still_asks_questions() -> None:
    """New payments never crowd out the recovery of old ones."""
    limits = Limits(payments_in_flight_max=2, answer_seconds=0.3, sweep_seconds=0.02)
    async with listening(silent) as acquirer, connected(acquirer.port, limits) as client:
        outcomes = await client.outcomes(order(1), order(2), order(3), order(4, first=False), query_about(order(5)))
        assert outcomes == [
            Unknown("timeout"), Unknown("timeout"), NotSent("bulkhead"), Unknown("bulkhead"), Unknown("timeout")
        ]  # fmt: skip
        assert sum(message.mti == Mti.INQUIRY for message in acquirer.told) == 1


async def test_an_open_breaker_sends_no_payment_and_still_asks_questions() -> None:
    """Timeouts of purchases open the breaker of payments, not that of queries, nor that of reversals."""
    limits = Limits(answer_seconds=0.5, sweep_seconds=0.02, breaker=Breaking(failures_min=3))

    def answering(message: Message) -> bytes:
        return b"" if message.mti == Mti.PURCHASE else approval(message)

    async with listening(answering) as acquirer, connected(acquirer.port, limits) as client:
        assert await client.outcomes(*(order(n) for n in range(3))) == [Unknown("timeout")] * 3
        assert await client.outcomes(order(4), order(5, first=False)) == [NotSent("breaker_open"), Unknown("breaker_open")]
        assert await client.outcomes(reversal_of(order(1))) == [Approved("I00000000001")]


async def test_each_operation_has_a_breaker_of_its_own_and_says_when_it_moves() -> None:
    """Captures that time out stop captures; payments, refunds and queries go on. An answer closes it again."""
    limits = Limits(answer_seconds=0.5, sweep_seconds=0.02, breaker=Breaking(failures_min=2, cool_down_seconds=0.0))
    silent_ones = {Mti.CAPTURE}

    def answering(message: Message) -> bytes:
        return b"" if message.mti in silent_ones else approval(message)

    async with listening(answering) as acquirer, connected(acquirer.port, limits) as client:
        acted_on = original_of(order(9))
        captures = [order(number, Operation.CAPTURE, original=acted_on, payment_method_id=None) for number in range(1, 5)]
        assert await client.outcomes(*captures[:2]) == [Unknown("timeout")] * 2
        assert type((await client.outcomes(order(5)))[0]) is Approved
        assert [(move.operation, move.state) for move in client.measures.moves] == [(Operation.CAPTURE, BreakerState.OPEN)]
        assert client.measures.watches[Operation.CAPTURE].breaker.state is BreakerState.OPEN
        silent_ones.clear()
        assert type((await client.outcomes(captures[2]))[0]) is Approved
        assert client.measures.moves[-1].state is BreakerState.CLOSED


async def test_what_psps_take_is_measured_late_answers_too() -> None:
    """An answer beyond the timeout counts with the time that it took, as soon as it is there; until then as none."""
    limits = Limits(answer_seconds=0.5, sweep_seconds=0.01)
    held: list[Message] = []

    def answering(message: Message) -> bytes:
        if message.mti == Mti.PURCHASE and message.fields[37].endswith("2"):
            held.append(message)
            return b""
        return approval(message)

    async with listening(answering) as acquirer, connected(acquirer.port, limits) as client:
        assert [type(one) for one in await client.outcomes(order(1), order(2))] == [Approved, Unknown]
        waits = {(operation, wait): histogram for operation, wait, histogram in client.measures.histograms()}
        read = waits["purchase", Wait.READ]
        assert (read.answered, read.unanswered) == (1, 1)
        assert waits["", Wait.CONNECT].answered == 2, "one connection for payments, one for recovery"
        for writer in acquirer.writers:
            writer.write(approval(held[0]))
        await until(lambda: read.answered == 2)
        assert read.unanswered == 0
        assert read.share_beyond(0.4) == 0.5
        assert client.measures.watches[Operation.PURCHASE].outcomes == {"approved": 1, "timeout": 1}


async def test_an_order_is_never_under_way_longer_than_the_total_timeout() -> None:
    """Whatever it waited for before it was written."""
    limits = Limits(answer_seconds=5, queue_seconds=5, total_seconds=0.2, sweep_seconds=0.01)
    async with listening(silent) as acquirer, connected(acquirer.port, limits) as client:
        began = asyncio.get_running_loop().time()
        assert await client.outcomes(order(1)) == [Unknown("timeout")]
        assert asyncio.get_running_loop().time() - began < 2


async def test_a_deadline_travels_with_its_order() -> None:
    """Past it no first byte is written; what may have been sent before is not stopped by it."""
    now = ManualClock().now()
    async with listening(approval) as acquirer, connected(acquirer.port) as client:
        orders = (order(1, send_by=now), order(2, send_by=now + 1), order(3, first=False, send_by=now))
        assert [type(one) for one in await client.outcomes(*orders)] == [NotSent, Approved, Approved]
        assert client.delivered[0][1] == NotSent("expired") or NotSent("expired") in [outcome for _, outcome in client.delivered]
        assert sorted(message.fields[37] for message in acquirer.told if message.mti == Mti.PURCHASE) == ["000000000002", "000000000003"]


async def test_declines_open_no_breaker() -> None:
    """They are answers."""
    limits = Limits(breaker=Breaking(failures_min=3))
    async with listening(declines) as acquirer, connected(acquirer.port, limits) as client:
        outcomes = await client.outcomes(*(order(number) for number in range(10)))
        outcomes += await client.outcomes(order(11))
        assert {type(outcome).__name__ for outcome in outcomes} == {"Declined"}


async def test_closing_delivers_what_is_under_way() -> None:
    """Written orders are unknown, all others not sent; afterwards nothing is taken."""
    async with listening(silent) as acquirer, connected(acquirer.port, Limits()) as client:
        client.submit(order(1))
        await until(lambda: any(message.mti == Mti.PURCHASE for message in acquirer.told))
        client.submit(order(2))
        await client.connector.close()
        client.submit(order(3))
        await until(lambda: len(client.delivered) == 3)
        assert [outcome for _, outcome in client.delivered] == [Unknown("reset"), NotSent("closed"), NotSent("closed")]


class Frame:
    """A frame that counts how often it was asked for and whether it has left."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked = 0
        self.sent = 0
        self.wanted = True

    def leave(self) -> bytes | None:
        """As the link asks."""
        self.asked += 1
        return self.data if self.wanted else None

    def left(self) -> None:
        """As the link tells."""
        self.sent += 1


async def test_what_the_peer_does_not_take_stays_ours_and_is_asked_about_again() -> None:
    """Of a frame that was begun the rest follows; a frame of which no byte left can still be held back."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    frames = [Frame(bytes([65 + number]) * 3_000) for number in range(20)]
    queue: deque[Any] = deque(frames)
    writable: list[int] = []
    lost: list[Reason] = []
    connection = Connection(ours, received=lambda _: None, writable=lambda: writable.append(1), lost=lost.append)
    connection.flush(queue)
    begun = [frame for frame in frames if frame.sent]
    assert 0 < len(begun) < 20
    assert list(queue) == frames[len(begun) :]
    for frame in queue:
        frame.wanted = False
    received = b""
    async with asyncio.timeout(5):
        while len(received) < 3_000 * len(begun):
            received += await asyncio.get_running_loop().sock_recv(theirs, 65_536)
    await until(lambda: bool(writable))
    connection.flush(queue)
    assert received == b"".join(frame.data for frame in begun)
    assert [frame.sent for frame in frames] == [1] * len(begun) + [0] * (20 - len(begun))
    assert all(frame.asked == 2 for frame in frames[len(begun) :])
    connection.close()
    theirs.close()


async def test_a_write_to_a_dead_connection_gives_everything_back() -> None:
    """No byte was taken, so the frames go to the next connection, in order."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    lost: list[Reason] = []
    connection = Connection(ours, received=lambda _: None, writable=lambda: None, lost=lost.append)
    frames = [Frame(b"a"), Frame(b"b")]
    queue: deque[Any] = deque(frames)
    connection.flush(queue)
    assert list(queue) == frames
    assert lost == [Reason.RESET]
    assert not any(frame.sent for frame in frames)
