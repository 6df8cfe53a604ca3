"""Documents as outcomes: what an answer means for the order, and whether it may be believed. Pure; never raises."""

import re
from typing import Final

import msgspec
from msgspec import Struct

from guilder.core.card_numbers import MASK, mask_card_numbers
from guilder.core.outcome import ActionRequired, Approved, Checks, Declined, NotFound, Outcome, Unknown
from guilder.psp.connectors.shared import decline_code, sensible_wait
from guilder.psp.connectors.webpsp.codes import (
    ADVICE,
    ALSO_DONE,
    DECLINES,
    DECLINES_OF,
    INVALID,
    KINDS,
    NOT_FOUND,
    RATE_LIMITED,
    SOFT_DECLINE,
)
from guilder.psp.model import Operation, Order, Reason

OK: Final = 200
# Also with its slashes escaped, as some write JSON.
_ADDRESS: Final = re.compile(r"""(?i)https?:[\\/]+[^\s"'<>]*""")
_VERDICTS: Final = frozenset({"pass", "fail", "unavailable"})

_MISMATCH: Final = Unknown(Reason.MISMATCH.value)
_UNREADABLE: Final = Unknown(Reason.UNREADABLE.value)
_IN_PROGRESS: Final = Unknown(Reason.IN_PROGRESS.value)
_PSP_ERROR: Final = Unknown(Reason.PSP_ERROR.value)
_RATE_LIMITED: Final = Unknown(Reason.RATE_LIMITED.value)


class _Verdicts(Struct, frozen=True):
    cvc: str | None = None
    postal_code: str | None = None


class _Page(Struct, frozen=True):
    url: str


class _Operation(Struct, frozen=True, kw_only=True):
    """What the PSP says of an operation; more fields than these are its own business."""

    kind: str
    reference: str
    status: str
    amount: int
    currency: str
    code: str = ""
    authorization_code: str | None = None
    network_transaction_id: str | None = None
    checks: _Verdicts = _Verdicts()
    available_at_once: bool = False
    ask_again_seconds: int | None = None
    advice: str = ""
    page: _Page | None = None
    # What it has carried out beside this under our reference, by names of its own.
    also: tuple[str, ...] = ()


class _Error(Struct, frozen=True):
    code: str


class _Refusal(Struct, frozen=True):
    error: _Error


_operations: Final = msgspec.json.Decoder(_Operation)
_refusals: Final = msgspec.json.Decoder(_Refusal)


def outcome_of(order: Order, status: int, body: bytes) -> Outcome | NotFound:
    """What an answer says. It must name the order's reference, kind, amount and currency, or it is not believed.

    Anything that is not on the list of definite answers is Unknown.
    """
    if status != OK:
        return _refused(order, status, body)
    try:
        told = _operations.decode(body)
    except msgspec.MsgspecError:
        return _UNREADABLE
    query = order.operation is Operation.QUERY
    subject = order.original if query else order
    if subject is None or told.reference != subject.reference:
        # Somebody else's answer: of ours there is none.
        return _UNREADABLE
    if told.kind != KINDS.get(subject.operation) or (told.amount, told.currency) != (order.amount_minor, order.currency):
        return _MISMATCH
    return _standing(order, subject.operation, told, query=query)


def shown(status: int, body: bytes) -> str:
    """An answer for people: without the address of a page, or any other one, because whoever knows it may walk it; card numbers masked."""
    text = body.decode(errors="replace")
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        document = None
    if isinstance(document, dict):
        if "page" in document:
            document["page"] = _shown_page(document["page"])
        text = msgspec.json.encode(document).decode()
    return f"{status} {mask_card_numbers(_ADDRESS.sub(MASK, text))}"


def _shown_page(page: object) -> object:
    if not isinstance(page, dict):
        return MASK
    return {name: value if name == "expires_at" else MASK for name, value in page.items()}


def is_rate_limit(status: int, body: bytes) -> bool:
    """Whether the PSP says that it has done nothing, because too much is asked of it."""
    return status == 429 and _code(body) == RATE_LIMITED


def _standing(order: Order, operation: Operation, told: _Operation, *, query: bool) -> Outcome:
    match told.status:
        case "approved":
            return _approved(told)
        case "declined" if (operation, told.code) in ALSO_DONE:
            return _approved(told)
        case "declined":
            return _declined(operation, told)
        case "in_progress":
            return _IN_PROGRESS
        case "action_required" if told.page is not None and told.page.url.startswith(("https://", "http://")):
            return ActionRequired(told.page.url) if order.own_page is not None else _PSP_ERROR
        case "reversed" | "returned" if query:
            # Whatever it did has been undone: no money is where the operation would have moved it.
            return Declined("processing_error", told.code or told.status, told.status, psp_reference=told.reference)
        case _:
            return _PSP_ERROR


def _approved(told: _Operation) -> Approved:
    return Approved(
        told.reference, told.authorization_code, told.network_transaction_id, _checks(told), told.available_at_once,
        sensible_wait(told.ask_again_seconds),
        surplus=len(told.also),
    )  # fmt: skip


def _declined(operation: Operation, told: _Operation) -> Declined | Unknown:
    ours = decline_code(DECLINES, DECLINES_OF, operation, told.code)
    if ours is None:
        return _PSP_ERROR
    return Declined(
        ours, told.code, ADVICE.get(told.advice), wants_authentication=told.code == SOFT_DECLINE, psp_reference=told.reference,
        checks=_checks(told),
    )  # fmt: skip


def _checks(told: _Operation) -> Checks:
    given = told.checks
    return Checks(given.cvc if given.cvc in _VERDICTS else None, given.postal_code if given.postal_code in _VERDICTS else None)


def _refused(order: Order, status: int, body: bytes) -> Outcome | NotFound:
    code = _code(body)
    if status == 404 and code == NOT_FOUND and order.operation is Operation.QUERY:
        return NotFound()
    if status == 400 and code == INVALID and order.operation is not Operation.QUERY:
        return Declined("processing_error", code)
    return _RATE_LIMITED if is_rate_limit(status, body) else _PSP_ERROR


def _code(body: bytes) -> str:
    try:
        return _refusals.decode(body).error.code
    except msgspec.MsgspecError:
        return ""
