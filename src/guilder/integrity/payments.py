"""Payments, charges and refunds against the attempts that made them."""

from typing import Final

from guilder.integrity.model import Examination

# What the approved attempts of each payment took; an authentication moves nothing, whatever follows it.
_APPROVED: Final = """
    SELECT payment, count(*) FILTER (WHERE operation IN ('purchase', 'authorize')) AS count,
           coalesce(sum(amount) FILTER (WHERE operation IN ('purchase', 'capture')), 0) AS taken
    FROM attempt WHERE state = 'approved' AND refund IS NULL AND operation <> 'authenticate' GROUP BY payment
"""
_CHARGES: Final = f"""
SELECT coalesce(c.id, a.payment) AS subject, c.succeeded, c.captured, coalesce(a.count, 0) AS count, coalesce(a.taken, 0) AS taken
FROM (SELECT * FROM charge WHERE succeeded) c FULL JOIN ({_APPROVED}) a ON a.payment = c.payment
WHERE c.id IS NULL OR a.count IS DISTINCT FROM 1 OR c.captured <> a.taken
"""
_FAILED_CHARGES: Final = "SELECT id FROM charge WHERE NOT succeeded AND (captured, refunded, refunding) <> (0, 0, 0)"

# An authorization's hold stands in the ledger until it is captured or let go, and no longer.
_HOLDS: Final = """
SELECT c.id AS subject, p.state, c.captured, t.kind AS held, r.kind AS resolved, r.amount
FROM charge c JOIN payment p ON p.id = c.payment
LEFT JOIN ledger_transfer t ON t.id = c.hold
LEFT JOIN LATERAL (SELECT z.kind, z.amount FROM ledger_transfer z WHERE z.pending_id = c.hold OFFSET 0) r ON true
WHERE c.hold IS NOT NULL AND (t.kind IS DISTINCT FROM 1 OR CASE
    WHEN c.captured > 0 THEN r.kind IS DISTINCT FROM 2 OR r.amount IS DISTINCT FROM c.captured
    WHEN p.state = 'canceled' THEN r.kind IS DISTINCT FROM 3
    ELSE r.kind IS NOT NULL END)
"""

# What a charge says was given back, or is being given back, is the sum of its refunds.
_GIVEN_BACK: Final = """
SELECT coalesce(c.id, r.charge) AS subject, c.refunded, c.refunding, coalesce(r.done, 0) AS done,
       coalesce(r.under_way, 0) AS under_way
FROM charge c FULL JOIN (
    SELECT charge, coalesce(sum(amount) FILTER (WHERE state = 'succeeded'), 0) AS done,
           coalesce(sum(amount) FILTER (WHERE state = 'pending'), 0) AS under_way
    FROM refund GROUP BY charge) r ON r.charge = c.id
WHERE c.refunded IS DISTINCT FROM coalesce(r.done, 0) OR c.refunding IS DISTINCT FROM coalesce(r.under_way, 0)
"""

# One that succeeded was paid once; beyond that an approved attempt is booked as returned by the buyer's bank (docs/ledger.md,
# code 13), or as paid beyond what was asked for. One attempt may have been paid more often: truth.py holds that against the bank.
_REFUND_ATTEMPTS: Final = """
SELECT r.id AS subject, r.state, r.amount, coalesce(a.count, 0) AS count, coalesce(a.amount, 0) AS paid
FROM refund r LEFT JOIN (
    SELECT refund, count(*) AS count, sum(amount) AS amount FROM attempt WHERE refund IS NOT NULL AND state = 'approved'
    GROUP BY refund
) a ON a.refund = r.id
LEFT JOIN (SELECT reference, sum(amount) AS amount FROM ledger_transfer WHERE code = 13 GROUP BY reference) t ON t.reference = r.id
LEFT JOIN (SELECT source, -sum(amount) AS amount FROM balance_transaction WHERE type = 'adjustment' GROUP BY source) b ON b.source = r.id
CROSS JOIN LATERAL (SELECT CASE r.state WHEN 'succeeded' THEN r.amount ELSE 0 END + coalesce(t.amount, 0) AS once) w
WHERE coalesce(a.amount, 0) <> coalesce(a.count, 0) * r.amount
   OR coalesce(a.amount, 0) NOT BETWEEN w.once AND w.once + coalesce(b.amount, 0)
   OR (w.once + coalesce(b.amount, 0)) % r.amount <> 0
"""
# A refund that is under way has its attempt, and one that is not has none.
_REFUNDS_UNDER_WAY: Final = """
SELECT r.id AS subject, r.state, r.waiting, o.attempt
FROM refund r LEFT JOIN LATERAL (
    SELECT z.attempt FROM attempt_open z WHERE z.payment = r.payment AND z.slot = 'refund:' || r.id OFFSET 0) o ON true
WHERE (r.state = 'pending' AND NOT r.waiting) <> (o.attempt IS NOT NULL)
"""

_STATES: Final = """
SELECT p.id AS subject, p.state, c.id AS charge, c.captured
FROM payment p LEFT JOIN LATERAL (SELECT z.id, z.captured FROM charge z WHERE z.payment = p.id AND z.succeeded OFFSET 0) c ON true
WHERE CASE p.state
    WHEN 'succeeded' THEN coalesce(c.captured, 0) = 0
    WHEN 'requires_capture' THEN c.captured IS DISTINCT FROM 0
    WHEN 'canceled' THEN c.captured > 0
    WHEN 'processing' THEN c.captured > 0
    ELSE c.id IS NOT NULL END
"""
# `processing` means that an attempt holds the payment's slot, and nothing else does; but for a page at the PSP, which holds it
# while its buyer may pay there, and while it is undone after the payment was given up.
_PROCESSING: Final = """
SELECT p.id AS subject, p.state, o.attempt
FROM payment p LEFT JOIN LATERAL (
    SELECT z.attempt, z.state FROM attempt_open z WHERE z.payment = p.id AND z.slot = 'payment' OFFSET 0) o ON true
WHERE (p.state = 'processing') <> (o.attempt IS NOT NULL)
  AND (p.state, o.state) IS DISTINCT FROM ('requires_action', 'awaiting_buyer')
  AND (p.state, o.state) IS DISTINCT FROM ('canceled', 'reversing')
"""

# Whose buyer is with his bank, or at the PSP's page, waits for him, and nobody else does; what wanted him has a challenge.
_WAITING: Final = """
SELECT coalesce(p.id, c.payment) AS subject, p.state, c.payment IS NOT NULL AS waits
FROM (SELECT * FROM payment WHERE state = 'requires_action') p
FULL JOIN (SELECT payment FROM challenge WHERE state = 'open'
           UNION ALL SELECT payment FROM attempt_open WHERE state = 'awaiting_buyer') c ON c.payment = p.id
WHERE p.id IS NULL OR c.payment IS NULL
"""
_CHALLENGES: Final = """
SELECT coalesce(a.id, c.attempt) AS subject, a.operation, a.state, c.state AS challenge
FROM (SELECT * FROM attempt WHERE state = 'action_required') a
FULL JOIN (SELECT payment, attempt, state FROM challenge) c ON c.attempt = a.id
WHERE a.id IS NULL OR c.state IS NULL OR a.operation <> 'authenticate' OR a.payment <> c.payment
"""
# One that was passed has led to the authorization that carries its proof, accepted in the same commit.
_LED_NOWHERE: Final = """
SELECT c.attempt AS subject, c.state FROM challenge c
WHERE c.state IN ('passed', 'attempted') AND NOT EXISTS (
    SELECT FROM attempt a WHERE a.payment = c.payment AND a.operation IN ('purchase', 'authorize') AND a.created_at = c.ended_at)
"""

# Keys without an answer on whose object nothing is under way any more.
_UNANSWERED: Final = """
SELECT k.key, k.object FROM idempotency_key k
WHERE k.answer IS NULL AND NOT EXISTS (
    SELECT FROM attempt_open o
    WHERE (o.payment, o.slot) = (k.object, 'payment')
       OR (o.payment, o.slot) = ((SELECT r.payment FROM refund r WHERE r.id = k.object), 'refund:' || k.object))
"""


async def charges(x: Examination) -> int:
    """Each succeeded charge has one approved attempt that made it, and what it took; failed ones took nothing."""
    for row in await x.connection.fetch(_CHARGES):
        if row["captured"] is None:
            x.violation(row["subject"], f"{row['count']} approved attempts, and no charge that succeeded")
        else:
            x.violation(
                row["subject"],
                f"{row['count']} approved attempts made this charge; they took {row['taken']}, it says {row['captured']}",
            )
    for row in await x.connection.fetch(_FAILED_CHARGES):
        x.violation(row["id"], "a failed charge has money in it")
    for row in await x.connection.fetch(_HOLDS):
        hold = f"its hold is resolved by {row['amount'] or 'nothing'}"
        x.violation(row["subject"], f"its payment is {row['state']}, {row['captured']} is captured, and {hold}")
    for row in await x.connection.fetch(_GIVEN_BACK):
        says, said = f"{row['refunded']} and {row['refunding']}", f"{row['done']} and {row['under_way']}"
        x.violation(row["subject"], f"says that {says} is refunded and on its way; its refunds say {said}")
    return await x.count("charge")


async def refunds(x: Examination) -> int:
    """A refund that succeeded was paid once, and no other was; one that is under way has its attempt."""
    for row in await x.connection.fetch(_REFUND_ATTEMPTS):
        x.violation(row["subject"], f"{row['state']}, and {row['count']} approved attempts paid {row['paid']} of {row['amount']}")
    for row in await x.connection.fetch(_REFUNDS_UNDER_WAY):
        what = f"attempt {row['attempt']} is open for it" if row["attempt"] else "no attempt is open for it"
        x.violation(row["subject"], f"{row['state']}{' (waits for money)' if row['waiting'] else ''}, and {what}")
    return await x.count("refund")


async def payments(x: Examination) -> int:
    """States against charges, `processing` against the slot, `requires_action` against the buyer who is waited for."""
    for row in await x.connection.fetch(_STATES):
        charge = f"its charge is {row['charge'] or 'none'} with {row['captured'] or 0} captured"
        x.violation(row["subject"], f"{row['state']}, and {charge}")
    for row in await x.connection.fetch(_PROCESSING):
        x.violation(row["subject"], f"{row['state']}, and {row['attempt'] or 'no attempt'} holds its slot")
    for row in await x.connection.fetch(_WAITING):
        wrong = "waits for its buyer, and has sent him nowhere" if row["state"] else "has sent its buyer away, and does not wait for him"
        x.violation(row["subject"], wrong)
    for row in await x.connection.fetch(_CHALLENGES):
        what = f"{row['operation'] or 'no attempt'} {row['state'] or ''}".strip()
        x.violation(row["subject"], f"is {what}, and its challenge is {row['challenge'] or 'none'}")
    for row in await x.connection.fetch(_LED_NOWHERE):
        x.violation(row["subject"], f"its challenge is {row['state']}, and no authorization was accepted with that")
    return await x.count("payment")


async def keys(x: Examination) -> int:
    """A key without an answer is one whose request is under way."""
    for row in await x.connection.fetch(_UNANSWERED):
        x.violation(row["key"], f"nothing is under way for {row['object'] or 'it'}, and no answer is stored")
    return await x.count("idempotency_key")
