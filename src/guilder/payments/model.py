"""Payments' nouns: the attempt, the aggregate that one commit changes, and the change itself.

A payment is the root of what belongs to it (attempts, charges, refunds): each commit that changes any of them names
the version that it was decided on, and moves it by one. So a decision is a pure function of what was read, and whoever
comes second reads again and decides again.
"""

from typing import Final

import msgspec
from msgspec import Struct

from guilder.core.outcome import ActionRequired, Approved, Declined, NotSent, Unknown
from guilder.idempotency.model import Claim
from guilder.ledger.model import Transfer
from guilder.log.model import NewEvent
from guilder.payments.fallen import Fallen
from guilder.payments.secure import Challenge, ChallengeMove, ThreeDSecure
from guilder.psp.model import Operation, Original, OwnPage, Wire
from guilder.shapes.facts import (
    Answer,
    BalanceTransactionFacts,
    ChargeFacts,
    PaymentIntentFacts,
    PaymentMethodFacts,
    RefundFacts,
)

# --- the attempt ----------------------------------------------------------------------------------------------------


class Key(Struct, frozen=True, array_like=True):
    """The idempotency key that an attempt's outcome answers, and the request that brought it."""

    key: str
    request_id: str
    expand: tuple[str, ...] = ()


class Terms(Struct, frozen=True, array_like=True):
    """The price that holds for this payment, as it stood at accept."""

    price_version: int
    basis_points: int


class Till(Struct, frozen=True, array_like=True):
    """The reader that took the card, and where it stands."""

    reader: str
    location: str | None = None


class AttemptFacts(Struct, frozen=True, array_like=True):
    """Everything else that a send, a query or a reversal of the attempt needs. The wire fields are drawn once, at accept."""

    connector: str
    psp_merchant: str
    wire: Wire
    terms: Terms
    payment_method: PaymentMethodFacts
    key: Key | None = None
    send_cvc: bool = False
    off_session: bool = False
    error_on_requires_action: bool = False
    risk_level: str = "normal"
    risk_score: int = 0
    route_reason: str = ""
    # What it acts on: the purchase, authorization or capture that a capture, void or refund names.
    original: Original | None = None
    cancellation_reason: str | None = None
    # The ledger's pending transfer that a refund's outcome posts or voids.
    reservation: str | None = None
    # Which attempt of its refund this is, counted from 1.
    number: int = 1
    # The payment was made with it: its first outcome also announces that the payment was created.
    announces_payment: bool = False
    three_d_secure: ThreeDSecure | None = None
    # The card was there: read by a reader, the buyer standing at the till.
    till: Till | None = None
    # There is no card: the buyer pays at the PSP's own page.
    own_page: OwnPage | None = None
    fallen: Fallen | None = None


class Adjusted(Struct, frozen=True, tag="adjusted"):
    """So often has been booked that the PSP did once more what it had done."""

    times: int


Noted = Approved | Declined | ActionRequired | NotSent | Unknown | Adjusted
_noted = msgspec.msgpack.Decoder(Noted)
_attempt_facts = msgspec.msgpack.Decoder(AttemptFacts)
pack: Final = msgspec.msgpack.Encoder().encode


class Attempt(Struct, frozen=True, kw_only=True):
    """One try of one operation at a PSP. The row is the intent: it stands before a byte is sent."""

    id: str
    payment: str
    account: str
    livemode: bool
    operation: Operation
    slot: str
    amount: int
    currency: str
    execute_by: int
    created_at: int
    facts: AttemptFacts
    refund: str | None = None
    # Not to be sent before this instant; None for at once.
    begin_at: int | None = None
    # What an outcome that could not be booked, or a late answer, left here; or how much of a surplus has been booked.
    noted: Noted | None = None


NEW_PAYMENTS: Final = frozenset({Operation.PURCHASE, Operation.AUTHORIZE})
"""Operations that begin to take a buyer's money; all others act on one of these."""
BEGINNING: Final = NEW_PAYMENTS | {Operation.AUTHENTICATE}
"""With which a try may begin; they need the card."""

PAYMENT_SLOT: Final = "payment"
"""Authenticate, authorize, purchase, capture, cancel and expiry share it: at most one of them is open."""


def refund_slot(refund: str) -> str:
    """A refund's own slot: several refunds of a payment may be under way at once."""
    return f"refund:{refund}"


def challenge_slot(attempt: str) -> str:
    """The slot in which an authentication whose buyer was challenged is asked what came of it."""
    return f"challenge:{attempt}"


def recheck_slot(attempt: str) -> str:
    """The slot in which an attempt that ended as undone is asked about again, and undone once more if need be."""
    return f"recheck:{attempt}"


class Charge(Struct, frozen=True, kw_only=True):
    """A charge with the amounts that refunds are counted against: refunded + refunding <= facts.amount_captured."""

    facts: ChargeFacts
    refunded: int = 0
    refunding: int = 0
    # The day (since 1970) in which its money becomes available; None before capture, 0 for at once.
    day: int | None = None
    # The ledger's pending transfer that holds an authorization; None for a purchase.
    hold: str | None = None


class Refund(Struct, frozen=True, kw_only=True):
    """A refund. `waiting` while it is accepted and waits for money: nothing reserved, nothing sent."""

    facts: RefundFacts
    waiting: bool = False


class OpenSlot(Struct, frozen=True):
    """A slot that is taken: by which attempt, in which state, claimed by whom (None: by nobody)."""

    slot: str
    attempt: str
    state: str
    sender: str | None
    tries: int
    # The request that waits for it; None when nobody does.
    key: Key | None = None
    announces_payment: bool = False
    # By the order for a PSP's own page.
    own_page: bool = False


class Payment(Struct, frozen=True, kw_only=True):
    """The aggregate as read in one statement: what a decision is made from."""

    facts: PaymentIntentFacts
    account: str
    version: int
    confirmations: int = 0
    # The one that succeeded, if any; `charges` are all of them, the failed ones too.
    charge: Charge | None = None
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    open_slots: tuple[OpenSlot, ...] = ()
    # The approved attempt that took or authorized the money, and the approved capture if there was one.
    authorized_by: Attempt | None = None
    captured_by: Attempt | None = None
    # The ids of all approved attempts, refunds and voids among them.
    approved: tuple[str, ...] = ()
    # The open challenge of a payment that requires action.
    challenge: Challenge | None = None

    def open_in(self, slot: str) -> OpenSlot | None:
        """The open attempt of a slot, None when the slot is free."""
        return next((open_ for open_ in self.open_slots if open_.slot == slot), None)


# --- the change -----------------------------------------------------------------------------------------------------

UNCLAIMED: Final = ""
"""The reporter of whoever closes an attempt that nobody may have sent: the row must have no sender."""


class AttemptMove(Struct, frozen=True, kw_only=True):
    """The next state of the attempt in a slot.

    Args:
        before: the state that it was decided on.
        reporter: the sender that must still hold the row, UNCLAIMED for nobody; None for a definite answer.
        retry_at: when somebody looks again; None ends the row, because the state is final.
        breaker: the one that has stopped it; it is looked at again as soon as that one lets it through.
    """

    attempt: str
    slot: str
    before: str
    after: str
    reporter: str | None = None
    retry_at: int | None = None
    tries: int = 0
    noted: Noted | None = None
    breaker: str | None = None


class Reopened(Struct, frozen=True):
    """A slot of its own for an attempt that has ended: to ask about it again, or to undo what it did after all."""

    attempt: str
    slot: str
    state: str
    retry_at: int


class BalanceTransaction(Struct, frozen=True, kw_only=True):
    """A balance transaction and the day whose release makes it available (0: at once)."""

    facts: BalanceTransactionFacts
    payment: str
    day: int


class Change(Struct, frozen=True, kw_only=True):
    """What one commit does to one payment: all of it or nothing.

    Args:
        expected: the version that it was decided on; None for a new payment.
        claim: the idempotency key to claim, with `answer` when nothing is left to wait for.
        answers: the key whose stored answer is `answer`, when an earlier commit claimed it.
        closed: the key of a request whose attempt this change closes for another one, and the answer it gets.
    """

    account: str
    livemode: bool
    payment: PaymentIntentFacts
    expected: int | None
    claim: Claim | None = None
    answers: Key | None = None
    answer: Answer | None = None
    closed: tuple[Key, Answer] | None = None
    confirmations: int = 0
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    reopened: tuple[Reopened, ...] = ()
    moves: tuple[AttemptMove, ...] = ()
    challenges: tuple[ChallengeMove, ...] = ()
    balance_transactions: tuple[BalanceTransaction, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    events: tuple[NewEvent, ...] = ()


def attempt_facts_from(data: bytes) -> AttemptFacts:
    """The facts that were stored with an attempt."""
    return _attempt_facts.decode(data)


def noted_from(data: bytes | None) -> Noted | None:
    """The outcome that was stored with an attempt, if any."""
    return None if data is None else _noted.decode(data)
