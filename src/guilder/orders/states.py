"""The states of a Checkout Session. Everything about them lives in this file; docs/states.md is drawn from it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from guilder.payments.states import PaymentState


class SessionState(StrEnum):
    """What a Checkout Session's `status` shows."""

    OPEN = "open"
    COMPLETE = "complete"
    EXPIRED = "expired"


class SessionEvent(StrEnum):
    """What moves a session."""

    ORDER_PLACED = "order_placed"
    PAID = "paid"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    EXPIRED = "expired"


_S, _SE = SessionState, SessionEvent
SESSION: Final[Mapping[SessionState, Mapping[SessionEvent, SessionState]]] = {
    _S.OPEN: {
        _SE.ORDER_PLACED: _S.OPEN,
        _SE.PAID: _S.COMPLETE,
        _SE.AUTHORIZED: _S.COMPLETE,
        _SE.EXPIRED: _S.EXPIRED,
    },
    _S.COMPLETE: {
        _SE.CAPTURED: _S.COMPLETE,
    },
    _S.EXPIRED: {},
}

NEWS_OF_PAYMENT: Final[Mapping[PaymentState, SessionEvent]] = {
    PaymentState.SUCCEEDED: SessionEvent.PAID,
    PaymentState.REQUIRES_CAPTURE: SessionEvent.AUTHORIZED,
}
"""The payment's states that complete its session."""
