"""Faults on purpose: rules that the control port switches on, and the draw that decides which request they hit.

A rule hits by its own sequence of draws from its seed, so the same requests in the same order are hit again in the
next run. The first rule that fits and hits wins. Rules live in memory only: after a restart the network is healthy.
"""

from collections.abc import Mapping
from enum import Enum
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from guilder.iso8583 import FrameError, Message, Mti, Processing, Tag, unpack_tags
from guilder.network.errors import BadRequest

# More rules than anybody writes by hand; each costs time on every message.
RULES_MAX: Final = 1000
# A day: the longest that anything in the network is remembered.
DELAY_MILLISECONDS_MAX: Final = 86_400_000


class FaultKind(Enum):
    """What goes wrong."""

    LATE_ANSWER = "late_answer"  # done at once, answered `delay_ms` later
    LOST_ANSWER = "lost_answer"  # done, never answered
    LOST_REQUEST = "lost_request"  # not done, never answered
    LATE_REQUEST = "late_request"  # arrives (is done and answered) `delay_ms` later
    THROTTLED = "throttled"  # one at a time is done, `delay_ms` each; the others wait in line
    AFTER_NOT_FOUND = "after_not_found"  # arrives `delay_ms` after the first inquiry or reversal that missed it
    NOT_FOUND = "not_found"  # an inquiry says "not found", whatever is true
    DUPLICATE_REQUEST = "duplicate_request"  # the network delivers it twice; both are answered
    DUPLICATE_ANSWER = "duplicate_answer"  # done once, answered twice, the second time `delay_ms` later
    MALFORMED = "malformed"  # done, answered with a frame that is none
    SLOW = "slow"  # done, answered byte by byte, `delay_ms` between two
    WRONG_AMOUNT = "wrong_amount"  # done as asked, answered with one minor unit more
    WRONG_CURRENCY = "wrong_currency"  # done as asked, answered with another currency
    WRONG_REFERENCE = "wrong_reference"  # done as asked, answered with another reference
    ERROR = "error"  # answered with `code`; done only when `effect` is set
    CLOSE = "close"  # the connection closes in place of the answer; done unless `effect` is false
    # At the web PSP only.
    ERROR_PAGE = "error_page"  # a proxy's 502 in HTML in place of the answer; done unless `effect` is false
    TRUNCATED = "truncated"  # done, answered with the first half of the document
    RATE_LIMITED = "rate_limited"  # not done, answered 429 with Retry-After
    KEY_IGNORED = "key_ignored"  # what was carried out before is carried out once more; `also` tells whoever asks
    STALE = "stale"  # a query is answered as if nothing had happened since the request was taken in
    NOTICE_LOST = "notice_lost"  # a notification is never sent
    NOTICE_LATE = "notice_late"  # a notification is sent `delay_ms` later, so others may overtake it
    NOTICE_DUPLICATE = "notice_duplicate"  # a notification is sent twice


class Face(Enum):
    """Which side of the bank world a rule is drawn at."""

    ISO = "iso"  # the acquirer, ISO 8583 over TCP
    WEB = "web"  # the web PSP, JSON over HTTP
    NOTICE = "notice"  # the web PSP's notifications


_NOTICES: Final = frozenset({FaultKind.NOTICE_LOST, FaultKind.NOTICE_LATE, FaultKind.NOTICE_DUPLICATE})
_WEB_ONLY: Final = frozenset({
    FaultKind.ERROR_PAGE, FaultKind.TRUNCATED, FaultKind.RATE_LIMITED, FaultKind.KEY_IGNORED, FaultKind.STALE,
})  # fmt: skip
_ISO_ONLY: Final = frozenset({FaultKind.DUPLICATE_ANSWER})


def happens_at(kind: FaultKind, face: Face) -> bool:
    """Whether this can go wrong on that side."""
    if face is Face.NOTICE or kind in _NOTICES:
        return face is Face.NOTICE and kind in _NOTICES
    return kind not in (_WEB_ONLY if face is Face.ISO else _ISO_ONLY)


class OperationName(Enum):
    """What a rule can be limited to."""

    AUTHORIZE = "authorize"
    PURCHASE = "purchase"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    REVERSAL = "reversal"
    QUERY = "query"
    NETWORK = "network"
    AUTHENTICATE = "authenticate"


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault: what, how often (of the requests that fit), and which requests fit. None fits every request.

    `reference` fits DE 37 and the original in DE 48. `card` is a card number or its last digits. `skip` lets so many
    fitting requests pass first; `count` ends the rule after so many hits. `face`: where it is drawn; None wherever it can happen.
    """

    kind: FaultKind
    face: Face | None = None
    probability: float = 1.0
    seed: int = 0
    operation: OperationName | None = None
    reference: str | None = None
    amount: int | None = None
    card: str | None = None
    skip: int = 0
    count: int | None = None
    delay_ms: int = 0
    code: str = "96"
    effect: bool | None = None


class Standing(Struct):
    """A rule that is switched on, what it has seen and hit."""

    id: str
    rule: Rule
    seen: int = 0
    hits: int = 0


_QUERIES: Final = frozenset({OperationName.QUERY})
_ONLY: Final[Mapping[FaultKind, frozenset[OperationName]]] = {
    FaultKind.NOT_FOUND: _QUERIES,
    FaultKind.STALE: _QUERIES,
    FaultKind.KEY_IGNORED: frozenset({OperationName.CAPTURE, OperationName.REFUND}),
}
"""Faults that some operations alone can have."""

_OPERATIONS: Final = {
    Mti.AUTHORIZATION: OperationName.AUTHORIZE,
    Mti.AUTHORIZATION_ADVICE: OperationName.AUTHORIZE,
    Mti.PURCHASE: OperationName.PURCHASE,
    Mti.CAPTURE: OperationName.CAPTURE,
    Mti.VOID: OperationName.VOID,
    Mti.REVERSAL: OperationName.REVERSAL,
    Mti.REVERSAL_REPEAT: OperationName.REVERSAL,
    Mti.INQUIRY: OperationName.QUERY,
    Mti.NETWORK: OperationName.NETWORK,
}


class Faults:
    """The rules that are switched on."""

    def __init__(self) -> None:
        self._standing: list[Standing] = []
        self._made = 0

    def __bool__(self) -> bool:
        return bool(self._standing)

    def add(self, rule: Rule) -> Standing:
        """Switch a rule on. Raises BadRequest."""
        _check(rule)
        if len(self._standing) >= RULES_MAX:
            raise BadRequest(f"at most {RULES_MAX} rules can be switched on")
        self._made += 1
        standing = Standing(id=f"fault_{self._made}", rule=rule)
        self._standing.append(standing)
        return standing

    def all(self) -> list[Standing]:
        """The rules that are switched on, oldest first, with what they have hit."""
        return list(self._standing)

    def remove(self, id_: str | None = None) -> int:
        """Switch one rule off, or all; returns how many."""
        before = len(self._standing)
        self._standing = [standing for standing in self._standing if id_ not in (None, standing.id)]
        return before - len(self._standing)

    def draw(self, message: Message, face: Face = Face.ISO) -> Rule | None:
        """The fault that hits this request, or the notification about it, if any does."""
        for standing in self._standing:
            rule = standing.rule
            here = happens_at(rule.kind, face) and rule.face in (None, face)
            if here and _fits(rule, message) and _hits(standing):
                return standing.rule
        return None


def read_rule(document: bytes) -> Rule:
    """A rule from the control port. Raises BadRequest with what is wrong."""
    try:
        return msgspec.json.decode(document, type=Rule)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"not a fault rule: {error}") from error


def operation_of(message: Message) -> OperationName:
    """What a request asks for."""
    operation = _OPERATIONS[message.mti]
    if operation is OperationName.PURCHASE and message.fields.get(3) == Processing.REFUND:
        return OperationName.REFUND
    if operation is OperationName.AUTHORIZE and message.fields.get(3) == Processing.AUTHENTICATION:
        return OperationName.AUTHENTICATE
    return operation


def original_of(message: Message) -> str:
    """The reference that a request acts on; empty when it names none."""
    try:
        return unpack_tags(message.fields.get(48, "")).get(Tag.ORIGINAL, "")
    except FrameError:
        return ""


def _check(rule: Rule) -> None:
    if not 0 <= rule.probability <= 1:
        raise BadRequest("`probability` must be 0 to 1")
    if not 0 <= rule.delay_ms <= DELAY_MILLISECONDS_MAX:
        raise BadRequest(f"`delay_ms` must be 0 to {DELAY_MILLISECONDS_MAX}")
    if rule.skip < 0 or (rule.count is not None and rule.count < 1):
        raise BadRequest("`skip` must not be negative, `count` must be 1 or more")
    if not (len(rule.code) == 2 and rule.code.isalnum() and rule.code.isascii()):
        raise BadRequest("`code` must be a response code of two characters")
    only = _ONLY.get(rule.kind)
    if only is not None and rule.operation is not None and rule.operation not in only:
        words = " and ".join(sorted(f"`{operation.value}`" for operation in only))
        raise BadRequest(f"`{rule.kind.value}` is a fault of {words} only")
    if rule.face is not None and not happens_at(rule.kind, rule.face):
        raise BadRequest(f"`{rule.kind.value}` does not happen at `{rule.face.value}`")


def _fits(rule: Rule, message: Message) -> bool:
    fields = message.fields
    operation = operation_of(message)
    if rule.operation is not None and rule.operation is not operation:
        return False
    if rule.kind in _ONLY and operation not in _ONLY[rule.kind]:
        return False
    if rule.reference is not None and rule.reference not in (fields.get(37), original_of(message)):
        return False
    if rule.amount is not None and rule.amount != int(fields.get(4, -1)):
        return False
    return rule.card is None or (2 in fields and fields[2].endswith(rule.card))


def _hits(standing: Standing) -> bool:
    """Count a fitting request and draw."""
    rule = standing.rule
    standing.seen += 1
    if standing.seen <= rule.skip or (rule.count is not None and standing.hits >= rule.count):
        return False
    digest = blake2b(f"{rule.seed}:{standing.seen}".encode(), digest_size=8).digest()
    if int.from_bytes(digest, "big") / 2**64 >= rule.probability:
        return False
    standing.hits += 1
    return True
