"""Deliveries: each endpoint's numbers have no gaps, and none is forgotten."""

from typing import Final

from guilder.integrity.model import Examination

# Deliveries may have been tidied away from the bottom, after 30 days; a deleted endpoint's lane goes when nothing waits.
_NUMBERS: Final = """
SELECT coalesce(l.endpoint, d.endpoint) AS endpoint, l.head, coalesce(d.count, 0) AS count, d.first, d.last
FROM webhook_lane l FULL JOIN (
    SELECT endpoint, count(*) AS count, min(number) AS first, max(number) AS last FROM webhook_delivery GROUP BY endpoint
) d ON d.endpoint = l.endpoint
ORDER BY 1
"""
# What waits is behind its lane's mark, if it has not been tried, or has a time for its next try.
_FORGOTTEN: Final = """
SELECT d.id, d.tries FROM webhook_delivery d
LEFT JOIN webhook_lane l ON l.endpoint = d.endpoint
LEFT JOIN webhook_retry r ON r.endpoint = d.endpoint AND r.number = d.number
WHERE d.state = 'pending' AND CASE WHEN d.tries = 0 THEN coalesce(d.number <= l.done_to, true) ELSE r.due_at IS NULL END
ORDER BY d.id
"""
_WITHOUT_EVENT: Final = """
SELECT d.id, d.event FROM webhook_delivery d LEFT JOIN event e ON (e.id, e.account, e.livemode) = (d.event, d.account, d.livemode)
WHERE e.id IS NULL ORDER BY d.id
"""


async def deliveries(x: Examination) -> int:
    """Numbers run up to the endpoint's counter; what waits will be found by whoever delivers; each has its event."""
    rows = await x.connection.fetch(_NUMBERS)
    for row in rows:
        if row["count"] and row["count"] != row["last"] - row["first"] + 1:
            x.violation(row["endpoint"], f"{row['count']} deliveries from {row['first']} to {row['last']}: a number is missing")
        elif row["count"] and row["head"] is not None and row["head"] != row["last"]:
            x.violation(row["endpoint"], f"the last delivery has the number {row['last']}, and the counter stands at {row['head']}")
    for row in await x.connection.fetch(_FORGOTTEN):
        x.violation(row["id"], f"waits after {row['tries']} tries, and nobody would find it")
    for row in await x.connection.fetch(_WITHOUT_EVENT):
        x.violation(row["id"], f"the event {row['event']} does not exist for its merchant and mode")
    return sum(row["count"] for row in rows)
