"""The vault's SQL. No other file touches its tables."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from guilder.core.clock import Micros
from guilder.db import Database
from guilder.security import Wrapped

# All data keys of some merchants: few rows each, and cached by the caller.
SELECT_KEYS: Final = """
SELECT account, livemode, purpose, version, root_key_id, sealed FROM vault_key WHERE account = ANY($1)
"""

# A first key for a merchant. Whoever comes second keeps what stands there and reads it.
INSERT_KEY: Final = """
INSERT INTO vault_key (account, livemode, purpose, version, root_key_id, sealed, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""

# Which master keys the stored data keys need.
SELECT_ROOT_KEYS: Final = "SELECT DISTINCT root_key_id FROM vault_key"

# Many cards at once; those whose PaymentMethod has one already are left alone and not returned.
INSERT_CARDS: Final = """
INSERT INTO vault_card
    (payment_method_id, account, livemode, key_version, number_sealed, postal_sealed, exp_month, exp_year, created_at)
SELECT id, account, livemode, key_version, number_sealed, postal_sealed, exp_month, exp_year, $9
FROM unnest($1::text[], $2::text[], $3::boolean[], $4::int[], $5::bytea[], $6::bytea[], $7::smallint[], $8::smallint[])
     AS entry (id, account, livemode, key_version, number_sealed, postal_sealed, exp_month, exp_year)
ON CONFLICT (payment_method_id) DO NOTHING
RETURNING payment_method_id
"""

# The cards of some PaymentMethods, in any order.
SELECT_CARDS: Final = """
SELECT payment_method_id, account, livemode, key_version, number_sealed, postal_sealed, exp_month, exp_year
FROM vault_card WHERE payment_method_id = ANY($1)
"""

# Absolute values, so that a repeated amendment changes nothing more.
UPDATE_CARD: Final = """
UPDATE vault_card
SET exp_month = coalesce($4, exp_month), exp_year = coalesce($5, exp_year),
    postal_sealed = CASE WHEN $6 THEN $7 ELSE postal_sealed END
WHERE payment_method_id = $1 AND account = $2 AND livemode = $3
"""


class KeyRow(Struct, frozen=True, kw_only=True):
    """A data key as stored."""

    account: str
    livemode: bool
    purpose: str
    version: int
    wrapped: Wrapped


class CardRow(Struct, frozen=True, kw_only=True):
    """A card as stored."""

    payment_method_id: str
    account: str
    livemode: bool
    key_version: int
    number_sealed: bytes
    postal_sealed: bytes | None
    exp_month: int
    exp_year: int


async def select_keys(db: Database, accounts: Sequence[str]) -> list[KeyRow]:
    """All data keys of these merchants."""
    return [
        KeyRow(account=account, livemode=livemode, purpose=purpose, version=version, wrapped=Wrapped(root_key_id, sealed))
        for account, livemode, purpose, version, root_key_id, sealed in await db.fetch(SELECT_KEYS, list(accounts))
    ]


async def insert_key(db: Database, row: KeyRow, now: Micros) -> None:
    """Store a data key unless that version exists."""
    await db.execute(
        INSERT_KEY, row.account, row.livemode, row.purpose, row.version, row.wrapped.root_key_id, row.wrapped.sealed, now,
    )


async def root_key_ids(db: Database) -> set[str]:
    """The master keys under which the stored data keys are sealed."""
    return {root_key_id for (root_key_id,) in await db.fetch(SELECT_ROOT_KEYS)}


async def insert_cards(db: Database, rows: Sequence[CardRow], now: Micros) -> set[str]:
    """Store cards; returns the PaymentMethods whose card was stored now."""
    inserted = await db.fetch(
        INSERT_CARDS,
        [row.payment_method_id for row in rows],
        [row.account for row in rows],
        [row.livemode for row in rows],
        [row.key_version for row in rows],
        [row.number_sealed for row in rows],
        [row.postal_sealed for row in rows],
        [row.exp_month for row in rows],
        [row.exp_year for row in rows],
        now,
    )
    return {payment_method_id for (payment_method_id,) in inserted}


async def select_cards(db: Database, payment_method_ids: Sequence[str]) -> dict[str, CardRow]:
    """The cards that exist, by PaymentMethod. One statement, whatever the length of the list."""
    rows = await db.fetch(SELECT_CARDS, list(payment_method_ids))
    return {
        row[0]: CardRow(
            payment_method_id=row[0],
            account=row[1],
            livemode=row[2],
            key_version=row[3],
            number_sealed=row[4],
            postal_sealed=row[5],
            exp_month=row[6],
            exp_year=row[7],
        )
        for row in rows
    }


async def update_card(
    db: Database, row: CardRow, *, exp_month: int | None, exp_year: int | None, postal_sealed: bytes | None, postal_changes: bool,
) -> None:
    """Change what a merchant may change of a card."""
    await db.execute(
        UPDATE_CARD, row.payment_method_id, row.account, row.livemode, exp_month, exp_year, postal_changes, postal_sealed,
    )
