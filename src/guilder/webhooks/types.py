"""Which types of events there are: what may be subscribed to, and what may be filtered by. Pure."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final

from guilder.core.errors import Refusal
from guilder.psp import BREAKER_CLOSED, BREAKER_OPENED

WILDCARD: Final = "*"

STRIPE_EVENTS: Final = frozenset({
    "balance.available",
    "charge.captured", "charge.dispute.closed", "charge.dispute.created", "charge.dispute.funds_reinstated",
    "charge.dispute.funds_withdrawn", "charge.dispute.updated", "charge.expired", "charge.failed", "charge.pending",
    "charge.refund.updated", "charge.refunded", "charge.succeeded", "charge.updated",
    "checkout.session.async_payment_failed", "checkout.session.async_payment_succeeded", "checkout.session.completed",
    "checkout.session.expired",
    "customer.created", "customer.deleted", "customer.updated",
    "payment_intent.amount_capturable_updated", "payment_intent.canceled", "payment_intent.created",
    "payment_intent.partially_funded", "payment_intent.payment_failed", "payment_intent.processing",
    "payment_intent.requires_action", "payment_intent.succeeded",
    "payment_method.attached", "payment_method.automatically_updated", "payment_method.detached", "payment_method.updated",
    "payout.canceled", "payout.created", "payout.failed", "payout.paid", "payout.reconciliation_completed", "payout.updated",
    "refund.created", "refund.failed", "refund.updated",
    "terminal.reader.action_failed", "terminal.reader.action_succeeded", "terminal.reader.action_updated",
})  # fmt: skip
"""Stripe's types about what Guilder does, those of parts that are still to come included."""

UNSENT_EVENTS: Final = frozenset({
    "charge.dispute.closed", "charge.dispute.created", "charge.dispute.funds_reinstated", "charge.dispute.funds_withdrawn",
    "charge.dispute.updated", "charge.pending",
    "checkout.session.async_payment_failed", "checkout.session.async_payment_succeeded",
    "payment_intent.partially_funded", "payment_method.automatically_updated",
    "payout.canceled", "payout.created", "payout.failed", "payout.paid", "payout.reconciliation_completed", "payout.updated",
    "terminal.reader.action_updated",
})  # fmt: skip
"""Those of them that nothing sends yet. Integrations written for Stripe name them, so they are taken, and whoever names one is told."""

DISABLED_EVENT: Final = "webhook_endpoint.disabled"
OWN_EVENTS: Final = frozenset({DISABLED_EVENT, BREAKER_OPENED, BREAKER_CLOSED})
"""Types that Stripe does not have. `*` leaves them out, because clients have strict lists; they are sent where they are named."""

SENT_EVENTS: Final = (STRIPE_EVENTS | OWN_EVENTS) - UNSENT_EVENTS

# More than there are types: a list that is longer repeats itself.
ENABLED_EVENTS_MAX: Final = 100

# Of the types that do not exist, so many are named in one refusal, each with so many characters.
NAMED_MAX: Final = 10
NAMED_CHARACTERS_MAX: Final = 100


def check_events(types: Sequence[str]) -> tuple[str, ...]:
    """The types without repetitions. Raises Refusal (400) that names those which do not exist, and what may be meant."""
    if not types:
        raise Refusal("Pass at least one event type, or `*` for all of them.", code="parameter_missing", param="enabled_events")
    unknown = [one for one in types if one not in STRIPE_EVENTS and one not in OWN_EVENTS and one != WILDCARD]
    if unknown:
        raise Refusal(
            f"{_unknown(unknown)} Guilder does not send them; `*` stands for all that it sends.",
            param=f"enabled_events[{list(types).index(unknown[0])}]",
        )
    return tuple(dict.fromkeys(types))


def check_patterns(patterns: Sequence[str]) -> None:
    """Refuse filters that could never let an event through (Refusal), by name; a `*` in one stands for any characters."""
    unknown = [one for one in patterns if not any(fits(type_, [one]) for type_ in STRIPE_EVENTS | OWN_EVENTS)]
    if unknown:
        raise Refusal(f"{_unknown(unknown)} A * stands for any characters, as in 'charge.*'.")


def fits(type_: str, patterns: Sequence[str]) -> bool:
    """Whether a type is one of these; a `*` stands for any characters."""
    return any(fnmatchcase(type_, one.replace("[", "[[]").replace("?", "[?]")) for one in patterns)


def unsent_of(patterns: Sequence[str]) -> tuple[str, ...]:
    """Those of these types or patterns for which nothing is sent yet."""
    return tuple(one for one in patterns if one in UNSENT_EVENTS or not any(fits(type_, [one]) for type_ in SENT_EVENTS))


def wildcard_of(type_: str) -> str | None:
    """What may stand for a type in a subscription beside its name."""
    return None if type_ in OWN_EVENTS else WILDCARD


def _unknown(types: Sequence[str]) -> str:
    """A sentence that names types which do not exist, each with the nearest one that does."""
    named = [f"'{one[:NAMED_CHARACTERS_MAX]}'{_meant(one)}" for one in types[:NAMED_MAX]]
    return f"Unknown event type{'s' if len(types) > 1 else ''}: {', '.join(named)}."


def _meant(type_: str) -> str:
    near = get_close_matches(type_[:NAMED_CHARACTERS_MAX].lower(), sorted(STRIPE_EVENTS | OWN_EVENTS), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
