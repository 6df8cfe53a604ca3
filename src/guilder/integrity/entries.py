"""Three accounts of the same money: the wallet, the ledger under it, and the balance transactions that merchants see."""

from collections import defaultdict
from typing import Final

from guilder.integrity.model import Examination

# The wallet's own view of where it disagrees, day by day.
_DIFFERENCES: Final = "SELECT * FROM wallet_difference ORDER BY account, livemode, currency, day"
# The ledger accounts that make up the wallet.
_WALLET_ACCOUNTS: Final = "SELECT number, account, livemode, currency FROM ledger_account WHERE kind IN ('pending', 'available')"
_ENTRIES: Final = """
SELECT account, livemode, currency, count(*) AS count, sum(amount - fee) AS amount FROM balance_transaction
GROUP BY account, livemode, currency
"""

# Captured charges and balance transactions of captures that do not stand one to one.
_CAPTURES: Final = """
SELECT coalesce(c.id, b.source) AS subject, coalesce(c.captured, 0) AS captured, coalesce(b.count, 0) AS count,
       coalesce(b.amount, 0) AS amount
FROM (SELECT id, account, livemode, captured FROM charge WHERE captured > 0) c
FULL JOIN (
    SELECT source, account, livemode, count(*) AS count, sum(amount) AS amount FROM balance_transaction WHERE type = 'charge'
    GROUP BY source, account, livemode) b ON b.source = c.id AND b.account = c.account AND b.livemode = c.livemode
WHERE b.count IS DISTINCT FROM 1 OR b.amount IS DISTINCT FROM c.captured
"""

# The same for refunds: one entry when the money is set aside, a second one that returns it when the refund has failed; none
# for what waits for money, or was withdrawn while it waited. One that had failed and was found to have been paid has both, and
# a third. What the PSP paid beyond the refund (docs/ledger.md, code 10) shows as an adjustment, in its place.
_REFUNDS: Final = """
SELECT coalesce(r.id, b.source, f.reference) AS subject, r.state, r.amount AS wanted, coalesce(b.taken, 0) AS taken,
       coalesce(b.returned, 0) AS returned, coalesce(b.beyond, 0) AS beyond, coalesce(f.found, 0) AS found
FROM refund r
FULL JOIN (
    SELECT source, -coalesce(sum(amount) FILTER (WHERE type = 'refund'), 0) AS taken,
           coalesce(sum(amount) FILTER (WHERE type = 'refund_failure'), 0) AS returned,
           -coalesce(sum(amount) FILTER (WHERE type = 'adjustment' AND amount < 0), 0) AS beyond
    FROM balance_transaction WHERE type IN ('refund', 'refund_failure', 'adjustment') GROUP BY source) b ON b.source = r.id
FULL JOIN (
    SELECT reference, sum(amount) AS found FROM ledger_transfer WHERE code = 10 GROUP BY reference) f ON f.reference = r.id
WHERE r.id IS NULL OR coalesce(b.beyond, 0) > coalesce(f.found, 0)
   OR coalesce(b.taken, 0) - coalesce(f.found, 0) + coalesce(b.beyond, 0)
      <> CASE WHEN r.waiting OR r.state = 'canceled' THEN 0 ELSE r.amount END
   OR coalesce(b.returned, 0) - coalesce(f.found, 0) + coalesce(b.beyond, 0) <> CASE WHEN r.state = 'failed' THEN r.amount ELSE 0 END
"""


async def wallet(x: Examination) -> int:
    """What the wallet's ledger accounts hold, counted from their transfers, is the sum of the balance transactions."""
    for row in await x.connection.fetch(_DIFFERENCES):
        where = f"day {row['day']}" if row["day"] else row["what"]
        x.violation(
            f"{row['account']} {row['currency']}",
            f"{where}: the ledger holds {row['ledger']} and the balance transactions say {row['balance_transactions']}",
        )
    held: dict[tuple[str, bool, str], int] = defaultdict(int)
    for number, *key in await x.connection.fetch(_WALLET_ACCOUNTS):
        if number in x.recount:
            sums = x.recount[number]
            held[key[0], key[1], key[2]] += sums.credits_posted - sums.debits_posted - sums.debits_pending
    entries = await x.connection.fetch(_ENTRIES)
    said = {(row["account"], row["livemode"], row["currency"]): int(row["amount"]) for row in entries}
    for account, livemode, currency in sorted(held.keys() | said.keys()):
        holds, says = held.get((account, livemode, currency), 0), said.get((account, livemode, currency), 0)
        if holds != says:
            x.violation(f"{account} {currency}", f"the transfers add up to {holds} and the balance transactions to {says}")
    return sum(row["count"] for row in entries)


async def balance_transactions(x: Examination) -> int:
    """Captures and refunds against the entries that show them."""
    for row in await x.connection.fetch(_CAPTURES):
        x.violation(row["subject"], f"{row['captured']} is captured; {row['count']} balance transactions show {row['amount']}")
    for row in await x.connection.fetch(_REFUNDS):
        entries = f"balance transactions took {row['taken']} and returned {row['returned']}"
        if row["found"] or row["beyond"]:
            entries += f", {row['beyond']} beyond it; {row['found']} was found to have been paid"
        x.violation(row["subject"], f"the refund of {row['wanted']} is {row['state']}; {entries}")
    return await x.count("balance_transaction")
