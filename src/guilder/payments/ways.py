"""Ways: the connectors of an executor, and what is known of each beside its wire: schedules, budgets, horizons."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from guilder.core.clock import SECOND, Clock
from guilder.core.outcome import Declined, NotFound, NotSent, Outcome
from guilder.core.retry import Budget
from guilder.payments.claim import Passage
from guilder.payments.fallback import IsUp, onward
from guilder.payments.model import NEW_PAYMENTS, Attempt
from guilder.payments.schedule import Schedule
from guilder.psp.model import Connector, Declares, Operation, breaker_name
from guilder.psp.router import Choice, Route, Rule
from guilder.tuning import Tuning

USUAL: Final = Schedule()
# Later than any retry time.
WHENEVER: Final = 2**63 - 1
LetsThrough = Callable[[str, Operation], int | None]
"""How many new orders the breaker of a connector's operation lets through now: None for as many as come, 1 for a probe, 0."""


class Ways:
    """The connectors by their names, with their policies; none before `connect`. Budgets are counted here, in memory.

    Args:
        routes, rules: as in psp.router.choose, for payments that go on elsewhere.
        up: as in fallback.onward; None when nobody knows of any.
        lets_through: what its breakers say; None when nobody knows.
    """

    def __init__(
        self, tuning: Tuning, clock: Clock, *, routes: Sequence[Route] = (), rules: Sequence[Rule] = (), up: IsUp | None = None,
        lets_through: LetsThrough | None = None,
    ) -> None:  # fmt: skip
        self._tuning = tuning
        self._clock = clock
        self._lets_through = lets_through
        self._fallback = tuning.fallback
        self._routes = routes
        self._rules = rules
        self._up = up
        self._connectors: Mapping[str, Connector] = {}
        self._schedules: Mapping[str, Schedule] = {}
        self._resends: Mapping[str, Budget] = {}

    def connect(self, connectors: Mapping[str, Connector]) -> None:
        """These there are from now on, with full budgets."""
        self._connectors = connectors
        self._schedules = {name: Schedule.of(self._tuning, name) for name in connectors}
        shares = {name: schedule.resend.budget_share for name, schedule in self._schedules.items()}
        self._resends = {name: Budget(share, self._clock.boot) for name, share in shares.items() if share is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._connectors

    def __len__(self) -> int:
        return len(self._connectors)

    def __getitem__(self, name: str) -> Connector:
        return self._connectors[name]

    def declares(self, name: str) -> Declares | None:
        """What a connector says of itself; None for one that is not configured any more."""
        connector = self._connectors.get(name)
        return None if connector is None else connector.declares

    def schedule(self, name: str) -> Schedule:
        """A connector's retry policies."""
        return self._schedules.get(name, USUAL)

    def sent_first(self, name: str, count: int) -> None:
        """So many first requests go to a connector; each earns a share of a resend."""
        if (budget := self._resends.get(name)) is not None:
            budget.earn(count)

    def may_resend(self, name: str, tries: int, uniform: Callable[[], float]) -> bool:
        """Whether what the PSP does not know may be sent again, after so many tries to learn what became of it.

        Takes an extra call from the connector's budget; False when none is left: then the PSP is asked again later.
        """
        if self.schedule(name).resend.delay_after(tries + 1, uniform) is None:
            return False
        budget = self._resends.get(name)
        return budget is None or budget.spend()

    def onward(self, attempt: Attempt, outcome: Outcome | NotFound) -> Choice | None:
        """Where a payment goes on whose attempt has ended so; None for nowhere, which is the usual case. To be asked once (IsUp)."""
        if not self._fallback.next_connector or not isinstance(outcome, NotSent | Declined):
            return None
        return onward(self._routes, self._rules, self._fallback, attempt, outcome, up=self._is_up)

    def breakers(self) -> list[str]:
        """Those that payments may wait for."""
        return [breaker_name(name, operation) for name in self._connectors for operation in NEW_PAYMENTS]

    def passages(self, now: int, room_of: Callable[[str], int]) -> list[Passage]:
        """What may be claimed now of the payments that wait for a breaker.

        All that there is room for once it is closed, whatever their time, and a probe while it is open. Those that another connector
        could take meanwhile go there when their time comes; also where nobody knows of breakers it is their time that counts.
        """
        waited_for = ((name, operation) for name in self._connectors for operation in NEW_PAYMENTS)
        return [Passage(breaker_name(*one), *self._passage(*one, now, room_of(one[0]))) for one in waited_for]

    def _passage(self, name: str, operation: Operation, now: int, room: int) -> tuple[int, int]:
        if self._lets_through is None:
            return now, room
        through = self._lets_through(name, operation)
        others = (other for other in self._connectors if other != name)
        if through is not None and self._fallback.next_connector and any(self._lets_through(other, operation) is None for other in others):
            return now, room
        return WHENEVER, room if through is None else through

    def _is_up(self, name: str, operation: Operation) -> bool:
        return name in self._connectors and self._up is not None and self._up(name, operation)

    def horizon(self, attempt: Attempt, since: int) -> int | None:
        """The PSP's finality horizon, counted from the last moment at which a byte of the attempt may have left.

        That is its first claim (`since`), which may be long after the accept, or the end of the time in which it is sent again.
        """
        declares = self.declares(attempt.facts.connector)
        if declares is None or declares.finality_horizon_seconds is None or not since:
            return None
        window = declares.idempotency_window_seconds or 0
        return max(since, attempt.created_at + window * SECOND) + declares.finality_horizon_seconds * SECOND
