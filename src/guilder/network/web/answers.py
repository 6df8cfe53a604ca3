"""Messages as documents: how the web PSP tells what the scheme answered, in words of its own. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from guilder.iso8583 import Checked, Code, Mti, Processing, State, Tag, unpack_tags
from guilder.network.currencies import BY_NUMBER

CODES: Final[Mapping[str, str]] = {
    Code.DO_NOT_HONOR: "do_not_honor",
    Code.PROCESSING_ERROR: "processing_error",
    Code.INVALID_TRANSACTION: "not_allowed",
    Code.INVALID_AMOUNT: "amount_not_allowed",
    Code.UNKNOWN_CARD: "card_unknown",
    Code.NOT_UNDONE: "already_captured",
    Code.NOT_FOUND: "payment_not_found",
    Code.FORMAT_ERROR: "not_readable",
    Code.LOST_CARD: "card_lost",
    Code.STOLEN_CARD: "card_stolen",
    Code.INSUFFICIENT_FUNDS: "insufficient_funds",
    Code.EXPIRED_CARD: "card_expired",
    Code.LIMIT_EXCEEDED: "limit_exceeded",
    Code.WRONG_PROOF: "authentication_invalid",
    Code.WANTS_AUTHENTICATION: "authentication_wanted",
    Code.INCONSISTENT: "payment_differs",
    Code.ALREADY_REVERSED: "payment_reversed",
    Code.WRONG_CVC: "cvc_wrong",
}
"""Why something was declined."""

KINDS: Final[Mapping[str, str]] = {
    Mti.AUTHORIZATION: "authorization", Mti.PURCHASE: "purchase", Mti.CAPTURE: "capture", Mti.VOID: "void", Mti.REVERSAL: "reversal",
}  # fmt: skip
_CHECKS: Final[Mapping[str, str]] = {Checked.PASS: "pass", Checked.FAIL: "fail", Checked.UNAVAILABLE: "unavailable"}
Document = dict[str, Any]


def kind_of(mti: str, fields: Mapping[int, str]) -> str:
    """What a request is called."""
    refunds = mti == Mti.PURCHASE and fields.get(3) == Processing.REFUND
    return "refund" if refunds else KINDS[mti]


def operation_document(kind: str, fields: Mapping[int, str]) -> Document:
    """The answer to a request."""
    code = fields[39]
    status = "approved" if code == Code.APPROVED else "in_progress" if code == Code.IN_PROGRESS else "declined"
    return _document(kind, status, code, fields)


def standing_document(fields: Mapping[int, str]) -> Document:
    """The answer to a question about an operation that is known."""
    tags = unpack_tags(fields[48])
    status = tags[Tag.STATE]
    return _document(tags[Tag.KIND], status, tags[Tag.ORIGINAL_CODE] if status == State.DECLINED else Code.APPROVED, fields)


def page_document(kind: str, reference: str, money: tuple[int, str], status: str, **more: object) -> Document:
    """How a page's payment stands while no card has paid it."""
    amount, currency = money
    return {"object": "operation", "kind": kind, "reference": reference, "status": status, "amount": amount, "currency": currency, **more}


def _document(kind: str, status: str, code: str, fields: Mapping[int, str]) -> Document:
    tags = unpack_tags(fields[48]) if 48 in fields else {}
    document: Document = {"object": "operation", "kind": kind, "reference": fields[37], "status": status}
    if 4 in fields and 49 in fields:
        document |= {"amount": int(fields[4]), "currency": BY_NUMBER[fields[49]].letters}
    if status == "declined":
        document["code"] = CODES.get(code, "declined")
    if 38 in fields:
        document["authorization_code"] = fields[38]
    if Tag.TRANSACTION_ID in tags:
        document["network_transaction_id"] = tags[Tag.TRANSACTION_ID]
    checks = {name: _CHECKS[tags[tag]] for name, tag in _CHECKED if tags.get(tag) in _CHECKS}
    if checks:
        document["checks"] = checks
    if tags.get(Tag.AVAILABLE) == "0":
        document["available_at_once"] = True
    if Tag.FOLLOW_UP in tags:
        document["ask_again_seconds"] = int(tags[Tag.FOLLOW_UP])
    if Tag.ADVICE in tags:
        document["advice"] = _ADVICE[tags[Tag.ADVICE]]
    return document


_CHECKED: Final = (("cvc", Tag.CVC_CHECK), ("postal_code", Tag.POSTAL_CODE_CHECK))
_ADVICE: Final[Mapping[str, str]] = {"01": "ask_for_card_data", "02": "try_later", "03": "do_not_try_again"}
