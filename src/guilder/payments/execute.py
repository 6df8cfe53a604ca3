"""Execute: the one place from which bytes about an attempt leave. Claims, calls the PSP with no transaction open, hands on its word.

Lists go in and callbacks come out: a task per attempt would cost more than everything else that is done here for one.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from guilder.core.clock import Clock, sleep
from guilder.core.crash import crash_point
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.ids import Ids
from guilder.core.outcome import NotFound, NotSent, Outcome, Unknown
from guilder.core.tasks import Tasks
from guilder.db.errors import Again
from guilder.db.listen import Listener
from guilder.db.pool import Database
from guilder.db.sender import Sender
from guilder.log import PARTITIONS, TOPIC_ATTEMPTS, Entry, Log, Reader, hold_partitions
from guilder.payments.answers import Load
from guilder.payments.claim import CLAIM_DUE, CLAIM_EACH, CONSUMER, Claimed, claim, claim_of, forget_breakers, give_back, set_free
from guilder.payments.hand import Hand
from guilder.payments.insist import insist
from guilder.payments.model import NEW_PAYMENTS
from guilder.payments.outcomes import Outcomes
from guilder.payments.resume import believed, next_step, resend
from guilder.payments.schedule import ALERT_AFTER_TRIES
from guilder.payments.screen import asked_again, asks_risk
from guilder.payments.states import AttemptState
from guilder.payments.store import Store
from guilder.payments.ways import Ways
from guilder.payments.window import Windows
from guilder.psp.model import Connector, Order, Reason
from guilder.risk import RiskService

log = structlog.get_logger(__name__)

ROLE: Final = "executor"
CHANNEL: Final = "guilder_accepted"
DUE: Final = "due"
"""What the notification says when something was accepted that does not wait for the log."""
# Behind the notification; also how often rows are looked for whose retry time has come.
POLL_SECONDS: Final = 0.25
# How often rows are set free that we hold without a call in hand, and partitions are shared out anew.
TIDY_SECONDS: Final = 5.0
PARTITIONS_SECONDS: Final = 1.0
# How long an executor that ends waits for answers to what it has sent: most PSPs answer within it, and the supervisor kills after 1 s.
ANSWERS_SECONDS: Final = 0.6
LEAVE_LOOK_SECONDS: Final = 0.01
# Attempts in hand at once, for each connector: its bulkheads are smaller, so none of them takes the others' share.
IN_HAND_EACH: Final = 4_000


class Executor:
    """The role `executor`. Made by bootstrap; `run` until cancelled.

    Args:
        load: as in Services.
        ways: the connectors are told to it by `run`.
        risk: the external risk service, None where none is configured: then what waited for it goes on.
        checkout_url: the origin at which buyers are served.
        log: where entries are read; None: every claim reads the outbox itself, in its own statement.
        forget_cvc: tells the vault to drop the CVCs of these payment methods, once an authorization that carried them
            has been approved or declined.
    """

    def __init__(
        self, *, db: Database, hot: Database, store: Store, sender: Sender, clock: Clock, ids: Ids, load: Callable[[str, bool], Load],
        forget_cvc: Callable[[Sequence[str]], Awaitable[None]], checkout_url: str, ways: Ways, log: Log | None = None,
        risk: RiskService | None = None,
    ) -> None:  # fmt: skip
        self._db = db
        self._hot = hot
        self._sender = sender
        self._clock = clock
        self._ids = ids
        self._log = log
        self._reader: Reader | None = None
        self._ways = ways
        self._windows = Windows()
        # No connector had enough for new orders of the log.
        self._wants_room = False
        self._risk = risk
        self._in_hand = Hand()
        self._tasks = Tasks(ROLE)
        self._outcomes = Outcomes(
            store=store, clock=clock, ids=ids, load=load, ways=ways, hand=self._in_hand, tasks=self._tasks, forget_cvc=forget_cvc,
            checkout_url=checkout_url,
        )  # fmt: skip
        self.late = self._outcomes.late
        self.record = self._outcomes.record
        self._claiming: asyncio.Future[list[Claimed]] | None = None
        self._leaving = False
        self._wake = asyncio.Event()
        # When rows were last looked for whose retry time has come, and all of them were claimed.
        self._looked = float("-inf")

    # --- claim and send ---------------------------------------------------------------------------------------------

    async def run(self, connectors: Mapping[str, Connector]) -> None:
        """Work for ever. Survives a lost database; ends only by cancellation."""
        self._windows = Windows(connectors, now=asyncio.get_running_loop().time())
        self._ways.connect(connectors)
        listener = Listener(self._db.dsn, [CHANNEL], self._heard, role=self._db.role, name="executor")
        await listener.start()
        if self._log is not None:
            self._reader = self._log.reader(CONSUMER, TOPIC_ATTEMPTS, lambda: self._sender.id, self._wake.set)
        tidied = held = float("-inf")
        knows_breakers = False
        try:
            while True:
                try:
                    if self._claiming is not None:
                        await self._give_back(await self._cut_off())
                        self._claiming = None
                    if not knows_breakers:
                        await forget_breakers(self._db, self._ways.breakers())
                        knows_breakers = True
                    now = self._clock.boot()
                    if now - held > PARTITIONS_SECONDS:
                        await hold_partitions(self._db, CONSUMER, self._sender.id, self._sender.epoch, role=ROLE)
                        held = now
                    if now - tidied > TIDY_SECONDS:
                        await self._tidy()
                        tidied = now
                    await self._round()
                except (Unavailable, ResultUnknown, Again) as error:
                    log.warning("executor_waits_for_database", reason=str(error))
                    await sleep(POLL_SECONDS)
        finally:
            if self._reader is not None:
                await self._reader.close()
            await listener.close()

    def _heard(self, _channel: str, payload: str) -> None:
        if payload == DUE:
            # Not through the log: look for it among what is due, now.
            self._looked = float("-inf")
        self._wake.set()

    async def _round(self) -> None:
        """Claim and hand over; unless there is more at once, wait for the next wake-up or poll."""
        # Before the claim: whoever accepts during it wakes us again.
        self._wake.clear()
        if len(self._in_hand) < IN_HAND_EACH * len(self._ways) and await self._claim():
            return
        try:
            # Not wait_for: it loses a cancellation that comes together with the wake-up.
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _claim(self) -> bool:
        """One claim, handed over; True when it was full, so that there may be more."""
        if not self._sender.may_send(self._sender.id):
            # After an outage, until the next beat: what we claimed now could not be sent, and would end as not sent.
            return False
        now = asyncio.get_running_loop().time()
        due = now - self._looked >= POLL_SECONDS
        room = self._windows.room(now)
        # What is overdue has waited longest. Of the log every partition brings as many: with room for less than one of each, what
        # came would have to be put off, and younger ones would overtake it.
        overdue = min(room, CLAIM_DUE) if due else 0
        each = min(CLAIM_EACH, (room - overdue) // PARTITIONS)
        self._wants_room = room < PARTITIONS
        entries = await self._brought(each)
        if not due and not (each if entries is None else entries):
            return False
        passages = self._ways.passages(self._clock.now(), lambda name: self._windows.room_of(name, now)) if due else ()
        self._claiming = asyncio.ensure_future(claim(
            self._hot, self._sender.id, self._sender.epoch, now=self._clock.now(), each=each, due=due, room=overdue, entries=entries,
            passages=passages,
        ))  # fmt: skip
        # Not cut off by our end, nor while we must not work: what it brings is given back.
        claimed = await asyncio.shield(self._claiming)
        self._claiming = None
        self._begin(claimed)
        fresh = sum(one.fresh for one in claimed)
        # Those that waited for a breaker alone take half of the room.
        more_due = len(claimed) - fresh >= CLAIM_DUE // 2
        if due and not more_due:
            self._looked = now
        if each == 0:
            return more_due or room - len(claimed) >= PARTITIONS
        return more_due or (fresh if entries is None else len(entries)) >= each

    async def _brought(self, each: int) -> Sequence[Entry] | None:
        """New entries, so many of a partition at most; None where the claim reads them itself."""
        if self._reader is None:
            return None
        return (await self._reader.read(each)).entries if each else ()

    async def _tidy(self) -> None:
        freed = await set_free(self._db, self._sender.id, self._in_hand.attempts(), self._clock.now())
        if freed:
            log.warning("attempts_set_free", count=freed)

    def _begin(self, claimed: list[Claimed]) -> None:
        """Hand each claimed attempt's next request to its connector; settle at once what needs none."""
        orders: dict[str, list[Order]] = defaultdict(list)
        now = self._clock.now()
        for one in claimed:
            if one.attempt.facts.connector not in self._ways:
                log.error("connector_not_configured", attempt=one.attempt.id, connector=one.attempt.facts.connector)
                if one.open.state == AttemptState.CREATED:
                    # Nothing of it was sent, and nobody here can send it; what may have been sent waits for its connector.
                    self._in_hand.take(one)
                    self._outcomes.settle(one, one.attempt.operation, NotSent(Reason.CONNECT.value))
                continue
            self._in_hand.take(one)
            # What waits to be sent, or for its buyer, ends by its time.
            asked = one.open.state not in (AttemptState.CREATED, AttemptState.AWAITING_BUYER)
            if asked and one.open.tries >= ALERT_AFTER_TRIES and one.open.tries & (one.open.tries - 1) == 0:
                log.error("attempt_still_open", attempt=one.attempt.id, state=one.open.state, tries=one.open.tries)
            try:
                step = next_step(one.attempt, one.open.state, one.open.tries, now)
            except Exception:
                # As a row that cannot be read: it must not stop the others; it is set free, tried again and reported each time.
                log.exception("attempt_without_next_step", attempt=one.attempt.id)
                self._in_hand.done(one)
                continue
            if isinstance(step, Order) and asks_risk(one.attempt, step):
                self._tasks.spawn(self._screen(one, step))
            elif isinstance(step, Order) and self._takes(one, step):
                orders[one.attempt.facts.connector].append(replace(step, sender_epoch=(one.sender, one.open.slot)))
            elif isinstance(step, Order):
                self._outcomes.settle(one, step.operation, NotSent(Reason.BULKHEAD.value))
            else:
                self._outcomes.settle(one, one.attempt.operation, step)
        for name, list_ in orders.items():
            self._submit(name, list_)

    def _takes(self, one: Claimed, order: Order) -> bool:
        """Whether its connector has room for it now. What was claimed for another one's room, and is a new payment, is put off."""
        name = one.attempt.facts.connector
        if order.operation in NEW_PAYMENTS and order.first and not self._windows.room_of(name, asyncio.get_running_loop().time()):
            return False
        if order.first:
            self._windows.sent(name, (one.attempt.id, one.open.slot))
        return True

    def _submit(self, name: str, orders: Sequence[Order]) -> None:
        """Hand orders to their connector."""
        self._ways.sent_first(name, sum(order.first for order in orders))
        self._ways[name].submit(orders, self._permit, self._deliver)

    async def _screen(self, one: Claimed, order: Order) -> None:
        """Ask the external risk service about an attempt that waits for it, and send it, or put it off, or end it."""
        why = None if self._risk is None else await asked_again(self._risk, one.payment.facts, one.attempt)
        if why is None and not self._takes(one, order):
            why = Reason.BULKHEAD.value
        if why is not None:
            self._outcomes.settle(one, order.operation, NotSent(why))
            return
        self._submit(one.attempt.facts.connector, [replace(order, sender_epoch=(one.sender, one.open.slot))])

    def _permit(self, order: Order) -> bool:
        """Asked right before the first byte: is the claim that this goes out under still ours?"""
        crash_point("send.before", order.operation)
        sender, slot = claim_of(order)
        if self._leaving or not self._sender.may_send(sender):
            return False
        self._in_hand.may_leave((order.attempt_id, slot))
        return True

    # --- leave ------------------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Let go of everything, after `run` has ended: no first byte is written from here on.

        What has certainly not been sent is given back as it was before its claim, for any executor to claim at once. What was sent is
        waited for, ANSWERS_SECONDS at most; the rest is in doubt as soon as the sender is closed. A database that is away leaves it
        all in doubt.
        """
        self._leaving = True
        # In the same step: an order that asks for permission from now on is not sent, and its payment must not fail for that.
        unsent = self._in_hand.lay_down()
        try:
            async with asyncio.timeout(ANSWERS_SECONDS):
                unsent += await self._cut_off()
                await insist(lambda: self._give_back(unsent))
                while self._in_hand or self._tasks:
                    await sleep(LEAVE_LOOK_SECONDS)
        except TimeoutError:
            log.warning("attempts_left_in_doubt", count=len(self._in_hand))

    async def _cut_off(self) -> list[str]:
        """The attempts that the claim has brought that was under way when `run` ended."""
        if self._claiming is None:
            return []
        # Waited for in a way that does not cut it off, either.
        await asyncio.wait({self._claiming})
        if self._claiming.cancelled() or self._claiming.exception() is not None:
            return []
        return [one.attempt.id for one in self._claiming.result()]

    async def _give_back(self, unsent: list[str]) -> None:
        if unsent:
            log.info("attempts_given_back", count=await give_back(self._db, self._sender.id, unsent, self._clock.now()))

    # --- take the outcome -------------------------------------------------------------------------------------------

    def _deliver(self, order: Order, outcome: Outcome | NotFound) -> None:
        crash_point("answer", order.operation)
        if isinstance(outcome, Unknown) and outcome.reason == Reason.MISMATCH:
            # For a person: the PSP did something else than it was asked for, or says so.
            log.error("psp_answer_mismatch", attempt=order.attempt_id, operation=order.operation)
        _sender, slot = claim_of(order)
        self._windows.ended((order.attempt_id, slot), answered=not isinstance(outcome, Unknown | NotSent))
        if self._wants_room:
            self._wake.set()
        one = self._in_hand.get((order.attempt_id, slot))
        if one is None:
            self._outcomes.late(order, outcome)
            return
        if isinstance(outcome, NotFound) and one.open.state == AttemptState.IN_DOUBT:
            again = resend(one.attempt, self._ways[name := one.attempt.facts.connector].declares, self._clock.now())
            if again is not None and self._ways.may_resend(name, one.open.tries, self._ids.uniform):
                again = replace(again, sender_epoch=order.sender_epoch)
                self._ways[name].submit([again], self._permit, self._deliver)
                return
        self._outcomes.answered(one, order.operation, believed(order, outcome))

    def lost(self, sender: str) -> None:
        """Another has taken over: nothing that was claimed under this id may be sent or settled as ours any more."""
        log.error("sender_lost", sender=sender)
        self._in_hand.forget()
        self._windows.forget()
