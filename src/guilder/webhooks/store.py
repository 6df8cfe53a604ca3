"""The SQL of webhooks. No other file touches these tables; what is hot is a function of 0010_webhooks.sql."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from guilder.core.clock import Micros, epoch_seconds
from guilder.db import Connection, Database, Record
from guilder.db.pages import Listing
from guilder.db.pool import KEPT
from guilder.shapes.facts import Metadata, WebhookEndpointFacts
from guilder.webhooks.model import Attempt, Delivery, Next, Result, StoredEndpoint
from guilder.webhooks.types import unsent_of

_ENDPOINT: Final = (
    "id, account, livemode, url, enabled_events, description, metadata, api_version, state, disabled_reason, secret, previous_secret, "
    "previous_until, version, created_at"
)
_DELIVERY: Final = (
    "id, account, livemode, endpoint, number, event, type, fanout, state, tries, created_at, sent_at, status, milliseconds, answer, url, "
    "(SELECT q.due_at FROM webhook_retry q WHERE q.endpoint = webhook_delivery.endpoint AND q.number = webhook_delivery.number) AS due_at"
)

ENDPOINTS: Final = Listing(table="webhook_endpoint", columns=_ENDPOINT, kind="webhook endpoint")
DELIVERIES: Final = Listing(table="webhook_delivery", columns=_DELIVERY, kind="webhook delivery")

# One creation at a time for each account and mode, so that together they never exceed the limit.
LOCK_ACCOUNT: Final = "SELECT pg_advisory_xact_lock(hashtextextended('webhook_endpoint ' || $1 || ' ' || $2::boolean::text, 0))"
COUNT_ENDPOINTS: Final = "SELECT count(*) FROM webhook_endpoint WHERE account = $1 AND livemode = $2 AND state <> 'deleted'"
INSERT_ENDPOINT: Final = """
INSERT INTO webhook_endpoint (id, account, livemode, url, enabled_events, description, metadata, api_version, state, secret, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'enabled', $9, $10)
"""
INSERT_LANE: Final = "INSERT INTO webhook_lane (endpoint) VALUES ($1)"
SELECT_ENDPOINTS: Final = f"SELECT {_ENDPOINT} FROM webhook_endpoint WHERE id = ANY($1)"
SELECT_ENDPOINT: Final = f"SELECT {_ENDPOINT} FROM webhook_endpoint WHERE id = $1 AND account = $2 AND livemode = $3 AND state <> 'deleted'"
LOCK_ENDPOINT: Final = SELECT_ENDPOINT + " FOR UPDATE"
UPDATE_ENDPOINT: Final = """
UPDATE webhook_endpoint SET url = $2, enabled_events = $3, description = $4, metadata = $5, state = $6, disabled_reason = $7,
       version = version + 1 WHERE id = $1
"""
ROTATE: Final = "UPDATE webhook_endpoint SET secret = $2, previous_secret = $3, previous_until = $4, version = version + 1 WHERE id = $1"
DELETE_ENDPOINT: Final = "UPDATE webhook_endpoint SET state = 'deleted', version = version + 1 WHERE id = $1"
# A new beginning: what failed before does not count any more.
FORGIVE: Final = "UPDATE webhook_lane SET failing_since = NULL, failures = 0 WHERE endpoint = $1"

# Those that nothing has reached for too long.
FAILING: Final = """
SELECT l.endpoint, e.account, e.livemode FROM webhook_lane l JOIN webhook_endpoint e ON e.id = l.endpoint
WHERE l.failing_since <= $1 AND l.failures >= $2 AND e.state = 'enabled' ORDER BY l.endpoint LIMIT $3
"""
STILL_FAILING: Final = "SELECT failing_since <= $2 AND failures >= $3 FROM webhook_lane WHERE endpoint = $1"

FAN_OUT: Final = "SELECT webhook_fan_out($1, $2::webhook_event_in[])"
HOLD: Final = "SELECT * FROM webhook_hold($1, $2, $3, $4, $5, $6, $7)"
RELEASE: Final = """
WITH locked AS (SELECT endpoint FROM webhook_lane WHERE endpoint = ANY($2) AND sender = $1 ORDER BY endpoint FOR UPDATE)
UPDATE webhook_lane l SET sender = NULL, epoch = NULL FROM locked k WHERE l.endpoint = k.endpoint
"""
# A commit behind what it reads: of a delivery that a failover took back, the number would be another event's.
NEXT: Final = f"SELECT n.*, (SELECT {KEPT}) FROM webhook_next($1, $2, $3, $4, $5) n"
RESULTS: Final = "SELECT webhook_results($1::webhook_result_in[])"

SELECT_DELIVERY: Final = f"SELECT {_DELIVERY} FROM webhook_delivery WHERE account = $1 AND livemode = $2 AND id = $3"
ATTEMPTS: Final = """
SELECT try, sent_at, milliseconds, status, failure, answer, url FROM webhook_attempt WHERE endpoint = $1 AND number = $2 ORDER BY try
"""
RETRY_NOW: Final = "SELECT webhook_retry_now($1, $2, $3, $4)"
PENDING: Final = "SELECT event, count(*) FROM webhook_delivery WHERE event = ANY($1) AND state = 'pending' GROUP BY event"

# What waits or was given up is found without looking at what was delivered: it has failed before, or is behind its lane's mark.
# The one value of each condition is the account.
_RETRIED: Final = "SELECT q.endpoint, q.number FROM webhook_retry q WHERE q.account = ? AND q.livemode = {livemode} AND q.due_at IS {due}"
_UNTRIED: Final = """
SELECT z.endpoint, z.number FROM webhook_endpoint e JOIN webhook_lane l ON l.endpoint = e.id
CROSS JOIN LATERAL (SELECT d.endpoint, d.number FROM webhook_delivery d
                    WHERE d.endpoint = l.endpoint AND d.number > l.done_to AND d.state = 'pending') z
WHERE e.account = ? AND e.livemode = {livemode}
"""
_IN_STATE: Final[Mapping[str, str]] = {
    "delivered": "(state = 'delivered' AND account = ?)",
    "canceled": f"(state = 'canceled' AND (endpoint, number) IN ({_RETRIED.format(livemode='{livemode}', due='NULL')}))",
    "exhausted": f"(state = 'exhausted' AND (endpoint, number) IN ({_RETRIED.format(livemode='{livemode}', due='NULL')}))",
    "pending": (
        f"(state = 'pending' AND (endpoint, number) IN "
        f"({_RETRIED.format(livemode='{livemode}', due='NOT NULL')} UNION ALL {_UNTRIED}))"
    ),
}
UNDELIVERED: Final = """
SELECT DISTINCT x.event FROM (
    SELECT d.event FROM webhook_retry q JOIN webhook_delivery d ON d.endpoint = q.endpoint AND d.number = q.number
    WHERE q.account = $1 AND q.livemode = $2 AND d.state IN ('pending', 'exhausted')
    UNION ALL
    SELECT z.event FROM webhook_endpoint e JOIN webhook_lane l ON l.endpoint = e.id
    CROSS JOIN LATERAL (SELECT d.event FROM webhook_delivery d
                        WHERE d.endpoint = l.endpoint AND d.number > l.done_to AND d.state = 'pending' ORDER BY d.number DESC LIMIT $3) z
    WHERE e.account = $1 AND e.livemode = $2) x
ORDER BY x.event DESC LIMIT $3
"""

# Added up from what the lanes say of themselves: one that is on its way while later ones have landed counts with them. Retries are
# counted, as many of an endpoint as $1.
WAITING: Final = """
SELECT coalesce(sum(l.head - l.done_to), 0)::bigint AS untried, coalesce(sum(r.count), 0)::bigint AS retried
FROM webhook_lane l JOIN webhook_endpoint e ON e.id = l.endpoint AND e.state = 'enabled'
CROSS JOIN LATERAL (
    SELECT count(*) AS count FROM (
        SELECT 1 FROM webhook_retry z WHERE z.endpoint = l.endpoint AND z.due_at IS NOT NULL LIMIT $1) q) r
"""

# Deliveries of deleted endpoints are called off in pieces; the lane goes last.
CALL_OFF: Final = """
WITH lanes AS (
    SELECT l.endpoint, l.done_to FROM webhook_lane l JOIN webhook_endpoint e ON e.id = l.endpoint WHERE e.state = 'deleted' LIMIT 10
), waiting AS (
    SELECT z.endpoint, z.number FROM lanes CROSS JOIN LATERAL (
        SELECT d.endpoint, d.number FROM webhook_delivery d
        WHERE d.endpoint = lanes.endpoint AND d.number > lanes.done_to AND d.state = 'pending' LIMIT $1) z
    UNION
    SELECT q.endpoint, q.number FROM lanes CROSS JOIN LATERAL (
        SELECT r.endpoint, r.number FROM webhook_retry r WHERE r.endpoint = lanes.endpoint AND r.due_at IS NOT NULL LIMIT $1) q
), off AS (
    UPDATE webhook_delivery d SET state = 'canceled' FROM waiting w
    WHERE d.endpoint = w.endpoint AND d.number = w.number AND d.state = 'pending' RETURNING 1
), none_due AS (
    INSERT INTO webhook_retry (endpoint, number, account, livemode)
    SELECT w.endpoint, w.number, e.account, e.livemode FROM waiting w JOIN webhook_endpoint e ON e.id = w.endpoint
    ON CONFLICT (endpoint, number) DO UPDATE SET due_at = NULL RETURNING 1
), gone AS (
    DELETE FROM webhook_lane l USING lanes
    WHERE l.endpoint = lanes.endpoint AND NOT EXISTS (SELECT FROM waiting w WHERE w.endpoint = lanes.endpoint) RETURNING 1
)
SELECT (SELECT count(*) FROM off) + (SELECT count(*) FROM gone)
"""
# Ids are ordered by time, so old deliveries are the first of each account and mode.
TIDY: Final = """
WITH old AS (
    SELECT z.account, z.livemode, z.id FROM (SELECT DISTINCT account, livemode FROM webhook_endpoint) a CROSS JOIN LATERAL (
        SELECT d.account, d.livemode, d.id FROM webhook_delivery d
        WHERE d.account = a.account AND d.livemode = a.livemode AND d.id < $1 ORDER BY d.id LIMIT $2) z
), gone AS (
    DELETE FROM webhook_delivery d USING old o WHERE d.account = o.account AND d.livemode = o.livemode AND d.id = o.id
    RETURNING d.endpoint, d.number
), retries AS (
    DELETE FROM webhook_retry r USING gone g WHERE r.endpoint = g.endpoint AND r.number = g.number
), attempts AS (
    DELETE FROM webhook_attempt t USING gone g WHERE t.endpoint = g.endpoint AND t.number = g.number
)
SELECT count(*) FROM gone
"""

_pack = msgspec.msgpack.encode
_metadata: msgspec.msgpack.Decoder[Metadata] = msgspec.msgpack.Decoder(Metadata)


def in_state(state: str, *, livemode: bool) -> str:
    """A condition on deliveries for a page of them; its value is the account."""
    return _IN_STATE[state].format(livemode="true" if livemode else "false")


def endpoint_of(row: Record) -> StoredEndpoint:
    """A row as facts, without its secret."""
    until = row["previous_until"]
    facts = WebhookEndpointFacts(
        id=row["id"], livemode=row["livemode"], created=epoch_seconds(row["created_at"]), url=row["url"],
        enabled_events=tuple(row["enabled_events"]), status="enabled" if row["state"] == "enabled" else "disabled",
        api_version=row["api_version"], description=row["description"], metadata=_metadata.decode(row["metadata"]),
        deleted=row["state"] == "deleted", disabled_reason=row["disabled_reason"],
        previous_secret_until=None if until is None else epoch_seconds(until), not_sent_yet=unsent_of(row["enabled_events"]),
    )  # fmt: skip
    return StoredEndpoint(
        account=row["account"], facts=facts, state=row["state"], secret=row["secret"], previous_secret=row["previous_secret"],
        previous_until=until, version=row["version"],
    )  # fmt: skip


def delivery_of(row: Record, attempts: Sequence[Attempt] = ()) -> Delivery:
    """A row as a struct; the try that succeeded stands in the row itself."""
    last: tuple[Attempt, ...] = ()
    if row["sent_at"] is not None:
        last = (
            Attempt(
                number=row["tries"], sent_at=row["sent_at"], milliseconds=row["milliseconds"], status=row["status"], failure=None,
                answer=row["answer"], url=row["url"],
            ),
        )  # fmt: skip
    return Delivery(
        id=row["id"], account=row["account"], livemode=row["livemode"], endpoint=row["endpoint"], number=row["number"],
        event=row["event"], type=row["type"], fanout=row["fanout"], state=row["state"], tries=row["tries"],
        created_at=row["created_at"], due_at=row["due_at"] if row["state"] == "pending" else None, attempts=(*attempts, *last),
    )  # fmt: skip


def attempt_of(row: Record) -> Attempt:
    """A row as a struct."""
    return Attempt(
        number=row["try"], sent_at=row["sent_at"], milliseconds=row["milliseconds"], status=row["status"], failure=row["failure"],
        answer=row["answer"], url=row["url"],
    )  # fmt: skip


async def insert_endpoint(
    connection: Connection, account: str, facts: WebhookEndpointFacts, *, secret: bytes, now: Micros,
) -> None:
    """Store a new endpoint and its lane."""
    await connection.execute(
        INSERT_ENDPOINT, facts.id, account, facts.livemode, facts.url, list(facts.enabled_events), facts.description,
        _pack(facts.metadata), facts.api_version, secret, now,
    )  # fmt: skip
    await connection.execute(INSERT_LANE, facts.id)


async def update_endpoint(connection: Connection, facts: WebhookEndpointFacts) -> None:
    """Store what may change of a locked endpoint."""
    await connection.execute(
        UPDATE_ENDPOINT, facts.id, facts.url, list(facts.enabled_events), facts.description, _pack(facts.metadata), facts.status,
        facts.disabled_reason,
    )  # fmt: skip


async def lock_endpoint(connection: Connection, account: str, id_: str, *, livemode: bool) -> StoredEndpoint | None:
    """An endpoint that stays as it is until the transaction ends; None when there is none, or it is deleted."""
    row = await connection.fetchrow(LOCK_ENDPOINT, id_, account, livemode)
    return None if row is None else endpoint_of(row)


async def select_endpoints(db: Database, ids: Collection[str]) -> list[StoredEndpoint]:
    """Endpoints by id, whoever they belong to, deleted ones too."""
    return [endpoint_of(row) for row in await db.fetch(SELECT_ENDPOINTS, list(ids))]


async def next_deliveries(
    db: Database, now: Micros, endpoints: Sequence[str], after: Sequence[int], room: Sequence[int], due: Sequence[int],
) -> list[tuple[Next, str]]:
    """What is behind `after`, at most `room` each, and at most `due` each whose next try is due; each with its state, or `due`.

    All of it is on the synchronous standby, too, where there is one.
    """
    rows = await db.fetch(NEXT, now, list(endpoints), list(after), list(room), list(due))
    return [(Next(row[0], row[1], row[2], row[3], row[4] + 1, row[5], row[6], row[7]), row[8]) for row in rows]


async def store_results(db: Database, results: Sequence[Result]) -> None:
    """Store what came of these tries. One statement, one commit; safe to repeat."""
    await db.fetchval(RESULTS, [
        (
            one.endpoint, one.number, one.event, one.attempt, one.ok, one.sent_at, one.milliseconds, one.status, one.failure,
            one.answer, one.due_at, one.url,
        ) for one in results
    ])  # fmt: skip
