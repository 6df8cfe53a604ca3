"""The business events by which the system's transfers are marked (column `code`; docs/ledger.md has the table)."""

from enum import IntEnum


class Event(IntEnum):
    """Why a transfer was booked. Numbers are stored for ever: never reused, never renumbered."""

    CAPTURED = 1
    FEE = 2
    AUTHORIZED = 3
    HOLD_CAPTURED = 4
    HOLD_MOVED = 5
    HOLD_RELEASED = 6
    REFUND_RESERVED = 7
    REFUND_SETTLED = 8
    REFUND_FAILED = 9
    REFUND_FOUND = 10
    RELEASED = 11  # by SQL (0006_wallet.sql), as the next one
    MOVED_ON = 12
    REFUND_RETURNED = 13
