"""The merchants' SQL. No other file touches their tables."""

from collections.abc import Sequence
from typing import Final

from guilder.core.clock import Micros, epoch_seconds
from guilder.core.errors import missing
from guilder.db import Connection, Database, Record, UniqueViolation
from guilder.merchants.model import ApiKey, Caller, KeyKind, MerchantFacts, Terms

INSERT_MERCHANT: Final = """
INSERT INTO merchant (id, name, country, default_currency, email, statement_descriptor, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
INSERT_MODE: Final = "INSERT INTO merchant_mode (account, livemode, overdraft_units) VALUES ($1, $2, $3)"

# The next version of a price list; two who do it at once meet at the primary key.
INSERT_PRICE: Final = """
INSERT INTO price_list (account, livemode, version, basis_points, valid_from_at)
SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4 FROM price_list WHERE account = $1 AND livemode = $2
RETURNING version
"""
UPDATE_OVERDRAFT: Final = "UPDATE merchant_mode SET overdraft_units = $3 WHERE account = $1 AND livemode = $2 RETURNING 1"
SELECT_MERCHANT: Final = """
SELECT id, name, country, default_currency, email, statement_descriptor, created_at FROM merchant WHERE id = $1
"""
SELECT_MERCHANTS: Final = """
SELECT id, name, country, default_currency, email, statement_descriptor, created_at FROM merchant ORDER BY created_at, id LIMIT $1
"""

# The newest price that is valid by now. The first one is from the beginning: a clock that is behind must not make a merchant unknown.
SELECT_TERMS: Final = """
SELECT p.version, p.basis_points, m.overdraft_units
FROM merchant_mode m CROSS JOIN LATERAL (
    SELECT version, basis_points FROM price_list
    WHERE account = m.account AND livemode = m.livemode AND (valid_from_at <= $3 OR version = 1) ORDER BY version DESC LIMIT 1) p
WHERE m.account = $1 AND m.livemode = $2
"""
INSERT_KEY: Final = """
INSERT INTO api_key (hash, id, account, livemode, kind, last4, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
SELECT_CALLER: Final = "SELECT account, livemode, kind, id FROM api_key WHERE hash = $1 AND revoked_at IS NULL"

# The first revocation counts; a repeated one changes nothing.
REVOKE_KEY: Final = """
UPDATE api_key SET revoked_at = coalesce(revoked_at, $3) WHERE id = $1 AND account = $2
RETURNING id, account, livemode, kind, last4, created_at, revoked_at
"""
# A revoked key counts: what it made is dated by real time.
SELECT_LIVE: Final = "SELECT EXISTS (SELECT FROM api_key WHERE livemode)"
SELECT_KEYS: Final = """
SELECT id, account, livemode, kind, last4, created_at, revoked_at FROM api_key WHERE account = $1 ORDER BY created_at, id LIMIT $2
"""

# Two who raise the same price list at the same moment; a third collision in a row does not happen to people.
PRICE_TRIES_MAX: Final = 5


async def live_mode_in_use(db: Database) -> bool:
    """Whether a live API key was ever made here; without one nothing live can exist. Any role that reads may ask."""
    return bool(await db.fetchval(SELECT_LIVE))


async def insert_merchant(connection: Connection, merchant: MerchantFacts, now: Micros) -> None:
    """Store a merchant; its modes follow."""
    await connection.execute(
        INSERT_MERCHANT, merchant.id, merchant.name, merchant.country, merchant.default_currency, merchant.email,
        merchant.statement_descriptor, now,
    )  # fmt: skip


async def insert_mode(
    connection: Connection, account: str, *, livemode: bool, overdraft_units: int, basis_points: int, now: Micros,
) -> None:
    """Store one mode of a merchant with its first price list."""
    await connection.execute(INSERT_MODE, account, livemode, overdraft_units)
    await connection.execute(INSERT_PRICE, account, livemode, basis_points, now)


async def insert_price(db: Database, account: str, *, livemode: bool, basis_points: int, valid_from: Micros) -> int:
    """Store a new version of a price list and return its number. Raises UniqueViolation after several collisions."""
    for _ in range(PRICE_TRIES_MAX - 1):
        try:
            return int(await db.fetchval(INSERT_PRICE, account, livemode, basis_points, valid_from))
        except UniqueViolation:
            continue
    return int(await db.fetchval(INSERT_PRICE, account, livemode, basis_points, valid_from))


async def update_overdraft(db: Database, account: str, *, livemode: bool, overdraft_units: int) -> bool:
    """Set the overdraft of a mode; False when there is no such merchant."""
    return await db.fetchval(UPDATE_OVERDRAFT, account, livemode, overdraft_units) is not None


async def select_merchant(db: Database, account: str) -> MerchantFacts | None:
    """A merchant, None when there is none."""
    row = await db.fetchrow(SELECT_MERCHANT, account)
    return None if row is None else _merchant(row)


async def select_merchants(db: Database, limit: int) -> list[MerchantFacts]:
    """The first merchants, oldest first."""
    return [_merchant(row) for row in await db.fetch(SELECT_MERCHANTS, limit)]


async def select_terms(db: Database, account: str, *, livemode: bool, now: Micros) -> Terms:
    """What applies now. Raises Refusal (resource_missing) for an unknown merchant."""
    row = await db.fetchrow(SELECT_TERMS, account, livemode, now)
    if row is None:
        raise missing("account", account)
    return Terms(price_version=row["version"], basis_points=row["basis_points"], overdraft_units=row["overdraft_units"])


async def insert_key(db: Database, key: ApiKey, digest: bytes, now: Micros) -> None:
    """Store a key's hash."""
    await db.execute(INSERT_KEY, digest, key.id, key.account, key.livemode, key.kind, key.last4, now)


async def select_caller(db: Database, digest: bytes) -> Caller | None:
    """Whose key this is, None when there is none or it was revoked."""
    row = await db.fetchrow(SELECT_CALLER, digest)
    return None if row is None else Caller(row["account"], row["livemode"], row["kind"], row["id"])


async def revoke_key(db: Database, account: str, key_id: str, now: Micros) -> ApiKey | None:
    """Revoke a key of this merchant; None when it has no such key."""
    row = await db.fetchrow(REVOKE_KEY, key_id, account, now)
    return None if row is None else _key(row)


async def select_keys(db: Database, account: str, limit: int) -> Sequence[ApiKey]:
    """A merchant's keys, oldest first, revoked ones too."""
    return [_key(row) for row in await db.fetch(SELECT_KEYS, account, limit)]


def _merchant(row: Record) -> MerchantFacts:
    return MerchantFacts(
        id=row["id"],
        created=epoch_seconds(row["created_at"]),
        name=row["name"],
        country=row["country"],
        default_currency=row["default_currency"],
        email=row["email"],
        statement_descriptor=row["statement_descriptor"],
    )


def _key(row: Record) -> ApiKey:
    kind: KeyKind = row["kind"]
    return ApiKey(
        id=row["id"],
        account=row["account"],
        livemode=row["livemode"],
        kind=kind,
        last4=row["last4"],
        created=epoch_seconds(row["created_at"]),
        revoked=None if row["revoked_at"] is None else epoch_seconds(row["revoked_at"]),
    )
