"""What the verbs of payments work with; built once per process by bootstrap."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from guilder.core.clock import Clock
from guilder.core.errors import Refusal
from guilder.core.ids import Ids
from guilder.db.pool import Database
from guilder.log import Backlog
from guilder.merchants.model import Terms
from guilder.payments.answers import Load
from guilder.payments.in_vain import InVain
from guilder.payments.store import Store
from guilder.payments.waiting import Waiting
from guilder.psp.router import Route, Rule
from guilder.risk import RiskService, SignalSource
from guilder.shapes.facts import PaymentIntentFacts, PaymentMethodFacts
from guilder.tuning import Fallback, RiskTuning

NO_FALLBACK: Final = Fallback()


class TermsOf(Protocol):
    """Gives a merchant's terms in a mode; cached by whoever provides it."""

    def __call__(self, account: str, livemode: bool) -> Awaitable[Terms]: ...  # noqa: FBT001


class ExternalRisk(Struct, frozen=True):
    """The external risk service, and what holds when it does not answer."""

    service: RiskService
    tuning: RiskTuning


FindMethod = Callable[[str, bool, str], Awaitable[PaymentMethodFacts]]


class Services:
    """The dependencies of the verbs.

    Args:
        load: loads what `expand` asks for, for one account and mode: `load(account, livemode)` gives the loader.
        risk: the external risk service, None where none is configured.
        fallback: how long payments may wait for a PSP.
        checkout_url: the origin at which buyers are served, for the way to the issuer's challenge and back.
        backlog: says when the log takes no more.
        rules: how the routes are chosen from, in their order.
        payment_method: finds a stored payment method by account, mode and id; raises Refusal when there is none.
    """

    def __init__(
        self, *, db: Database, store: Store, waiting: Waiting, clock: Clock, ids: Ids, terms: TermsOf, routes: Sequence[Route],
        signals: SignalSource, load: Callable[[str, bool], Load], payment_method: FindMethod, checkout_url: str,
        backlog: Backlog, rules: Sequence[Rule] = (), fallback: Fallback = NO_FALLBACK, risk: ExternalRisk | None = None,
    ) -> None:  # fmt: skip
        self.db = db
        self.in_vain = InVain(db)
        self.store = store
        self.waiting = waiting
        self.clock = clock
        self.ids = ids
        self.terms = terms
        self.routes = routes
        self.rules = rules
        self.signals = signals
        self.load = load
        self.payment_method = payment_method
        self.checkout_url = checkout_url
        self.backlog = backlog
        self.fallback = fallback
        self.risk = risk


def wrong_state(facts: PaymentIntentFacts, verb: str, allowed: Sequence[str]) -> Refusal:
    """The refusal of a command that the payment's state does not allow."""
    names = ", ".join(allowed[:-1]) + f" or {allowed[-1]}" if len(allowed) > 1 else "".join(allowed)
    return Refusal(
        f"You cannot {verb} this PaymentIntent because it has a status of {facts.status}. "
        f"Only a PaymentIntent with one of the following statuses may be {_PARTICIPLES[verb]}: {names}.",
        code="payment_intent_unexpected_state",
    )


def of_session(facts: PaymentIntentFacts, verb: str) -> Refusal:
    """The refusal of what only a payment's Checkout Session may do with it."""
    return Refusal(
        f"You cannot {verb} this PaymentIntent because it was created by the Checkout Session {facts.checkout_session}. "
        "The buyer confirms it on the session's page; to give it up, expire the session.",
        code="payment_intent_unexpected_state",
    )


_PARTICIPLES = {
    "confirm": "confirmed", "capture": "captured", "cancel": "canceled", "update": "updated", "process": "processed by a reader",
}  # fmt: skip


def lock_timeout() -> Refusal:
    """The refusal while another operation of the payment is open; not stored with the key."""
    return Refusal(
        "This object cannot be accessed right now because another API request or an operation at the payment provider is "
        "currently working on it. Repeat the request in a moment.", status=409, code="lock_timeout", should_retry=True,
    )
