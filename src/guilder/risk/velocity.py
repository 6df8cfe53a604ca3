"""Velocity on the payment page: how many declined tries one address, or one session, may have. The card's are in signals.py.

A buyer is declined a few times; who tests stolen cards is declined hundreds of times. Only declined tries count.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

from guilder.core.clock import SECOND, Clock
from guilder.risk.rules import Limit

# An office or a mobile network may have many buyers behind one address; few of them are declined within one minute.
LIVE_ADDRESS: Final = (Limit(60, 20), Limit(3_600, 100))
# The sandbox's tests all come from one address.
TEST_ADDRESS: Final = (Limit(60, 300),)
# Whoever has not found a card that works after so many has another trouble; they may come back after a while.
SESSION: Final = (Limit(600, 8),)
# Addresses and sessions that are remembered: about 300 bytes each and less than 30 MB in all. The oldest goes.
KEYS_MAX: Final = 100_000


class Velocity:
    """One per process: the counters are in its memory."""

    def __init__(self, clock: Clock, *, keys_max: int = KEYS_MAX) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._declines: dict[str, deque[int]] = {}

    def wait_seconds(self, address: str, session: str, *, livemode: bool) -> int:
        """How long this buyer has to wait before the next try; 0 for not at all. Looking changes nothing."""
        waits = [0]
        for key, limits in _keys(address, session, livemode=livemode).items():
            waits += [self._wait(key, limit) for limit in limits]
        return max(waits)

    def count(self, address: str, session: str, *, livemode: bool) -> None:
        """A try of this buyer was declined."""
        for key, limits in _keys(address, session, livemode=livemode).items():
            declines = self._declines.pop(key, None)
            if declines is None:
                # More than the largest limit need not be remembered.
                declines = deque(maxlen=max(limit.tries_max for limit in limits))
            declines.append(self._clock.now())
            self._declines[key] = declines
        while len(self._declines) > self._keys_max:
            del self._declines[next(iter(self._declines))]

    def _wait(self, key: str, limit: Limit) -> int:
        declines = self._declines.get(key)
        if declines is None or len(declines) < limit.tries_max:
            return 0
        left = declines[-limit.tries_max] + limit.seconds * SECOND - self._clock.now()
        return max(0, -(-left // SECOND))


def _keys(address: str, session: str, *, livemode: bool) -> Mapping[str, tuple[Limit, ...]]:
    return {f"address {address}": LIVE_ADDRESS if livemode else TEST_ADDRESS, f"session {session}": SESSION}
