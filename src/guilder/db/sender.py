"""Senders: who may write to the outside, and who takes over from whom (DESIGN section 3, "Fencing guards sending").

A sender raises its beat each second on a connection of its own, and may write a first byte only within 3 s after it
began its last successful renewal. Whoever has read the same beat for 3.5 s, looking at least once a second, takes over.
Both sides use their own CLOCK_BOOTTIME; no wall clock takes part. Because 3 < 3.5, nobody writes after a takeover.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from msgspec import Struct

from guilder.core.clock import DAY, Clock, Micros, sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.ids import Ids
from guilder.db.errors import Again
from guilder.db.pool import Database
from guilder.db.quarantine import begin_quarantine

log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 1.0
SEND_SECONDS: Final = 3.0
"""How long after the beginning of its last renewal a sender may still write a first byte."""
TAKEOVER_SECONDS: Final = 3.5
# Two looks further apart than this prove nothing about the time between them: the count starts again.
GAP_SECONDS: Final = 1.5

# How long a lost sender can still be looked up by people; no process asks for more than that it is not a living one.
LOST_KEPT: Final = DAY
# Rows deleted in one round; a process that dies each second leaves no more in a quarter of an hour.
DELETED_MAX: Final = 1_000

_REGISTER: Final = "INSERT INTO sender (id, role, epoch, beat) VALUES ($1, $2, 1, 0)"
_BEAT: Final = "UPDATE sender SET beat = beat + 1 WHERE id = $1 AND epoch = $2 AND NOT lost RETURNING beat"
_OTHERS: Final = "SELECT id, epoch, beat FROM sender WHERE NOT lost AND id <> $1"
_TAKE_OVER: Final = "SELECT sender_take_over($1, $2, $3, $4)"
_TIDY: Final = "DELETE FROM sender WHERE id IN (SELECT id FROM sender WHERE lost AND lost_at < $1 ORDER BY id LIMIT $2)"
_FIND: Final = "SELECT epoch, beat FROM sender WHERE id = $1 AND NOT lost"


class _Seen(Struct):
    epoch: int
    beat: int
    since: float
    looked: float


class Sender:
    """One process's right to send.

    Args:
        db: a pool of its own, with one connection, so that a beat never waits behind work.
        lost: called when another has taken over from us; by then a new id is in place, and all earlier claims are void.
    """

    def __init__(self, db: Database, clock: Clock, ids: Ids, *, role: str, lost: Callable[[str], None]) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._role = role
        self._lost = lost
        self._renewed = float("-inf")
        self._seen: dict[str, _Seen] = {}
        self._task: asyncio.Task[None] | None = None
        self.id = ""
        self.epoch = 1
        self._beat = 0

    async def start(self, predecessor: str | None = None) -> None:
        """Register, take over from the process that this one replaces, and begin to beat."""
        await self._register()
        if predecessor:
            row = await self._db.fetchrow(_FIND, predecessor)
            if row is not None:
                await self._take_over(predecessor, row["epoch"], row["beat"])
        self._task = asyncio.get_running_loop().create_task(self._beat_for_ever())

    async def close(self) -> None:
        """Stop beating, and give everything back at once, so that nobody has to wait for the takeover.

        A database that is away does not hold up the end of a process: then the others do wait.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        # First of all: what is given back belongs to others, and frames may still wait in this process.
        self._renewed = float("-inf")
        try:
            row = await self._db.fetchrow(_FIND, self.id)
            if row is not None:
                await self._take_over(self.id, row["epoch"], row["beat"])
        except (Unavailable, ResultUnknown, Again) as error:
            log.warning("sender_not_given_back", sender=self.id, reason=str(error))

    def may_send(self, sender: str) -> bool:
        """Whether a first byte may be written now under a claim of this sender id. Asked right before each write."""
        return sender == self.id and self._clock.boot() - self._renewed < SEND_SECONDS

    async def _register(self) -> None:
        began = self._clock.boot()
        id_ = self._ids.new("snd")
        await self._db.execute(_REGISTER, id_, self._role)
        self.id, self.epoch, self._beat, self._renewed = id_, 1, 0, began

    async def beat(self) -> None:
        """Renew the right to send, and look at the others. Once a second; raises what the database does."""
        began = self._clock.boot()
        beat = await self._db.fetchval(_BEAT, self.id, self.epoch)
        if beat is not None and beat <= self._beat:
            # A beat that was acknowledged is gone: this is not the database that we have worked with.
            await begin_quarantine(self._db, self._clock.now(), f"it has lost what {self.id} had stored")
            beat = None
        if beat is None:
            before = self.id
            await self._register()
            self._lost(before)
        else:
            self._beat = beat
            self._renewed = began
        await self._watch()

    async def _beat_for_ever(self) -> None:
        while True:
            began = self._clock.boot()
            try:
                await self.beat()
            except (Unavailable, ResultUnknown, Again):
                # Not renewed: sending stops by itself when the time is over.
                self._seen.clear()
            except Exception:
                # Without a beat this process may never send again, and another takes over: that must not be for ever.
                log.exception("beat_failed", sender=self.id)
                self._seen.clear()
            await sleep(max(0.0, BEAT_SECONDS - (self._clock.boot() - began)))

    async def _watch(self) -> None:
        """Look at the other senders, and take over from those whose beat has stood still long enough."""
        began = self._clock.boot()
        rows = {row["id"]: row for row in await self._db.fetch(_OTHERS, self.id)}
        now = self._clock.boot()
        seen: dict[str, _Seen] = {}
        for id_, row in rows.items():
            before = self._seen.get(id_)
            same = before is not None and (before.epoch, before.beat) == (row["epoch"], row["beat"])
            if before is not None and same and began - before.looked <= GAP_SECONDS:
                before.looked = began
                seen[id_] = before
                # Counted from the end of the first look to the beginning of this one: the shorter way.
                if began - before.since >= TAKEOVER_SECONDS:
                    await self._take_over(id_, row["epoch"], row["beat"])
            else:
                seen[id_] = _Seen(row["epoch"], row["beat"], since=now, looked=began)
        self._seen = seen

    async def _take_over(self, id_: str, epoch: int, beat: int) -> None:
        await self._db.execute(_TAKE_OVER, id_, epoch, beat, self._clock.now())


async def tidy_senders(db: Database, now: Micros) -> int:
    """Delete senders that were lost long ago, at most a bounded number; returns how many went. Safe to repeat.

    To a process that was away for that long it is the same: its beat finds no row of its own, and it goes on under a new id.
    """
    gone = await db.execute(_TIDY, now - LOST_KEPT, DELETED_MAX)
    return int(gone.split()[1])
