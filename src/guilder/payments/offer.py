"""Offer: refunds that wait for money get it when some has arrived.

The consumer `refunds` notes, in the commit that moves its position, whose account has got money; `offer_refunds` works
that list off. A release of pending funds notes the same. Now and then every account with a waiting refund is noted, because
an offer can be lost: the money came before the refund began to wait, or whoever had taken the note died.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from guilder.db import Connection, Database
from guilder.log.model import Entry, announced_from
from guilder.payments.alone import each_alone
from guilder.payments.refund import offer_again
from guilder.payments.services import Services
from guilder.payments.store import FUNDS

CONSUMER: Final = "refunds"

MONEY_ARRIVES: Final = frozenset({"payment_intent.succeeded", "refund.failed", "balance.available"})
"""The events after which an account has more than before."""

# Accounts whose refunds are offered in one round.
ACCOUNTS_MAX: Final = 20
# Refunds of one account and currency that are offered in one round.
OFFERS_MAX: Final = 100

_NOTE: Final = """
INSERT INTO refund_offer (account, livemode)
SELECT DISTINCT x.account, x.livemode FROM unnest($1::text[], $2::boolean[]) AS x(account, livemode)
WHERE EXISTS (SELECT FROM refund r WHERE r.waiting AND r.account = x.account AND r.livemode = x.livemode)
ON CONFLICT DO NOTHING
"""
_NOTE_WAITING: Final = """
INSERT INTO refund_offer (account, livemode) SELECT DISTINCT r.account, r.livemode FROM refund r WHERE r.waiting ON CONFLICT DO NOTHING
"""
_TAKE: Final = """
DELETE FROM refund_offer WHERE (account, livemode) IN (SELECT account, livemode FROM refund_offer LIMIT $1) RETURNING account, livemode
"""


async def note_money(connection: Connection, entries: Sequence[Entry]) -> None:
    """Handle entries of the events topic: note the accounts that have got money and have refunds waiting."""
    accounts = set()
    for entry in entries:
        announced = announced_from(entry.payload)
        if any(type_ in MONEY_ARRIVES for _, type_ in announced.events):
            accounts.add((announced.account, announced.livemode))
    await note_accounts(connection, sorted(accounts))


async def note_accounts(connection: Connection, accounts: Sequence[tuple[str, bool]]) -> None:
    """Note that these accounts have got money; commits with the caller's transaction."""
    if accounts:
        await connection.execute(_NOTE, [account for account, _ in accounts], [livemode for _, livemode in accounts])


async def note_waiting(db: Database) -> int:
    """Note every account that has a refund waiting; returns how many were not noted. Commits by itself; safe to repeat."""
    return int((await db.execute(_NOTE_WAITING)).split()[-1])


async def offer_refunds(services: Services, limit: int = ACCOUNTS_MAX) -> int:
    """Give waiting refunds of the noted accounts their money; returns how many began.

    Oldest first, in each currency until it does not reach. Taking a note and dying loses only this offer: see `note_waiting`.
    """
    begun = 0
    for row in await services.db.fetch(_TAKE, limit):
        waiting = await services.store.waiting_refunds(row["account"], row["livemode"], OFFERS_MAX)
        begun += await each_alone(waiting, partial(_offer, services, set()), problem="refund_not_offered", field="refund")
    return begun


async def _offer(services: Services, used_up: set[str], found: tuple[str, str, str, bool]) -> bool:
    """Offer one refund its money; whether it began. A currency in which it did not reach is added to those that are used up."""
    refund_id, _payment, account, livemode = found
    payment = await services.store.read(refund_id, account, livemode)
    if payment is None or payment.facts.currency in used_up:
        return False
    change = offer_again(payment, refund_id, now=services.clock.now(), ids=services.ids)
    stored = None if change is None else await services.store.commit(change)
    if stored is not None and stored.startswith(FUNDS):
        used_up.add(payment.facts.currency)
    return change is not None and stored is None
