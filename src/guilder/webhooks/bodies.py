"""Bodies: what is sent of an event, and what is kept of an answer."""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import structlog

from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db import Again, Database, storable
from guilder.log.read import StoredEvent, events_by_id
from guilder.security import mask_text
from guilder.shapes.render import EventHeader, event_json, personal_ids
from guilder.webhooks.model import Next
from guilder.webhooks.rules import ANSWER_CHARACTERS_MAX

log = structlog.get_logger(__name__)

PersonalOf = Callable[[str, Collection[str], bool], Awaitable[Mapping[str, Mapping[str, Any]]]]
"""(account, record ids, livemode) -> opened personal records."""


class Bodies:
    """The bodies of the events that are in hand: each is rendered once, to however many endpoints it goes."""

    def __init__(self, db: Database, personal: PersonalOf) -> None:
        self._db = db
        self._personal = personal
        self._made: dict[str, bytes | None] = {}
        self._needed: Counter[str] = Counter()

    def get(self, event: str) -> bytes | None:
        """The body; None when it cannot be rendered."""
        return self._made.get(event)

    def need(self, event: str) -> None:
        """One more delivery needs this body."""
        self._needed[event] += 1

    def let_go(self, event: str) -> None:
        """One delivery less needs it."""
        self._needed[event] -= 1
        if self._needed[event] <= 0:
            del self._needed[event]
            self._made.pop(event, None)

    def drop(self, events: Iterable[str]) -> None:
        """Forget those of these bodies that no delivery needs."""
        for event in events:
            if event not in self._needed:
                self._made.pop(event, None)

    def clear(self) -> None:
        """Nothing is in hand any more."""
        self._made.clear()
        self._needed.clear()

    async def make(self, deliveries: Sequence[Next]) -> None:
        """Make the bodies that are not there yet. An event that cannot be rendered has none, and fails as a delivery does."""
        new = {one.event: one for one in deliveries if one.event not in self._made}
        if not new:
            return
        for event in await events_by_id(self._db, list(new)):
            try:
                self._made[event.id] = await self._body(event, new[event.id])
            except (Unavailable, ResultUnknown, Again):
                raise
            except Exception:
                log.exception("event_cannot_be_rendered", event_id=event.id, account=new[event.id].account)
                self._made[event.id] = None

    async def _body(self, event: StoredEvent, one: Next) -> bytes:
        ids = personal_ids([event.facts.object])
        personal = await self._personal(one.account, ids, one.livemode) if ids else {}
        return body_of(event, one.fanout, personal)


def body_of(event: StoredEvent, fanout: int, personal: Mapping[str, Mapping[str, Any]]) -> bytes:
    """What is sent of an event: the same bytes to every endpoint and at every try, save personal data that was erased since."""
    header = EventHeader(
        id=event.id, type=event.type, created=event.created, livemode=event.livemode, request_id=event.request_id,
        idempotency_key=event.idempotency_key, pending_webhooks=fanout,
    )  # fmt: skip
    return bytes(event_json(header, event.facts, personal))


@lru_cache(maxsize=256)
def readable(answer: bytes) -> str | None:
    """The beginning of an answer as people may read it: masked, without what a text column cannot hold; None when it is empty."""
    text = storable(answer.decode("utf-8", "replace")).strip()
    return mask_text(text)[:ANSWER_CHARACTERS_MAX] or None
