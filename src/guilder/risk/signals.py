"""Gathers what the rules decide on.

Looking changes nothing; a declined try is counted only when `count` is told of it, by the first request, so that a repeated
one never counts twice.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from guilder.core.clock import SECOND, Clock
from guilder.risk.rules import Limit, Rules, Signals
from guilder.risk.tries import Tries
from guilder.shapes.facts import PaymentMethodFacts

# A person who mistypes or whose bank says no tries a handful of times; who tests a card, or stolen cards, tries more.
# Only declined tries count: a card that is approved again and again is no card under test.
LIVE_RULES: Final = Rules(limits=(Limit(60, 10), Limit(3_600, 30)))
# The sandbox's cards are shared by every test there is, so the limit is wide there.
TEST_RULES: Final = Rules(limits=(Limit(60, 60),), sandbox_cards=True)
# Cards that are remembered: about 300 bytes each and less than 50 MB in all. The one that was tried longest ago goes.
CARDS_MAX: Final = 100_000


class SignalSource:
    """One per process: the counters are in its memory. With n API processes a card gets up to n times its limit."""

    def __init__(
        self, clock: Clock, *, live: Rules = LIVE_RULES, test: Rules = TEST_RULES, cards_max: int = CARDS_MAX,
    ) -> None:
        self._clock = clock
        self._rules: Mapping[bool, Rules] = {True: live, False: test}
        # By card fingerprint, which is another one for each merchant and mode.
        self._tries = Tries(cards_max)

    def gather(self, amount_minor: int, currency: str, method: PaymentMethodFacts) -> Signals:
        """What is known of a payment that is about to be tried with this PaymentMethod."""
        rules = self._rules[method.livemode]
        return Signals(
            livemode=method.livemode,
            amount_minor=amount_minor,
            currency=currency,
            iin=method.card.iin or "",
            last4=method.card.last4,
            tries=tuple(self._count_within(method.card.fingerprint, limit) for limit in rules.limits),
            rules=rules,
        )

    def count(self, method: PaymentMethodFacts) -> None:
        """A payment with this PaymentMethod was declined."""
        limits = self._rules[method.livemode].limits
        if not limits:
            return
        fingerprint = method.card.fingerprint
        if not fingerprint:
            # No card of ours: the buyer enters it elsewhere.
            return
        # More than the largest limit need not be remembered.
        self._tries.add(fingerprint, self._clock.now(), kept=max(limit.tries_max for limit in limits))

    def _count_within(self, fingerprint: str, limit: Limit) -> int:
        tries = self._tries.of(fingerprint)
        since = self._clock.now() - limit.seconds * SECOND
        return sum(1 for instant in islice(reversed(tries), limit.tries_max) if instant > since)
