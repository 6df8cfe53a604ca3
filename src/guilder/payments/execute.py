"""Execute: the one place from which bytes about an attempt leave. Claims, calls the PSP with no transaction open, settles.

Lists go in and callbacks come out: a task per attempt would cost more than everything else that is done here for one.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import structlog
from msgspec.structs import replace

from guilder.core.clock import Clock, sleep
from guilder.core.crash import crash_point
from guilder.core.ensure import ensure, present
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.ids import Ids
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.core.retry import Kind, Retry
from guilder.db.errors import Again
from guilder.db.listen import Listener
from guilder.db.pool import Database
from guilder.db.sender import Sender
from guilder.log import PARTITIONS, TOPIC_ATTEMPTS, Entry, Log, Reader, hold_partitions
from guilder.payments.answers import Load, complete
from guilder.payments.claim import CLAIM_DUE, CLAIM_EACH, CONSUMER, Claimed, claim, claim_of, set_free
from guilder.payments.fallback import IsUp
from guilder.payments.insist import insist
from guilder.payments.messages import Messages
from guilder.payments.model import BEGINNING, NEW_PAYMENTS, Attempt, OpenSlot, Payment
from guilder.payments.recheck import alert_of, may_be_news, reopened
from guilder.payments.resume import next_step, resend
from guilder.payments.schedule import ALERT_AFTER_TRIES, after_wait
from guilder.payments.screen import asked_again, asks_risk
from guilder.payments.settle import settle
from guilder.payments.settling import Settling
from guilder.payments.states import AttemptState
from guilder.payments.store import ATTEMPT_MOVED, STALE, Store
from guilder.payments.ways import Ways
from guilder.payments.window import Windows
from guilder.psp.model import Connector, Operation, Order, Reason
from guilder.psp.router import Route, Rule
from guilder.risk import RiskService
from guilder.tuning import Tuning

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
# Attempts in hand at once, for each connector: its bulkheads are smaller, so none of them takes the others' share.
IN_HAND_EACH: Final = 4_000
# In these a definite answer, a query's too, is about the authorization itself; later ones are about its undoing.
_MAY_CARRY_CVC: Final = frozenset({AttemptState.CREATED, AttemptState.IN_DOUBT})
# An answer that could not be booked, and not for want of a database, is kept on its attempt; when it is booked again.
NOTED: Final = Retry(kind=Kind.FIXED, base_seconds=60.0)


class Executor:
    """The role `executor`. Made by bootstrap; `run` until cancelled.

    Args:
        load: as in Services.
        tuning: retry policies and fallbacks.
        routes, rules, up: as in Ways.
        risk: the external risk service, None where none is configured: then what waited for it goes on.
        checkout_url: the origin at which buyers are served.
        log: where entries are read; None: every claim reads the outbox itself, in its own statement.
        forget_cvc: tells the vault to drop the CVCs of these payment methods, once an authorization that carried them
            has been approved or declined.
    """

    def __init__(
        self, *, db: Database, hot: Database, store: Store, sender: Sender, clock: Clock, ids: Ids, load: Callable[[str, bool], Load],
        forget_cvc: Callable[[Sequence[str]], Awaitable[None]], checkout_url: str, tuning: Tuning, log: Log | None = None,
        routes: Sequence[Route] = (), rules: Sequence[Rule] = (), up: IsUp | None = None, risk: RiskService | None = None,
    ) -> None:  # fmt: skip
        self._db = db
        self._hot = hot
        self._store = store
        self._sender = sender
        self._clock = clock
        self._ids = ids
        self._load = load
        self._forget_cvc = forget_cvc
        self._checkout_url = checkout_url
        self._log = log
        self._reader: Reader | None = None
        self._windows = Windows()
        # No connector had enough for new orders of the log.
        self._wants_room = False
        self._tuning = tuning
        self._routes = routes
        self._rules = rules
        self._up = up
        self._risk = risk
        self._ways = Ways({}, tuning, clock)
        self._in_hand: dict[tuple[str, str], Claimed] = {}
        self._messages = Messages(store)
        self.record = self._messages.record
        self._wake = asyncio.Event()
        # When rows were last looked for whose retry time has come, and all of them were claimed.
        self._looked = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()

    # --- claim and send ---------------------------------------------------------------------------------------------

    async def run(self, connectors: Mapping[str, Connector]) -> None:
        """Work for ever. Survives a lost database; ends only by cancellation."""
        self._windows = Windows(connectors, now=asyncio.get_running_loop().time())
        self._ways = Ways(connectors, self._tuning, self._clock, routes=self._routes, rules=self._rules, up=self._up)
        listener = Listener(self._db.dsn, [CHANNEL], self._heard, role=self._db.role, name="executor")
        await listener.start()
        if self._log is not None:
            self._reader = self._log.reader(CONSUMER, TOPIC_ATTEMPTS, lambda: self._sender.id, self._wake.set)
        tidied = held = float("-inf")
        try:
            while True:
                try:
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
        claimed = await claim(
            self._hot, self._sender.id, self._sender.epoch, now=self._clock.now(), each=each, due=due, room=overdue, entries=entries,
        )
        self._begin(claimed)
        fresh = sum(one.fresh for one in claimed)
        more_due = len(claimed) - fresh >= CLAIM_DUE
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
        in_hand = [attempt for attempt, _ in self._in_hand]
        freed = await set_free(self._db, self._sender.id, in_hand, self._clock.now())
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
                    self._in_hand[one.attempt.id, one.open.slot] = one
                    self._settle(one, one.attempt.operation, NotSent(Reason.CONNECT.value))
                continue
            self._in_hand[one.attempt.id, one.open.slot] = one
            # What waits to be sent, or for its buyer, ends by its time.
            asked = one.open.state not in (AttemptState.CREATED, AttemptState.AWAITING_BUYER)
            if asked and one.open.tries >= ALERT_AFTER_TRIES and one.open.tries & (one.open.tries - 1) == 0:
                log.error("attempt_still_open", attempt=one.attempt.id, state=one.open.state, tries=one.open.tries)
            try:
                step = next_step(one.attempt, one.open.state, one.open.tries, now)
            except Exception:
                # As a row that cannot be read: it must not stop the others; it is set free, tried again and reported each time.
                log.exception("attempt_without_next_step", attempt=one.attempt.id)
                self._done(one)
                continue
            if isinstance(step, Order) and asks_risk(one.attempt, step):
                self._spawn(self._screen(one, step))
            elif isinstance(step, Order) and self._takes(one, step):
                orders[one.attempt.facts.connector].append(replace(step, sender_epoch=(one.sender, one.open.slot)))
            elif isinstance(step, Order):
                self._settle(one, step.operation, NotSent(Reason.BULKHEAD.value))
            else:
                self._settle(one, one.attempt.operation, step)
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
            self._settle(one, order.operation, NotSent(why))
            return
        self._submit(one.attempt.facts.connector, [replace(order, sender_epoch=(one.sender, one.open.slot))])

    def _permit(self, order: Order) -> bool:
        """Asked right before the first byte: is the claim that this goes out under still ours?"""
        crash_point("send.before", order.operation)
        sender, _slot = claim_of(order)
        return self._sender.may_send(sender)

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
            self.late(order, outcome)
            return
        if isinstance(outcome, NotFound) and one.open.state == AttemptState.IN_DOUBT:
            again = resend(one.attempt, self._ways[name := one.attempt.facts.connector].declares, self._clock.now())
            if again is not None and self._ways.may_resend(name, one.open.tries, self._ids.uniform):
                again = replace(again, sender_epoch=order.sender_epoch)
                self._ways[name].submit([again], self._permit, self._deliver)
                return
        onward = isinstance(outcome, Declined) and self._ways.onward(one.attempt, outcome) is not None
        soft = onward or (isinstance(outcome, Declined) and outcome.wants_authentication)
        facts = one.attempt.facts
        # An authentication carried none: the authorization that follows it will.
        carried = facts.send_cvc and one.attempt.operation in NEW_PAYMENTS and one.open.state in _MAY_CARRY_CVC
        if carried and not soft and isinstance(outcome, Approved | Declined):
            self._spawn(self._forget(facts.payment_method.id))
        self._settle(one, order.operation, outcome)

    async def _forget(self, payment_method: str) -> None:
        try:
            await self._forget_cvc([payment_method])
        except Unavailable:
            # A vault that has gone has lost its CVCs by that; one that hangs drops them after 15 minutes.
            log.warning("cvc_not_dropped", payment_method=payment_method)

    def _settle(self, one: Claimed, asked: Operation, outcome: Outcome | NotFound) -> None:
        """Settle one outcome: from the claim's own reading where that is all it takes, else from a fresh one."""
        key = one.attempt.facts.key
        plain = one.fresh and one.attempt.operation in BEGINNING and one.open.state == AttemptState.CREATED
        if not plain or (key is not None and key.expand):
            self._spawn(self._settle_fresh(one, asked, outcome))
            return
        if isinstance(outcome, Approved | Declined):
            self._messages.drop(one.attempt.id)
        try:
            change = settle(self._settling_of(one, one.payment, one.open, asked, outcome), outcome)
            stored = self._store.commit_soon(change)
        except Exception:
            log.exception("outcome_decided_again", attempt=one.attempt.id)
            self._spawn(self._settle_fresh(one, asked, outcome))
            return
        stored.add_done_callback(lambda future: self._settled(one, asked, outcome, future))

    def _settled(self, one: Claimed, asked: Operation, outcome: Outcome | NotFound, future: "asyncio.Future[str | None]") -> None:
        if future.cancelled():
            return
        if future.exception() is None and future.result() is None:
            self._done(one)
            if one.attempt.id in self._messages:
                self._spawn(self._messages.store(one.attempt.id))
        else:
            self._spawn(self._settle_fresh(one, asked, outcome))

    async def _settle_fresh(self, one: Claimed, asked: Operation, outcome: Outcome | NotFound) -> None:
        """Read the payment, decide, commit; again whenever it has moved on meanwhile. A definite answer is never lost."""
        try:
            while not await insist(lambda: self._settle_once(one, asked, outcome)):
                pass
        except Exception:
            log.exception("outcome_not_booked", attempt=one.attempt.id)
            await self._note(one, outcome)
        finally:
            self._done(one)
            await self._messages.store(one.attempt.id)

    async def _settle_once(self, one: Claimed, asked: Operation, outcome: Outcome | NotFound) -> bool:
        """One try; True when there is nothing left to do."""
        attempt = one.attempt
        payment = await self._read(attempt)
        # Whatever slot it holds by now: its own, the one in which it is asked about again, or none any more.
        open_ = next((slot for slot in payment.open_slots if slot.attempt == attempt.id), None)
        definite = isinstance(outcome, Approved | Declined)
        if open_ is None:
            if not may_be_news(payment, attempt, asked, outcome):
                return True
            # It gets a slot of its own; the next try settles it there.
            await self._store.commit(reopened(payment, attempt, self._clock.now()))
            return False
        if not definite and open_.sender != one.sender:
            return True
        change = settle(self._settling_of(one, payment, open_, asked, outcome), outcome)
        stored = await self._store.commit(await complete(change, self._load(attempt.account, attempt.livemode)))
        ensure(stored in (None, STALE, ATTEMPT_MOVED), "an outcome can be booked", attempt=attempt.id, result=stored)
        if stored is None and (alert := alert_of(change)) is not None:
            log.error(alert, attempt=attempt.id, payment=attempt.payment, operation=attempt.operation)
        return stored is None

    def late(self, order: Order, outcome: Outcome | NotFound) -> None:
        """A definite answer that came after its order had been given up: it counts as any other, whoever holds the row."""
        self._spawn(self._settle_late(order, outcome))

    async def _settle_late(self, order: Order, outcome: Outcome | NotFound) -> None:
        if not isinstance(outcome, Approved | Declined):
            return await self._messages.store(order.attempt_id)
        attempt = await insist(lambda: self._store.attempt(order.attempt_id))
        if attempt is None:
            log.error("late_answer_about_nothing", attempt=order.attempt_id, operation=order.operation)
            return None
        payment = await insist(lambda: self._read(attempt))
        sender, slot = claim_of(order)
        given_up = OpenSlot(slot, attempt.id, AttemptState.IN_DOUBT, None, 0)
        return await self._settle_fresh(Claimed(attempt, given_up, payment, sender, False), order.operation, outcome)

    # --- bookkeeping ------------------------------------------------------------------------------------------------

    def lost(self, sender: str) -> None:
        """Another has taken over: nothing that was claimed under this id may be sent or settled as ours any more."""
        log.error("sender_lost", sender=sender)
        self._in_hand.clear()
        self._windows.forget()

    def _settling_of(
        self, one: Claimed, payment: Payment, open_: OpenSlot, asked: Operation, outcome: Outcome | NotFound,
    ) -> Settling:  # fmt: skip
        name = one.attempt.facts.connector
        declares = self._ways.declares(name)
        return Settling(
            payment=payment, attempt=one.attempt, open=open_, asked=asked, now=self._clock.now(), ids=self._ids, reporter=one.sender,
            horizon=self._ways.horizon(one.attempt, one.since), origin=self._checkout_url,
            authenticates=declares is not None and declares.three_d_secure, schedule=self._ways.schedule(name),
            onward=self._ways.onward(one.attempt, outcome),
        )  # fmt: skip

    async def _read(self, attempt: Attempt) -> Payment:
        payment = await self._store.read(attempt.payment, attempt.account, attempt.livemode)
        return present(payment, "an attempt's payment exists", attempt=attempt.id)

    async def _note(self, one: Claimed, outcome: Outcome | NotFound) -> None:
        if isinstance(outcome, Approved | Declined):
            retry_at = after_wait(NOTED, 1, self._clock.now(), self._ids.uniform)
            await insist(lambda: self._store.note(one.attempt.id, outcome, retry_at))

    def _done(self, one: Claimed) -> None:
        """Its call has ended. The row may have been claimed anew meanwhile: then that claim's call goes on."""
        key = (one.attempt.id, one.open.slot)
        if self._in_hand.get(key) is one:
            del self._in_hand[key]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("executor_task_failed", exc_info=task.exception())
