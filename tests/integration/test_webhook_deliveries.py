"""Deliveries: each event once at each endpoint that wants it, numbered without gaps, whatever the receivers do."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
import stripe
from webhook_world import ACCOUNT, WebhookWorld, webhook_world

from receiver import Receiver

PAID, CREATED = "payment_intent.succeeded", "payment_intent.created"


@pytest_asyncio.fixture
async def world(database: str) -> AsyncIterator[WebhookWorld]:
    """A room without a worker."""
    async with webhook_world(database) as running:
        yield running


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    receiver = await Receiver().start()
    yield receiver
    await receiver.close()


async def test_an_event_arrives_signed_and_numbered_at_each_endpoint_that_wants_it(world: WebhookWorld, receiver: Receiver):
    """Stripe's own check accepts it; other types, other accounts and the other mode do not come."""
    wants_all = await world.endpoint(receiver.url)
    wants_paid = await world.endpoint(receiver.url + "/paid", PAID)
    await world.endpoint(receiver.url + "/other", account="acct_other")
    await world.endpoint(receiver.url + "/live", livemode=True)
    await world.worker()
    created, paid = await world.announce(CREATED, PAID)
    await world.settled(3)
    by_path = {}
    for request in receiver.requests:
        by_path.setdefault(request.path, []).append((request.event, request.number))
    assert {path: sorted(found, key=lambda one: one[1]) for path, found in by_path.items()} == {
        "/webhooks": [(created, 1), (paid, 2)],
        "/webhooks/paid": [(paid, 1)],
    }
    for request in receiver.requests:
        endpoint = wants_all if request.path == "/webhooks" else wants_paid
        event = stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], world.secret(endpoint))
        assert event.id == request.event
        assert event.pending_webhooks == (2 if event.type == PAID else 1)
    assert await world.states() == ["delivered"] * 3
