"""The states of a payment, an attempt, a refund and a challenge: everything about them. docs/states.md is drawn from this file."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from guilder.core.ensure import InvariantBroken


class PaymentState(StrEnum):
    """What a PaymentIntent's `status` shows."""

    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    REQUIRES_CAPTURE = "requires_capture"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


class PaymentEvent(StrEnum):
    """What moves a payment."""

    METHOD_GIVEN = "method_given"
    METHOD_TAKEN = "method_taken"
    CHANGED = "changed"
    WITHDRAWN = "withdrawn"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    PAID = "paid"
    AUTHORIZED = "authorized"
    FAILED = "failed"
    ACTION_WANTED = "action_wanted"
    CAPTURE_SENT = "capture_sent"
    CAPTURED = "captured"
    CAPTURE_FAILED = "capture_failed"
    CANCEL_SENT = "cancel_sent"
    CANCEL_FAILED = "cancel_failed"
    CANCELED = "canceled"
    FOUND_VOIDED = "found_voided"


class AttemptState(StrEnum):
    """One try of one operation at a PSP (DESIGN section 3)."""

    CREATED = "created"
    IN_DOUBT = "in_doubt"
    AWAITING_BUYER = "awaiting_buyer"
    REVERSING = "reversing"
    APPROVED = "approved"
    DECLINED = "declined"
    ACTION_REQUIRED = "action_required"
    NOT_SENT = "not_sent"
    UNDONE = "undone"


class AttemptEvent(StrEnum):
    """What moves an attempt."""

    APPROVAL = "approval"
    DECLINE = "decline"
    ACTION_WANTED = "action_wanted"
    PAGE_OPENED = "page_opened"
    PROVED_UNSENT = "proved_unsent"
    PUT_OFF = "put_off"
    NO_DEFINITE_ANSWER = "no_definite_answer"
    SENDER_LOST = "sender_lost"
    REVERSAL_DECIDED = "reversal_decided"
    REVERSAL_ACKNOWLEDGED = "reversal_acknowledged"
    FINALITY_PASSED = "finality_passed"
    FOUND = "found"


class ChallengeState(StrEnum):
    """A buyer who was sent to the issuer of the card (3-D Secure)."""

    OPEN = "open"
    PASSED = "passed"
    ATTEMPTED = "attempted"
    FAILED = "failed"
    ABANDONED = "abandoned"
    DISCARDED = "discarded"


class ChallengeEvent(StrEnum):
    """What ends a challenge."""

    AUTHENTICATED = "authenticated"
    ANSWERED_FOR = "answered_for"
    REJECTED = "rejected"
    EXPIRED = "expired"
    OVERTAKEN = "overtaken"


class RefundState(StrEnum):
    """What a Refund's `status` shows."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class RefundEvent(StrEnum):
    """What moves a refund."""

    PAID_BACK = "paid_back"
    DECLINED = "declined"
    TRIED_AGAIN = "tried_again"
    WITHDRAWN = "withdrawn"
    RETURNED = "returned"
    FOUND = "found"


_P, _PE = PaymentState, PaymentEvent
PAYMENT: Final[Mapping[PaymentState, Mapping[PaymentEvent, PaymentState]]] = {
    _P.REQUIRES_PAYMENT_METHOD: {
        _PE.METHOD_GIVEN: _P.REQUIRES_CONFIRMATION,
        _PE.CONFIRMED: _P.PROCESSING,
        _PE.REFUSED: _P.REQUIRES_PAYMENT_METHOD,
        _PE.CANCELED: _P.CANCELED,
    },
    _P.REQUIRES_CONFIRMATION: {
        _PE.METHOD_GIVEN: _P.REQUIRES_CONFIRMATION,
        _PE.METHOD_TAKEN: _P.REQUIRES_PAYMENT_METHOD,
        _PE.CONFIRMED: _P.PROCESSING,
        _PE.REFUSED: _P.REQUIRES_PAYMENT_METHOD,
        _PE.CANCELED: _P.CANCELED,
    },
    _P.REQUIRES_ACTION: {
        _PE.METHOD_GIVEN: _P.REQUIRES_CONFIRMATION,
        _PE.METHOD_TAKEN: _P.REQUIRES_PAYMENT_METHOD,
        _PE.CHANGED: _P.REQUIRES_CONFIRMATION,
        _PE.CONFIRMED: _P.PROCESSING,
        _PE.REFUSED: _P.REQUIRES_PAYMENT_METHOD,
        _PE.FAILED: _P.REQUIRES_PAYMENT_METHOD,
        # At the PSP's own page the buyer pays while the payment waits for him; or nobody may pay there any more.
        _PE.PAID: _P.SUCCEEDED,
        _PE.AUTHORIZED: _P.REQUIRES_CAPTURE,
        _PE.WITHDRAWN: _P.PROCESSING,
        _PE.CANCELED: _P.CANCELED,
    },
    _P.PROCESSING: {
        _PE.PAID: _P.SUCCEEDED,
        _PE.AUTHORIZED: _P.REQUIRES_CAPTURE,
        _PE.FAILED: _P.REQUIRES_PAYMENT_METHOD,
        _PE.ACTION_WANTED: _P.REQUIRES_ACTION,
        _PE.CAPTURED: _P.SUCCEEDED,
        _PE.CAPTURE_FAILED: _P.REQUIRES_CAPTURE,
        _PE.CANCEL_FAILED: _P.REQUIRES_CAPTURE,
        _PE.CANCELED: _P.CANCELED,
    },
    _P.REQUIRES_CAPTURE: {
        _PE.CAPTURE_SENT: _P.PROCESSING,
        _PE.CANCEL_SENT: _P.PROCESSING,
        # A void that had been closed as undone: the authorization is gone, and nothing brings it back.
        _PE.FOUND_VOIDED: _P.CANCELED,
    },
    _P.SUCCEEDED: {},
    _P.CANCELED: {},
}

_A, _AE = AttemptState, AttemptEvent
ATTEMPT: Final[Mapping[AttemptState, Mapping[AttemptEvent, AttemptState]]] = {
    _A.CREATED: {
        _AE.APPROVAL: _A.APPROVED,
        _AE.DECLINE: _A.DECLINED,
        _AE.ACTION_WANTED: _A.ACTION_REQUIRED,
        _AE.PAGE_OPENED: _A.AWAITING_BUYER,
        _AE.PROVED_UNSENT: _A.NOT_SENT,
        _AE.PUT_OFF: _A.CREATED,  # not sent, and kept for later: it may wait
        _AE.NO_DEFINITE_ANSWER: _A.IN_DOUBT,
        _AE.SENDER_LOST: _A.IN_DOUBT,
        _AE.REVERSAL_DECIDED: _A.REVERSING,  # at the till, where nobody waits longer
    },
    _A.IN_DOUBT: {
        _AE.APPROVAL: _A.APPROVED,
        _AE.DECLINE: _A.DECLINED,
        _AE.ACTION_WANTED: _A.ACTION_REQUIRED,  # an authentication whose sender was lost, asked for again
        _AE.PAGE_OPENED: _A.AWAITING_BUYER,
        _AE.NO_DEFINITE_ANSWER: _A.IN_DOUBT,
        _AE.PROVED_UNSENT: _A.IN_DOUBT,  # a resend, query or reversal that wrote nothing changes nothing
        _AE.SENDER_LOST: _A.IN_DOUBT,
        _AE.REVERSAL_DECIDED: _A.REVERSING,
        _AE.FINALITY_PASSED: _A.UNDONE,
    },
    # The PSP's own page is open: the buyer may pay there, and nobody knows whether he has. Asked until its deadline.
    _A.AWAITING_BUYER: {
        _AE.APPROVAL: _A.APPROVED,
        _AE.DECLINE: _A.DECLINED,
        _AE.PAGE_OPENED: _A.AWAITING_BUYER,  # it still is
        _AE.NO_DEFINITE_ANSWER: _A.AWAITING_BUYER,
        _AE.PROVED_UNSENT: _A.AWAITING_BUYER,
        _AE.SENDER_LOST: _A.AWAITING_BUYER,
        _AE.REVERSAL_DECIDED: _A.REVERSING,
    },
    _A.REVERSING: {
        # A late approval is noted, never believed: the reversal is repeated until it is acknowledged.
        _AE.APPROVAL: _A.REVERSING,
        _AE.DECLINE: _A.REVERSING,
        _AE.NO_DEFINITE_ANSWER: _A.REVERSING,
        _AE.PROVED_UNSENT: _A.REVERSING,
        _AE.SENDER_LOST: _A.REVERSING,
        _AE.REVERSAL_ACKNOWLEDGED: _A.UNDONE,
        _AE.FINALITY_PASSED: _A.UNDONE,
    },
    # Final. A refund or void that turns out to have been done is a fact all the same; everything else is undone once more.
    _A.APPROVED: {},
    _A.DECLINED: {_AE.FOUND: _A.APPROVED},
    _A.ACTION_REQUIRED: {},
    _A.NOT_SENT: {_AE.FOUND: _A.APPROVED},
    _A.UNDONE: {_AE.FOUND: _A.APPROVED},
}

_R, _RE = RefundState, RefundEvent
REFUND: Final[Mapping[RefundState, Mapping[RefundEvent, RefundState]]] = {
    _R.PENDING: {
        _RE.PAID_BACK: _R.SUCCEEDED,
        _RE.DECLINED: _R.FAILED,
        _RE.TRIED_AGAIN: _R.PENDING,
        _RE.WITHDRAWN: _R.CANCELED,
    },
    _R.SUCCEEDED: {_RE.RETURNED: _R.FAILED},
    _R.FAILED: {_RE.FOUND: _R.SUCCEEDED},
    _R.CANCELED: {},
}

_C, _CE = ChallengeState, ChallengeEvent
CHALLENGE: Final[Mapping[ChallengeState, Mapping[ChallengeEvent, ChallengeState]]] = {
    _C.OPEN: {
        _CE.AUTHENTICATED: _C.PASSED,
        _CE.ANSWERED_FOR: _C.ATTEMPTED,
        _CE.REJECTED: _C.FAILED,
        _CE.EXPIRED: _C.ABANDONED,
        _CE.OVERTAKEN: _C.DISCARDED,
    },
    # What the issuer says of a challenge that has ended is kept on it, and moves nothing.
    _C.PASSED: {},
    _C.ATTEMPTED: {},
    _C.FAILED: {},
    _C.ABANDONED: {},
    _C.DISCARDED: {},
}

FINAL_ATTEMPT_STATES: Final = frozenset(state for state, moves in ATTEMPT.items() if moves.keys() <= {_AE.FOUND})

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def after(table: Mapping[S, Mapping[E, S]], state: S, event: E) -> S:
    """The state that follows; raises InvariantBroken for a move that the table does not have."""
    try:
        return table[state][event]
    except KeyError:
        raise InvariantBroken(f"no move from {state} by {event}") from None


def allows(table: Mapping[S, Mapping[E, S]], state: S, event: E) -> bool:
    """Whether the table has this move: asked before a user's request is taken."""
    return event in table[state]
