"""Hand: what an executor has claimed and not finished yet, and of what of it a byte may have left."""

from guilder.payments.claim import Claimed

Key = tuple[str, str]
"""What a call is about: the attempt's id and its slot."""


class Hand:
    """The claims of one process. Used from one event loop."""

    def __init__(self) -> None:
        self._claims: dict[Key, Claimed] = {}
        self._left: set[Key] = set()

    def __len__(self) -> int:
        return len(self._claims)

    def take(self, one: Claimed) -> None:
        """Hold a claim until it is `done`."""
        self._claims[_key(one)] = one

    def get(self, key: Key) -> Claimed | None:
        """The claim that a call belongs to; None when it is not held (any more)."""
        return self._claims.get(key)

    def may_leave(self, key: Key) -> None:
        """From here on a byte of it may have left."""
        self._left.add(key)

    def done(self, one: Claimed) -> None:
        """Its call has ended. The row may have been claimed anew meanwhile: then that claim's call goes on."""
        key = _key(one)
        if self._claims.get(key) is one:
            del self._claims[key]
            self._left.discard(key)

    def forget(self) -> None:
        """Nothing is held any more."""
        self._claims.clear()
        self._left.clear()

    def attempts(self) -> list[str]:
        """The attempts that are held."""
        return [attempt for attempt, _ in self._claims]

    def lay_down(self) -> list[str]:
        """Hold nothing any more of which certainly no byte has left under its claim; returns those attempts."""
        unsent = [key for key in self._claims if key not in self._left]
        for key in unsent:
            del self._claims[key]
        return [attempt for attempt, _ in unsent]


def _key(one: Claimed) -> Key:
    return one.attempt.id, one.open.slot
