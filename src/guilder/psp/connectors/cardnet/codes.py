"""The definite answers: which response codes close an attempt, and what each is called here. Data, after docs/iso8583.md.

Whatever is not listed (91, 96, 09, codes that nobody has documented) says nothing about the operation: it is unknown.
"""

from collections.abc import Mapping
from typing import Final

from guilder.iso8583 import Authenticated, Checked, Code
from guilder.psp.model import Operation

DECLINES: Final[Mapping[str, str]] = {
    Code.DO_NOT_HONOR: "generic_decline",
    Code.PROCESSING_ERROR: "processing_error",
    Code.INVALID_TRANSACTION: "transaction_not_allowed",
    Code.INVALID_AMOUNT: "invalid_amount",
    Code.UNKNOWN_CARD: "incorrect_number",
    Code.FORMAT_ERROR: "processing_error",
    Code.LOST_CARD: "lost_card",
    Code.STOLEN_CARD: "stolen_card",
    Code.INSUFFICIENT_FUNDS: "insufficient_funds",
    Code.EXPIRED_CARD: "expired_card",
    Code.LIMIT_EXCEEDED: "card_velocity_exceeded",
    Code.WRONG_PROOF: "generic_decline",
    Code.WANTS_AUTHENTICATION: "authentication_required",
    Code.INCONSISTENT: "processing_error",
    Code.ALREADY_REVERSED: "processing_error",
    Code.DUPLICATE: "processing_error",
    Code.WRONG_CVC: "incorrect_cvc",
}
"""Response codes that mean: refused, nothing was moved, and the decline code of each."""

DECLINES_OF: Final[Mapping[tuple[Operation, str], str]] = {
    (Operation.VOID, Code.NOT_UNDONE): "transaction_not_allowed",
    (Operation.REVERSAL, Code.NOT_UNDONE): "transaction_not_allowed",
    (Operation.CAPTURE, Code.NOT_FOUND): "processing_error",
    (Operation.REFUND, Code.NOT_FOUND): "processing_error",
}
"""Codes that are definite for some operations only: 25 is no proof of absence in the answer of an inquiry."""

ALSO_DONE: Final = frozenset({(Operation.VOID, Code.NOT_FOUND), (Operation.VOID, Code.ALREADY_REVERSED)})
"""Answers that acknowledge without being 00: a void of what is gone has nothing left to release."""

ADVICE: Final[Mapping[str, str]] = {"01": "confirm_card_data", "02": "try_again_later", "03": "do_not_try_again"}
"""Tag AC as the API's advice_code."""

CHECKS: Final[Mapping[str, str]] = {Checked.PASS: "pass", Checked.FAIL: "fail", Checked.UNAVAILABLE: "unavailable"}
"""Tags CC and CA as the API's checks; "not given" is none."""


AUTHENTICATIONS_DECLINED: Final[Mapping[str, str]] = {
    Authenticated.FAILED: "authentication_failed",
    Authenticated.UNAVAILABLE: "authentication_unavailable",
    Authenticated.NOT_SUPPORTED: "authentication_not_supported",
}
"""Tag SR, where an authentication brought no proof."""
