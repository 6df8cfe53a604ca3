"""The store as a model: what `payments_flush`, `payments_claim`, `sender_take_over` promise, with the guards that they have."""

from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from guilder.core.clock import Clock
from guilder.ledger.model import AccountKey, Transfer
from guilder.ledger.pure import Book, PureAccount
from guilder.log.model import partition_of
from guilder.payments.begin import UNCLAIMED_RETRY_SECONDS
from guilder.payments.model import NEW_PAYMENTS, PAYMENT_SLOT, Attempt, Change, OpenSlot, Payment
from guilder.payments.states import FINAL_ATTEMPT_STATES, PAYMENT, AttemptState, PaymentState
from guilder.payments.store import ATTEMPT_MOVED, FUNDS, KEY_TAKEN, SLOT_TAKEN, STALE
from guilder.psp.model import Operation
from guilder.shapes.facts import Answer
from guilder.wallet.chart import AccountKind

OVERDRAFT = 100_000
SECOND = 1_000_000


class Violation(Exception):
    """Something is not as it must be."""


class Row(Struct):
    """A row of attempt_open."""

    payment: str
    slot: str
    attempt: str
    state: str
    retry_at: int
    since: int
    sender: str | None = None
    tries: int = 0


class KeyRow(Struct):
    """A row of idempotency_key."""

    fingerprint: bytes
    request: str
    object: str
    answer: Answer | None = None


class SenderRow(Struct):
    """A row of sender."""

    epoch: int = 1
    beat: int = 0
    lost: bool = False


class Claimed(Struct, frozen=True):
    """An attempt in the hands of a sender."""

    attempt: Attempt
    open: OpenSlot
    sender: str
    since: int


class Store:
    """One database of one merchant, in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.payments: dict[str, Payment] = {}
        self.attempts: dict[str, Attempt] = {}
        self.ended: dict[str, str] = {}
        self.rows: dict[tuple[str, str], Row] = {}
        self.keys: dict[str, KeyRow] = {}
        self.senders: dict[str, SenderRow] = {}
        self.log: dict[int, list[tuple[str, str]]] = defaultdict(list)
        self.applied: dict[int, int] = defaultdict(int)
        self.holders: dict[int, str | None] = defaultdict(lambda: None)
        self.ledger = Book({})
        self.numbers: dict[AccountKey, int] = {}
        self.entries: dict[str, list[int]] = defaultdict(list)

    # --- reads -----------------------------------------------------------------------------------------------------------

    def read(self, id_: str) -> Payment:
        """The payment with all that belongs to it, as `Store.read` gives it."""
        stored = self.payments[id_]
        approved = [one for one in self.attempts.values() if one.payment == id_ and self.ended.get(one.id) == AttemptState.APPROVED]
        slots = [
            OpenSlot(row.slot, row.attempt, row.state, row.sender, row.tries, self.attempts[row.attempt].facts.key)
            for row in self.rows.values() if row.payment == id_
        ]  # fmt: skip
        return replace(
            stored, open_slots=tuple(slots), approved=tuple(one.id for one in approved),
            authorized_by=next((one for one in approved if one.operation in NEW_PAYMENTS), None),
            captured_by=next((one for one in approved if one.operation is Operation.CAPTURE), None),
        )  # fmt: skip

    # --- the flush -------------------------------------------------------------------------------------------------------

    def flush(self, change: Change) -> str | None:
        """One change, whole or not at all; as payments_flush answers."""
        if (refused := self._refused(change)) is not None:
            return refused
        if not self._book(change.transfers):
            return f"{FUNDS}exceeds_credits"
        if change.claim is not None:
            made = change.refunds[0].facts.id if change.attempts and change.refunds else change.payment.id
            self.keys[change.claim.key] = KeyRow(change.claim.fingerprint, change.claim.request_id, made, change.answer)
        self._store_payment(change)
        self._move(change)
        if change.answers is not None and change.answer is not None:
            self._answer(change.answers.key, change.answer)
        if change.closed is not None:
            self._answer(change.closed[0].key, change.closed[1])
        return None

    def _refused(self, change: Change) -> str | None:
        if change.claim is not None and change.claim.key in self.keys:
            return KEY_TAKEN
        if change.expected is not None and self.payments[change.payment.id].version != change.expected:
            return STALE
        for move in change.moves:
            row = self.rows.get((change.payment.id, move.slot))
            if row is None or (row.attempt, row.state) != (move.attempt, move.before):
                return ATTEMPT_MOVED
            if move.reporter is not None and (row.sender or "") != move.reporter:
                return ATTEMPT_MOVED
        leaving = {move.slot for move in change.moves if move.after in FINAL_ATTEMPT_STATES}
        for attempt in change.attempts:
            if (change.payment.id, attempt.slot) in self.rows and attempt.slot not in leaving:
                return SLOT_TAKEN
        return None

    def _store_payment(self, change: Change) -> None:
        before = self.payments.get(change.payment.id)
        state = PaymentState(change.payment.status)
        if before is not None and state != before.facts.status and state not in PAYMENT[PaymentState(before.facts.status)].values():
            raise Violation(f"I8 a payment moves from {before.facts.status} to {state}")
        charges = {one.facts.id: one for one in (before.charges if before else ())} | {one.facts.id: one for one in change.charges}
        refunds = {one.facts.id: one for one in (before.refunds if before else ())} | {one.facts.id: one for one in change.refunds}
        for charge in charges.values():
            if min(charge.refunded, charge.refunding) < 0 or charge.refunded + charge.refunding > max(charge.facts.amount_captured, 0):
                raise Violation(f"I1 more is given back than was taken: {charge.refunded} + {charge.refunding}")
        captured = max((charge.facts.amount_captured for charge in charges.values() if charge.facts.captured), default=0)
        promised = [one.facts.amount for one in refunds.values() if one.facts.status in ("pending", "succeeded")]
        if sum(promised) > captured:
            raise Violation(f"I1 refunds of {promised} are accepted for {captured}")
        self.payments[change.payment.id] = Payment(
            facts=change.payment, account=change.account, version=(before.version if before else 0) + 1,
            confirmations=change.confirmations, charges=tuple(charges.values()), refunds=tuple(refunds.values()),
            charge=next((one for one in charges.values() if one.facts.status == "succeeded"), None),
        )  # fmt: skip
        self.entries[change.payment.id] += [one.facts.amount - one.facts.fee for one in change.balance_transactions]

    def _move(self, change: Change) -> None:
        payment, now = change.payment.id, self._clock.now()
        for move in change.moves:
            if move.noted is not None:
                self.attempts[move.attempt] = replace(self.attempts[move.attempt], noted=move.noted)
            if move.after in FINAL_ATTEMPT_STATES:
                del self.rows[payment, move.slot]
                if move.after == AttemptState.APPROVED:
                    self.ended[move.attempt] = move.after
                self.ended.setdefault(move.attempt, move.after)
            else:
                row = self.rows[payment, move.slot]
                row.state, row.sender, row.tries, row.retry_at = move.after, None, move.tries, move.retry_at or now
        for attempt in change.attempts:
            self.attempts[attempt.id] = attempt
            due = attempt.begin_at or now + UNCLAIMED_RETRY_SECONDS * SECOND
            self.rows[payment, attempt.slot] = Row(payment, attempt.slot, attempt.id, AttemptState.CREATED, due, now)
            if attempt.begin_at is None or attempt.begin_at <= now:
                self.log[partition_of(payment)].append((payment, attempt.id))
        for one in change.reopened:
            if (payment, one.slot) in self.rows:
                raise Violation(f"I10 {one.slot} is opened twice")
            self.rows[payment, one.slot] = Row(payment, one.slot, one.attempt, one.state, one.retry_at, now)

    def _answer(self, key: str, answer: Answer) -> None:
        row = self.keys[key]
        if row.answer is None:
            row.answer = answer

    def note(self, attempt: str, outcome: object, retry_at: int) -> None:
        """Keep an answer on its attempt, its row set free."""
        self.attempts[attempt] = replace(self.attempts[attempt], noted=outcome)
        for row in self.rows.values():
            if row.attempt == attempt:
                row.sender, row.retry_at = None, retry_at
                row.state = AttemptState.IN_DOUBT if row.state == AttemptState.CREATED else row.state

    # --- claims and senders ----------------------------------------------------------------------------------------------

    def hold(self, sender: str, share: int) -> None:
        """Take partitions that nobody reads, up to a share."""
        if not self._lives(sender):
            return
        free = [partition for partition in range(16) if self.holders[partition] is None]
        held = sum(holder == sender for holder in self.holders.values())
        for partition in free[: max(share - held, 0)]:
            self.holders[partition] = sender

    def claim(self, sender: str, epoch: int) -> list[Claimed]:
        """New entries of its partitions, and rows that are due; as payments_claim."""
        if not self._lives(sender) or self.senders[sender].epoch != epoch:
            return []
        rows, now = [], self._clock.now()
        for partition, entries in self.log.items():
            if self.holders[partition] == sender:
                new = entries[self.applied[partition] :]
                rows += [row for payment, attempt in new for row in self.rows.values() if (row.payment, row.attempt) == (payment, attempt)]
                self.applied[partition] = len(entries)
        rows += [row for row in self.rows.values() if row.retry_at <= now and row not in rows]
        claimed = []
        for row in rows:
            if row.sender is None:
                row.sender = sender
                row.since = now if row.state == AttemptState.CREATED else row.since
                attempt = self.attempts[row.attempt]
                slot = OpenSlot(row.slot, row.attempt, row.state, sender, row.tries, attempt.facts.key)
                claimed.append(Claimed(attempt, slot, sender, row.since))
        return claimed

    def set_free(self, sender: str, in_hand: Sequence[str]) -> None:
        """Rows of a sender without a call in hand; what had begun may have been sent."""
        for row in self.rows.values():
            if row.sender == sender and row.attempt not in in_hand:
                row.sender, row.retry_at = None, min(row.retry_at, self._clock.now())
                row.state = AttemptState.IN_DOUBT if row.state == AttemptState.CREATED else row.state

    def _lives(self, sender: str) -> bool:
        return sender in self.senders and not self.senders[sender].lost

    # What db.sender asks of its pool: the statements by their first words.

    async def execute(self, sql: str, *arguments: object) -> str:
        """A statement of the sender's."""
        if sql.startswith("INSERT INTO sender"):
            self.senders[str(arguments[0])] = SenderRow()
        elif "sender_take_over" in sql:
            self._take_over(*arguments)
        else:
            raise NotImplementedError(sql)
        return ""

    async def fetchval(self, sql: str, *arguments: object) -> int | None:
        """The beat."""
        row = self.senders.get(str(arguments[0]))
        if not sql.startswith("UPDATE sender"):
            raise NotImplementedError(sql)
        if row is None or row.lost or row.epoch != arguments[1]:
            return None
        row.beat += 1
        return row.beat

    async def fetch(self, _sql: str, mine: str) -> list[dict[str, object]]:
        """The other senders."""
        others = [(id_, row) for id_, row in self.senders.items() if not row.lost and id_ != mine]
        return [{"id": id_, "epoch": row.epoch, "beat": row.beat} for id_, row in others]

    def _take_over(self, *arguments: object) -> None:
        id_, epoch, beat, _now = arguments
        row = self.senders[str(id_)]
        if row.lost or (row.epoch, row.beat) != (epoch, beat):
            return
        row.lost, row.epoch = True, row.epoch + 1
        self.set_free(str(id_), ())
        for partition, holder in list(self.holders.items()):
            if holder == id_:
                self.holders[partition] = None

    # --- the ledger ------------------------------------------------------------------------------------------------------

    def _book(self, transfers: tuple[Transfer, ...]) -> bool:
        booked = [
            replace(one, debit=self._number(one.debit), credit=self._number(one.credit), linked=one is not transfers[-1])
            for one in transfers
        ]  # fmt: skip
        refused = self.ledger.book(booked, self._clock.now())
        if refused and any(one.fact for one in transfers):
            raise Violation(f"the ledger refuses a fact: {refused}")
        return not refused

    def _number(self, side: AccountKey | int) -> int:
        if not isinstance(side, AccountKey):
            return side
        if side not in self.numbers:
            self.numbers[side] = number = len(self.numbers) + 1
            limited = side.kind in (AccountKind.PENDING, AccountKind.AVAILABLE)
            self.ledger.accounts[number] = PureAccount(currency=side.currency, debits_limited=limited, overdraft=OVERDRAFT)
        return self.numbers[side]

    def slot_free(self, payment: str) -> bool:
        """Whether the payment's slot is."""
        return (payment, PAYMENT_SLOT) not in self.rows


