"""The events of a change, in the order in which they are listed."""

from typing import Final

from msgspec.structs import replace

from guilder.core.ids import Ids
from guilder.log.model import NewEvent
from guilder.payments.model import Key
from guilder.payments.states import PaymentState
from guilder.shapes.facts import Facts, PaymentIntentFacts

PREFIX: Final = "evt"


def event(ids: Ids, account: str, type_: str, facts: Facts, key: Key | None = None, previous: bytes = b"") -> NewEvent:
    """One event about the object as it is after the change; `key` is the request that caused it, None for the system."""
    return NewEvent(
        id=ids.new(PREFIX), account=account, type=type_, object=facts, previous=previous,
        request_id=key.request_id if key else None, idempotency_key=key.key if key else None,
    )  # fmt: skip


def created(ids: Ids, account: str, facts: PaymentIntentFacts, key: Key | None) -> NewEvent:
    """The event of a payment that was made with its first attempt, which is announced by that attempt's first outcome.

    Not by the accept: it and the outcome before it would wait for each other at the merchant's counters (DESIGN section 3
    gives the accept no events). A metadata update that came between shows in it.
    """
    return event(ids, account, "payment_intent.created", replace(facts, status=PaymentState.REQUIRES_CONFIRMATION), key)
