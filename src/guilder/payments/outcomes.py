"""Outcomes: what a PSP says of an attempt is booked, in one commit, once, and however often that has to be decided anew.

A definite answer is never lost: it waits for a database that is away, is decided again on a payment that has moved on, opens a slot of
its own when it comes late, and is kept on its attempt when it cannot be booked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from guilder.core.clock import Clock
from guilder.core.ensure import ensure, present
from guilder.core.errors import Unavailable
from guilder.core.ids import Ids
from guilder.core.outcome import Approved, Declined, NotFound, Outcome
from guilder.core.retry import Kind, Retry
from guilder.core.tasks import Tasks
from guilder.payments.answers import Load, complete
from guilder.payments.claim import Claimed, claim_of
from guilder.payments.hand import Hand
from guilder.payments.insist import insist
from guilder.payments.messages import Messages
from guilder.payments.model import BEGINNING, NEW_PAYMENTS, Attempt, OpenSlot, Payment
from guilder.payments.recheck import alert_of, may_be_news, reopened
from guilder.payments.resume import believed
from guilder.payments.schedule import after_wait
from guilder.payments.settle import settle
from guilder.payments.settling import Settling
from guilder.payments.states import AttemptState
from guilder.payments.store import ATTEMPT_MOVED, STALE, Store
from guilder.payments.ways import Ways
from guilder.psp.model import Operation, Order
from guilder.psp.router import Choice

log = structlog.get_logger(__name__)

# In these a definite answer, a query's too, is about the authorization itself; later ones are about its undoing.
_MAY_CARRY_CVC: Final = frozenset({AttemptState.CREATED, AttemptState.IN_DOUBT})
# An answer that could not be booked, and not for want of a database, is kept on its attempt; when it is booked again.
NOTED: Final = Retry(kind=Kind.FIXED, base_seconds=60.0)


class Word(Struct, frozen=True):
    """What is booked: of which claim, what was asked, and what came of it.

    `onward` is chosen once for it, however often the rest is decided anew: to ask whether a connector is up takes up its invitation.
    """

    one: Claimed
    asked: Operation
    outcome: Outcome | NotFound
    onward: Choice | None


class Outcomes:
    """The booking half of the executor.

    Args:
        hand: what this process holds; an attempt is laid down there once its outcome is booked.
        tasks: where work goes on that a callback cannot wait for.
        load, forget_cvc, checkout_url: as in Executor.
    """

    def __init__(
        self, *, store: Store, clock: Clock, ids: Ids, load: Callable[[str, bool], Load], ways: Ways, hand: Hand, tasks: Tasks,
        forget_cvc: Callable[[Sequence[str]], Awaitable[None]], checkout_url: str,
    ) -> None:  # fmt: skip
        self._store = store
        self._clock = clock
        self._ids = ids
        self._load = load
        self._ways = ways
        self._in_hand = hand
        self._tasks = tasks
        self._forget_cvc = forget_cvc
        self._checkout_url = checkout_url
        self._messages = Messages(store)
        self.record = self._messages.record

    def answered(self, one: Claimed, asked: Operation, outcome: Outcome | NotFound) -> None:
        """Book what a PSP has answered; the vault forgets the CVC that brought it. Returns at once."""
        word = self._word(one, asked, outcome)
        soft = word.onward is not None or (isinstance(outcome, Declined) and outcome.wants_authentication)
        facts = one.attempt.facts
        # An authentication carried none: the authorization that follows it will.
        carried = facts.send_cvc and one.attempt.operation in NEW_PAYMENTS and one.open.state in _MAY_CARRY_CVC
        if carried and not soft and isinstance(outcome, Approved | Declined):
            self._tasks.spawn(self._forget(facts.payment_method.id))
        self._settle(word)

    def settle(self, one: Claimed, asked: Operation, outcome: Outcome | NotFound) -> None:
        """Book one outcome: from the claim's own reading where that is all it takes, else from a fresh one. Returns at once."""
        self._settle(self._word(one, asked, outcome))

    def late(self, order: Order, outcome: Outcome | NotFound) -> None:
        """A definite answer that came after its order had been given up: it counts as any other, whoever holds the row."""
        self._tasks.spawn(self._settle_late(order, believed(order, outcome)))

    def _word(self, one: Claimed, asked: Operation, outcome: Outcome | NotFound) -> Word:
        try:
            choice = self._ways.onward(one.attempt, outcome)
        except Exception:
            # To go on elsewhere is an offer: the outcome is booked without it.
            log.exception("no_choice_of_the_next_connector", attempt=one.attempt.id)
            choice = None
        return Word(one, asked, outcome, choice)

    def _settle(self, word: Word) -> None:
        one = word.one
        key = one.attempt.facts.key
        plain = one.fresh and one.attempt.operation in BEGINNING and one.open.state == AttemptState.CREATED
        if not plain or (key is not None and key.expand):
            self._tasks.spawn(self._settle_fresh(word))
            return
        if isinstance(word.outcome, Approved | Declined):
            self._messages.drop(one.attempt.id)
        try:
            change = settle(self._settling_of(word, one.payment, one.open), word.outcome)
            stored = self._store.commit_soon(change)
        except Exception:
            log.exception("outcome_decided_again", attempt=one.attempt.id)
            self._tasks.spawn(self._settle_fresh(word))
            return
        stored.add_done_callback(lambda future: self._settled(word, future))

    def _settled(self, word: Word, future: "asyncio.Future[str | None]") -> None:
        if future.cancelled():
            return
        if future.exception() is None and future.result() is None:
            self._in_hand.done(word.one)
            if word.one.attempt.id in self._messages:
                self._tasks.spawn(self._messages.store(word.one.attempt.id))
        else:
            self._tasks.spawn(self._settle_fresh(word))

    async def _settle_fresh(self, word: Word) -> None:
        """Read the payment, decide, commit; again whenever it has moved on meanwhile. A definite answer is never lost."""
        attempt = word.one.attempt
        try:
            while not await insist(lambda: self._settle_once(word)):
                pass
        except Exception:
            log.exception("outcome_not_booked", attempt=attempt.id)
            await self._note(word)
        finally:
            self._in_hand.done(word.one)
            await self._messages.store(attempt.id)

    async def _settle_once(self, word: Word) -> bool:
        """One try; True when there is nothing left to do."""
        attempt, outcome = word.one.attempt, word.outcome
        payment = await self._read(attempt)
        # Whatever slot it holds by now: its own, the one in which it is asked about again, or none any more.
        open_ = next((slot for slot in payment.open_slots if slot.attempt == attempt.id), None)
        definite = isinstance(outcome, Approved | Declined)
        if open_ is None:
            if not may_be_news(payment, attempt, word.asked, outcome):
                return True
            # It gets a slot of its own; the next try settles it there.
            await self._store.commit(reopened(payment, attempt, self._clock.now()))
            return False
        if not definite and open_.sender != word.one.sender:
            return True
        if isinstance(outcome, Approved) and outcome.surplus:
            # How much of it has been booked stands on the attempt, which is read after the payment's version.
            again = present(await self._store.attempt(attempt.id), "an attempt stays", attempt=attempt.id)
            word = replace(word, one=replace(word.one, attempt=again))
        change = settle(self._settling_of(word, payment, open_), outcome)
        stored = await self._store.commit(await complete(change, self._load(attempt.account, attempt.livemode)))
        ensure(stored in (None, STALE, ATTEMPT_MOVED), "an outcome can be booked", attempt=attempt.id, result=stored)
        if stored is None and (alert := alert_of(change)) is not None:
            log.error(alert, attempt=attempt.id, payment=attempt.payment, operation=attempt.operation)
        return stored is None

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
        return await self._settle_fresh(self._word(Claimed(attempt, given_up, payment, sender, False), order.operation, outcome))

    async def _forget(self, payment_method: str) -> None:
        try:
            await self._forget_cvc([payment_method])
        except Unavailable:
            # A vault that has gone has lost its CVCs by that; one that hangs drops them after 15 minutes.
            log.warning("cvc_not_dropped", payment_method=payment_method)

    def _settling_of(self, word: Word, payment: Payment, open_: OpenSlot) -> Settling:
        one = word.one
        name = one.attempt.facts.connector
        declares = self._ways.declares(name)
        return Settling(
            payment=payment, attempt=one.attempt, open=open_, asked=word.asked, now=self._clock.now(), ids=self._ids, reporter=one.sender,
            horizon=self._ways.horizon(one.attempt, one.since), origin=self._checkout_url,
            authenticates=declares is not None and declares.three_d_secure, schedule=self._ways.schedule(name), onward=word.onward,
        )  # fmt: skip

    async def _read(self, attempt: Attempt) -> Payment:
        payment = await self._store.read(attempt.payment, attempt.account, attempt.livemode)
        return present(payment, "an attempt's payment exists", attempt=attempt.id)

    async def _note(self, word: Word) -> None:
        outcome = word.outcome
        if isinstance(outcome, Approved | Declined):
            retry_at = after_wait(NOTED, 1, self._clock.now(), self._ids.uniform)
            await insist(lambda: self._store.note(word.one.attempt.id, outcome, retry_at))
