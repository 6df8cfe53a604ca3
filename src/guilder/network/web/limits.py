"""How much is answered before 429, and which idempotency keys are known. Both in memory, both bounded."""

from typing import Final

from msgspec import Struct

from guilder.core.clock import DAY
from guilder.network.books import Books
from guilder.network.entries import Kind
from guilder.network.hosted import HostedPages

# How long a key is recognised, in business time.
WINDOW: Final = DAY


class Bucket:
    """A token bucket over real time."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._level = float(burst)
        self._at = 0.0

    def take(self, now: float) -> float | None:
        """One request at this instant (seconds of any clock that never goes back); None, or after how many seconds to come again."""
        self._level = min(self._burst, self._level + (now - self._at) * self._per_second)
        self._at = now
        if self._level < 1:
            return (1 - self._level) / self._per_second
        self._level -= 1
        return None


class Keyed(Struct, frozen=True):
    """What a key was first sent with. Voids and reversals have their original's money, whatever was sent."""

    kind: str
    reference: str
    amount: int
    currency: str

    @classmethod
    def of(cls, kind: str, reference: str, amount: int, currency: str) -> "Keyed":
        """What is compared of a request."""
        return cls(kind, reference, 0, "") if kind in (Kind.VOID, Kind.REVERSAL) else cls(kind, reference, amount, currency)


class Keys:
    """Idempotency keys of the last day, with what they were first sent with."""

    def __init__(self, acquirer: str) -> None:
        self._acquirer = acquirer
        self._known: dict[str, tuple[Keyed, int]] = {}

    def recover(self, books: Books, pages: HostedPages) -> None:
        """The keys of what the truth file holds."""
        for reference, operation in books.recent(self._acquirer):
            keyed = Keyed.of(operation.kind, reference, operation.amount, operation.currency)
            # The first of a key is its sender's: what was done once more has a reference of our own.
            self._known.setdefault(operation.transmitted, (keyed, operation.at))
        for page in pages.all():
            opened = page.opened
            kind = "purchase" if opened.capture else "authorization"
            self._known[opened.key] = Keyed.of(kind, opened.reference, opened.amount, opened.currency), opened.at

    def differs(self, key: str, keyed: Keyed, now: int) -> bool:
        """Whether this key was sent with something else within the window; remembers it otherwise."""
        known = self._known.get(key)
        if known is not None and now - known[1] < WINDOW:
            return known[0] != keyed
        self._forget(now)
        self._known[key] = keyed, now
        return False

    def _forget(self, now: int) -> None:
        """Drop what stands in front and is old: a dict keeps the order of arrival."""
        while self._known:
            key = next(iter(self._known))
            if now - self._known[key][1] < WINDOW:
                return
            del self._known[key]


def seconds_up(seconds: float) -> int:
    """Whole seconds, at least one, as Retry-After has them."""
    return max(1, -int(-seconds // 1))
