"""The bank's truth against the books: every effect has its intent, and every outcome its effect, to the minor unit.

Only the sandbox has a witness that tells all. Payments go on while we look, so the order matters: the truth is read
first, the books after it. Each effect then has its attempt in the books for certain, because that was committed before
a byte was sent. An outcome may be younger than what we read of the truth; what does not agree is therefore looked at
once more, against a truth that is read again.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec
from msgspec import Struct

from guilder.integrity.model import Examination, Skipped
from guilder.integrity.witness import Lines

# Effects that are handed to the database at once.
PIECE: Final = 10_000
# More differences than this are not looked at again one by one: the two have nothing to do with each other.
SUSPECTS_MAX: Final = 100_000

_TABLE: Final = """
CREATE TEMP TABLE IF NOT EXISTS effect (
    reference text COLLATE "C" NOT NULL, original text COLLATE "C", kind text NOT NULL, undone text, amount bigint NOT NULL,
    currency text COLLATE "C" NOT NULL, result text, proof text COLLATE "C"
);
CREATE TEMP TABLE IF NOT EXISTS net (
    reference text COLLATE "C" PRIMARY KEY, authorized bigint NOT NULL, captured bigint NOT NULL, refunded bigint NOT NULL,
    voids bigint NOT NULL, voided bigint NOT NULL, unauthorized bigint NOT NULL, uncaptured bigint NOT NULL,
    unrefunded bigint NOT NULL, currency text COLLATE "C", currencies bigint NOT NULL
);
TRUNCATE effect, net
"""
_COLUMNS: Final = ("reference", "original", "kind", "undone", "amount", "currency", "result", "proof")

# What each reference did, and what was done to it: voids and reversals name what they act on.
_NET: Final = """
INSERT INTO net
SELECT x.reference, sum(x.authorized), sum(x.captured), sum(x.refunded), sum(x.voids), sum(x.voided), sum(x.unauthorized),
       sum(x.uncaptured), sum(x.unrefunded), min(x.currency), count(DISTINCT x.currency)
FROM (
    SELECT reference, currency,
           CASE kind WHEN 'authorization' THEN amount ELSE 0 END AS authorized,
           CASE kind WHEN 'capture' THEN amount ELSE 0 END AS captured,
           CASE kind WHEN 'refund' THEN amount ELSE 0 END AS refunded, CASE kind WHEN 'void' THEN 1 ELSE 0 END AS voids,
           0 AS voided, 0 AS unauthorized, 0 AS uncaptured, 0 AS unrefunded
    FROM effect WHERE undone IS NULL
    UNION ALL
    SELECT original, currency, 0, 0, 0, 0, CASE kind WHEN 'void' THEN amount ELSE 0 END,
           CASE undone WHEN 'authorization' THEN amount ELSE 0 END, CASE undone WHEN 'capture' THEN amount ELSE 0 END,
           CASE undone WHEN 'refund' THEN amount ELSE 0 END
    FROM effect WHERE kind IN ('void', 'reversal')
) x WHERE x.reference IS NOT NULL GROUP BY x.reference
"""

# Of this witness's bank. Stored facts are an array of more than fifteen, a head of three bytes, and the connector comes first.
# $2: the names of connectors to other banks, as they are stored.
_HERE: Final = "NOT EXISTS (SELECT FROM unnest($2::bytea[]) o(name) WHERE substring(facts FROM 4 FOR length(o.name)) = o.name)"
# The verdict about each attempt and each reference; only what does not agree comes back. $1: only these references; null for all.
_DIFFERENCES: Final = f"""
SELECT x.reference, x.id, x.operation, x.state, x.amount, x.currency, x.why, x.authorized - x.unauthorized - x.voided AS held,
       x.captured - x.uncaptured AS taken, x.refunded - x.unrefunded AS given_back, x.said
FROM (
    SELECT coalesce(a.reference, n.reference) AS reference, a.id, a.operation, a.state, a.amount, a.currency, n.currency AS said,
        coalesce(n.authorized, 0) AS authorized, coalesce(n.unauthorized, 0) AS unauthorized, coalesce(n.voided, 0) AS voided,
        coalesce(n.captured, 0) AS captured, coalesce(n.uncaptured, 0) AS uncaptured, coalesce(n.refunded, 0) AS refunded,
        coalesce(n.unrefunded, 0) AS unrefunded,
        CASE
        WHEN a.id IS NULL THEN 'no_intent'
        WHEN n.currencies > 1 OR n.currency <> a.currency THEN 'currency'
        WHEN a.state IS NULL THEN
            CASE WHEN greatest(n.authorized, n.captured, n.refunded) > a.amount THEN 'more' END
        WHEN a.state = 'approved' AND a.operation = 'purchase' THEN
            CASE WHEN (n.authorized, n.captured, n.voided, n.unauthorized, n.uncaptured)
                      IS DISTINCT FROM (a.amount, a.amount, 0, 0, 0) THEN 'approved' END
        WHEN a.state = 'approved' AND a.operation = 'authorize' THEN
            CASE WHEN (n.authorized, n.unauthorized) IS DISTINCT FROM (a.amount, 0) OR n.voided NOT IN (0, a.amount)
                 THEN 'approved' END
        WHEN a.state = 'approved' AND a.operation = 'capture' THEN
            CASE WHEN (n.captured, n.uncaptured) IS DISTINCT FROM (a.amount, 0) THEN 'approved' END
        WHEN a.state = 'approved' AND a.operation = 'refund' THEN
            CASE WHEN n.refunded > a.amount AND n.unrefunded = 0 THEN
                CASE WHEN n.refunded - a.amount <= (SELECT -sum(b.amount) FROM balance_transaction b
                                                    WHERE b.source = a.refund AND b.type = 'adjustment') THEN NULL
                     WHEN EXISTS (SELECT FROM attempt_open o WHERE (o.payment, o.slot) = (a.payment, 'recheck:' || a.id))
                     THEN 'asked_again' ELSE 'approved' END
                 WHEN n.refunded IS DISTINCT FROM a.amount THEN 'approved' WHEN n.unrefunded = a.amount THEN 'returned'
                 WHEN n.unrefunded <> 0 THEN 'approved' END
        WHEN a.state = 'approved' THEN NULL
        WHEN (n.authorized - n.unauthorized - n.voided, n.captured - n.uncaptured, n.refunded - n.unrefunded, n.voids)
             <> (0, 0, 0, 0) THEN
            CASE WHEN EXISTS (SELECT FROM attempt_open o WHERE (o.payment, o.slot) = (a.payment, 'recheck:' || a.id))
                 THEN 'asked_again' ELSE 'no_effect' END
        END AS why
    FROM (SELECT * FROM attempt WHERE NOT livemode AND ($1::text[] IS NULL OR reference = ANY ($1)) AND {_HERE}) a
    FULL JOIN (SELECT * FROM net WHERE $1::text[] IS NULL OR reference = ANY ($1)) n ON n.reference = a.reference
) x WHERE x.why IS NOT NULL ORDER BY x.reference
"""
# Voids that we count as done, whose authorization the bank still holds. A capture ends the hold, also one that was reversed.
_HELD: Final = """
SELECT v.id, a.reference, n.authorized - n.unauthorized - n.voided AS held
FROM attempt v
JOIN attempt a ON a.payment = v.payment AND a.operation = 'authorize' AND a.state = 'approved'
JOIN net n ON n.reference = a.reference
WHERE v.operation = 'void' AND v.state = 'approved' AND NOT v.livemode AND n.authorized - n.unauthorized - n.voided <> 0
  AND NOT EXISTS (SELECT FROM effect e WHERE e.original = a.reference AND e.kind = 'capture')
  AND ($1::text[] IS NULL OR a.reference = ANY ($1)) ORDER BY v.id
"""
# Buyers that we count as authenticated, and whose issuer never said so.
_UNPROVED: Final = f"""
SELECT a.id, a.reference FROM attempt a
WHERE a.operation = 'authenticate' AND NOT a.livemode
  AND (a.state = 'approved' OR EXISTS (SELECT FROM challenge c WHERE c.attempt = a.id AND c.state IN ('passed', 'attempted')))
  AND NOT EXISTS (SELECT FROM effect e WHERE e.reference = a.reference AND e.kind = 'authentication' AND e.result IN ('Y', 'A'))
  AND ($1::text[] IS NULL OR a.reference = ANY ($1)) AND {_HERE} ORDER BY a.id
"""
# Authorizations that were proved with an authentication of another payment, or of none.
_WRONG_PROOF: Final = """
SELECT a.id, a.reference, e.proof FROM effect e
JOIN attempt a ON a.reference = e.reference AND NOT a.livemode
LEFT JOIN attempt o ON o.reference = e.proof AND o.payment = a.payment AND o.operation = 'authenticate'
WHERE e.proof IS NOT NULL AND o.id IS NULL AND ($1::text[] IS NULL OR a.reference = ANY ($1)) ORDER BY a.id
"""
# Refunds of which we have booked more as paid twice than the bank has paid beyond what the books count as the refund itself, which may be
# nothing: it had failed, and was found paid when its room was another's. Each attempt of it is told, to be looked at again.
_BEYOND: Final = f"""
SELECT x.reference, x.id, x.booked, x.paid FROM (
    SELECT a.reference, r.id, b.booked, coalesce(sum(n.refunded) OVER (PARTITION BY r.id), 0)
           - CASE r.state WHEN 'succeeded' THEN r.amount ELSE 0 END - coalesce(t.amount, 0) AS paid
    FROM (SELECT source, -sum(amount) AS booked FROM balance_transaction WHERE type = 'adjustment' AND NOT livemode GROUP BY source) b
    JOIN refund r ON r.id = b.source
    LEFT JOIN (SELECT reference, sum(amount) AS amount FROM ledger_transfer WHERE code = 13 GROUP BY reference) t ON t.reference = r.id
    JOIN (SELECT * FROM attempt WHERE {_HERE}) a ON a.payment = r.payment AND a.refund = r.id
    LEFT JOIN net n ON n.reference = a.reference
    WHERE $1::text[] IS NULL OR a.reference = ANY ($1)
) x WHERE x.booked > x.paid ORDER BY x.id
"""
# Effects that act on what belongs to another payment.
_STRAYS: Final = """
SELECT a.id, e.kind, e.original FROM effect e
JOIN attempt a ON a.reference = e.reference AND NOT a.livemode
LEFT JOIN attempt o ON o.reference = e.original AND o.payment = a.payment
WHERE e.original IS NOT NULL AND e.undone IS NULL AND o.id IS NULL ORDER BY a.id
"""


class _Effect(Struct):
    """A line of the truth."""

    reference: str
    original: str | None
    kind: str
    amount: int
    currency: str
    reversed: str | None = None
    result: str | None = None
    proof: str | None = None


class _Difference(Struct, frozen=True):
    """Something that does not agree: the reference to look at again, about what, and how."""

    reference: str
    subject: str
    message: str
    allowed: bool = False


_effect: Final = msgspec.json.Decoder(_Effect).decode


async def truth(x: Examination) -> int:
    """Each approved attempt moved its amount at the bank, no other moved anything, and nothing moved without an attempt."""
    if x.witness is None:
        raise Skipped("no sandbox bank world to ask")
    examined = await _load(x, x.witness, only=None)
    found, strays = await _differences(x, None), await _strays(x)
    if x.running and any(not one.allowed for one in found) and len(found) <= SUSPECTS_MAX:
        suspects = {one.reference for one in found}
        await _load(x, x.witness, only=suspects)
        found = await _differences(x, sorted(suspects))
    for one in found + strays:
        if one.allowed:
            x.note(one.subject, one.message)
        else:
            x.violation(one.subject, one.message)
    return examined


async def _load(x: Examination, witness: Lines, *, only: Collection[str] | None) -> int:
    """Read the truth into the session's own table; returns how many effects it tells of."""
    await x.connection.execute(_TABLE)
    lines, count = witness(), 0
    while piece := await asyncio.to_thread(_read, lines):
        count += len(piece)
        wanted = piece if only is None else [one for one in piece if one.reference in only or one.original in only]
        rows = [
            (one.reference, one.original, one.kind, one.reversed, one.amount, one.currency, one.result, one.proof) for one in wanted
        ]
        if rows:
            await x.connection.copy_records_to_table("effect", records=rows, columns=_COLUMNS)
        x.progress(count)
    await x.connection.execute(f"{_NET}; ANALYZE effect, net")
    return count


def _read(lines: Iterator[bytes]) -> list[_Effect]:
    return [_effect(line) for line in islice(lines, PIECE)]


async def _differences(x: Examination, only: Sequence[str] | None) -> list[_Difference]:
    found = []
    elsewhere = [msgspec.msgpack.encode(name) for name in x.elsewhere]
    for row in await x.connection.fetch(_DIFFERENCES, only, elsewhere):
        moved = f"held {row['held']}, took {row['taken']}, gave back {row['given_back']} {row['said'] or ''}".strip()
        words, allowed = _WORDS[row["why"]]
        message = words.format(moved=moved, **dict(row.items()))
        found.append(_Difference(row["reference"], row["id"] or row["reference"], message, allowed))
    found.extend(
        _Difference(row["reference"], row["id"], f"is an approved void, and the bank still holds {row['held']}")
        for row in await x.connection.fetch(_HELD, only)
    )
    found.extend(
        _Difference(row["reference"], row["id"], "counts as authenticated, and the bank has never said so")
        for row in await x.connection.fetch(_UNPROVED, only, elsewhere)
    )
    found.extend(
        _Difference(row["reference"], row["id"], f"was proved with {row['proof']}, which is no authentication of its payment")
        for row in await x.connection.fetch(_WRONG_PROOF, only)
    )
    found.extend(
        _Difference(row["reference"], row["id"], f"counts {row['booked']} as paid beyond it, and the bank paid {max(row['paid'], 0)}")
        for row in await x.connection.fetch(_BEYOND, only, elsewhere)
    )
    return found


async def _strays(x: Examination) -> list[_Difference]:
    return [
        _Difference(row["original"], row["id"], f"the bank's {row['kind']} acts on {row['original']}, another payment's")
        for row in await x.connection.fetch(_STRAYS)
    ]


_WORDS: Final = {
    "no_intent": ("the bank {moved} under {reference}, and we never meant to", False),
    "currency": ("we asked for {amount} {currency}, and the bank {moved}", False),
    "more": ("is an open {operation} of {amount} {currency}, and the bank {moved}", False),
    "approved": ("is an approved {operation} of {amount} {currency}, and the bank {moved}", False),
    "no_effect": ("is a {operation} that ended as {state}, and the bank {moved}", False),
    "asked_again": ("is a {operation} that ended as {state}, and the bank {moved}; it will be asked about again", True),
    "returned": ("is an approved {operation} of {amount} {currency} that the bank has returned since", True),
}
"""What each verdict says, and whether it may be."""
