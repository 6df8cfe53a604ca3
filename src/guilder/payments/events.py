"""The events of a change, in the order in which they are listed."""

from typing import Final

from guilder.core.ids import Ids
from guilder.log.model import NewEvent
from guilder.payments.model import Key
from guilder.shapes.facts import Facts

PREFIX: Final = "evt"


def event(ids: Ids, account: str, type_: str, facts: Facts, key: Key | None = None, previous: bytes = b"") -> NewEvent:
    """One event about the object as it is after the change; `key` is the request that caused it, None for the system."""
    return NewEvent(
        id=ids.new(PREFIX), account=account, type=type_, object=facts, previous=previous,
        request_id=key.request_id if key else None, idempotency_key=key.key if key else None,
    )  # fmt: skip
