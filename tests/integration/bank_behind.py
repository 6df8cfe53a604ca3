"""The real rules of the bank world behind the scripted PSP: real messages, no network, and a truth that can be examined."""

from collections.abc import Iterator
from pathlib import Path

from guilder.core.clock import Clock
from guilder.core.outcome import NotFound, Outcome, Unknown
from guilder.iso8583 import Message
from guilder.network.truth import pieces
from guilder.network.truth_file import TruthFile
from guilder.network.world import World
from guilder.psp.connectors.cardnet.answers import outcome_of
from guilder.psp.connectors.cardnet.requests import Stamp, request_of
from guilder.psp.connectors.cardnet.settings import CardnetSettings
from guilder.psp.model import Operation, Order
from guilder.security import Pan
from guilder.vault import Card

CARD = Card(number=Pan("4242424242424242"), exp_month=12, exp_year=2040)


class BankBehind:
    """What is named in `late` does not arrive until `deliver`; what is in `lost` arrives, and its answer does not come back."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._truth = TruthFile.open(folder)
        self._world = World(self._truth, clock)
        self._world.recover(lambda size: b"k" * size)
        self._settings = CardnetSettings(host="", port=0)
        self.late: set[Operation] = set()
        self.lost: set[Operation] = set()
        self.on_the_wire: dict[str, Order] = {}

    def answer(self, order: Order) -> Outcome | NotFound:
        """As ScriptedPsp.answer."""
        if order.operation in self.late:
            self.on_the_wire[order.reference] = order
            return Unknown("timeout")
        outcome = self.carry_out(order)
        return Unknown("timeout") if order.operation in self.lost else outcome

    def carry_out(self, order: Order) -> Outcome | NotFound:
        """Do it, and say what the connector would deliver."""
        self._world.keep_house()
        message = request_of(order, Stamp(order.transmitted_at, order.stan), CARD, self._settings)
        return outcome_of(order, Message(*self._world.carry_out(message)))

    def deliver(self) -> Outcome | NotFound:
        """The one request that was late arrives; returns the answer, which nobody is waiting for."""
        self.late.clear()
        [order] = self.on_the_wire.values()
        self.on_the_wire.clear()
        return self.carry_out(order)

    def witness(self) -> Iterator[bytes]:
        """Every effect so far, as the control port tells it."""
        assert self._truth.sync()
        for piece in pieces(self._truth.path, self._truth.size):
            yield from piece.splitlines()

    def close(self) -> None:
        """Let go of the file."""
        self._truth.close()
