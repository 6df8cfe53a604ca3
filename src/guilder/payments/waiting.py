"""Wait for answers: one LISTEN connection per process, a poll behind it, and one read for all who wait."""

import asyncio
from typing import Final

import structlog
from msgspec import Struct

from guilder.core.clock import sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.errors import Again
from guilder.db.listen import Listener
from guilder.db.pool import Database
from guilder.idempotency.model import Claim
from guilder.idempotency.once import answer_all
from guilder.shapes.facts import Answer

log = structlog.get_logger(__name__)

CHANNEL: Final = "guilder_answered"
EVERYBODY: Final = "*"
# Behind the notification: a lost one costs this long (DESIGN section 5).
POLL_SECONDS: Final = 0.25

_Key = tuple[str, str, bool]


class _Wait(Struct, frozen=True):
    """One who waits, until when by the loop's time."""

    future: asyncio.Future[Answer | None]
    until: float


class Waiting:
    """Who waits for which key's answer. `start` before use; one per process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: dict[str, dict[_Key, _Wait]] = {}
        self._named: set[str] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._listener = Listener(db.dsn, [CHANNEL], self._heard, role=db.role, name="answers")

    async def start(self) -> None:
        """Listen, and begin to read."""
        await self._listener.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._read()), loop.create_task(self._poll())]

    async def close(self) -> None:
        """Stop; whoever still waits has waited long enough."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.close()
        self._end_waits(float("inf"))

    async def answer(self, claim: Claim, seconds: float) -> Answer | None:
        """The key's answer as soon as it is written; None when it is not there after so many seconds.

        The poll looks at the time too, so None comes up to POLL_SECONDS later: a timer for each request costs more than the wait.
        """
        key = (claim.key, claim.account, claim.livemode)
        loop = asyncio.get_running_loop()
        wait = _Wait(loop.create_future(), loop.time() + seconds)
        waiting = self._waiting.setdefault(claim.key, {})
        waiting[key] = wait
        try:
            return await wait.future
        finally:
            waiting.pop(key, None)
            if not waiting:
                self._waiting.pop(claim.key, None)

    def _heard(self, _channel: str, payload: str) -> None:
        if payload in ("", EVERYBODY):
            self._named.update(self._waiting)
        else:
            self._named.update(key for key in payload.split("\n") if key in self._waiting)
        if self._named:
            self._wake.set()

    async def _poll(self) -> None:
        while True:
            await sleep(POLL_SECONDS)
            if self._waiting:
                self._end_waits(asyncio.get_running_loop().time())
                self._heard(CHANNEL, EVERYBODY)

    def _end_waits(self, now: float) -> None:
        for waiting in self._waiting.values():
            for wait in waiting.values():
                if wait.until <= now and not wait.future.done():
                    wait.future.set_result(None)

    async def _read(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            named, self._named = self._named, set()
            try:
                answers = await answer_all(self._db, list(named))
            except (Unavailable, ResultUnknown, Again):
                # The poll asks again; the callers have their own limit.
                continue
            except Exception:
                # One answer that cannot be read must not leave everybody who will ever wait without theirs.
                log.exception("answers_unreadable", count=len(named))
                continue
            for key, answer in answers.items():
                wait = self._waiting.get(key[0], {}).get(key)
                if wait is not None and not wait.future.done():
                    wait.future.set_result(answer)
