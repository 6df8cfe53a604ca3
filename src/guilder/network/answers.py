"""Answers: the fields that go back to the sender, made from the request and the operation, never from anything stored."""

from typing import Final

from msgspec import Struct

from guilder.core.clock import SECOND
from guilder.iso8583 import Authenticated, Code, State, Tag, pack_tags
from guilder.network.books import REFUND_MOVES_AFTER, Authentication, Operation
from guilder.network.currencies import BY_LETTERS
from guilder.network.entries import Kind
from guilder.network.issuer import Refunds
from guilder.network.scheme import authorization_code, transaction_id

# What an answer repeats of its request.
_REPEATED: Final[tuple[int, ...]] = (3, 4, 7, 11, 12, 32, 37, 41, 49, 70)
# Advice to the merchant by response code (DE 48 tag AC).
_NEW_CARD_DATA: Final = "01"
_TRY_LATER: Final = "02"
_DO_NOT_TRY_AGAIN: Final = "03"
_ADVICE: Final = {
    Code.UNKNOWN_CARD: _NEW_CARD_DATA,
    Code.EXPIRED_CARD: _NEW_CARD_DATA,
    Code.WRONG_CVC: _NEW_CARD_DATA,
    Code.INSUFFICIENT_FUNDS: _TRY_LATER,
    Code.LIMIT_EXCEEDED: _TRY_LATER,
    Code.LOST_CARD: _DO_NOT_TRY_AGAIN,
    Code.STOLEN_CARD: _DO_NOT_TRY_AGAIN,
}


def bare_answer(request: dict[int, str], code: str) -> dict[int, str]:
    """The answer that says nothing but its code."""
    answer = {number: request[number] for number in _REPEATED if number in request}
    answer[39] = code
    return answer


class Proving(Struct, frozen=True):
    """What an answer about an authentication needs beside its operation: where the buyer is challenged, and the proof."""

    standing: Authentication
    challenge_url: str
    proof: str


def answer_of(request: dict[int, str], operation: Operation, proving: Proving | None = None) -> dict[int, str]:
    """The answer to a request that made this operation, now or the first time that it was sent.

    That of an authentication tells how it stands now: a challenge may have been answered since.
    """
    answer = bare_answer(request, operation.code)
    _tell(answer, operation, request[37])
    tags = _tags(operation, request[37]) | (_proving(proving) if proving else {})
    if tags:
        answer[48] = pack_tags(tags)
    return answer


def status_of(request: dict[int, str], operation: Operation, proving: Proving | None = None) -> dict[int, str]:
    """The answer to an inquiry about an operation: found, what it was answered, and what has become of it."""
    answer = bare_answer(request, Code.APPROVED)
    _tell(answer, operation, request[37])
    answer[48] = pack_tags({
        Tag.ORIGINAL_CODE: operation.code,
        Tag.STATE: operation.state,
        Tag.KIND: operation.kind,
        **_tags(operation, request[37]),
        **(_proving(proving) if proving else {}),
    })  # fmt: skip
    return answer


def _tell(answer: dict[int, str], operation: Operation, reference: str) -> None:
    """Amount and currency as they were carried out, and the approval's code."""
    if operation.currency:
        answer[4] = f"{operation.amount:012d}"
        answer[49] = BY_LETTERS[operation.currency]
    if operation.code == Code.APPROVED:
        answer[38] = authorization_code(reference)


def _tags(operation: Operation, reference: str) -> dict[str, str]:
    tags = {}
    if operation.code == Code.APPROVED:
        tags[Tag.TRANSACTION_ID] = transaction_id(reference, operation.at)
    elif operation.code in _ADVICE:
        tags[Tag.ADVICE] = _ADVICE[operation.code]
    elif operation.code == Code.WANTS_AUTHENTICATION:
        tags[Tag.SOFT_DECLINE] = "1"
    checks = operation.checks
    if checks:
        tags[Tag.CVC_CHECK] = checks[0]
        tags[Tag.POSTAL_CODE_CHECK] = checks[1]
    account = operation.account
    if account is not None:
        terms = account.terms
        if terms.available_at_once and operation.code == Code.APPROVED and operation.kind in (Kind.PURCHASE, Kind.CAPTURE):
            tags[Tag.AVAILABLE] = "0"
        if operation.kind == Kind.REFUND and terms.refunds is not Refunds.AT_ONCE and _may_change(operation, terms.refunds):
            tags[Tag.FOLLOW_UP] = str(REFUND_MOVES_AFTER // SECOND)
    return tags


_INDICATORS: Final = {Authenticated.PASSED: "05", Authenticated.ATTEMPTED: "06"}


def _proving(proving: Proving) -> dict[str, str]:
    standing = proving.standing
    tags = {Tag.AUTHENTICATION_RESULT: standing.result, Tag.CHALLENGED: "1" if standing.challenged else "0"}
    if standing.result == Authenticated.CHALLENGE:
        tags[Tag.CHALLENGE_URL] = proving.challenge_url
    elif standing.proves:
        tags |= {Tag.AUTHENTICATION: proving.proof, Tag.COMMERCE_INDICATOR: _INDICATORS[standing.result]}
    return tags


def _may_change(refund: Operation, refunds: Refunds) -> bool:
    """Whether a refund has a next state before it."""
    if refunds is Refunds.PENDING:
        return refund.state == State.IN_PROGRESS
    return refund.state == State.APPROVED
