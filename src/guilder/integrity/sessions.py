"""Invariants of Checkout Sessions: an order's state agrees with its payment's, and each end of one was announced once."""

from typing import Final

from guilder.core.clock import MINUTE
from guilder.integrity.model import Examination

# By when the worker has heard of a payment; later it is no delay any more.
HEARD_AFTER: Final = 5 * MINUTE

_COUNT: Final = "SELECT count(*) FROM checkout_session"
_LOST: Final = """
SELECT s.id, s.payment FROM checkout_session s WHERE s.payment IS NOT NULL
  AND NOT EXISTS (SELECT FROM payment p WHERE (p.id, p.account, p.livemode) = (s.payment, s.account, s.livemode))
"""
# An expired order took no money; a complete one took it or holds it, or its authorization was let go later.
_DISAGREEING: Final = """
SELECT s.id, s.state, p.id AS payment, p.state AS payment_state FROM checkout_session s LEFT JOIN payment p ON p.id = s.payment
WHERE (s.state = 'expired' AND p.state <> 'canceled')
   OR (s.state = 'complete' AND (p.id IS NULL OR p.state NOT IN ('succeeded', 'requires_capture', 'processing', 'canceled')))
"""
_UNHEARD: Final = """
SELECT s.id, p.id AS payment FROM checkout_session s JOIN payment p ON p.id = s.payment
WHERE s.state = 'open' AND p.state IN ('succeeded', 'requires_capture') AND coalesce(s.due_at, 0) < $1
"""
_ENDS: Final = """
SELECT coalesce(s.account, e.account) AS account, coalesce(s.state, e.state) AS state, coalesce(s.count, 0) AS sessions,
       coalesce(e.count, 0) AS events
FROM (SELECT account, livemode, state, count(*) AS count FROM checkout_session WHERE state <> 'open' GROUP BY 1, 2, 3) s
FULL JOIN (SELECT account, livemode, CASE type WHEN 'checkout.session.completed' THEN 'complete' ELSE 'expired' END AS state,
                  count(*) AS count FROM event
           WHERE type IN ('checkout.session.completed', 'checkout.session.expired') GROUP BY 1, 2, 3) e
    ON (e.account, e.livemode, e.state) = (s.account, s.livemode, s.state)
WHERE s.count IS DISTINCT FROM e.count
"""


async def sessions(x: Examination) -> int:
    """Each order's state agrees with its payment's; each end of one has one event."""
    for row in await x.connection.fetch(_LOST):
        x.violation(row["id"], f"its payment {row['payment']} does not exist")
    for row in await x.connection.fetch(_DISAGREEING):
        x.violation(row["id"], f"it is {row['state']}, and its payment {row['payment'] or 'none'} is {row['payment_state'] or 'not there'}")
    for row in await x.connection.fetch(_UNHEARD, x.now - HEARD_AFTER):
        x.violation(row["id"], f"its payment {row['payment']} is paid or held, and it is still open")
    for row in await x.connection.fetch(_ENDS):
        x.violation(row["account"], f"{row['sessions']} sessions are {row['state']}, and {row['events']} events say so")
    return int(await x.connection.fetchval(_COUNT))
