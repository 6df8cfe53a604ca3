"""/v1/webhook_deliveries: what was sent to whom, and what was answered; and sending it again.

A retry needs no stored answer: to order it twice is to order it once more.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from guilder.api.call import Call, page_of
from guilder.api.http import Reply
from guilder.api.params import Id, ListParams, Params
from guilder.api.registry import Route
from guilder.core.clock import epoch_seconds
from guilder.webhooks import Attempt, Delivery
from guilder.webhooks.headers import shown_headers

KIND: Final = "webhook_delivery"


class Listed(ListParams, frozen=True, kw_only=True):
    """Which deliveries."""

    endpoint: Id | UnsetType = UNSET
    event: Id | UnsetType = UNSET
    state: Literal["pending", "delivered", "exhausted", "canceled"] | UnsetType = UNSET


async def list_all(call: Call, p: Listed) -> Reply:
    """Deliveries, newest first; what was sent, and the tries that failed, are shown with one alone."""
    found, more = await call.services.deliveries.list(
        call.account, page_of(p), livemode=call.livemode, endpoint=p.endpoint or None, event=p.event or None, state=p.state or None,
    )
    return call.plain_list([delivery_json(one) for one in found], more=more)


async def retrieve(call: Call, _p: Params) -> Reply:
    """One delivery with everything that was sent and answered."""
    return await _shown(call, await call.services.deliveries.retrieve(call.account, call.ids[0], livemode=call.livemode))


async def retry(call: Call, _p: Params) -> Reply:
    """Send a delivery again, at once."""
    return await _shown(call, await call.services.deliveries.retry(call.account, call.ids[0], livemode=call.livemode))


async def _shown(call: Call, delivery: Delivery) -> Reply:
    async def personal(account: str, ids: Collection[str], livemode: bool) -> Mapping[str, Mapping[str, Any]]:  # noqa: FBT001 - PersonalOf
        return await call.services.personal.open_many(account, ids, livemode=livemode)

    body = await call.services.deliveries.body(delivery, personal)
    return call.plain(delivery_json(delivery, request_json(delivery, msgspec.Raw(body))))


def request_json(delivery: Delivery, body: object) -> dict[str, Any]:
    """What is sent at each try; where it goes stands with the try. No signature stands in it."""
    return {"body": body, "headers": shown_headers(delivery.event, delivery.number), "method": "POST"}


def delivery_json(delivery: Delivery, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A delivery as the API shows it; with what was sent, all its attempts."""
    last = delivery.attempts[-1] if delivery.attempts else None
    shown: dict[str, Any] = {
        "id": delivery.id,
        "object": KIND,
        "created": epoch_seconds(delivery.created_at),
        "delivered_at": epoch_seconds(last.sent_at) if delivery.state == "delivered" and last is not None else None,
        "endpoint": delivery.endpoint,
        "event": delivery.event,
        "event_type": delivery.type,
        "livemode": delivery.livemode,
        "next_try_at": None if delivery.due_at is None else epoch_seconds(delivery.due_at),
        "sequence": delivery.number,
        "state": delivery.state,
        "tries": delivery.tries,
    }
    if request is not None:
        shown["attempts"] = [attempt_json(one) for one in delivery.attempts]
        shown["request"] = request
    return shown


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """One try: where it went, and what was answered, or why nothing was."""
    return {
        "answer": attempt.answer,
        "failure": attempt.failure,
        "milliseconds": attempt.milliseconds,
        "sent_at": epoch_seconds(attempt.sent_at),
        "status": attempt.status,
        "try": attempt.number,
        "url": attempt.url,
    }


_ONE: Final = "/v1/webhook_deliveries/{webhook_delivery}"

ROUTES: Final = (
    Route(method="GET", path="/v1/webhook_deliveries", params=Listed, handle=list_all, answers=KIND, of_list=True,
          summary="List webhook deliveries"),
    Route(method="GET", path=_ONE, params=Params, handle=retrieve, answers=KIND, summary="Retrieve a webhook delivery"),
    Route(method="POST", path=f"{_ONE}/retry", params=Params, handle=retry, answers=KIND, claims_key=False,
          summary="Send a webhook delivery again"),
)  # fmt: skip
