"""Identifiers: a prefix and 24 base62 characters, ordered by time.

The first 9 characters hold the microseconds since 1970 (until the year 2398), each id of a process a later one than the
one before; the next 15 are random, 88 bits of it. Text order is the order of making under COLLATE "C", which keeps B-tree
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
RANDOM_CHARACTERS: Final = 15
TAIL_BITS: Final = 80
# Random characters are made so many at once: a system call costs more than an id.
DRAWN_CHARACTERS: Final = RANDOM_CHARACTERS * 256
# An id's time changes its first characters four times a second.
SLOW: Final = 62**3


def lettering(alphabet: str) -> bytes:
    """The table by which random bytes become characters of an alphabet: one byte each, a few letters a little more often."""
    return bytes(ord(alphabet[value % len(alphabet)]) for value in range(256))


BASE62: Final = lettering(ALPHABET)


def base62(number: int, width: int) -> str:
    """A number as exactly so many base62 characters; it must fit."""
    characters = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        characters.append(ALPHABET[rest])
    return "".join(reversed(characters))


class Ids:
    """Makes ids from the clock and the source of randomness that it was given. One per process, made after the fork."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._drawn = ""
        self._at = 0
        self._last = 0
        self._slow = -1
        self._slow_text = ""

    def new(self, prefix: str) -> str:
        """A fresh id such as `pi_8DonZoP6g03vPSgyfrOIs5pf`."""
        self._last = instant = max(self._clock.now(), self._last + 1)
        slow, rest = divmod(instant, SLOW)
        if slow != self._slow:
            self._slow, self._slow_text = slow, base62(slow, 6)
        rest, c = divmod(rest, 62)
        a, b = divmod(rest, 62)
        return f"{prefix}_{self._slow_text}{ALPHABET[a]}{ALPHABET[b]}{ALPHABET[c]}{self._tail()}"

    def secret(self, prefix: str, bits: int = 160) -> str:
        """A value that nobody can guess, for keys and client secrets: prefix and at least so many random bits in base62."""
        return prefix + "".join([self._tail() for _ in range(-(-bits // TAIL_BITS))])

    def text(self, count: int, letters: bytes) -> str:
        """So many random characters by a table of `lettering`, for references that are drawn once and stored."""
        return self._random_bytes(count).translate(letters).decode("ascii")

    def bits(self, count: int) -> int:
        """So many random bits."""
        return int.from_bytes(self._random_bytes(-(-count // 8)), "little") >> (-count % 8)

    def uniform(self) -> float:
        """A draw from [0, 1)."""
        return self.bits(32) * 2.0**-32

    def _tail(self) -> str:
        """15 random characters."""
        at = self._at
        if at >= len(self._drawn):
            self._drawn, at = self.text(DRAWN_CHARACTERS, BASE62), 0
        self._at = at + RANDOM_CHARACTERS
        return self._drawn[at : at + RANDOM_CHARACTERS]
