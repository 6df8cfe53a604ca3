"""The ledger's invariants, from the transfers themselves: what stands on accounts, and their balance rows, are what is being checked.

Every transfer is added up each time: a figure that stands somewhere proves nothing about itself. It takes about 3 us a transfer,
half a minute for ten million. What stands on an account is one look-up, however large the books are.
"""

from collections import defaultdict
from typing import Final

from guilder.integrity.model import Examination, Sums

# Transfers in one statement: below a second of work, so that progress shows.
PIECE: Final = 200_000
# Ledger accounts in one statement.
ACCOUNTS_PIECE: Final = 20_000

_HEADS: Final = "SELECT livemode, last_index FROM ledger_head ORDER BY livemode"
_COUNTED: Final = "SELECT count(*) AS count, min(index) AS first, max(index) AS last FROM ledger_transfer WHERE livemode = $1"

# The first index of a piece that is missing.
_GAP: Final = """
SELECT min(x.before) + 1 FROM (
    SELECT index, lag(index, 1, $2) OVER (ORDER BY index) AS before
    FROM ledger_transfer WHERE livemode = $1 AND index > $2 AND index <= $3
) x WHERE x.index <> x.before + 1
"""
# The first transfer of a piece whose time is before that of the transfer before it.
_STEP_BACK: Final = """
SELECT min(x.index) FROM (
    SELECT index, created_at, lag(created_at) OVER (ORDER BY index) AS before
    FROM ledger_transfer WHERE livemode = $1 AND index >= $2 AND index <= $3
) x WHERE x.created_at < x.before
"""

# What the transfers of a piece moved, by ledger account. A resolution frees all of what its pending transfer held.
_MOVED: Final = """
SELECT s.number, sum(s.debit) AS debits_posted, sum(s.debit_held) AS debits_pending, sum(s.credit) AS credits_posted,
       sum(s.credit_held) AS credits_pending
FROM (
    SELECT t.debit, t.credit, CASE WHEN t.kind IN (0, 2) THEN t.amount ELSE 0 END AS posted,
           CASE WHEN t.kind = 1 THEN t.amount WHEN t.kind > 1 THEN -coalesce(p.amount, 0) ELSE 0 END AS held
    FROM ledger_transfer t
    LEFT JOIN LATERAL (SELECT z.amount FROM ledger_transfer z WHERE z.id = t.pending_id OFFSET 0) p ON true
    WHERE t.livemode = $1 AND t.index > $2 AND t.index <= $3
) m
CROSS JOIN LATERAL (VALUES (m.debit, m.posted, m.held, 0, 0), (m.credit, 0, 0, m.posted, m.held))
    AS s(number, debit, debit_held, credit, credit_held)
GROUP BY s.number
"""

# Transfers of a piece that cannot be: another currency, merchant or mode than their ledger accounts', or a resolution of what
# is not pending, or of more than was held, or between other accounts.
_IMPOSSIBLE: Final = """
SELECT t.id, CASE
    WHEN d.number IS NULL OR c.number IS NULL THEN 'names a ledger account that does not exist'
    WHEN (d.currency, d.account, d.livemode) IS DISTINCT FROM (t.currency, t.account, t.livemode)
      OR (c.currency, c.account, c.livemode) IS DISTINCT FROM (t.currency, t.account, t.livemode)
        THEN 'has another currency, merchant or mode than its ledger accounts'
    WHEN p.kind IS DISTINCT FROM 1 THEN 'resolves a transfer that is not pending'
    ELSE 'resolves a pending transfer by another amount or between other ledger accounts' END AS why
FROM ledger_transfer t
LEFT JOIN ledger_account d ON d.number = t.debit
LEFT JOIN ledger_account c ON c.number = t.credit
LEFT JOIN LATERAL (SELECT z.kind, z.amount, z.debit, z.credit FROM ledger_transfer z WHERE z.id = t.pending_id OFFSET 0) p ON true
WHERE t.livemode = $1 AND t.index > $2 AND t.index <= $3 AND (
    d.number IS NULL OR c.number IS NULL
    OR (d.currency, d.account, d.livemode) IS DISTINCT FROM (t.currency, t.account, t.livemode)
    OR (c.currency, c.account, c.livemode) IS DISTINCT FROM (t.currency, t.account, t.livemode)
    OR (t.kind > 1 AND (p.kind IS DISTINCT FROM 1 OR t.amount > p.amount OR t.debit <> p.debit OR t.credit <> p.credit)))
ORDER BY t.index
"""

# Where each ledger account stands: by the row that booking reads, and by its newest balance row, which is in the last chunk
# that it moved in. Both are one look-up, however large the books are.
_STANDS: Final = """
SELECT a.number, a.id, s.debits_posted, s.debits_pending, s.credits_posted, s.credits_pending,
       b.debits_posted AS kept_debits_posted, b.debits_pending AS kept_debits_pending,
       b.credits_posted AS kept_credits_posted, b.credits_pending AS kept_credits_pending,
       (s.account, s.livemode, s.currency, s.closed) IS NOT DISTINCT FROM (a.account, a.livemode, a.currency, a.closed_at IS NOT NULL)
           AS same
FROM ledger_account a
LEFT JOIN LATERAL (SELECT z.* FROM ledger_standing z WHERE z.number = a.number OFFSET 0) s ON true
LEFT JOIN LATERAL (
    SELECT z.* FROM ledger_balance z WHERE z.chunk = s.last_chunk AND z.number = a.number ORDER BY z.created_at DESC LIMIT 1) b ON true
WHERE a.number > $1 ORDER BY a.number LIMIT $2
"""

# The same added up: what both sides of the books come to.
_TRIAL: Final = """
SELECT account, livemode, currency, count(*) AS accounts, sum(debits_posted) AS debits_posted,
       sum(credits_posted) AS credits_posted, sum(debits_pending) AS debits_pending, sum(credits_pending) AS credits_pending
FROM ledger_standing GROUP BY account, livemode, currency ORDER BY account, livemode, currency
"""

_SIDES: Final = ("debits_posted", "debits_pending", "credits_posted", "credits_pending")


async def index(x: Examination) -> int:
    """The index of each book runs from 1 to its head without a gap, and times order as indexes do."""
    heads = await x.connection.fetch(_HEADS)
    total, done = sum(int(head["last_index"]) for head in heads), 0
    for livemode, last in heads:
        counted = await x.connection.fetchrow(_COUNTED, livemode)
        count, first, newest = counted if counted else (0, None, None)
        whole = (count, first, newest) == ((last, 1, last) if last else (0, None, None))
        if newest is not None and newest > last:
            x.violation(_book(livemode), f"the head stands at {last} and a transfer at {newest}")
        for start in range(0, last, PIECE):
            end = min(start + PIECE, last)
            if not whole and (gap := await x.connection.fetchval(_GAP, livemode, start, end)) is not None:
                x.violation(_book(livemode), f"no transfer has the index {gap}")
            if (step := await x.connection.fetchval(_STEP_BACK, livemode, start, end)) is not None:
                x.violation(_book(livemode), f"the transfer with the index {step} is older than the one before it")
            done += end - start
            x.progress(done, total)
        if not whole and not x.violated:
            x.violation(_book(livemode), f"{count} transfers stand below the head's {last}")
    return total


async def accounts(x: Examination) -> int:
    """Add up every transfer and compare with what stands on each account; no transfer is an impossible one."""
    heads = await x.connection.fetch(_HEADS)
    total, done = sum(int(head["last_index"]) for head in heads), 0
    recount: dict[int, Sums] = defaultdict(Sums)
    for livemode, last in heads:
        for start in range(0, last, PIECE):
            end = min(start + PIECE, last)
            for row in await x.connection.fetch(_MOVED, livemode, start, end):
                sums = recount[row["number"]]
                for side in _SIDES:
                    setattr(sums, side, getattr(sums, side) + int(row[side]))
            for row in await x.connection.fetch(_IMPOSSIBLE, livemode, start, end):
                x.violation(row["id"], f"this transfer {row['why']}")
            done += end - start
            x.progress(done, total)
    x.recount = dict(recount)
    await _compare(x)
    return total


async def _compare(x: Examination) -> None:
    """What stands on each ledger account, twice over, against the sum of its transfers."""
    last, seen = 0, 0
    while rows := await x.connection.fetch(_STANDS, last, ACCOUNTS_PIECE):
        for row in rows:
            sums = x.recount.get(row["number"], Sums())
            seen += row["number"] in x.recount
            if not row["same"]:
                x.violation(row["id"], "what booking reads of it names another merchant, mode or currency, or whether it is closed")
            for side in _SIDES:
                counted = getattr(sums, side)
                for stands, where in ((row[side], "stands at"), (row[f"kept_{side}"], "in its newest balance row is")):
                    if (stands or 0) != counted:
                        x.violation(row["id"], f"{side} {where} {stands} and its transfers add up to {counted}")
        last = rows[-1]["number"]
    if seen < len(x.recount):
        x.violation("ledger_account", f"{len(x.recount) - seen} ledger accounts that transfers name do not exist")


async def trial_balance(x: Examination) -> int:
    """Both sides of the books come to the same, posted and pending."""
    lines = await x.connection.fetch(_TRIAL)
    for line in lines:
        for state in ("posted", "pending"):
            debits, credits_ = int(line[f"debits_{state}"]), int(line[f"credits_{state}"])
            if debits != credits_:
                subject = f"{line['account']} {'live' if line['livemode'] else 'test'} {line['currency']}"
                x.violation(subject, f"{state} debits are {debits} and {state} credits {credits_}")
    return sum(line["accounts"] for line in lines)


def _book(livemode: bool) -> str:
    return "live book" if livemode else "test book"
