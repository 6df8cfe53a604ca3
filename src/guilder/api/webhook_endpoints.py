"""/v1/webhook_endpoints: where events go. The secret is in the answer that makes it, and in no other."""

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from guilder.api.call import Call, Done, page_of
from guilder.api.http import Reply
from guilder.api.params import Id, Metadata, PageParams, Params, Text
from guilder.api.registry import Route
from guilder.api.text import URL_CHARACTERS_MAX, pairs
from guilder.core.errors import Refusal
from guilder.db import Connection
from guilder.webhooks import OVERLAP_HOURS_MAX, CreateEndpoint, UpdateEndpoint

KIND: Final = "webhook_endpoint"
Url = Annotated[str, Meta(max_length=URL_CHARACTERS_MAX)]
Types = Annotated[tuple[Id, ...], Meta(max_length=100)]


class Create(Params, frozen=True, kw_only=True):
    """A new endpoint."""

    url: Url
    enabled_events: Types
    description: Text | UnsetType | None = UNSET
    metadata: Metadata = UNSET
    api_version: Id | UnsetType | None = UNSET
    connect: bool | UnsetType | None = UNSET


class Update(Params, frozen=True, kw_only=True):
    """Changes of an endpoint."""

    url: Url | UnsetType = UNSET
    enabled_events: Types | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    metadata: Metadata = UNSET
    disabled: bool | UnsetType = UNSET


class Rotate(Params, frozen=True, kw_only=True):
    """A new secret; for how many hours the present one stays valid beside it."""

    overlap_hours: Annotated[int, Meta(ge=0, le=OVERLAP_HOURS_MAX)] = OVERLAP_HOURS_MAX


async def create(call: Call, p: Create) -> Reply:
    """Make an endpoint."""
    if p.connect:
        raise Refusal("There are no connected accounts: `connect` can only be false.", param="connect")
    command = CreateEndpoint(
        url=p.url, enabled_events=p.enabled_events, description=p.description or None, metadata=pairs(p.metadata),
        api_version=p.api_version or None,
    )  # fmt: skip

    async def effect(connection: Connection) -> Done:
        return Done(await call.services.endpoints.create(connection, call.account, command, livemode=call.livemode))

    return await call.once(effect)


async def update(call: Call, p: Update) -> Reply:
    """Change an endpoint, disable it, or enable it again."""
    command = UpdateEndpoint(
        endpoint=call.ids[0], url=p.url, enabled_events=p.enabled_events, description=p.description, metadata=p.metadata,
        disabled=p.disabled,
    )  # fmt: skip

    async def effect(connection: Connection) -> Done:
        return Done(await call.services.endpoints.update(connection, call.account, command, livemode=call.livemode))

    return await call.once(effect)


async def rotate(call: Call, p: Rotate) -> Reply:
    """Give an endpoint a new secret."""

    async def effect(connection: Connection) -> Done:
        endpoints = call.services.endpoints
        return Done(await endpoints.rotate(connection, call.account, call.ids[0], livemode=call.livemode, overlap_hours=p.overlap_hours))

    return await call.once(effect)


async def delete(call: Call, _p: Params) -> Reply:
    """Delete an endpoint."""
    async with call.services.db.transaction() as connection:
        deleted = await call.services.endpoints.delete(connection, call.account, call.ids[0], livemode=call.livemode)
    return await call.show(deleted)


async def retrieve(call: Call, _p: Params) -> Reply:
    """One endpoint."""
    return await call.show(await call.services.endpoints.retrieve(call.account, call.ids[0], livemode=call.livemode))


async def list_all(call: Call, p: PageParams) -> Reply:
    """Endpoints, newest first."""
    found, more = await call.services.endpoints.list(call.account, page_of(p), livemode=call.livemode)
    return await call.show_list(found, more)


_ONE: Final = "/v1/webhook_endpoints/{webhook_endpoint}"

ROUTES: Final = (
    Route(method="POST", path="/v1/webhook_endpoints", params=Create, handle=create, answers=KIND, summary="Create a webhook endpoint"),
    Route(method="GET", path="/v1/webhook_endpoints", params=PageParams, handle=list_all, answers=KIND, of_list=True,
          summary="List webhook endpoints"),
    Route(method="GET", path=_ONE, params=Params, handle=retrieve, answers=KIND, summary="Retrieve a webhook endpoint"),
    Route(method="POST", path=_ONE, params=Update, handle=update, answers=KIND, summary="Update a webhook endpoint"),
    Route(method="POST", path=f"{_ONE}/rotate_secret", params=Rotate, handle=rotate, answers=KIND,
          summary="Give a webhook endpoint a new secret"),
    Route(method="DELETE", path=_ONE, params=Params, handle=delete, answers=KIND, summary="Delete a webhook endpoint"),
)  # fmt: skip
