"""Identifiers: a prefix and 24 base62 characters, ordered by time.

The first 9 characters hold the milliseconds since 1970 (good until the year 2393 and beyond), the next 15 hold 89
random bits. Text order is time order under COLLATE "C", which keeps B-tree inserts at the right edge and makes
(created, id) a stable order for pages.
"""

import secrets
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
TIME_CHARACTERS: Final = 9
RANDOM_CHARACTERS: Final = 15
RANDOM_BITS: Final = 89
# Characters are taken three at a time: a table of 62**3 entries halves the cost of an id on the hot path.
_TRIPLES: Final = tuple(a + b + c for a in ALPHABET for b in ALPHABET for c in ALPHABET)


def base62(number: int, width: int) -> str:
    """A number as exactly so many base62 characters; width must be a multiple of 3 and the number must fit."""
    triples = []
    for _ in range(width // 3):
        number, rest = divmod(number, 238328)
        triples.append(_TRIPLES[rest])
    return "".join(reversed(triples))


class Ids:
    """Makes ids from the clock and the source of randomness that it was given."""

    def __init__(self, clock: Clock, random_bits: Callable[[int], int] = secrets.randbits) -> None:
        self._clock = clock
        self._random_bits = random_bits

    def new(self, prefix: str) -> str:
        """A fresh id such as `pi_0VfK2c9QbTn...`."""
        milliseconds = self._clock.now() // 1000
        return f"{prefix}_{base62(milliseconds, TIME_CHARACTERS)}{base62(self._random_bits(RANDOM_BITS), RANDOM_CHARACTERS)}"

    def secret(self, prefix: str, bits: int = 160) -> str:
        """A value that nobody can guess, for keys and client secrets: prefix and base62 of so many random bits."""
        width = -(-bits * 100 // 595)
        return f"{prefix}{base62(self._random_bits(bits), width + -width % 3)}"

    def bits(self, count: int) -> int:
        """So many random bits, for references that are drawn once and stored."""
        return self._random_bits(count)
