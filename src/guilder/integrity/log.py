"""Positions: the log's, its consumers', and the numbers of each account's events."""

from typing import Any, Final

from guilder.integrity.model import Examination

# Entries may have been tidied away from the bottom, once every consumer had applied them.
_POSITIONS: Final = """
SELECT coalesce(h.topic, e.topic) AS topic, coalesce(h.partition, e.partition) AS partition, coalesce(h.head, 0) AS head,
       coalesce(e.count, 0) AS count, e.first, e.last, c.least, c.most
FROM log_head h
FULL JOIN (SELECT topic, partition, count(*) AS count, min(position) AS first, max(position) AS last FROM log_entry
           GROUP BY topic, partition) e ON (e.topic, e.partition) = (h.topic, h.partition)
LEFT JOIN (SELECT topic, partition, min(applied_to) FILTER (WHERE awaited) AS least, max(applied_to) AS most FROM log_consumer
           GROUP BY topic, partition) c ON (c.topic, c.partition) = (h.topic, h.partition)
ORDER BY 1, 2
"""
_GAP: Final = """
SELECT min(x.before) + 1 FROM (
    SELECT position, lag(position) OVER (ORDER BY position) AS before FROM log_entry WHERE topic = $1 AND partition = $2
) x WHERE x.position <> x.before + 1
"""
# What is parked has been applied by its consumer: it would be handled twice, or there was never such an entry.
_PARKED_BEYOND: Final = """
SELECT p.consumer, p.key, p.position FROM log_parked p WHERE NOT EXISTS (
    SELECT FROM log_consumer c
    WHERE (c.consumer, c.topic, c.partition) = (p.consumer, p.topic, p.partition) AND p.position BETWEEN 1 AND c.applied_to)
"""
_DEAD_LETTERS: Final = "SELECT id, consumer, key, reason FROM dead_letter WHERE state = 'open' ORDER BY created_at"

_EVENTS: Final = """
SELECT coalesce(h.account, e.account) AS account, coalesce(h.livemode, e.livemode) AS livemode, coalesce(h.head, 0) AS head,
       coalesce(e.count, 0) AS count, e.first, e.last
FROM event_head h FULL JOIN (
    SELECT account, livemode, count(*) AS count, min(number) AS first, max(number) AS last FROM event GROUP BY account, livemode
) e ON (e.account, e.livemode) = (h.account, h.livemode)
ORDER BY 1, 2
"""
# Whatever ends a payment is announced once, in the commit that ends it.
_ENDS: Final = """
SELECT coalesce(p.account, e.account) AS account, coalesce(p.livemode, e.livemode) AS livemode,
       coalesce(p.state, e.state) AS state, coalesce(p.count, 0) AS payments, coalesce(e.count, 0) AS events
FROM (SELECT account, livemode, state, count(*) AS count FROM payment WHERE state IN ('succeeded', 'canceled')
      GROUP BY account, livemode, state) p
FULL JOIN (SELECT account, livemode, split_part(type, '.', 2) AS state, count(*) AS count FROM event
           WHERE type IN ('payment_intent.succeeded', 'payment_intent.canceled') GROUP BY 1, 2, 3) e
    ON (e.account, e.livemode, e.state) = (p.account, p.livemode, p.state)
WHERE p.count IS DISTINCT FROM e.count
"""


async def positions(x: Examination) -> int:
    """Each partition's entries run up to its head, and whatever has been tidied away had been applied."""
    rows = await x.connection.fetch(_POSITIONS)
    for row in rows:
        subject = f"topic {row['topic']} partition {row['partition']}"
        if row["count"] and row["count"] != row["last"] - row["first"] + 1:
            gap = await x.connection.fetchval(_GAP, row["topic"], row["partition"])
            x.violation(subject, f"no entry has the position {gap}")
        elif problem := _ends_wrong(row):
            x.violation(subject, problem)
    for row in await x.connection.fetch(_PARKED_BEYOND):
        x.violation(f"{row['consumer']} {row['key']}", f"keeps the entry {row['position']}, which its consumer has not come to")
    for row in await x.connection.fetch(_DEAD_LETTERS):
        x.note(row["id"], f"a dead letter of the consumer {row['consumer']} keeps {row['key']} closed: {row['reason']}")
    return sum(row["count"] for row in rows)


def _ends_wrong(row: Any) -> str:
    """What is wrong at the ends of a partition; empty when nothing is."""
    gone_to = row["first"] - 1 if row["count"] else row["head"]
    if row["count"] and row["last"] != row["head"]:
        return f"the head stands at {row['head']} and the last entry at {row['last']}"
    if row["most"] is not None and row["most"] > row["head"]:
        return f"a consumer has applied {row['most']} and the head stands at {row['head']}"
    if gone_to > 0 and (row["least"] is None or row["least"] < gone_to):
        return f"entries up to {gone_to} are gone, and a consumer has applied only {row['least'] or 0}"
    return ""


async def events(x: Examination) -> int:
    """Each account's events are numbered from 1 to its head; each end of a payment has one."""
    rows = await x.connection.fetch(_EVENTS)
    for row in rows:
        if (row["count"], row["first"], row["last"]) != ((row["head"], 1, row["head"]) if row["head"] else (0, None, None)):
            x.violation(
                f"{row['account']} {'live' if row['livemode'] else 'test'}",
                f"{row['count']} events from {row['first']} to {row['last']}, and the head stands at {row['head']}",
            )
    for row in await x.connection.fetch(_ENDS):
        x.violation(row["account"], f"{row['payments']} payments are {row['state']}, and {row['events']} events say so")
    return sum(row["count"] for row in rows)
