"""Announce that a breaker has opened, or closed again: to every merchant, whose payments it concerns."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from guilder.breaker import BreakerState
from guilder.core.clock import Clock, epoch_seconds
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.log import NewEvent, announce
from guilder.psp.measure import BreakerMove, Measures
from guilder.psp.model import breaker_name
from guilder.shapes.facts import PspBreakerFacts

BREAKER_OPENED: Final = "psp_breaker.opened"
BREAKER_CLOSED: Final = "psp_breaker.closed"
# Merchants of one installation that are told; each costs a row at each opening and closing.
MERCHANTS_MAX: Final = 1_000
# Moves that wait for a lost database; the newest say how things stand.
MOVES_MAX: Final = 100

Accounts = Callable[[], Awaitable[Sequence[str]]]
"""Gives the merchants."""

log = structlog.get_logger(__name__)


class Announcer:
    """Tells what the breakers of one process have done.

    Args:
        modes: by connector, whether live payments go to it.
    """

    def __init__(
        self, db: Database, clock: Clock, ids: Ids, measures: Sequence[Measures], *, modes: Mapping[str, bool], accounts: Accounts,
    ) -> None:  # fmt: skip
        self._db = db
        self._clock = clock
        self._ids = ids
        self._measures = measures
        self._modes = modes
        self._accounts = accounts
        self._left: deque[tuple[str, PspBreakerFacts]] = deque()

    async def run_once(self) -> int:
        """Announce what has moved, one commit for each merchant. What could not be stored is tried again by the next call."""
        await self._take_moves()
        count = 0
        while self._left:
            await self._announce(*self._left[0])
            self._left.popleft()
            count += 1
        return count

    async def _take_moves(self) -> None:
        """What is to be told to whom: each move to every merchant there is by now."""
        if len(self._left) > MOVES_MAX * MERCHANTS_MAX or not any(measures.moves for measures in self._measures):
            return
        accounts = await self._accounts()
        moves = [move for measures in self._measures for move in measures.moves[-MOVES_MAX:]]
        for measures in self._measures:
            measures.moves.clear()
        for move in moves:
            log.warning("psp_breaker_moved", connector=move.connector, operation=move.operation, state=move.state)
            facts = self._facts(move)
            self._left.extend((account, facts) for account in accounts[:MERCHANTS_MAX])

    def _facts(self, move: BreakerMove) -> PspBreakerFacts:
        return PspBreakerFacts(
            id=breaker_name(move.connector, move.operation), livemode=self._modes.get(move.connector, False), connector=move.connector,
            operation=move.operation.value, state=move.state.value, changed=epoch_seconds(self._clock.now()),
        )  # fmt: skip

    async def _announce(self, account: str, facts: PspBreakerFacts) -> None:
        type_ = BREAKER_CLOSED if facts.state == BreakerState.CLOSED else BREAKER_OPENED
        event = NewEvent(id=self._ids.new("evt"), account=account, type=type_, object=facts)
        async with self._db.transaction() as connection:
            await announce(connection, livemode=facts.livemode, now=self._clock.now(), key=facts.id, events=(event,))
