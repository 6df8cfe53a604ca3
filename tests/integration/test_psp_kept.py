"""What outlives an executor: measured latencies, and that a breaker has moved."""

from guilder.core.clock import DAY, ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.db.pages import Page
from guilder.log.read import list_events
from guilder.psp.announce import Announcer
from guilder.psp.measure import Measures, Wait
from guilder.psp.model import Operation
from guilder.psp.store import KEPT_DAYS, LatencyKeeper, measured
from guilder.tuning import Breaking

READ = ("cardnet", "purchase", Wait.READ)


async def test_latencies_of_all_executors_add_up_by_day_and_are_forgotten_after_a_quarter(db: Database) -> None:
    """Each counts what is new since it counted last; a late answer takes back what had been counted as none."""
    clock = ManualClock()
    several = [Measures("cardnet"), Measures("cardnet")]
    watches = [one.watch(Operation.PURCHASE, Breaking()) for one in several]
    keepers = [LatencyKeeper(db, [one]) for one in several]
    for watch in watches:
        watch.answered("approved", read=0.1, total=0.2)
    watches[0].unanswered("timeout", written=True)
    for keeper in keepers:
        await keeper.run_once(clock.now())
        assert await keeper.run_once(clock.now()) == 0
    found = (await measured(db, since=clock.now()))[READ]
    assert (found.answered, found.unanswered) == (2, 1)
    clock.advance(DAY)
    watches[0].late(read=9.0)
    await keepers[0].run_once(clock.now())
    found = (await measured(db, since=clock.now() - DAY))[READ]
    assert (found.answered, found.unanswered) == (3, 0)
    assert found.share_beyond(8.0) == 1 / 3
    clock.advance((KEPT_DAYS + 2) * DAY)
    assert await keepers[0].forget(clock.now()) > 0
    assert await measured(db, since=0) == {}


async def test_every_merchant_is_told_once_that_a_breaker_has_opened_and_closed(db: Database) -> None:
    """By an event of theirs; what happens between two probes is told to nobody."""
    clock = ManualClock()
    measures = Measures("cardnet")
    breaker = measures.watch(Operation.CAPTURE, Breaking(failures_min=1, cool_down_seconds=0, probe_interval_seconds=0)).breaker

    async def accounts() -> list[str]:
        return ["acct_1", "acct_2"]

    announcer = Announcer(db, clock, Ids(clock), [measures], modes={"cardnet": False}, accounts=accounts)
    assert await announcer.run_once() == 0
    breaker.failed(0.0)
    assert breaker.allows(0.1)
    breaker.failed(0.2)
    assert await announcer.run_once() == 2
    breaker.succeeded(0.3)
    assert await announcer.run_once() == 2
    assert await announcer.run_once() == 0
    for account in ("acct_1", "acct_2"):
        events, _ = await list_events(db, account, False, Page())
        told = [(one.type, one.facts.object.connector, one.facts.object.operation, one.facts.object.state) for one in reversed(events)]
        assert told == [("psp_breaker.opened", "cardnet", "capture", "open"), ("psp_breaker.closed", "cardnet", "capture", "closed")]
