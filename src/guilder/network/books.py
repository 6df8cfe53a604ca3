"""The memory of the bank world: operations by reference, and the one function that changes them and moves money.

Everything here follows from the entries of the truth file: `apply` is what runs after a decision and what runs when
the file is read again, so the memory after a restart is the memory before it.

What is kept: everything for a day (of business time), which is how long a repeated message gets its stored answer,
an inquiry finds a decline, and a reversal waits for its original. After that whatever had an effect, for 18 months: an
inquiry must never say "not found" of what has moved money. An operation costs about 0.35 kB.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from guilder.core.clock import DAY, SECOND
from guilder.core.ensure import InvariantBroken
from guilder.iso8583 import Authenticated, Code, State
from guilder.network.entries import UNDID_IN_ADVANCE, UNDID_REFUND_IN_PROGRESS, Entry, Kind
from guilder.network.issuer import Account, Refunds
from guilder.network.scheme import Scheme

# How long a repeated message is recognised and a reversal waits for its original (DESIGN section 8).
REMEMBERED: Final = DAY
# How long a purchase can be refunded: longer than any scheme allows.
REFUNDABLE: Final = 540 * DAY
# How long a refund with a life of its own takes to its next state, in business time.
REFUND_MOVES_AFTER: Final = 5 * SECOND
# Old operations are looked for so often (business time); a look costs microseconds for each that leaves.
SWEEP_EVERY: Final = DAY // 144


# The state that a response code leaves an operation in; every other code declines it.
_STATES: Final[Mapping[str, str]] = {Code.APPROVED: State.APPROVED, Code.IN_PROGRESS: State.IN_PROGRESS}


class Operation(Struct, gc=False):
    """One operation as remembered. `payment` is the authorization or purchase that it acts on, None for those.

    `captured` and `refunded` (refunds in progress included) stand on the payment only. It is mutable, not tracked by
    the garbage collector (there are no cycles), and small: hundreds of thousands are kept.
    """

    kind: str
    code: str
    state: str
    amount: int
    currency: str
    transmitted: str
    at: int
    checks: str
    account: Account | None
    payment: "Operation | None" = None
    captured: int = 0
    refunded: int = 0
    asked: int = 0  # inquiries so far; settles what is in progress


class Moving(Struct, frozen=True):
    """A refund that has a next state before it: when it comes, and the reference that the refund acts on."""

    due: int
    original: str


class Authentication(Struct):
    """What came of an authentication, beside its operation: the challenge that is open, or the proof that can be used once."""

    result: str
    returns_to: str
    challenged: bool
    used: bool = False

    @property
    def proves(self) -> bool:
        """Whether an authorization may be proved with it."""
        return self.result in (Authenticated.PASSED, Authenticated.ATTEMPTED)


class _Shelf(Struct):
    """The operations of one acquirer: of the last day in `recent`, older ones that can move money in `kept`."""

    recent: dict[str, Operation] = {}
    kept: dict[str, Operation] = {}
    # References whose reversal came before they did, and when.
    reversed_early: dict[str, int] = {}
    authentications: dict[str, Authentication] = {}


class Books:
    """Finds operations and applies entries."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self._shelves: dict[str, _Shelf] = {}
        self._moving: dict[tuple[str, str], Moving] = {}  # by acquirer and reference
        self._swept_at = 0

    def find(self, acquirer: str, reference: str) -> Operation | None:
        """The operation of a reference, as far as it is still remembered."""
        shelf = self._shelves.get(acquirer)
        if shelf is None:
            return None
        return shelf.recent.get(reference) or shelf.kept.get(reference)

    def recent(self, acquirer: str) -> Iterator[tuple[str, Operation]]:
        """Reference and operation of what was asked for within the last day, in its order."""
        shelf = self._shelves.get(acquirer)
        return iter(shelf.recent.items() if shelf else ())

    def was_reversed_early(self, acquirer: str, reference: str, now: int) -> bool:
        """Whether a reversal of this reference has come before it, within the last day."""
        shelf = self._shelves.get(acquirer)
        if shelf is None or not shelf.reversed_early:
            return False
        at = shelf.reversed_early.get(reference)
        return at is not None and now - at < REMEMBERED

    def authentication(self, acquirer: str, reference: str) -> Authentication | None:
        """What came of an authentication, for a day."""
        shelf = self._shelves.get(acquirer)
        return shelf.authentications.get(reference) if shelf else None

    def apply(self, entry: Entry) -> Operation:
        """Make an entry true: store its operation and move its money. Entries are applied once, in their order."""
        if entry.kind in (Kind.REFUND_SETTLED, Kind.REFUND_RETURNED):
            return self._move_refund(entry)
        if entry.kind == Kind.CHALLENGE_ANSWERED:
            return self._answer_challenge(entry)
        operation = Operation(
            kind=entry.kind,
            code=entry.code,
            state=_STATES.get(entry.code, State.DECLINED),
            amount=entry.amount,
            currency=entry.currency,
            transmitted=entry.transmitted,
            at=entry.at,
            checks=entry.checks,
            account=self.scheme.named(entry.account) if entry.account else None,
            payment=self._payment_of(entry) if entry.original else None,
        )
        if entry.proof:
            self._shelf(entry.acquirer).authentications[entry.proof].used = True
        if operation.state != State.DECLINED:
            self._take_effect(entry, operation)
        recent = self._shelf(entry.acquirer).recent
        # A reference that was forgotten as a duplicate and used again moves to the end: `sweep` reads in order.
        recent.pop(entry.reference, None)
        recent[entry.reference] = operation
        return operation

    def due_refunds(self, now: int) -> list[tuple[str, str]]:
        """Acquirer and reference of each refund whose next state has come."""
        return [key for key, moving in self._moving.items() if moving.due <= now]

    def moving(self, acquirer: str, reference: str) -> Moving | None:
        """The next state of this refund; None when it has none."""
        return self._moving.get((acquirer, reference))

    def sweep(self, now: int) -> None:
        """Forget what is old (see the module's docstring). Cheap to call often."""
        if now - self._swept_at < SWEEP_EVERY:
            return
        self._swept_at = now
        for shelf in self._shelves.values():
            # The order of a dict is the order of arrival, so the old ones stand in front.
            for reference in _older(shelf.recent, now - REMEMBERED):
                operation = shelf.recent.pop(reference)
                if operation.kind == Kind.AUTHENTICATION:
                    shelf.authentications.pop(reference, None)
                elif operation.state != State.DECLINED:
                    shelf.kept[reference] = operation
            for reference in _older(shelf.kept, now - REFUNDABLE):
                del shelf.kept[reference]
            for reference in [name for name, at in shelf.reversed_early.items() if at <= now - REMEMBERED]:
                del shelf.reversed_early[reference]

    def count(self) -> int:
        """How many operations are remembered."""
        return sum(len(shelf.recent) + len(shelf.kept) for shelf in self._shelves.values())

    def _shelf(self, acquirer: str) -> _Shelf:
        shelf = self._shelves.get(acquirer)
        if shelf is None:
            shelf = self._shelves[acquirer] = _Shelf()
        return shelf

    def _payment_of(self, entry: Entry) -> Operation | None:
        original = self.find(entry.acquirer, entry.original)
        return original and (original.payment or original)

    def _take_effect(self, entry: Entry, operation: Operation) -> None:
        """Move the money of an operation that was approved or is in progress."""
        amount, currency, payment = entry.amount, entry.currency, operation.payment
        if entry.kind == Kind.AUTHENTICATION:
            challenged = entry.result == Authenticated.CHALLENGE
            standing = Authentication(entry.result, entry.returns_to, challenged)
            self._shelf(entry.acquirer).authentications[entry.reference] = standing
        elif entry.kind == Kind.PURCHASE:
            _account(operation).move(currency, -amount)
            operation.captured = amount
        elif entry.kind == Kind.AUTHORIZATION:
            _account(operation).hold(currency, amount)
        elif entry.kind in (Kind.VOID, Kind.REVERSAL):
            self._undo(entry)
        elif payment is not None:
            account = _account(operation)
            if entry.kind == Kind.CAPTURE:
                account.hold(currency, -payment.amount)
                account.move(currency, -amount)
                payment.captured = amount
            else:
                self._refund(entry, operation, payment, account)

    def _refund(self, entry: Entry, operation: Operation, payment: Operation, account: Account) -> None:
        payment.refunded += entry.amount
        if operation.state == State.APPROVED:
            account.move(entry.currency, entry.amount)
        if account.terms.refunds is not Refunds.AT_ONCE:
            self._moving[entry.acquirer, entry.reference] = Moving(entry.at + REFUND_MOVES_AFTER, entry.original)

    def _move_refund(self, entry: Entry) -> Operation:
        """A refund reaches its next state: in progress to approved, or approved to returned."""
        refund = self.find(entry.acquirer, entry.reference)
        self._moving.pop((entry.acquirer, entry.reference), None)
        if refund is None or refund.payment is None:
            raise InvariantBroken(f"the refund {entry.reference} is not there")
        if entry.kind == Kind.REFUND_SETTLED:
            refund.state = State.APPROVED
            _account(refund).move(refund.currency, refund.amount)
        else:
            refund.state = State.RETURNED
            refund.payment.refunded -= refund.amount
            _account(refund).move(refund.currency, -refund.amount)
        return refund

    def _answer_challenge(self, entry: Entry) -> Operation:
        """The buyer has answered: the same authentication, with its result."""
        operation, standing = self.find(entry.acquirer, entry.reference), self.authentication(entry.acquirer, entry.reference)
        if operation is None or standing is None:
            raise InvariantBroken(f"the authentication {entry.reference} is not there")
        standing.result = entry.result
        return operation

    def _undo(self, entry: Entry) -> None:
        """Take back what a void or a reversal says that it takes back."""
        original = self.find(entry.acquirer, entry.original)
        # Once captured, also through a purchase, there is no hold left to free.
        held = original is not None and original.kind == Kind.AUTHORIZATION and not original.captured
        for kind, amount in entry.undid:
            if kind == UNDID_IN_ADVANCE:
                self._shelf(entry.acquirer).reversed_early[entry.original] = entry.at
                continue
            if original is None:
                raise InvariantBroken(f"the original of {entry.reference} is not there")
            payment = original.payment or original
            account = _account(original)
            if kind == Kind.CAPTURE:
                account.move(original.currency, amount)
                payment.captured -= amount
                payment.state = State.REVERSED
            elif kind == Kind.AUTHORIZATION and held:
                account.hold(original.currency, -amount)
            elif kind in (Kind.REFUND, UNDID_REFUND_IN_PROGRESS):
                payment.refunded -= amount
                self._moving.pop((entry.acquirer, entry.original), None)
                if kind == Kind.REFUND:
                    account.move(original.currency, -amount)
            original.state = State.REVERSED


def _account(operation: Operation) -> Account:
    """The account that an effective operation moves money on."""
    if operation.account is None:
        raise InvariantBroken("an operation that moves money has an account")
    return operation.account


def _older(operations: Mapping[str, Operation], limit: int) -> list[str]:
    """The references in front that are not younger than the limit; a dict keeps the order of arrival."""
    found = []
    for reference, operation in operations.items():
        if operation.at > limit:
            break
        found.append(reference)
    return found
