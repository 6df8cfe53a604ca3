"""The port: what a payment asks of a PSP, what a connector says of itself, and how an answer comes back.

An attempt is one try of one operation. Everything that goes on the wire for it is drawn once, by `draw_wire`, when the
attempt is accepted, and stored in its row; the request, its resend, the question about it and its reversal are all made
from that row, so whoever takes the attempt over says exactly what the one before would have said.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from guilder.core.clock import SECOND, Micros
from guilder.core.ids import Ids, lettering
from guilder.core.outcome import NotFound, Outcome

REFERENCE_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
REFERENCE_CHARACTERS: Final = 12
REFERENCE_LETTERS: Final = lettering(REFERENCE_ALPHABET)
# As 32 hexadecimal characters, the cheapest text to make of a number; no two of any number of attempts are equal.
PSP_KEY_BITS: Final = 128
# Six digits; 000000 is left out because acquirers read it as "none".
STAN_MAX: Final = 999_999
STAN_BITS: Final = 40
# The first character of a reversal's reference is its original's, half the alphabet further on.
_OPPOSITE: Final = {
    character: REFERENCE_ALPHABET[(place + len(REFERENCE_ALPHABET) // 2) % len(REFERENCE_ALPHABET)]
    for place, character in enumerate(REFERENCE_ALPHABET)
}


class Operation(StrEnum):
    """What can be asked of a PSP. `void` ends an authorization that is known; `reversal` undoes what may have happened."""

    AUTHORIZE = "authorize"
    PURCHASE = "purchase"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    REVERSAL = "reversal"
    QUERY = "query"
    AUTHENTICATE = "authenticate"


RECOVERY: Final = frozenset({Operation.QUERY, Operation.REVERSAL, Operation.VOID})
"""Operations that settle or undo: they have a lane, a bulkhead and breakers of their own, which new payments cannot fill."""


class Reason(StrEnum):
    """Why an order ended as NotSent or Unknown. The first group says that nothing was written this time."""

    CONNECT = "connect"  # no connection came up
    BREAKER_OPEN = "breaker_open"
    BULKHEAD = "bulkhead"  # too many orders under way, or the PSP takes no more bytes
    FENCED = "fenced"  # the sender had no permission any more
    NO_CARD = "no_card"  # the vault does not have the card
    NO_CVC = "no_cvc"  # a CVC was to go with it and is gone
    VAULT = "vault"  # the vault could not be asked
    UNFIT = "unfit"  # it cannot be expressed in this PSP's messages, or the connector does not do it
    CLOSED = "closed"  # the connector was closed
    EXPIRED = "expired"  # its time was over before its first byte could be written

    TIMEOUT = "timeout"
    RESET = "reset"
    UNREADABLE = "unreadable"
    MISMATCH = "mismatch"  # the answer speaks of another amount, currency or operation
    IN_PROGRESS = "in_progress"  # the PSP, or this connector, is still at it
    PSP_ERROR = "psp_error"  # the PSP's answer is not one of the definite ones
    RESEND_DECLINED = "resend_declined"  # what was sent before it may have been done all the same
    RATE_LIMITED = "rate_limited"  # the PSP takes no more requests for now, and said so until the time was over


class Original(Struct, frozen=True, kw_only=True, array_like=True):
    """The earlier request that an order acts on or asks about, as it stood on the wire."""

    reference: str
    transmitted_at: str
    stan: str
    operation: Operation


class OwnPage(Struct, frozen=True, array_like=True):
    """The PSP's own page in place of a card: where it sends the buyer back to, and until when (an instant) it may be paid."""

    returns_to: str
    closes_at: int


class Order(Struct, frozen=True, kw_only=True):
    """One request to make for one attempt.

    Args:
        first: no byte of this attempt was ever sent, by anybody; only then can the outcome be NotSent.
        psp_merchant: the merchant's id at this PSP, of the connector that the attempt was accepted for.
        amount_minor: what is to be moved; for a query or a reversal, what its original was about.
        psp_key: the idempotency key at the PSP, drawn once per attempt.
        reference: 12 characters [0-9A-Z] that name this request at the PSP; for a query, the one that it asks about.
        transmitted_at: MMDDhhmmss in UTC, fixed at accept: a resend repeats it.
        stan: six digits, fixed at accept.
        original: what a capture, void, refund, reversal or query acts on; None for the others.
        payment_method_id: whose card goes with it; None where no card is needed.
        send_cvc: the attempt row's word on whether a CVC is to go with it.
        descriptor: what the buyer's statement says, at most 22 characters.
        sender_epoch: whose claim it is sent under; handed back to `permit`, never read here.
        repeat: a reversal that has been sent before; it says so on the wire.
        proof: what a passed 3-D Secure authentication left for the authorization; None without one.
        merchant_initiated: a card on file is charged, and the buyer is not there.
        returns_to: for an authentication: where the issuer's challenge page sends the buyer back to.
        card_present: a reader has read the card's chip.
        send_by: business time after which a first request is not to be sent any more: the deadline travels with it.
        wants_challenge: for an authentication: the merchant wants the buyer to be challenged.
        own_page: a purchase or authorization without a card (`start_page`): the buyer enters one at the PSP. Its definite
            answers are *action required* with the page's address, while it may be paid, and then as with a card.
    """

    attempt_id: str
    operation: Operation
    first: bool
    account: str
    livemode: bool
    psp_merchant: str
    amount_minor: int
    currency: str
    psp_key: str
    reference: str
    transmitted_at: str
    stan: str
    original: Original | None = None
    payment_method_id: str | None = None
    send_cvc: bool = False
    descriptor: str = ""
    sender_epoch: object = None
    repeat: bool = False
    proof: str | None = None
    merchant_initiated: bool = False
    returns_to: str | None = None
    wants_challenge: bool = False
    card_present: bool = False
    own_page: OwnPage | None = None
    send_by: int | None = None


class Wire(Struct, frozen=True, array_like=True):
    """What identifies one attempt at the PSP: drawn at accept, stored in the attempt's row, never computed again."""

    reference: str
    psp_key: str
    stan: str
    transmitted_at: str


def draw_wire(ids: Ids, now: Micros) -> Wire:
    """Draw the wire fields of a new attempt.

    A reference is unique among those of its second: with 61 random bits, two of 10,000 in one second are equal once in
    1,000 years of such seconds. The PSP key is unique for ever.
    """
    bits = ids.bits(PSP_KEY_BITS + STAN_BITS)
    key, stan = bits & (1 << PSP_KEY_BITS) - 1, bits >> PSP_KEY_BITS
    return Wire(
        reference=ids.text(REFERENCE_CHARACTERS, REFERENCE_LETTERS),
        psp_key=f"{key:032x}",
        stan=f"{stan % STAN_MAX + 1:06d}",
        transmitted_at=transmission_time(now // SECOND),
    )


@lru_cache(maxsize=4)
def transmission_time(epoch_seconds: int) -> str:
    """An instant as ISO 8583 field 7 has it: MMDDhhmmss in UTC."""
    return time.strftime("%m%d%H%M%S", time.gmtime(epoch_seconds))


def original_of(order: Order) -> Original:
    """This order, as a later one names it."""
    return Original(reference=order.reference, transmitted_at=order.transmitted_at, stan=order.stan, operation=order.operation)


def breaker_name(connector: str, operation: Operation) -> str:
    """What the breaker of a connector's operation is called: in events, and in the rows of those that wait for it."""
    return f"{connector}.{operation}"


def query_about(order: Order) -> Order:
    """The question what became of this order. Safe to ask at any time and any number of times."""
    return replace(
        order, operation=Operation.QUERY, first=False, original=original_of(order), payment_method_id=None,
        send_cvc=False, proof=None,
    )  # fmt: skip


def reversal_of(order: Order) -> Order:
    """The reversal of this order: always the same one, so that repeating it is one reversal.

    Its reference follows from the original's (there is one reversal of an attempt, ever); time and STAN are shared.
    """
    return replace(
        order, operation=Operation.REVERSAL, first=False, original=original_of(order), payment_method_id=None,
        send_cvc=False, proof=None, reference=_OPPOSITE[order.reference[0]] + order.reference[1:],
    )  # fmt: skip


class ContractClass(StrEnum):
    """What a PSP lets us do about an attempt in doubt; decides what the system promises with it."""

    KEY_QUERY_VOID = "key+query+void"
    QUERY_VOID = "query+void"
    VOID = "void"
    QUERY = "query"
    NOTHING = "nothing"


class Declares(Struct, frozen=True, kw_only=True):
    """What a connector says of itself; checked by the contract suite.

    Args:
        idempotency_window_seconds: how long a resend under the same key has no second effect; None without keys.
        currencies: lower-case ISO 4217 codes; None for all.
        three_d_secure: it can authenticate the buyer.
        remembers_reversals: an original that arrives after its reversal is declined.
        finality_horizon_seconds: after so long without a trace, a request that was not found never happened; None for never.
        own_page: it has a page of its own at which buyers pay.
        card_present: it takes cards that a reader has read.
    """

    contract_class: ContractClass
    idempotency_window_seconds: int | None
    partial_capture: bool
    multiple_capture: bool
    currencies: frozenset[str] | None
    three_d_secure: bool
    remembers_reversals: bool
    finality_horizon_seconds: int | None
    own_page: bool = False
    card_present: bool = True

    def takes(self, currency: str) -> bool:
        """Whether it works in this currency."""
        return self.currencies is None or currency in self.currencies


class Direction(StrEnum):
    """Which way a message went."""

    SENT = "sent"
    RECEIVED = "received"


class Exchange(Struct, frozen=True):
    """One message to or from a PSP, masked, for the story of a payment. `at` is business time."""

    attempt_id: str
    direction: Direction
    text: str
    at: Micros


Permit = Callable[[Order], bool]
"""Asked right before an order's first byte is written: may this process still send it?"""
Deliver = Callable[[Order, Outcome | NotFound], None]
"""Takes the one result of an order. NotFound answers queries only."""
Late = Callable[[Order, Outcome | NotFound], None]
"""Takes a definite answer that came after the order had been delivered as Unknown."""
Recorder = Callable[[Exchange], None]
"""Takes masked messages, in the order in which they went over the wire, before the outcome that they led to.

A first request that was definitely answered is not told: its attempt's row says it all, and masking would cost more than
sending."""


class Notification(Struct, frozen=True, kw_only=True):
    """A PSP's word that something has changed, proved to be its own: a reason to ask, never believed about money.

    Args:
        id: the PSP's; a repeated notification has the same.
        reference: of the request that it is about, as ours.
        attempt: the attempt's id, where the PSP has sent back what it was told; None where it was told nothing.
    """

    id: str
    reference: str
    attempt: str | None = None


ReadNotification = Callable[[Mapping[str, str], bytes, int], Notification]
"""Reads a notification: header fields in lower case, the body as it came, the real time. Raises NotificationRefused."""


class Connector(Protocol):
    """One PSP. Made with its `late` and `recorder` callbacks; used from one event loop."""

    @property
    def name(self) -> str:
        """What attempts, routes and logs call it."""
        ...

    @property
    def declares(self) -> Declares:
        """What it can do and promises."""
        ...

    async def start(self) -> None:
        """Begin to connect; returns without waiting for the PSP."""
        ...

    def submit(self, orders: Sequence[Order], permit: Permit, deliver: Deliver) -> None:
        """Queue these orders to be sent.

        Never raises for one order and never calls back before it has returned. Every order is delivered exactly once, at
        the latest when its wait for a connection and its answer timeout have passed. Where nothing was written, a
        first request is NotSent and any other Unknown, with the same reason.
        """
        ...

    async def close(self) -> None:
        """Deliver what is still under way (NotSent or Unknown) and end the connections."""
        ...
