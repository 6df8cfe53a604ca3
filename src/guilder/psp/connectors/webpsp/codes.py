"""The definite answers: which words close an attempt, and what each is called here. Data, after docs/webpsp.md.

Whatever is not listed says nothing about the operation: it is unknown.
"""

from collections.abc import Mapping
from typing import Final

from guilder.psp.model import Operation

KINDS: Final[Mapping[Operation, str]] = {
    Operation.AUTHORIZE: "authorization",
    Operation.PURCHASE: "purchase",
    Operation.CAPTURE: "capture",
    Operation.VOID: "void",
    Operation.REVERSAL: "reversal",
    Operation.REFUND: "refund",
}
"""What the PSP calls each operation."""

DECLINES: Final[Mapping[str, str]] = {
    "do_not_honor": "generic_decline",
    "processing_error": "processing_error",
    "not_allowed": "transaction_not_allowed",
    "amount_not_allowed": "invalid_amount",
    "card_unknown": "incorrect_number",
    "not_readable": "processing_error",
    "card_lost": "lost_card",
    "card_stolen": "stolen_card",
    "insufficient_funds": "insufficient_funds",
    "card_expired": "expired_card",
    "limit_exceeded": "card_velocity_exceeded",
    "authentication_wanted": "authentication_required",
    "payment_reversed": "processing_error",
    "cvc_wrong": "incorrect_cvc",
    "page_expired": "page_expired",
    "page_canceled": "page_canceled",
    "page_declined": "page_declined",
}
"""Why an operation was declined: nothing was moved, and the decline code of each."""

DECLINES_OF: Final[Mapping[tuple[Operation, str], str]] = {
    (Operation.VOID, "already_captured"): "transaction_not_allowed",
    (Operation.REVERSAL, "already_captured"): "transaction_not_allowed",
    (Operation.CAPTURE, "payment_not_found"): "processing_error",
    (Operation.REFUND, "payment_not_found"): "processing_error",
}
"""Words that are definite for some operations only."""

ALSO_DONE: Final = frozenset({(Operation.VOID, "payment_not_found"), (Operation.VOID, "payment_reversed")})
"""Declines that acknowledge: a void of what is gone has nothing left to release."""

ADVICE: Final[Mapping[str, str]] = {
    "ask_for_card_data": "confirm_card_data", "try_later": "try_again_later", "do_not_try_again": "do_not_try_again",
}  # fmt: skip

SOFT_DECLINE: Final = "authentication_wanted"
NOT_FOUND: Final = "operation_not_found"
INVALID: Final = "invalid_request"
"""The PSP could not read the request: nothing was done."""
RATE_LIMITED: Final = "rate_limited"
