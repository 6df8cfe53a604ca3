"""Identifiers: a prefix and 24 base62 characters, ordered by time.

The first 9 characters hold the microseconds since 1970 (until the year 2398), each id of a process a later one than the
one before; the next 15 hold 80 random bits. Text order is the order of making under COLLATE "C", which keeps B-tree
inserts at the right edge and lists objects of one second in the order in which they came.
"""

import os
from collections.abc import Callable
from typing import Final, NewType

from guilder.core.clock import Clock

AccountId = NewType("AccountId", str)
"""A merchant: `acct_...`."""
PaymentId = NewType("PaymentId", str)
AttemptId = NewType("AttemptId", str)
PaymentMethodId = NewType("PaymentMethodId", str)
ChargeId = NewType("ChargeId", str)
RefundId = NewType("RefundId", str)

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Characters are made three at a time: a table of 62**3 entries is a third of the divisions.
TRIPLES: Final = 62**3
_TRIPLES: Final = tuple(a + b + c for a in ALPHABET for b in ALPHABET for c in ALPHABET)
TAIL_BITS: Final = 80
# Randomness is drawn for so many ids at once: a system call costs as much as the rest of an id.
DRAWN_BYTES: Final = 12 * 256


def base62(number: int, width: int) -> str:
    """A number as exactly so many base62 characters; width must be a multiple of 3 and the number must fit."""
    triples = []
    for _ in range(width // 3):
        number, rest = divmod(number, TRIPLES)
        triples.append(_TRIPLES[rest])
    return "".join(reversed(triples))


class Ids:
    """Makes ids from the clock and the source of randomness that it was given. One per process, made after the fork."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._drawn = b""
        self._at = 0
        self._last = 0

    def new(self, prefix: str) -> str:
        """A fresh id such as `pi_0VfK2c9QbTn...`."""
        self._last = instant = max(self._clock.now(), self._last + 1)
        instant, c = divmod(instant, TRIPLES)
        a, b = divmod(instant, TRIPLES)
        return f"{prefix}_{_TRIPLES[a]}{_TRIPLES[b]}{_TRIPLES[c]}{self._tail()}"

    def secret(self, prefix: str, bits: int = 160) -> str:
        """A value that nobody can guess, for keys and client secrets: prefix and at least so many random bits in base62."""
        return prefix + "".join([self._tail() for _ in range(-(-bits // TAIL_BITS))])

    def _tail(self) -> str:
        """15 characters with 80 random bits."""
        at = self._at
        if at >= len(self._drawn):
            self._drawn, at = self._random_bytes(DRAWN_BYTES), 0
        self._at = at + 12
        # Two small integers, whose divisions are cheap: 45 bits fill three triples, 48 the other two.
        left = int.from_bytes(self._drawn[at : at + 6], "little") >> 3
        right = int.from_bytes(self._drawn[at + 6 : at + 12], "little")
        left, a = divmod(left, TRIPLES)
        left, b = divmod(left, TRIPLES)
        right, c = divmod(right, TRIPLES)
        return f"{_TRIPLES[left]}{_TRIPLES[b]}{_TRIPLES[a]}{_TRIPLES[right % TRIPLES]}{_TRIPLES[c]}"

    def bits(self, count: int) -> int:
        """So many random bits, for secrets and for references that are drawn once and stored."""
        return int.from_bytes(self._random_bytes(-(-count // 8)), "little") >> (-count % 8)
