"""/v1/events: what happened, as it was then. Many clients poll this, so it is as good a delivery as a webhook."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from guilder.api.call import Call, page_of
from guilder.api.http import Reply
from guilder.api.params import ListParams, Params
from guilder.api.registry import Route
from guilder.core.errors import Refusal
from guilder.log.read import StoredEvent, list_events, retrieve_event
from guilder.shapes.render import EventHeader, event_json, personal_ids

KIND: Final = "event"
EventType = Annotated[str, Meta(max_length=100)]


class Listed(ListParams, frozen=True, kw_only=True):
    """Which events; in a type `*` stands for any characters."""

    type: EventType | UnsetType = UNSET
    types: Annotated[tuple[EventType, ...], Meta(max_length=20)] = ()
    delivery_success: bool | UnsetType = UNSET


async def retrieve(call: Call, _p: Params) -> Reply:
    """One event."""
    event = await retrieve_event(call.services.db, call.account, call.livemode, call.ids[0])
    return call.plain((await _shown(call, [event]))[0])


async def list_all(call: Call, p: Listed) -> Reply:
    """Events, newest first."""
    if p.type and p.types:
        raise Refusal("You may only specify one of these parameters: type, types.", code="parameters_exclusive", param="types")
    types = (p.type,) if p.type else p.types
    undelivered: Sequence[str] = ()
    if p.delivery_success is not UNSET:
        undelivered = await call.services.deliveries.undelivered(call.account, livemode=call.livemode)
    found, more = await list_events(
        call.reads, call.account, call.livemode, page_of(p), types=types,
        among=undelivered if p.delivery_success is False else None, without=undelivered if p.delivery_success is True else (),
    )  # fmt: skip
    return call.plain_list(await _shown(call, found), more=more)


async def _shown(call: Call, events: Sequence[StoredEvent]) -> list[msgspec.Raw]:
    """Events as JSON; what was erased since shows as null in them too. `pending_webhooks` is as of now."""
    pending = await call.services.deliveries.pending([event.id for event in events])
    ids = personal_ids(event.facts.object for event in events)
    personal = await call.services.personal.open_many(call.account, ids, livemode=call.livemode) if ids else {}
    return [
        event_json(
            EventHeader(
                id=event.id, type=event.type, created=event.created, livemode=event.livemode, request_id=event.request_id,
                idempotency_key=event.idempotency_key, pending_webhooks=pending.get(event.id, 0),
            ),
            event.facts, personal,
        )
        for event in events
    ]  # fmt: skip


ROUTES: Final = (
    Route(method="GET", path="/v1/events", params=Listed, handle=list_all, answers=KIND, of_list=True, may_lag=True,
          summary="List events"),
    Route(method="GET", path="/v1/events/{event}", params=Params, handle=retrieve, answers=KIND, summary="Retrieve an event"),
)  # fmt: skip
