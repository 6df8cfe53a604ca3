"""Disable: an endpoint that nothing has reached for days is given up, with notice; one that says 410 Gone, at once."""

from typing import Final

import structlog
from msgspec.structs import replace

from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.db import Connection, Database
from guilder.log import NewEvent, announce
from guilder.webhooks import store
from guilder.webhooks.rules import FAILING_MAX, FAILURES_MIN
from guilder.webhooks.types import DISABLED_EVENT

log = structlog.get_logger(__name__)

# Endpoints disabled in one round, each in a transaction of its own.
DISABLED_MAX: Final = 100


async def disable_failing(db: Database, clock: Clock, ids: Ids) -> int:
    """Disable the endpoints that have failed for too long; returns how many. Safe to repeat."""
    horizon = clock.now() - FAILING_MAX
    rows = await db.fetch(store.FAILING, horizon, FAILURES_MIN, DISABLED_MAX)
    for row in rows:
        async with db.transaction() as connection:
            if await connection.fetchval(store.STILL_FAILING, row["endpoint"], horizon, FAILURES_MIN):
                await _disable(connection, row["account"], row["endpoint"], "failing", clock, ids, livemode=row["livemode"])
    return len(rows)


async def disable_gone(db: Database, clock: Clock, ids: Ids, endpoint: str, account: str, *, livemode: bool) -> None:
    """Disable an endpoint that says that it is gone. Safe to repeat."""
    async with db.transaction() as connection:
        await _disable(connection, account, endpoint, "gone", clock, ids, livemode=livemode)


async def _disable(connection: Connection, account: str, id_: str, reason: str, clock: Clock, ids: Ids, *, livemode: bool) -> None:
    """Switch it off and announce that, unless somebody has done so before; what waits for it goes on waiting."""
    before = await store.lock_endpoint(connection, account, id_, livemode=livemode)
    if before is None or before.facts.status == "disabled":
        return
    after = replace(before.facts, status="disabled", disabled_reason=reason)
    await store.update_endpoint(connection, after)
    log.error("webhook_endpoint_disabled", account=account, livemode=livemode, endpoint=id_, reason=reason)
    event = NewEvent(id=ids.new("evt"), account=account, type=DISABLED_EVENT, object=after)
    await announce(connection, livemode=livemode, now=clock.now(), key=id_, events=(event,))
