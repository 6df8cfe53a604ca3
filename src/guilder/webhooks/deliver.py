"""Deliver: the one place from which events leave for receivers. Reads what is next, sends it, stores what came of it, in lists.

A process holds endpoints, not deliveries: whoever holds one sends all of its deliveries, so no two processes ever send the same
one at once, and a delivery that arrives costs one row written and one updated. The hold is fenced (db/sender.py): the right to
send is asked for before each first byte, and of a process that dies others take the endpoints over. What it had sent and not
stored is sent again: at least once.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final

import structlog

from guilder.core.clock import SECOND, Clock, Micros, sleep
from guilder.core.crash import crash_point
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.ids import Ids
from guilder.core.retry import Budget, Retry
from guilder.db import Again, Database
from guilder.db.sender import Sender
from guilder.security import NotAuthentic, PurposeKeys, Signer
from guilder.tuning import RETRIES
from guilder.webhooks import store
from guilder.webhooks.addresses import Allowed
from guilder.webhooks.bodies import Bodies, PersonalOf, readable
from guilder.webhooks.connection import Answered
from guilder.webhooks.disable import disable_gone
from guilder.webhooks.endpoints import open_secret
from guilder.webhooks.headers import headers_of
from guilder.webhooks.lane import Lane
from guilder.webhooks.model import Next, Result, StoredEndpoint
from guilder.webhooks.results import keep_results
from guilder.webhooks.rules import GONE, asked_wait, in_budget, next_due, succeeded
from guilder.webhooks.traffic import Traffic
from guilder.webhooks.transport import Lookup, NotPermitted, Transport, Unreached

log = structlog.get_logger(__name__)

# On their way at once, over all endpoints. One in 15 s each is what a thousand dead receivers need.
FLYING_MAX: Final = 512
# Deliveries read ahead, over all endpoints: a body has 2 to 4 kB.
AHEAD_MAX: Final = 4_096
# Behind the wake-up by the consumer of the same process; also how often retries are looked for.
POLL_SECONDS: Final = 0.25
# Between two reads, and between two writes of results: long enough that each has a list.
READ_GAP_SECONDS: Final = 0.01
STORE_GAP_SECONDS: Final = 0.02
# Results of one statement.
RESULTS_MAX: Final = 500
# A process that is told to end has little more than a second.
LAST_SECONDS: Final = 0.5
# How often endpoints are shared out anew and changes of them are noticed.
HOLD_SECONDS: Final = 1.0


class Deliverer:
    """Delivers for the role `worker`. Made by bootstrap; `run` until cancelled.

    Args:
        personal: opens personal records.
        retry: the schedule of a delivery that failed; with a budget, retries are at most so many for each first try.
        allowed: what may be reached beyond public addresses, in test mode and in live mode.
        lookup: resolves names; the system's resolver when None.
    """

    def __init__(
        self, *, db: Database, sender: Sender, clock: Clock, ids: Ids, keys: PurposeKeys, personal: PersonalOf,
        allowed: tuple[Allowed, Allowed], role: str, lookup: Lookup | None = None, retry: Retry = RETRIES["webhook"],
    ) -> None:  # fmt: skip
        self._db = db
        self._sender = sender
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._allowed = allowed
        self._role = role
        self._lookup = lookup
        self._retry = retry
        self._budget = None if retry.budget_share is None else Budget(retry.budget_share, clock.boot)
        self._transports: tuple[Transport, Transport]
        self._holder = ""
        self._lanes: dict[str, Lane] = {}
        # Lanes with something in their queue, in turn.
        self._turns: deque[Lane] = deque()
        self._flying = 0
        self._runners: set[asyncio.Task[None]] = set()
        self._bodies = Bodies(db, personal)
        self._results: list[tuple[Lane, Next, Result]] = []
        self._storing: list[tuple[Lane, Next, Result]] = []
        self._gone: list[StoredEndpoint] = []
        self.traffic = Traffic(db)
        self._wake = asyncio.Event()
        self._landed = asyncio.Event()

    def wake(self) -> None:
        """There may be something new."""
        self._wake.set()

    async def run(self) -> None:
        """Work for ever. Survives a lost database; ends only by cancellation."""
        self._transports = (
            Transport(self._allowed[0], self._permitted, self._lookup),
            Transport(self._allowed[1], self._permitted, self._lookup),
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_for_ever())
                group.create_task(self._store_for_ever())
        finally:
            await self._stop_flights()
            await self._store_last()
            await self._drop_all()
            for transport in self._transports:
                await transport.close()

    def _permitted(self) -> bool:
        return self._sender.may_send(self._holder)

    # --- holding endpoints ------------------------------------------------------------------------------------------

    async def _hold(self) -> None:
        """Take our share of the endpoints, say how far we are with each, and learn what has changed."""
        if self._holder != self._sender.id:
            await self._drop_all()
            self._holder = self._sender.id
        said = [(lane.endpoint, lane.done_to(), *(lane.read or (None, None))) for lane in self._lanes.values()]
        columns = [list(column) for column in zip(*said, strict=True)] or [[]] * 4
        rows = await self._db.fetch(store.HOLD, self._holder, self._sender.epoch, self._role, *columns)
        held = {row["endpoint"]: row for row in rows}
        lost = {row["endpoint"] for row in rows if row["lost"]}
        if lost:  # A failover has taken back what was read here, and the numbers may be other events' by now; or it was tidied away.
            log.warning("webhooks_read_anew", count=len(lost))
        for id_ in (self._lanes.keys() - held.keys()) | lost:
            lane = self._lanes.pop(id_)
            lane.empty()
            self._forget(lane)
        for id_ in held.keys() - self._lanes.keys():
            self._lanes[id_] = Lane(id_, held[id_]["done_to"])
        await self._configure({id_: row["version"] for id_, row in held.items()})
        for lane in list(self._lanes.values())[rows[0]["share"] if rows else 0 :]:
            lane.leaving = True
            lane.empty()
        await self._release()

    async def _release(self) -> None:
        """Give back what others are to have and is not in hand any more."""
        leaving = [lane for lane in self._lanes.values() if lane.leaving and not lane.flying and len(lane.in_hand) == len(lane.fading)]
        if leaving:
            await self._db.execute(store.RELEASE, self._holder, [one.endpoint for one in leaving])
            for lane in leaving:
                self._forget(lane)
                self._lanes.pop(lane.endpoint, None)

    async def _configure(self, versions: Mapping[str, int]) -> None:
        """Read the endpoints that have changed, and let secrets end whose time is over."""
        now = self._clock.now()
        changed = [
            id_ for id_, lane in self._lanes.items()
            if lane.stored is None or lane.stored.version != versions[id_] or (lane.stored.previous_until or now + 1) <= now
        ]  # fmt: skip
        for stored in await store.select_endpoints(self._db, changed) if changed else ():
            ended = stored.previous_until is not None and stored.previous_until <= now
            lane = self._lanes[stored.facts.id]
            try:
                lane.configure(stored, self._signer(stored, both=not ended), forget_previous=ended)
            except NotAuthentic:
                log.exception("webhook_secret_unreadable", endpoint=stored.facts.id)

    def _signer(self, stored: StoredEndpoint, *, both: bool) -> Signer:
        sealed = [stored.secret, stored.previous_secret] if both else [stored.secret]
        facts = stored.facts
        opened = [open_secret(self._keys, stored.account, facts.id, one, livemode=facts.livemode) for one in sealed if one is not None]
        return Signer(opened)

    async def _drop_all(self) -> None:
        """Forget everything in hand: it is somebody else's now. What was written may have arrived; it is sent again."""
        await self._stop_flights()
        self._lanes.clear()
        self._turns.clear()
        self._bodies.clear()
        self._results.clear()
        self._storing = []
        self._flying = 0

    async def _stop_flights(self) -> None:
        runners = list(self._runners)
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read_for_ever(self) -> None:
        held = float("-inf")
        while True:
            try:
                if self._clock.boot() - held > HOLD_SECONDS or self._holder != self._sender.id:
                    await self._hold()
                    held = self._clock.boot()
                await self._disable_gone()
                await self._read()
            except (Unavailable, ResultUnknown, Again) as error:
                log.warning("deliverer_waits_for_database", reason=str(error))
                await sleep(POLL_SECONDS)
            except Exception:
                # Whatever it is must not stop the others' deliveries for ever.
                log.exception("deliverer_failed")
                await sleep(POLL_SECONDS)
            self._pump()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
                await sleep(READ_GAP_SECONDS)
            except TimeoutError:
                continue
            finally:
                self._wake.clear()

    async def _read(self) -> None:
        """Fill the lanes' queues, and make the bodies of what is new in them."""
        lanes = [lane for lane in self._lanes.values() if lane.active]
        left = AHEAD_MAX - sum(len(lane.queue) for lane in lanes)
        rooms, dues = [], []
        for lane in self._lanes.values():
            self._forget(lane)
        for lane in lanes:
            lane.begin_read()
            rooms.append(min(lane.room(), max(left, 1)))
            left -= rooms[-1]
            dues.append(0 if self._budget is not None and self._budget.empty else lane.due_room())
        if not any(rooms) and not any(dues):
            return
        ids, after = [lane.endpoint for lane in lanes], [lane.cursor for lane in lanes]
        read = await store.next_deliveries(self._db, self._clock.now(), ids, after, rooms, dues)
        # Before anything is passed: where this fails, all of it is read again.
        await self._bodies.make([delivery for delivery, state in read if _is_wanted(delivery, state)])
        for delivery, state in read:
            lane = self._lanes[delivery.endpoint]
            if state != "due" and not lane.passed(delivery.number, delivery.event):
                continue
            if _is_wanted(delivery, state) and lane.add(delivery):
                self._bodies.need(delivery.event)
                if len(lane.queue) == 1:
                    self._turns.append(lane)
        # One that was in hand, and has landed since the read, needed none any more.
        self._bodies.drop(delivery.event for delivery, _ in read)

    # --- sending ----------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send what may be sent now."""
        while self._flying < FLYING_MAX and (taken := self._take()) is not None:
            runner = asyncio.get_running_loop().create_task(self._run(*taken))
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)

    def _take(self) -> tuple[Lane, Next] | None:
        """The next delivery, of each lane in turn; None when nothing may be sent now."""
        if not self._permitted():
            return None
        now = self._clock.now()
        for _ in range(len(self._turns)):
            lane = self._turns.popleft()
            delivery = self._first(lane) if lane.may_fly(now, FLYING_MAX - self._flying) else None
            if lane.queue:
                self._turns.append(lane)
            if delivery is not None:
                lane.flying += 1
                self._flying += 1
                if lane.room():
                    self._wake.set()
                return lane, delivery
        return None

    def _first(self, lane: Lane) -> Next | None:
        """The first delivery of a lane that the budget allows; what it does not allow is put off, so that it stands in nobody's way."""
        while lane.queue:
            delivery = lane.queue.popleft()
            if in_budget(self._budget, delivery.attempt):
                return delivery
            lane.put_off(delivery)
        return None

    async def _run(self, lane: Lane, delivery: Next) -> None:
        """Send deliveries one after the other for as long as there are any. A task for each would cost a fifth more."""
        taken: tuple[Lane, Next] | None = (lane, delivery)
        while taken is not None:
            await self._send(*taken)
            taken = self._take()
            # A success has made room for one more beside it.
            self._pump()

    async def _send(self, lane: Lane, delivery: Next) -> None:
        began, now = self._clock.boot(), self._clock.now()
        # Held on to: while this is on its way the endpoint may change.
        stored, body = lane.stored, self._bodies.get(delivery.event)
        url = None if stored is None or body is None else stored.facts.url
        outcome: Answered | Unreached
        try:
            outcome = await self._post(lane.signer, stored, delivery, body)
        except NotPermitted:
            # Nothing was written: it stays what it was, and whoever has the right sends it.
            lane.queue.appendleft(delivery)
            if len(lane.queue) == 1:
                self._turns.append(lane)
            return
        except Exception as error:
            log.exception("delivery_failed", endpoint=lane.endpoint, event_id=delivery.event)
            outcome = Unreached(type(error).__name__)
        finally:
            lane.flying -= 1
            self._flying -= 1
        crash_point("deliver.sent")
        self._land(lane, delivery, outcome, now, round((self._clock.boot() - began) * 1000), url)

    async def _post(
        self, signer: Signer | None, stored: StoredEndpoint | None, delivery: Next, body: bytes | None,
    ) -> Answered | Unreached:  # fmt: skip
        if body is None or stored is None or signer is None:
            return Unreached("the event cannot be rendered")
        crash_point("deliver.before")
        headers = headers_of(delivery.event, delivery.number, self._clock.real() // SECOND, signer, body)
        return await self._transports[stored.facts.livemode].post(stored.facts.url, headers, body)

    def _land(self, lane: Lane, delivery: Next, outcome: Answered | Unreached, sent_at: Micros, milliseconds: int, url: str | None) -> None:
        """Note what came of it, for the next write."""
        now = self._clock.now()
        status, answer, failure, asked = None, None, None, 0
        if isinstance(outcome, Answered):
            status, answer = outcome.status, readable(outcome.body)
            asked = asked_wait(status, outcome.retry_after, self._clock.real())
        else:
            failure = outcome.why
        ok = status is not None and succeeded(status)
        lane.landed(now, ok=ok, asked=asked)
        due = None if ok else next_due(self._retry, delivery.attempt, now, self._ids.uniform, asked=asked, began=delivery.created_at)
        self.traffic.landed(ok=ok, again=due is not None)
        if status == GONE and lane.stored is not None:
            self._gone.append(lane.stored)
        result = Result(
            delivery.endpoint, delivery.number, delivery.event, delivery.attempt, ok, sent_at, milliseconds, status, failure, answer, due,
            url,
        )  # fmt: skip
        self._results.append((lane, delivery, result))
        self._landed.set()

    # --- storing ----------------------------------------------------------------------------------------------------

    async def _store_for_ever(self) -> None:
        while True:
            await self._landed.wait()
            await sleep(STORE_GAP_SECONDS)
            self._landed.clear()
            while self._results:
                self._storing = batch = self._results[:RESULTS_MAX]
                self._results = self._results[RESULTS_MAX:]
                await keep_results(self._db, [result for _, _, result in batch])
                crash_point("deliver.stored")
                self._storing = []
                for lane, delivery, result in batch:
                    self._settled(lane, delivery, result)

    async def _store_last(self) -> None:
        """At an orderly end store what has landed, so that only what is on its way is sent again. To do so twice changes nothing."""
        results = [result for _, _, result in (*self._storing, *self._results)]
        try:
            async with asyncio.timeout(LAST_SECONDS):
                if results:
                    await store.store_results(self._db, results)
        except Exception as error:
            log.warning("results_not_stored", count=len(results), reason=str(error) or type(error).__name__)

    def _settled(self, lane: Lane, delivery: Next, result: Result) -> None:
        lane.settled(delivery.number)
        self._bodies.let_go(delivery.event)
        if not result.ok and result.due_at is None:
            log.error("delivery_exhausted", endpoint=lane.endpoint, event_id=delivery.event, tries=delivery.attempt)

    def _forget(self, lane: Lane) -> None:
        """Let go of the bodies of what a lane has dropped."""
        for one in lane.dropped:
            self._bodies.let_go(one.event)
        lane.dropped.clear()

    async def _disable_gone(self) -> None:
        """Switch off the endpoints that said that they want nothing any more."""
        while self._gone:
            one = self._gone[-1]
            await disable_gone(self._db, self._clock, self._ids, one.facts.id, one.account, livemode=one.facts.livemode)
            self._gone.pop()


def _is_wanted(delivery: Next, state: str) -> bool:
    """Whether what was read is to be sent: what has failed before, or was delivered, is not new."""
    return state == "due" or (state == "pending" and delivery.attempt == 1)
