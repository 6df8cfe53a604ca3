"""Plain commands under a key: claim, effect and answer commit together. The payments' hot path claims in its own flush."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg
from msgspec import Struct

from guilder.core.errors import Refusal, ResultUnknown, Unavailable
from guilder.db.errors import Again, may_be_stored
from guilder.db.pool import KEPT, Database
from guilder.idempotency.model import Claim, Result
from guilder.shapes.facts import SHAPE, Answer, decode_answer, encode

# The claim waits for a concurrent transaction that holds the same key, and then sees its row; by PostgreSQL's unique index.
_CLAIM: Final = """
INSERT INTO idempotency_key (key, account, livemode, fingerprint, request_id, expand, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING 1
"""
_CLAIM_ANSWERED: Final = """
INSERT INTO idempotency_key (key, account, livemode, fingerprint, request_id, expand, created_at, answer)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING 1
"""
_ANSWER_ALL: Final = """
WITH locked AS MATERIALIZED (
    SELECT i.* FROM (
        SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::bytea[]) u(key, account, livemode, answer)
        ORDER BY key COLLATE "C") i
    CROSS JOIN LATERAL (
        SELECT 1 FROM idempotency_key z WHERE z.key = i.key AND z.account = i.account AND z.livemode = i.livemode FOR UPDATE OFFSET 0) k
)
UPDATE idempotency_key k SET answer = i.answer FROM locked i
WHERE k.key = i.key AND k.account = i.account AND k.livemode = i.livemode AND k.answer IS NULL
"""
_ANSWER: Final = """
UPDATE idempotency_key SET answer = $4 WHERE key = $1 AND account = $2 AND livemode = $3 AND answer IS NULL
"""
_LOOK: Final = """
SELECT fingerprint, answer, object, created_at, expand, current_setting('synchronous_standby_names') <> '' AS mirrored
FROM idempotency_key WHERE key = $1 AND account = $2 AND livemode = $3
"""
_LOOK_ALL: Final = """
SELECT i.number, k.fingerprint, k.answer, k.object, k.created_at, k.expand, current_setting('synchronous_standby_names') <> '' AS mirrored
FROM unnest($1::text[], $2::text[], $3::boolean[]) WITH ORDINALITY i(key, account, livemode, number) CROSS JOIN LATERAL (
    SELECT * FROM idempotency_key z WHERE z.key = i.key AND z.account = i.account AND z.livemode = i.livemode OFFSET 0) k
"""
# A commit behind what it reads: whoever waits for an answer must not be told of one that a failover may take back.
_ANSWERS: Final = f"""
SELECT key, account, livemode, answer, (SELECT {KEPT}) FROM idempotency_key WHERE key = ANY($1) AND answer IS NOT NULL
"""

_LET_GO: Final = "DELETE FROM idempotency_key WHERE key = $1 AND account = $2 AND livemode = $3 AND request_id = $4"


class Pending(Struct, frozen=True):
    """A key that is claimed and not answered: what it works on and since when."""

    object: str | None
    created_at: int
    expand: tuple[str, ...]


class AlreadyClaimed(Exception):
    """The key is taken: rolls the effect back; `look` says what stands there."""


def mismatch(key: str) -> Refusal:
    """The refusal of a key that was first used with another endpoint or other parameters."""
    return Refusal(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
        type="idempotency_error",
    )


def in_use(key: str) -> Refusal:
    """The refusal of a retry that comes while the first request runs; SDKs repeat it by themselves."""
    return Refusal(
        f"There is currently another in-progress request using this Idempotent Key ({key}). Repeat it in a moment.",
        status=409, code="idempotency_key_in_use", should_retry=True,
    )


async def find(through: asyncpg.Connection | Database, claim: Claim) -> Answer | Pending | None:
    """What stands under the key: its answer, Pending while it has none, None for a new key.

    An answer is given back only when it is kept (Database.kept): whoever repeats a request whose commit is unknown must not be told
    of one that only this server has. Raises Refusal (400 idempotency_error) when the key was first used with another endpoint or
    other parameters.
    """
    row = await through.fetchrow(_LOOK, claim.key, claim.account, claim.livemode)
    if row is None:
        return None
    found = _found(row, claim)
    if isinstance(found, Refusal):
        raise found
    if isinstance(found, Answer) and row["mirrored"] and isinstance(through, Database):
        await through.kept()
    return found


async def find_all(db: Database, claims: Sequence[Claim]) -> list[Answer | Pending | Refusal | None]:
    """As `find` for each of these claims, in their order, by one statement; what it raises is an element here."""
    rows = await db.fetch(_LOOK_ALL, *_columns(claims))
    found: list[Answer | Pending | Refusal | None] = [None] * len(claims)
    for row in rows:
        found[row["number"] - 1] = _found(row, claims[row["number"] - 1])
    if any(row["mirrored"] and row["answer"] is not None for row in rows):
        await db.kept()
    return found


def _found(row: asyncpg.Record, claim: Claim) -> Answer | Pending | Refusal:
    if row["fingerprint"] != claim.fingerprint:
        return mismatch(claim.key)
    if row["answer"] is None:
        return Pending(row["object"], row["created_at"], tuple(row["expand"].split(",")) if row["expand"] else ())
    return decode_answer(row["answer"])


def _columns(claims: Sequence[Claim]) -> tuple[list[str], list[str], list[bool]]:
    return [one.key for one in claims], [one.account for one in claims], [one.livemode for one in claims]


async def look(db: Database, claim: Claim) -> Result | None:
    """The stored answer of the key, or None for a new key. Reads only.

    Raises Refusal: 400 idempotency_error (other parameters), 409 idempotency_key_in_use (not answered yet).
    """
    found = await find(db, claim)
    if isinstance(found, Pending):
        raise in_use(claim.key)
    return None if found is None else Result(found, replayed=True)


async def once(
    db: Database, claim: Claim, now: int, effect: Callable[[asyncpg.Connection], Awaitable[Answer]],
) -> Result:
    """Run the effect and store its answer under the key, in one transaction; or give back the answer that stands there.

    The effect may raise Refusal: then nothing is stored and the key stays free. Safe to repeat. When the commit's answer is
    lost, the key says what became of it; raises ResultUnknown where it cannot be asked, or has no answer (yet).
    """
    try:
        async with db.transaction() as connection:
            claimed = await connection.fetchval(
                _CLAIM, claim.key, claim.account, claim.livemode, claim.fingerprint, claim.request_id,
                ",".join(claim.expand), now,
            )
            if not claimed:
                raise AlreadyClaimed
            answer = await effect(connection)
            await connection.execute(_ANSWER, claim.key, claim.account, claim.livemode, encode(answer))
            return Result(answer)
    except AlreadyClaimed:
        return await _standing(db, claim)
    except ResultUnknown as lost:
        return await _told(db, claim, lost)


async def store_answer(db: Database, claim: Claim, now: int, answer: Answer) -> Result:
    """Store an answer that nothing else goes with, such as a refusal that depends on state; or give back the one that stands there."""
    try:
        stored = await db.fetchval(_CLAIM_ANSWERED, *_answered(claim, now, answer))
    except ResultUnknown as lost:
        return await _told(db, claim, lost)
    return Result(answer) if stored else await _standing(db, claim)


def _answered(claim: Claim, now: int, answer: Answer) -> tuple[object, ...]:
    return (
        claim.key, claim.account, claim.livemode, claim.fingerprint, claim.request_id, ",".join(claim.expand), now, encode(answer),
    )


async def settled_first(connection: asyncpg.Connection, claim: Claim, now: int, answer: Answer) -> Answer | Pending:
    """Store this answer under a key that nobody has claimed, in the caller's transaction; returns what stands there.

    A concurrent claim is waited for, so of the two exactly one counts.
    """
    if await connection.fetchval(_CLAIM_ANSWERED, *_answered(claim, now, answer)):
        return answer
    found = await find(connection, claim)
    if found is None:
        raise in_use(claim.key)
    return found


async def _standing(db: Database, claim: Claim) -> Result:
    """What stands under a key that was seen to be taken."""
    with may_be_stored("the key is taken, and its answer could not be read"):
        found = await look(db, claim)
    if found is None:
        raise in_use(claim.key)
    return found


async def _told(db: Database, claim: Claim, lost: ResultUnknown) -> Result:
    """What became of a commit whose answer was lost: the key was claimed by it, or it may still be under way."""
    try:
        found = await find(db, claim)
    except (Unavailable, ResultUnknown, Again):
        raise lost from None
    if isinstance(found, Answer):
        return Result(found)
    raise lost


async def hold(db: Database, claim: Claim, now: int) -> bool:
    """Hold a key against its parameters for an effect that is safe to repeat by itself, so that no answer is stored; one statement.

    Returns whether the key was held before. Raises Refusal (400 idempotency_error) when it was first used with other ones.
    """
    return (await store_answer(db, claim, now, Answer(SHAPE, 200))).replayed


async def let_go(db: Database, claim: Claim) -> None:
    """Free a key that this request holds, because nothing was done under it. Safe to repeat."""
    await db.execute(_LET_GO, claim.key, claim.account, claim.livemode, claim.request_id)


async def stored_requests(db: Database, keys: Sequence[str]) -> set[str]:
    """The ids of the requests that claimed any of these keys."""
    return {row["request_id"] for row in await db.fetch("SELECT request_id FROM idempotency_key WHERE key = ANY($1)", list(keys))}


async def answer_all(db: Database, keys: Sequence[str]) -> dict[tuple[str, str, bool], Answer]:
    """The answers that stand under any of these keys, by (key, account, livemode); kept (Database.kept), all of them."""
    rows = await db.fetch(_ANSWERS, list(keys))
    return {(row["key"], row["account"], row["livemode"]): decode_answer(row["answer"]) for row in rows}


async def answers_if_none(db: Database, answers: Sequence[tuple[Claim, Answer]]) -> list[Answer]:
    """Write each of these answers unless one stands under its key, and return those that stand there now, in their order.

    One statement writes, one reads; safe to repeat.
    """
    claims = [claim for claim, _ in answers]
    await db.execute(_ANSWER_ALL, *_columns(claims), [encode(answer) for _, answer in answers])
    found = await find_all(db, claims)
    return [one if isinstance(one, Answer) else answer for one, (_, answer) in zip(found, answers, strict=True)]
