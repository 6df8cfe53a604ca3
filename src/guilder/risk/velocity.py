"""Velocity on the payment page: how many declined tries one address, or one session, may have. The card's are in signals.py.

A buyer is declined a few times; who tests stolen cards is declined hundreds of times. Only declined tries count, and, for
the widest window, those that are under way: else whoever sends all of them at once would meet no limit.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from guilder.core.clock import SECOND, Clock
from guilder.risk.rules import Limit
from guilder.risk.tries import Tries

# An office or a mobile network may have many buyers behind one address; few of them are declined within one minute.
LIVE_ADDRESS: Final = (Limit(60, 20), Limit(3_600, 100))
# The sandbox's tests all come from one address.
TEST_ADDRESS: Final = (Limit(60, 300),)
# Whoever has not found a card that works after so many has another trouble; they may come back after a while.
SESSION: Final = (Limit(600, 8),)
# Addresses and sessions that are remembered: about 300 bytes each and less than 30 MB in all. The oldest goes.
KEYS_MAX: Final = 100_000
# What a line is given at the least: whoever has one address of it has them all.
IPV6_NETWORK_BITS: Final = 64
# How soon to look again who is kept out by tries that are under way; most end within a second.
UNDER_WAY_SECONDS: Final = 2


class Velocity:
    """One per process: the counters are in its memory."""

    def __init__(self, clock: Clock, *, keys_max: int = KEYS_MAX) -> None:
        self._clock = clock
        self._declines = Tries(keys_max)
        self._under_way: Counter[str] = Counter()

    def wait_seconds(self, address: str, session: str, *, livemode: bool) -> int:
        """How long this buyer has to wait before the next try; 0 for not at all. Looking changes nothing."""
        waits = [0]
        for key, limits in _keys(address, session, livemode=livemode).items():
            waits += [self._wait(key, limit, self._under_way[key] if limit is limits[-1] else 0) for limit in limits]
        return max(waits)

    @contextmanager
    def trying(self, address: str, session: str, *, livemode: bool) -> Iterator[None]:
        """A try of this buyer is under way inside the block."""
        keys: Sequence[str] = list(_keys(address, session, livemode=livemode))
        self._under_way.update(keys)
        try:
            yield
        finally:
            self._under_way.subtract(keys)
            for key in keys:
                if not self._under_way[key]:
                    del self._under_way[key]

    def count(self, address: str, session: str, *, livemode: bool) -> None:
        """A try of this buyer was declined."""
        for key, limits in _keys(address, session, livemode=livemode).items():
            # More than the largest limit need not be remembered.
            self._declines.add(key, self._clock.now(), kept=max(limit.tries_max for limit in limits))

    def _wait(self, key: str, limit: Limit, under_way: int) -> int:
        left_of_limit = limit.tries_max - under_way
        if left_of_limit <= 0:
            return UNDER_WAY_SECONDS
        declines = self._declines.of(key)
        if len(declines) < left_of_limit:
            return 0
        left = declines[-left_of_limit] + limit.seconds * SECOND - self._clock.now()
        return max(0, -(-left // SECOND))


def _keys(address: str, session: str, *, livemode: bool) -> Mapping[str, tuple[Limit, ...]]:
    mode, limits = ("live", LIVE_ADDRESS) if livemode else ("test", TEST_ADDRESS)
    return {f"{mode} address {_line(address)}": limits, f"session {session}": SESSION}


def _line(address: str) -> str:
    """What stands for everybody on the same line: an IPv4 address, an IPv6 network."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if not isinstance(known, IPv6Address):
        return address
    return str(known.ipv4_mapped or ip_network((known, IPV6_NETWORK_BITS), strict=False))
