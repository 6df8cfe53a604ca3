"""Deliveries, as people look at them: list, retrieve, send again by hand; and what an event still waits for."""

from collections.abc import Collection
from typing import Final

from guilder.core.clock import Clock
from guilder.core.errors import Refusal, missing
from guilder.db import Database
from guilder.db.pages import Page, fetch_page
from guilder.log.read import retrieve_event
from guilder.shapes.render import personal_ids
from guilder.webhooks import store
from guilder.webhooks.bodies import PersonalOf, body_of
from guilder.webhooks.model import Delivery

KIND: Final = "webhook delivery"
# Events that are named in one look at what was not delivered; older ones are in the list of deliveries.
UNDELIVERED_MAX: Final = 10_000


class Deliveries:
    """Reads deliveries, and orders them again. One per process."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def retrieve(self, account: str, id_: str, *, livemode: bool) -> Delivery:
        """A delivery with all its attempts. Raises Refusal (404)."""
        row = await self._db.fetchrow(store.SELECT_DELIVERY, account, livemode, id_)
        if row is None:
            raise missing(KIND, id_)
        attempts = await self._db.fetch(store.ATTEMPTS, row["endpoint"], row["number"])
        return store.delivery_of(row, [store.attempt_of(one) for one in attempts])

    async def body(self, delivery: Delivery, personal: PersonalOf) -> bytes:
        """What is sent of a delivery, the same bytes at every try, save personal data that was erased since, or is not opened."""
        event = await retrieve_event(self._db, delivery.account, delivery.livemode, delivery.event)
        ids = personal_ids([event.facts.object])
        return body_of(event, delivery.fanout, await personal(delivery.account, ids, delivery.livemode) if ids else {})

    async def retry(self, account: str, id_: str, *, livemode: bool) -> Delivery:
        """Have a delivery sent at once, whatever became of it so far; one that has not been tried yet is under way anyhow.

        Raises Refusal: there is none (404), or its endpoint is disabled or deleted (400).
        """
        if not await self._db.fetchval(store.RETRY_NOW, account, livemode, id_, self._clock.now()):
            found = await self.retrieve(account, id_, livemode=livemode)
            raise Refusal(
                f"The webhook endpoint {found.endpoint} is disabled or deleted. Enable it first, and what waits for it is sent.",
                code="webhook_endpoint_disabled",
            )
        return await self.retrieve(account, id_, livemode=livemode)

    async def pending(self, events: Collection[str]) -> dict[str, int]:
        """Event -> how many of its deliveries have not arrived yet; events without any are not there."""
        return {row[0]: row[1] for row in await self._db.fetch(store.PENDING, list(events))} if events else {}

    async def undelivered(self, account: str, *, livemode: bool) -> list[str]:
        """The newest events of which a delivery waits or was given up."""
        return [row[0] for row in await self._db.fetch(store.UNDELIVERED, account, livemode, UNDELIVERED_MAX)]

    async def list(
        self, account: str, page: Page, *, livemode: bool, endpoint: str | None = None, event: str | None = None, state: str | None = None,
    ) -> tuple[list[Delivery], bool]:  # fmt: skip
        """A page of deliveries, newest first, and whether there are more; each without the attempts that failed.

        Raises Refusal (400) for a wrong cursor.
        """
        where: list[tuple[str, object]] = []
        if endpoint is not None:
            where.append(("endpoint = ?", endpoint))
        if event is not None:
            where.append(("event = ?", event))
        if state is not None:
            where.append((store.in_state(state, livemode=livemode), account))
        rows, more = await fetch_page(self._db, store.DELIVERIES, page, account=account, livemode=livemode, where=where)
        return [store.delivery_of(row) for row in rows], more
