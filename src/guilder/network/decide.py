"""What each message does: the rules of acquirer and scheme, as functions from a request and the books to an entry.

Nothing here changes anything, reads a clock or draws a random number: `Books.apply` makes an entry true. An answer
without an entry (a format error, a reference used twice) leaves no trace, so its sender may try again.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from guilder.iso8583 import Authenticated, Code, FrameError, Message, Mti, Processing, State, Tag, unpack_original, unpack_tags
from guilder.network.authenticate import proved_by
from guilder.network.books import REMEMBERED, Books, Operation
from guilder.network.currencies import BY_NUMBER
from guilder.network.entries import UNDID_IN_ADVANCE, UNDID_REFUND_IN_PROGRESS, Entry, Kind
from guilder.network.issuer import Account, Entered, Refunds, Verdict, judge


class Order(Struct, gc=False):
    """One request, read: what is asked, under which identity. `amount` is 0 and `currency` empty where none was sent."""

    kind: str
    mti: str
    acquirer: str
    reference: str
    transmitted: str
    amount: int
    currency: str
    original: str
    fields: dict[int, str]
    tags: dict[str, str]


class Refused(Struct, frozen=True):
    """The request cannot be carried out and leaves no trace: the response code, and nothing else."""

    code: str


_CARD_FIELDS: Final = (2, 3, 4, 7, 11, 14, 32, 37, 49)
_AMOUNT_FIELDS: Final = (4, 7, 11, 32, 37, 48, 49)
_REQUIRED: Final[Mapping[str, tuple[int, ...]]] = {
    Mti.AUTHORIZATION: _CARD_FIELDS,
    Mti.AUTHORIZATION_ADVICE: _CARD_FIELDS,
    Mti.PURCHASE: _CARD_FIELDS,
    Mti.CAPTURE: _AMOUNT_FIELDS,
    Mti.VOID: (7, 11, 32, 37, 48),
    Mti.REVERSAL: (7, 11, 32, 37, 48),
    Mti.REVERSAL_REPEAT: (7, 11, 32, 37, 48),
}
_REFUND_FIELDS: Final = (3, *_AMOUNT_FIELDS)
_KINDS: Final[Mapping[str, str]] = {
    Mti.AUTHORIZATION: Kind.AUTHORIZATION,
    Mti.AUTHORIZATION_ADVICE: Kind.AUTHORIZATION,
    Mti.PURCHASE: Kind.PURCHASE,
    Mti.CAPTURE: Kind.CAPTURE,
    Mti.VOID: Kind.VOID,
    Mti.REVERSAL: Kind.REVERSAL,
    Mti.REVERSAL_REPEAT: Kind.REVERSAL,
}
_NO_CURRENCY: Final = ""
# DE 22 where the chip proves the buyer.
_CHIP: Final = "051"


def read_order(message: Message) -> Order | Refused:
    """Read a request other than inquiry and network management. Refused: a field is missing or means nothing."""
    mti, fields = message.mti, message.fields
    kind, required = _KINDS[mti], _REQUIRED[mti]
    if kind == Kind.PURCHASE and fields.get(3) == Processing.REFUND:
        kind, required = Kind.REFUND, _REFUND_FIELDS
    elif mti == Mti.AUTHORIZATION and fields.get(3) == Processing.AUTHENTICATION:
        kind = Kind.AUTHENTICATION
    for number in required:
        if number not in fields:
            return Refused(Code.FORMAT_ERROR)
    try:
        tags = unpack_tags(fields[48]) if 48 in fields else {}
    except FrameError:
        return Refused(Code.FORMAT_ERROR)
    currency = BY_NUMBER.get(fields[49]) if 49 in fields else None
    return Order(
        kind, mti, fields[32], fields[37], fields[7], int(fields.get(4, 0)), currency.letters if currency else _NO_CURRENCY,
        tags.get(Tag.ORIGINAL, ""), fields, tags,
    )  # fmt: skip


def decide(order: Order, books: Books, now: int) -> Entry | Operation | Refused:
    """What becomes of an order: an entry to apply, the operation that it repeats, or a refusal without a trace."""
    known = books.find(order.acquirer, order.reference)
    if known is not None and now - known.at < REMEMBERED:
        if known.transmitted == order.transmitted and known.kind == order.kind:
            return known
        return Refused(Code.DUPLICATE)
    if books.was_reversed_early(order.acquirer, order.reference, now):
        return _entry(order, now, Code.ALREADY_REVERSED)
    return _DECISIONS[order.kind](order, books, now)


def settle_refund(acquirer: str, reference: str, books: Books, now: int) -> Entry | None:
    """The entry that moves a refund to its next state, in progress to approved or approved to returned; None for none."""
    refund = books.find(acquirer, reference)
    moving = books.moving(acquirer, reference)
    if refund is None or moving is None:
        return None
    settles = refund.state == State.IN_PROGRESS
    return Entry(
        now,
        Kind.REFUND_SETTLED if settles else Kind.REFUND_RETURNED,
        acquirer,
        reference,
        refund.transmitted,
        refund.amount,
        refund.currency,
        Code.APPROVED,
        # What comes back is the refund itself.
        original=moving.original if settles else reference,
        account=refund.account.name if refund.account else "",
    )


def _entry(
    order: Order,
    now: int,
    code: str,
    *,
    account: Account | None = None,
    checks: str = "",
) -> Entry:
    return Entry(
        now, order.kind, order.acquirer, order.reference, order.transmitted, order.amount, order.currency, code,
        order.original, account.name if account else "", checks,
    )  # fmt: skip


def _undoing(order: Order, now: int, original: Operation, undid: tuple[tuple[str, int], ...]) -> Entry:
    """The approval of a void or a reversal. Amount and currency are the original's: the request cannot change them."""
    return Entry(
        now, order.kind, order.acquirer, order.reference, order.transmitted, original.amount, original.currency,
        Code.APPROVED, order.original, original.account.name if original.account else "", "", undid,
    )  # fmt: skip


def _pay(order: Order, books: Books, now: int) -> Entry:
    """Purchase, authorization, and the advice of one: the issuer decides, and an advice only needs an account."""
    fields, tags = order.fields, order.tags
    account = books.scheme.find(fields[2])
    if account is None:
        return _entry(order, now, Code.UNKNOWN_CARD)
    if order.currency == _NO_CURRENCY or fields[3] != Processing.PURCHASE:
        return _entry(order, now, Code.INVALID_TRANSACTION, account=account)
    if order.amount == 0:
        return _entry(order, now, Code.INVALID_AMOUNT, account=account)
    if order.mti == Mti.AUTHORIZATION_ADVICE:
        return _entry(order, now, Code.APPROVED, account=account)
    proof = proved_by(books, order.acquirer, tags.get(Tag.AUTHENTICATION, ""), account, order.amount, order.currency)
    if proof is None:
        return _entry(order, now, Code.WRONG_PROOF, account=account)
    entered = Entered(
        fields[14], tags.get(Tag.CVC), tags.get(Tag.POSTAL_CODE), proved=bool(proof) or fields.get(22) == _CHIP,
        merchant_initiated=tags.get(Tag.MERCHANT_INITIATED) == "1",
    )  # fmt: skip
    verdict: Verdict = judge(account, entered, currency=order.currency, amount_minor=order.amount, now=now)
    entry = _entry(order, now, verdict.code, account=account, checks=verdict.checks)
    return replace(entry, proof=proof) if proof else entry


def _authenticate(order: Order, books: Books, now: int) -> Entry:
    """Whether it is the buyer: what the issuer's terms say; nothing is moved, and nothing is declined by it."""
    account = books.scheme.find(order.fields[2])
    if account is None:
        return _entry(order, now, Code.UNKNOWN_CARD)
    if order.currency == _NO_CURRENCY or order.amount == 0:
        return _entry(order, now, Code.INVALID_TRANSACTION, account=account)
    result = account.terms.authentication
    if result == Authenticated.CHALLENGE and not order.tags.get(Tag.RETURNS_TO):
        # A challenge that nobody comes back from is none.
        result = Authenticated.UNAVAILABLE
    if result == Authenticated.PASSED and order.tags.get(Tag.WANTS_CHALLENGE) == "1" and order.tags.get(Tag.RETURNS_TO):
        result = Authenticated.CHALLENGE
    entry = _entry(order, now, Code.APPROVED, account=account)
    return replace(entry, result=result, returns_to=order.tags.get(Tag.RETURNS_TO, ""))


def answer_challenge(acquirer: str, reference: str, books: Books, now: int, *, passed: bool) -> Entry | None:
    """The entry that ends an open challenge; None when there is none (any more)."""
    operation, standing = books.find(acquirer, reference), books.authentication(acquirer, reference)
    if operation is None or standing is None or standing.result != Authenticated.CHALLENGE:
        return None
    return Entry(
        now, Kind.CHALLENGE_ANSWERED, acquirer, reference, operation.transmitted, operation.amount, operation.currency,
        Code.APPROVED, account=operation.account.name if operation.account else "",
        result=Authenticated.PASSED if passed else Authenticated.FAILED,
    )  # fmt: skip


def _capture(order: Order, books: Books, now: int) -> Entry:
    original = books.find(order.acquirer, order.original)
    if original is None or original.kind != Kind.AUTHORIZATION or original.state == State.DECLINED:
        code = Code.NOT_FOUND
    elif not _fits(order, original):
        code = Code.INCONSISTENT
    elif original.state == State.REVERSED:
        code = Code.ALREADY_REVERSED
    elif original.captured or order.currency != original.currency:
        code = Code.INVALID_TRANSACTION
    elif not 0 < order.amount <= original.amount:
        code = Code.INVALID_AMOUNT
    else:
        return _entry(order, now, Code.APPROVED, account=original.account)
    return _entry(order, now, code)


def _void(order: Order, books: Books, now: int) -> Entry:
    original = books.find(order.acquirer, order.original)
    if original is None or original.kind not in (Kind.AUTHORIZATION, Kind.PURCHASE):
        return _entry(order, now, Code.NOT_FOUND)
    if not _fits(order, original):
        return _entry(order, now, Code.INCONSISTENT)
    if original.state != State.APPROVED:
        return _undoing(order, now, original, ())
    if original.captured:
        return _entry(order, now, Code.NOT_UNDONE)
    return _undoing(order, now, original, ((Kind.AUTHORIZATION, original.amount),))


def _reverse(order: Order, books: Books, now: int) -> Entry:
    """Undo whatever stands under the original's reference; remember the reversal when nothing does."""
    original = books.find(order.acquirer, order.original)
    if original is None:
        if not order.original:
            return _entry(order, now, Code.INVALID_TRANSACTION)
        return replace(_entry(order, now, Code.APPROVED), undid=((UNDID_IN_ADVANCE, 0),))
    if not _fits(order, original):
        return _entry(order, now, Code.INCONSISTENT)
    if original.kind in (Kind.VOID, Kind.REVERSAL) and original.state == State.APPROVED:
        return _entry(order, now, Code.NOT_UNDONE)
    return _undoing(order, now, original, tuple(_effects(original)))


def _effects(original: Operation) -> list[tuple[str, int]]:
    """Kind and amount of what an operation has in effect now."""
    if original.kind == Kind.AUTHENTICATION:
        return []
    if original.kind == Kind.REFUND:
        if original.state == State.IN_PROGRESS:
            return [(UNDID_REFUND_IN_PROGRESS, original.amount)]
        return [(Kind.REFUND, original.amount)] if original.state == State.APPROVED else []
    if original.state != State.APPROVED:
        return []
    payment = original.payment or original
    effects = []
    if payment.captured > payment.refunded:
        effects.append((Kind.CAPTURE, payment.captured - payment.refunded))
    if original.kind != Kind.CAPTURE:
        effects.append((Kind.AUTHORIZATION, original.amount))
    return effects


def _refund(order: Order, books: Books, now: int) -> Entry:
    if not order.original:
        return _entry(order, now, Code.INVALID_TRANSACTION)
    original = books.find(order.acquirer, order.original)
    payment = original and (original.payment or original)
    if original is None or payment is None or original.kind not in (Kind.PURCHASE, Kind.CAPTURE, Kind.AUTHORIZATION):
        code = Code.NOT_FOUND
    elif not _fits(order, original):
        code = Code.INCONSISTENT
    elif State.REVERSED in (original.state, payment.state):
        code = Code.ALREADY_REVERSED
    elif original.state != State.APPROVED or not payment.captured:
        code = Code.NOT_FOUND
    elif order.currency != payment.currency:
        code = Code.INVALID_TRANSACTION
    elif not 0 < order.amount <= payment.captured - payment.refunded:
        code = Code.INVALID_AMOUNT
    else:
        pending = payment.account is not None and payment.account.terms.refunds is Refunds.PENDING
        return _entry(order, now, Code.IN_PROGRESS if pending else Code.APPROVED, account=payment.account)
    return _entry(order, now, code)


def _fits(order: Order, original: Operation) -> bool:
    """Whether DE 90, if it was sent, speaks of the message that the original came in."""
    text = order.fields.get(90)
    if text is None:
        return True
    claimed = unpack_original(text)
    return claimed.transmitted == original.transmitted and claimed.acquirer == order.acquirer.lstrip("0")


_DECISIONS: Final[Mapping[str, Callable[[Order, Books, int], Entry]]] = {
    Kind.AUTHORIZATION: _pay,
    Kind.PURCHASE: _pay,
    Kind.AUTHENTICATION: _authenticate,
    Kind.CAPTURE: _capture,
    Kind.VOID: _void,
    Kind.REVERSAL: _reverse,
    Kind.REFUND: _refund,
}
