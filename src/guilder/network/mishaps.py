"""What each fault does to the request that it hits: one function each, in the order of `FaultKind`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

from guilder.iso8583 import Code, Message, Mti, encode
from guilder.network.answers import bare_answer
from guilder.network.connection import Connection
from guilder.network.faults import FaultKind, Rule
from guilder.network.world import Answer, World

# Pause between two bytes of a slow answer when the rule names none: a frame then takes some seconds.
DRIP_SECONDS: Final = 0.02
_AMOUNTS: Final = 10**12


class Network(Protocol):
    """What a mishap needs of the acquirer."""

    world: World

    def answer(self, connection: Connection, answer: Answer) -> None:
        """Send an answer with this batch."""

    def give(self, connection: Connection, frame: bytes) -> None:
        """Send bytes with this batch that need not be an answer."""

    def then(self, action: Callable[[], object]) -> None:
        """Do this once everything until now is durable and answered."""

    def later(self, delay_ms: int, action: Callable[..., object], *arguments: object) -> None:
        """The same, so many milliseconds later."""

    def arrive(self, connection: Connection, message: Message) -> None:
        """Carry a request out as if it came only now."""

    def in_line(self, delay_ms: int, connection: Connection, message: Message) -> None:
        """Carry a request out behind all others in line, each of which takes so many milliseconds."""

    def park(self, connection: Connection, message: Message, delay_ms: int) -> None:
        """Hold a request back until an inquiry or a reversal has missed it."""

    def plan_flush(self) -> None:
        """Make what was done durable."""


def suffer(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    """Let this request have its fault. Effects become durable as always; only what the peer sees is wrong."""
    _MISHAPS[rule.kind](rule, network, connection, message)


def _late_answer(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    network.later(rule.delay_ms, connection.send, encode(*network.world.carry_out(message)))


def _lost_answer(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    network.world.carry_out(message)
    network.plan_flush()


def _lost_request(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    """Nothing happens, and nobody says so."""


def _late_request(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    network.later(rule.delay_ms, network.arrive, connection, message)


def _throttled(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    network.in_line(rule.delay_ms, connection, message)


def _after_not_found(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    network.park(connection, message, rule.delay_ms)


def _not_found(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    network.answer(connection, (Mti.ANSWERS[message.mti], bare_answer(message.fields, Code.NOT_FOUND)))


def _duplicate_request(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    network.arrive(connection, message)
    network.arrive(connection, message)


def _duplicate_answer(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    answer = network.world.carry_out(message)
    network.answer(connection, answer)
    network.later(rule.delay_ms, connection.send, encode(*answer))


def _malformed(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    frame = encode(*network.world.carry_out(message))
    # The bitmap becomes unreadable; the frame keeps its length, so the peer really has to look inside.
    network.give(connection, frame[:6] + b"?" * 16 + frame[22:])


def _slow(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    frame = encode(*network.world.carry_out(message))
    pause_seconds = rule.delay_ms / 1000 if rule.delay_ms else DRIP_SECONDS
    network.then(partial(connection.send_slowly, frame, pause_seconds))


def _wrong_amount(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    mti, fields = network.world.carry_out(message)
    network.answer(connection, (mti, {**fields, 4: f"{(int(fields.get(4, 0)) + 1) % _AMOUNTS:012d}"}))


def _wrong_currency(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    mti, fields = network.world.carry_out(message)
    network.answer(connection, (mti, {**fields, 49: "756" if fields.get(49) != "756" else "978"}))


def _wrong_reference(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    mti, fields = network.world.carry_out(message)
    reference = fields.get(37, "000000000000")
    network.answer(connection, (mti, {**fields, 37: ("1" if reference[0] == "0" else "0") + reference[1:]}))


def _error(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    if rule.effect:
        network.world.carry_out(message)
    network.answer(connection, (Mti.ANSWERS[message.mti], bare_answer(message.fields, rule.code)))


def _close(rule: Rule, network: Network, connection: Connection, message: Message) -> None:
    if rule.effect is not False:
        network.world.carry_out(message)
    network.then(connection.cut)


_MISHAPS: Final[Mapping[FaultKind, Callable[[Rule, Network, Connection, Message], None]]] = {
    FaultKind.LATE_ANSWER: _late_answer,
    FaultKind.LOST_ANSWER: _lost_answer,
    FaultKind.LOST_REQUEST: _lost_request,
    FaultKind.LATE_REQUEST: _late_request,
    FaultKind.THROTTLED: _throttled,
    FaultKind.AFTER_NOT_FOUND: _after_not_found,
    FaultKind.NOT_FOUND: _not_found,
    FaultKind.DUPLICATE_REQUEST: _duplicate_request,
    FaultKind.DUPLICATE_ANSWER: _duplicate_answer,
    FaultKind.MALFORMED: _malformed,
    FaultKind.SLOW: _slow,
    FaultKind.WRONG_AMOUNT: _wrong_amount,
    FaultKind.WRONG_CURRENCY: _wrong_currency,
    FaultKind.WRONG_REFERENCE: _wrong_reference,
    FaultKind.ERROR: _error,
    FaultKind.CLOSE: _close,
}
