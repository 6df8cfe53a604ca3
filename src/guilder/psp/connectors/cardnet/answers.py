"""Messages as outcomes: what an answer means for the order, and whether it may be believed. Pure; never raises."""

from collections.abc import Mapping
from typing import Final

from guilder.core.currencies import CURRENCIES
from guilder.core.outcome import ActionRequired, Approved, Authentication, Checks, Declined, NotFound, Outcome, Unknown
from guilder.iso8583 import Authenticated, Code, FrameError, Message, State, Tag, unpack_tags
from guilder.psp.connectors.cardnet.codes import ADVICE, ALSO_DONE, AUTHENTICATIONS_DECLINED, CHECKS, DECLINES, DECLINES_OF
from guilder.psp.connectors.shared import decline_code, sensible_wait
from guilder.psp.model import Operation, Order, Reason

KINDS: Final[Mapping[Operation, str]] = {
    Operation.AUTHORIZE: "authorization",
    Operation.PURCHASE: "purchase",
    Operation.CAPTURE: "capture",
    Operation.VOID: "void",
    Operation.REVERSAL: "reversal",
    Operation.REFUND: "refund",
    Operation.AUTHENTICATE: "authentication",
}
"""What the acquirer calls each operation in tag KD."""

_NO_CHECKS: Final = Checks()
_MISMATCH: Final = Unknown(Reason.MISMATCH.value)
_UNREADABLE: Final = Unknown(Reason.UNREADABLE.value)
_IN_PROGRESS: Final = Unknown(Reason.IN_PROGRESS.value)
_PSP_ERROR: Final = Unknown(Reason.PSP_ERROR.value)


def outcome_of(order: Order, answer: Message) -> Outcome | NotFound:
    """What the answer that was matched to this order says.

    An answer that names an amount or a currency must name the order's; an approval must name both. Anything that is not
    on the list of definite answers is Unknown.
    """
    fields = answer.fields
    try:
        tags = unpack_tags(fields.get(48, ""))
    except FrameError:
        return _UNREADABLE
    if order.operation is Operation.QUERY:
        return _found(order, fields, tags)
    code = fields.get(39, "")
    if order.operation is Operation.AUTHENTICATE and code == Code.APPROVED:
        return _authenticated(order, fields, tags)
    if code == Code.APPROVED or (order.operation, code) in ALSO_DONE:
        return _approved(order, fields, tags) if _same_money(order, fields) else _MISMATCH
    return _not_approved(order.operation, order, code, fields, tags)


def _found(order: Order, fields: Mapping[int, str], tags: Mapping[str, str]) -> Outcome | NotFound:
    """The answer of an inquiry."""
    code = fields.get(39, "")
    original = order.original
    if code == Code.NOT_FOUND:
        return NotFound()
    if code != Code.APPROVED or original is None:
        return _PSP_ERROR
    if tags.get(Tag.KIND) != KINDS.get(original.operation) or not _same_money(order, fields):
        return _MISMATCH
    return _standing(order, original.operation, fields, tags)


def _standing(order: Order, operation: Operation, fields: Mapping[int, str], tags: Mapping[str, str]) -> Outcome:
    """What has become of an operation by now."""
    if operation is Operation.AUTHENTICATE:
        return _authenticated(order, fields, tags)
    match tags.get(Tag.STATE):
        case State.APPROVED:
            return _approved(order, fields, tags)
        case State.DECLINED:
            return _not_approved(operation, order, tags.get(Tag.ORIGINAL_CODE, ""), fields, tags)
        case State.REVERSED | State.RETURNED as state:
            # Whatever it did has been undone: no money is where the operation would have moved it.
            return Declined("processing_error", tags.get(Tag.ORIGINAL_CODE), state, psp_reference=order.reference)
        case State.IN_PROGRESS:
            return _IN_PROGRESS
        case _:
            return _PSP_ERROR


def _approved(order: Order, fields: Mapping[int, str], tags: Mapping[str, str]) -> Approved:
    follow_up = tags.get(Tag.FOLLOW_UP, "")
    return Approved(
        order.reference,
        fields.get(38),
        tags.get(Tag.TRANSACTION_ID),
        _checks(tags),
        tags.get(Tag.AVAILABLE) == "0",
        sensible_wait(int(follow_up)) if follow_up.isascii() and follow_up.isdigit() else None,
    )


def _authenticated(order: Order, fields: Mapping[int, str], tags: Mapping[str, str]) -> Outcome:
    """How an authentication stands."""
    if not _same_money(order, fields):
        return _MISMATCH
    result = tags.get(Tag.AUTHENTICATION_RESULT, "")
    if result == Authenticated.CHALLENGE:
        url = tags.get(Tag.CHALLENGE_URL, "")
        return ActionRequired(url) if url.startswith(("https://", "http://")) else _PSP_ERROR
    if result in AUTHENTICATIONS_DECLINED:
        return Declined(AUTHENTICATIONS_DECLINED[result], psp_reference=order.reference)
    proof = tags.get(Tag.AUTHENTICATION)
    if result not in (Authenticated.PASSED, Authenticated.ATTEMPTED) or not proof:
        return _PSP_ERROR
    authentication = Authentication(
        proof, result == Authenticated.PASSED, tags.get(Tag.CHALLENGED) == "1", tags.get(Tag.COMMERCE_INDICATOR),
        tags.get(Tag.TRANSACTION_ID),
    )  # fmt: skip
    return Approved(order.reference, authentication=authentication)


def _not_approved(
    operation: Operation, order: Order, code: str, fields: Mapping[int, str], tags: Mapping[str, str]
) -> Declined | Unknown:
    if code == Code.IN_PROGRESS:
        return _IN_PROGRESS
    ours = decline_code(DECLINES, DECLINES_OF, operation, code)
    if ours is None:
        return _PSP_ERROR
    if not _same_money_where_named(order, fields):
        return _MISMATCH
    return Declined(
        ours,
        code,
        ADVICE.get(tags.get(Tag.ADVICE, "")),
        wants_authentication=tags.get(Tag.SOFT_DECLINE) == "1",
        psp_reference=order.reference,
        checks=_checks(tags),
    )


def _checks(tags: Mapping[str, str]) -> Checks:
    if Tag.CVC_CHECK not in tags and Tag.POSTAL_CODE_CHECK not in tags:
        return _NO_CHECKS
    return Checks(CHECKS.get(tags.get(Tag.CVC_CHECK, "")), CHECKS.get(tags.get(Tag.POSTAL_CODE_CHECK, "")))


def _same_money(order: Order, fields: Mapping[int, str]) -> bool:
    return fields.get(4) == _amount(order) and fields.get(49) == _currency(order)


def _same_money_where_named(order: Order, fields: Mapping[int, str]) -> bool:
    return fields.get(4) in (None, _amount(order)) and fields.get(49) in (None, _currency(order))


def _amount(order: Order) -> str:
    return f"{order.amount_minor:012d}"


def _currency(order: Order) -> str:
    """The order's currency as DE 49 has it; a word that no answer can hold for one outside ISO 4217."""
    known = CURRENCIES.get(order.currency)
    return known.number if known else "none"
