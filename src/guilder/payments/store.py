"""Payments' SQL: the one place that writes a change, and the reads that decisions are made from. Writes take a list."""

import asyncio
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct

from guilder.core.clock import Clock
from guilder.core.crash import crash_point
from guilder.core.errors import ResultUnknown
from guilder.db.batch import Coalescer
from guilder.db.errors import may_be_stored
from guilder.db.pool import Database
from guilder.idempotency.once import stored_requests
from guilder.ledger.accounts import Accounts
from guilder.ledger.model import AccountKey
from guilder.payments.codec import attempt_from, charge_from, payment_facts_from, refund_from
from guilder.payments.flush import FLUSH, arguments
from guilder.payments.flush import beside as beside_sql
from guilder.payments.model import (
    NEW_PAYMENTS,
    Attempt,
    Change,
    Noted,
    OpenSlot,
    Payment,
    attempt_facts_from,
    pack,
)
from guilder.payments.secure import Challenge
from guilder.payments.states import ChallengeState
from guilder.psp.model import Operation

# More items make a flush longer without making an item cheaper (measured: no gain above 100).
FLUSH_MAX: Final = 100

# A commit whose answer was lost, and that left nothing, is sent again; a wire that loses so many in a row is no wire.
COMMITS_MAX: Final = 5

KEY_TAKEN: Final = "key_taken"
"""The idempotency key stands already."""
STALE: Final = "stale"
"""The payment has moved on since the change was decided."""
ATTEMPT_MOVED: Final = "attempt_moved"
"""The attempt is not where it was, or not this sender's any more."""
SLOT_TAKEN: Final = "slot_taken"
"""Another operation of the payment is open."""
UNTOLD: Final = "untold"
"""The commit's answer was lost and nothing of it is there, or not yet. Never leaves this file."""
FUNDS: Final = "funds:"
"""Before the ledger's word for why it refused."""

HURRIED: Final = "hurried"
HELD: Final = "held"

# One statement, so one snapshot: the version and everything that it stands for.
_READ: Final = """
SELECT p.id, p.account, p.version, p.confirmations, p.facts,
    ARRAY(SELECT c FROM charge c WHERE c.payment = p.id ORDER BY c.id) AS charges,
    ARRAY(SELECT r FROM refund r WHERE r.payment = p.id ORDER BY r.id) AS refunds,
    ARRAY(SELECT a FROM attempt a WHERE a.payment = p.id AND a.state = 'approved') AS approved,
    ARRAY(SELECT ROW(o.slot, o.attempt, o.state, o.sender, o.tries, a.facts) FROM attempt_open o JOIN attempt a ON a.id = o.attempt
          WHERE o.payment = p.id) AS open,
    CASE p.state WHEN 'requires_action' THEN (SELECT ROW(c.id, c.attempt, c.url, c.expires_at) FROM challenge c
          WHERE c.payment = p.id AND c.state = 'open') END AS challenge
FROM payment p WHERE p.id = {id} AND p.account = $2 AND p.livemode = $3
"""
_READ_BY: Final = {
    "pi": _READ.format(id="$1"),
    "ch": _READ.format(id="(SELECT payment FROM charge WHERE id = $1)"),
    "re": _READ.format(id="(SELECT payment FROM refund WHERE id = $1)"),
}
_ATTEMPT: Final = "SELECT * FROM attempt WHERE id = $1"
# The open row first: the order of locks is the flush's, whichever of the two rows the planner would begin with.
_NOTE: Final = """
WITH open AS (
    UPDATE attempt_open o
    SET state = CASE o.state WHEN 'created' THEN 'in_doubt' ELSE o.state END, sender = NULL, epoch = NULL, retry_at = $3,
        execute_by = NULL, breaker = NULL
    FROM attempt a WHERE a.id = $1 AND o.payment = a.payment AND o.attempt = a.id RETURNING 1
)
UPDATE attempt SET noted = $2 WHERE id = $1 AND state IS NULL AND (SELECT count(*) FROM open) >= 0
"""
_MESSAGE: Final = "INSERT INTO attempt_message (attempt, at, text) VALUES ($1, $2, $3)"
_EXPIRED: Final = """
SELECT c.payment, c.account, c.livemode FROM charge c
WHERE c.capture_before <= $1 AND c.captured = 0
  AND NOT EXISTS (SELECT FROM attempt a WHERE a.payment = c.payment AND a.operation = 'void' AND a.created_at > $2)
  AND NOT EXISTS (SELECT FROM attempt_open o WHERE o.payment = c.payment AND o.slot = 'payment')
ORDER BY c.capture_before LIMIT $3
"""
_WAITING: Final = """
SELECT w.id, w.payment, w.account, w.livemode FROM (
    SELECT r.id, r.payment, r.account, r.livemode, row_number() OVER (PARTITION BY a.currency ORDER BY r.id) AS place
    FROM refund r CROSS JOIN LATERAL (SELECT a.currency FROM attempt a WHERE a.payment = r.payment AND a.state = 'approved' LIMIT 1) a
    WHERE r.waiting AND r.account = $1 AND r.livemode = $2
) w WHERE w.place <= $3 ORDER BY w.id
"""


# One statement in autocommit: the row is locked for no longer. Claimed rows are left to their claim.
_HURRY: Final = """
WITH open AS (
    SELECT o.slot, o.sender FROM attempt_open o WHERE o.payment = $1 AND o.attempt = $2
), hurried AS (
    UPDATE attempt_open o SET retry_at = LEAST(o.retry_at, $3)
    WHERE o.payment = $1 AND o.attempt = $2 AND o.sender IS NULL AND o.state <> 'created' RETURNING 1
)
SELECT (SELECT count(*) FROM open) AS open, (SELECT count(*) FROM hurried) AS hurried,
    (SELECT a.state FROM attempt a WHERE a.id = $2) AS ended,
    pg_notify('guilder_accepted', 'due')
"""


_CHALLENGE: Final = "SELECT payment, account, livemode, attempt, state, url FROM challenge WHERE id = $1"
_ABANDONED: Final = """
SELECT payment, account, livemode FROM challenge WHERE ended_at IS NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2
"""


class Beside(Struct, frozen=True, kw_only=True):
    """A row of a room above that changes together with a payment: see `flush.beside`."""

    lock: str
    locked: Sequence[object]
    write: str
    written: Sequence[object]


class Store:
    """Commits changes and reads payments; one per process. `hot` is a connection pool whose plans need no statistics."""

    def __init__(self, db: Database, hot: Database, accounts: Accounts, clock: Clock) -> None:
        self._db = db
        self._hot = hot
        self._accounts = accounts
        self._clock = clock
        # One coalescer for each mode: a flush is of one book.
        self._flushes = {mode: self._coalescer(mode) for mode in (False, True)}

    def _coalescer(self, livemode: bool) -> Coalescer[Change, str | None]:  # noqa: FBT001
        async def flush(changes: Sequence[Change]) -> list[str | None]:
            return await self._flush(livemode, changes)

        return Coalescer(flush, limit=FLUSH_MAX, keys=_keys, resolve=self._db.keeping(self._resolve))

    async def commit(self, change: Change) -> str | None:
        """Store a change whole, together with whoever else is waiting; None when stored, else why not (the constants above).

        Raises Unavailable (nothing stored) or ResultUnknown (nobody could tell).
        """
        stored = await self._flushes[change.livemode].submit(change)
        if stored != UNTOLD:
            return stored
        with may_be_stored("the answer of a commit was lost"):
            return await self._commit_again(change)

    async def _commit_again(self, change: Change) -> str | None:
        """The same change once more: where the first one was stored after all, its key is taken, by this very request."""
        for _ in range(COMMITS_MAX):
            stored = await self._flushes[change.livemode].submit(change)
            if stored == KEY_TAKEN and await self._unstored([change]) == [None]:
                return None
            if stored != UNTOLD:
                return stored
        raise ResultUnknown(f"the answers of {COMMITS_MAX} commits in a row were lost")

    async def commit_beside(self, change: Change, beside: Beside) -> str | None:
        """Store a change together with a row of a room above: both or neither, in a statement of their own; as `commit`.

        Raises Unavailable (nothing stored) or ResultUnknown (nobody could tell).
        """
        numbers = await self._accounts.numbers(_ledger_keys(change))
        sql = beside_sql(beside.lock, beside.write, len(beside.locked), len(beside.written))
        own = arguments(change.livemode, self._clock.now(), [change], numbers)
        return await self._db.fetchval(sql, *own, *beside.locked, *beside.written)  # type: ignore[no-any-return]

    def commit_soon(self, change: Change) -> "asyncio.Future[str | None]":
        """The same without waiting: the result is the future's."""
        return self._flushes[change.livemode].enqueue(change)

    async def note(self, attempt: str, outcome: Noted, retry_at: int) -> None:
        """Keep an answer whose booking failed on its attempt, and set its open row free, a new one as in doubt, to be booked again.

        On an attempt that has ended nothing is kept: it is asked about again.
        """
        await self._db.execute(_NOTE, attempt, pack(outcome), retry_at)

    async def keep_messages(self, messages: Sequence[tuple[str, int, str]]) -> None:
        """Keep masked messages (attempt, instant, text) for the story of a payment."""
        await self._db.executemany(_MESSAGE, messages)

    async def read(self, id_: str, account: str, livemode: bool) -> Payment | None:  # noqa: FBT001
        """A payment with all that belongs to it, by its id or that of a charge or refund; None when it does not exist here."""
        sql = _READ_BY.get(id_.partition("_")[0])
        row = await self._db.fetchrow(sql, id_, account, livemode) if sql else None
        return None if row is None else _payment(row)

    async def attempt(self, id_: str) -> Attempt | None:
        """One attempt by its id."""
        row = await self._db.fetchrow(_ATTEMPT, id_)
        return None if row is None else attempt_from(row)

    async def hurry(self, attempt: Attempt, now: int) -> str:
        """Have whatever is open about an attempt looked at now: HURRIED; HELD while somebody holds it, else how it has ended."""
        row = await self._db.fetchrow(_HURRY, attempt.payment, attempt.id, now)
        if row is None or not row["open"]:
            return str(row["ended"]) if row is not None else HELD
        return HURRIED if row["hurried"] else HELD

    async def challenge(self, id_: str) -> "FoundChallenge | None":
        """A challenge by its id, whoever asks: to know the id is all that it takes."""
        row = await self._db.fetchrow(_CHALLENGE, id_)
        return None if row is None else FoundChallenge(*row)

    async def abandoned(self, now: int, limit: int) -> list[tuple[str, str, bool]]:
        """Payments (id, account, livemode) whose buyer has not come back from the issuer in time."""
        return [tuple(row) for row in await self._db.fetch(_ABANDONED, now, limit)]

    async def expired(self, now: int, tried_since: int, limit: int) -> list[tuple[str, str, bool]]:
        """Payments (id, account, livemode) whose authorization nobody has captured in time, and whose void was not tried since."""
        return [tuple(row) for row in await self._db.fetch(_EXPIRED, now, tried_since, limit)]

    async def waiting_refunds(self, account: str, livemode: bool, each: int) -> list[tuple[str, str, str, bool]]:  # noqa: FBT001
        """Refunds (id, payment, account, livemode) that wait for money, oldest first; so many of each currency at most."""
        return [tuple(row) for row in await self._db.fetch(_WAITING, account, livemode, each)]

    async def close(self) -> None:
        """Wait for the flushes that are under way."""
        for coalescer in self._flushes.values():
            await coalescer.close()

    async def _flush(self, livemode: bool, changes: Sequence[Change]) -> list[str | None]:  # noqa: FBT001
        numbers = await self._accounts.numbers(key for change in changes for key in _ledger_keys(change))
        _crash_points("before", changes)
        rows = await self._hot.fetch(FLUSH, *arguments(livemode, self._clock.now(), changes, numbers))
        _crash_points("after", changes)
        results: list[str | None] = [None] * len(changes)
        for row in rows:
            results[row["item"] - 1] = row["result"]
        return results

    async def _resolve(self, changes: Sequence[Change]) -> list[str | None]:
        """What became of changes whose commit lost its answer.

        A claim that names its own request was stored, and everything else with it. What has no claim and cannot be told is
        STALE: read again, decide again, which is safe because versions and attempts refuse what stands already.
        """
        return await self._unstored(changes)

    async def _unstored(self, changes: Sequence[Change]) -> list[str | None]:
        stored = await stored_requests(self._db, [change.claim.key for change in changes if change.claim])
        return [(None if change.claim.request_id in stored else UNTOLD) if change.claim else STALE for change in changes]


class FoundChallenge(NamedTuple):
    """A challenge and whose payment it belongs to."""

    payment: str
    account: str
    livemode: bool
    attempt: str
    state: str
    url: str


def _crash_points(when: str, changes: Sequence[Change]) -> None:
    for change in changes:
        for attempt in change.attempts:
            crash_point(f"accept.{when}", attempt.operation)
        for move in change.moves:
            crash_point(f"outcome.{when}", move.after)
        for ended in change.challenges:
            crash_point(f"challenge.{when}", ended.after or "")
        for _ in change.reopened:
            crash_point(f"reopen.{when}")


def _keys(change: Change) -> Iterable[Hashable]:
    """What two changes of one flush must not share."""
    yield change.payment.id
    for named in (change.claim, change.answers, change.closed[0] if change.closed else None):
        if named is not None:
            yield (change.account, named.key)


def _ledger_keys(change: Change) -> Iterable[AccountKey]:
    for transfer in change.transfers:
        if isinstance(transfer.debit, AccountKey):
            yield transfer.debit
        if isinstance(transfer.credit, AccountKey):
            yield transfer.credit


def _payment(row: Any) -> Payment:  # noqa: ANN401 - a row of _READ
    facts = payment_facts_from(row["facts"])
    charges = tuple(charge_from(charge) for charge in row["charges"])
    approved = [attempt_from(attempt) for attempt in row["approved"]]
    return Payment(
        facts=facts, account=row["account"], version=row["version"], confirmations=row["confirmations"], charges=charges,
        charge=next((charge for charge in charges if charge.facts.status == "succeeded"), None),
        refunds=tuple(refund_from(refund) for refund in row["refunds"]),
        open_slots=tuple(_open_slot(slot) for slot in row["open"]),
        authorized_by=next((one for one in approved if one.operation in NEW_PAYMENTS), None),
        captured_by=next((one for one in approved if one.operation is Operation.CAPTURE), None),
        approved=tuple(one.id for one in approved), challenge=_challenge(row["challenge"]),
    )  # fmt: skip


def _challenge(row: Any) -> Challenge | None:  # noqa: ANN401
    if row is None:
        return None
    id_, attempt, url, expires_at = row
    return Challenge(id=id_, attempt=attempt, url=url, state=ChallengeState.OPEN, expires_at=expires_at)


def _open_slot(row: Any) -> OpenSlot:  # noqa: ANN401
    slot, attempt, state, sender, tries, facts = row
    known = attempt_facts_from(facts)
    return OpenSlot(slot, attempt, state, sender, tries, known.key, known.announces_payment, known.own_page is not None)
