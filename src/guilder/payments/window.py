"""Window: how many new orders a connector may have in hand, by how fast it answers. Pure.

What a PSP cannot take now is not claimed: it stays in the log and in its row, where it costs nothing, and no order waits at
the PSP until its time is over. A PSP that answers 30 a second gets what it answers in two seconds, and a fast one as much
as it can use.
"""

from collections.abc import Iterable
from typing import Final

# So much is handed over whatever was answered before: at 30 answers a second it takes four seconds, half the time that
# a connector waits for an answer, and at 10 ms an answer it is 12,800 a second.
LEAST: Final = 128
MOST: Final = 4_000
# How long an order may wait at the PSP for those before it.
WAIT_SECONDS: Final = 2.0
# Over which time answers are counted: some of them at 30 a second, and soon enough when that changes.
COUNTED_SECONDS: Final = 0.5


class Window:
    """One connector's."""

    def __init__(self, now: float) -> None:
        self._in_hand: set[tuple[str, str]] = set()
        self._answers = 0
        self._since = now
        self._limit = LEAST

    def sent(self, order: tuple[str, str]) -> None:
        """A new order is handed over."""
        self._in_hand.add(order)

    def ended(self, order: tuple[str, str], *, answered: bool) -> None:
        """It has come back, with the PSP's answer or without; others than those that were handed over do not count."""
        if order in self._in_hand:
            self._in_hand.discard(order)
            self._answers += answered

    def forget(self) -> None:
        """Nothing is in hand any more."""
        self._in_hand.clear()

    def room(self, now: float) -> int:
        """How many more may be handed over."""
        counted = now - self._since
        if counted >= COUNTED_SECONDS:
            self._limit = min(max(LEAST, int(self._answers * WAIT_SECONDS // counted)), MOST)
            self._answers, self._since = 0, now
        return max(0, self._limit - len(self._in_hand))


class Windows:
    """All connectors' windows, in one process."""

    def __init__(self, connectors: Iterable[str] = (), *, now: float = 0.0) -> None:
        self._of = {name: Window(now) for name in connectors}

    def room(self, now: float) -> int:
        """The most that one of them takes: a slow one does not stop the others. What turns out to be for it is put off (`room_of`)."""
        return max((window.room(now) for window in self._of.values()), default=0)

    def room_of(self, connector: str, now: float) -> int:
        """As Window.room."""
        return self._of[connector].room(now)

    def sent(self, connector: str, order: tuple[str, str]) -> None:
        """As Window.sent."""
        self._of[connector].sent(order)

    def ended(self, order: tuple[str, str], *, answered: bool) -> None:
        """As Window.ended."""
        for window in self._of.values():
            window.ended(order, answered=answered)

    def forget(self) -> None:
        """As Window.forget."""
        for window in self._of.values():
            window.forget()
