"""Story: one payment from its first request to its last cent, as one timeline, from every table that knows of it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from guilder.core.clock import DAY
from guilder.core.errors import GuilderError
from guilder.core.money import Money
from guilder.db import Database, Record
from guilder.integrity import story_rows
from guilder.integrity.check import ROLE
from guilder.integrity.story_rows import Rows

_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

# What happens in one commit has one time; within it, a cause stands before what follows from it.
_RANKS: Final = {
    "order": -1, "request": 0, "fallback": 1, "attempt": 1, "psp": 2, "outcome": 3, "challenge": 4, "ledger": 5, "balance": 6, "event": 7,
    "webhook": 8, "open": 9,
}  # fmt: skip

_KINDS: Final = ("transfer", "hold", "post", "void", "expire")
_CODES: Final = {
    1: "captured", 2: "fee", 3: "authorized", 4: "hold captured", 5: "hold moved", 6: "hold released", 7: "refund reserved",
    8: "refund settled", 9: "refund failed", 10: "refund found", 11: "released", 12: "moved on",
    13: "refund returned",
}  # fmt: skip
"""The business events by which the system's transfers are marked (docs/ledger.md)."""


SOFT_DECLINE: Final = "declined: the issuer wants the buyer to be authenticated"
NEW_PAYMENTS: Final = ("purchase", "authorize")
"""The operations that begin to take a buyer's money, and make a charge."""


class NoSuchPayment(GuilderError):
    """There is no such payment; the message says what can be asked for."""


class Moment(Struct, frozen=True, kw_only=True):
    """Something that happened.

    Args:
        at: microseconds of business time.
        kind: order, request, attempt, psp, outcome, challenge, ledger, balance, event, webhook; open for what is not at its end yet.
        what: in a few words.
        detail: the rest of it, such as a masked message; may be empty.
        about: the id of the object that it is about.
        told_by_row: a message that was not kept, told from its attempt's row.
    """

    at: int
    kind: str
    what: str
    detail: str = ""
    about: str = ""
    told_by_row: bool = False


class Story(Struct, frozen=True, kw_only=True):
    """A payment and its timeline, oldest first. `all_events` is False where only events around its own moments were sought."""

    payment: str
    account: str
    livemode: bool
    state: str
    amount: int
    currency: str
    created_at: int
    moments: tuple[Moment, ...]
    all_events: bool


class _Key(Struct, array_like=True):
    key: str


class _Wire(Struct, array_like=True):
    reference: str
    psp_key: Raw
    stan: str
    transmitted_at: str


class _Fallen(Struct, array_like=True):
    tried: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    waits: bool = False


class _Till(Struct, array_like=True):
    reader: str
    location: str | None = None


_NOTHING = Raw(b"\xc0")


class _Attempt(Struct, array_like=True):
    """What is told of an attempt's stored facts; fields are only ever added behind these."""

    connector: str
    psp_merchant: str
    wire: _Wire
    terms: Raw
    payment_method: Raw
    key: _Key | None
    send_cvc: bool
    off_session: bool
    error_on_requires_action: bool
    risk_level: str
    risk_score: int
    route_reason: str
    original: Raw = _NOTHING
    cancellation_reason: Raw = _NOTHING
    reservation: Raw = _NOTHING
    number: Raw = _NOTHING
    announces_payment: Raw = _NOTHING
    three_d_secure: Raw = _NOTHING
    till: _Till | None = None
    own_page: Raw = _NOTHING
    fallen: _Fallen | None = None


class _Payment(Struct, array_like=True, tag_field="object", tag="payment_intent"):
    id: str
    livemode: bool
    created: int
    amount: int
    currency: str
    status: str


class _Charge(Struct, array_like=True, tag_field="object", tag="charge"):
    """A stored charge up to its authorization code; what is not told of is not typed either."""

    id: str
    livemode: Any
    created: Any
    amount: Any
    currency: Any
    status: Any
    payment_intent: Any
    payment_method: Any
    card: Any
    captured: Any
    amount_captured: Any
    amount_refunded: Any
    refunded: Any
    balance_transaction: Any
    customer: Any
    description: Any
    metadata: Any
    billing: Any
    personal: Any
    statement_descriptor: Any
    statement_descriptor_suffix: Any
    failure_code: str | None
    failure_message: Any
    decline_code: str | None
    network_decline_code: str | None
    outcome_type: str
    outcome_reason: Any
    risk_level: Any
    risk_score: Any
    authorization_code: str | None


class _Error(Struct):
    message: str = ""
    code: str | None = None
    decline_code: str | None = None


class _Answer(Struct, array_like=True):
    shape: int
    status: int
    root: list[Any] | None
    error: _Error | None


_attempt: Final = msgspec.msgpack.Decoder(_Attempt).decode
_charge: Final = msgspec.msgpack.Decoder(_Charge).decode
_payment: Final = msgspec.msgpack.Decoder(_Payment).decode
_answer: Final = msgspec.msgpack.Decoder(_Answer).decode


async def tell(dsn: str, id_: str) -> Story:
    """The story of the payment to which this payment, charge, refund, attempt or balance transaction belongs.

    Raises NoSuchPayment, Unavailable.
    """
    database = await Database.connect(dsn, role=ROLE, max_size=1, name="story")
    try:
        async with database.connection() as connection:
            await connection.execute(_BEGIN)
            rows = await story_rows.read(connection, id_, _key_of)
            await connection.execute("ROLLBACK")
    finally:
        await database.close()
    if rows is None:
        what = "that of a payment, charge, refund or attempt (pi_, ch_, re_, at_)"
        raise NoSuchPayment(f"there is nothing with the id {id_}; give {what}")
    return story_of(rows)


def story_of(rows: Rows) -> Story:
    """The timeline that the rows make. Pure."""
    facts = _payment(rows.payment["facts"])
    moments = [
        *_orders(rows), *_requests(rows), *_attempts(rows), *_transfers(rows, facts.currency), *_entries(rows), *_releases(rows),
        *_events(rows), *_webhooks(rows), *_challenges(rows), *_unfinished(rows),
    ]  # fmt: skip
    # The sort is stable, so what has one time and one rank keeps the order of its table.
    moments.sort(key=lambda moment: (moment.at, _RANKS[moment.kind]))
    row = rows.payment
    return Story(
        payment=row["id"], account=row["account"], livemode=row["livemode"], state=row["state"], amount=facts.amount,
        currency=facts.currency, created_at=row["created_at"], moments=tuple(moments), all_events=rows.all_events,
    )  # fmt: skip


def _orders(rows: Rows) -> Iterator[Moment]:
    for row in rows.sessions:
        yield Moment(at=row["created_at"], kind="order", what="the merchant asks for it, by a Checkout Session", about=row["id"])
        yield Moment(at=rows.payment["created_at"], kind="order", what="the buyer places the order on the payment page", about=row["id"])


def _key_of(facts: bytes) -> str | None:
    key = _attempt(facts).key
    return key.key if key else None


def _requests(rows: Rows) -> Iterator[Moment]:
    for row in rows.keys:
        yield Moment(
            at=row["created_at"], kind="request", what=f"request {row['request_id']}: {_answered(row)}",
            detail=f"idempotency key {row['key']}", about=row["object"] or "",
        )  # fmt: skip


def _answered(row: Record) -> str:
    """What the request was answered, in the end."""
    if row["answer"] is None:
        return "not answered yet"
    answer = _answer(row["answer"])
    if answer.error is None:
        return f"answered {answer.status}"
    words = [answer.error.code or "error", answer.error.decline_code or ""]
    return f"answered {answer.status} {' '.join(word for word in words if word)}"


def _attempts(rows: Rows) -> Iterator[Moment]:
    kept = {row["attempt"] for row in rows.messages}
    said = _issuers_words(rows)
    for row in rows.attempts:
        facts, money = _attempt(row["facts"]), Money(row["amount"], row["currency"])
        why = f", because {facts.route_reason}" if facts.route_reason else ""
        yield Moment(
            at=row["created_at"], kind="attempt", what=f"{row['operation']} of {money}{_where(facts)} accepted for {facts.connector}{why}",
            detail=f"reference {row['reference']}, STAN {facts.wire.stan}, sent as {facts.psp_merchant}, risk {facts.risk_level} "
            f"{facts.risk_score}, {'with' if facts.send_cvc else 'without'} CVC",
            about=row["id"],
        )  # fmt: skip
        for note in facts.fallen.notes if facts.fallen is not None else ():
            yield Moment(at=row["created_at"], kind="fallback", what=note, about=row["id"])
        if row["id"] not in kept:
            yield from _told_by_row(row, facts, said.get(row["id"], ""))
        if row["state"] is not None:
            what = f"{row['operation']} {row['state'].replace('_', ' ')}"
            yield Moment(at=row["finished_at"], kind="outcome", what=what, about=row["id"])
    for row in rows.messages:
        direction, _, text = row["text"].partition(": ")
        yield Moment(at=row["at"], kind="psp", what=direction, detail=text, about=row["attempt"])


def _where(facts: _Attempt) -> str:
    """The reader that took the card, and where it stands; nothing for a payment from afar."""
    if facts.till is None:
        return ""
    return f" at reader {facts.till.reader}" + (f", location {facts.till.location}," if facts.till.location else "")


def _challenges(rows: Rows) -> Iterator[Moment]:
    """The buyer's way to his bank and back."""
    for row in rows.challenges:
        yield Moment(at=row["opened_at"], kind="challenge", what="the buyer is sent to his bank", about=row["attempt"])
        if row["ended_at"] is not None:
            yield Moment(at=row["ended_at"], kind="challenge", what=f"challenge {row['state']}", about=row["attempt"])


def _told_by_row(row: Record, facts: _Attempt, said: str) -> Iterator[Moment]:
    """Plain approvals and declines keep no messages: what went over the wire follows from the attempt's row."""
    if row["state"] not in ("approved", "declined"):
        return
    sent = f"{row['operation']} reference {row['reference']}, DE 7 {facts.wire.transmitted_at}, STAN {facts.wire.stan}"
    yield Moment(at=row["created_at"], kind="psp", what="sent", detail=sent, about=row["id"], told_by_row=True)
    received = said or str(row["state"])
    yield Moment(at=row["finished_at"], kind="psp", what="received", detail=received, about=row["id"], told_by_row=True)


def _issuers_words(rows: Rows) -> dict[str, str]:
    """By attempt: what the issuer said. Each answered attempt to take money made one charge, in the same order."""
    # A soft decline made no charge: an authentication was accepted in its commit.
    begun = {row["created_at"] for row in rows.attempts if row["operation"] == "authenticate"}
    ended = [row for row in rows.attempts if row["operation"] in NEW_PAYMENTS and row["state"] in ("approved", "declined")]
    soft = {row["id"]: SOFT_DECLINE for row in ended if row["state"] == "declined" and row["finished_at"] in begun}
    answered = [row for row in ended if row["id"] not in soft]
    made = [facts for row in rows.charges if (facts := _charge(row["facts"])).outcome_type != "blocked"]
    return soft | {
        row["id"]: f"approved, authorization code {facts.authorization_code}"
        if row["state"] == "approved"
        else f"declined: {facts.decline_code or facts.failure_code}, response code {facts.network_decline_code}"
        for row, facts in zip(answered, made, strict=False)
    }


def _transfers(rows: Rows, currency: str) -> Iterator[Moment]:
    for row in rows.transfers:
        word = _CODES.get(row["code"], _KINDS[row["kind"]])
        kind = "" if row["kind"] == 0 else f" ({_KINDS[row['kind']]})"
        debit, credit = (_account(row, side) for side in ("debit", "credit"))
        yield Moment(
            at=row["created_at"], kind="ledger", what=f"{word}{kind}: {Money(row['amount'], currency)}",
            detail=f"debit {debit}, credit {credit}, index {row['index']}", about=row["id"],
        )  # fmt: skip


def _account(row: Record, side: str) -> str:
    """A ledger account's name: what it is for, and whose when it is not the merchant's own."""
    kind, owner, day = row[f"{side}_kind"], row[f"{side}_owner"], row[f"{side}_day"]
    whose = "" if owner == row["account"] else f" of {owner}"
    return f"{kind}{whose}" + (f" until {_date(day)}" if day else "")


def _date(day: int) -> str:
    """A UTC day as people write it."""
    return f"{datetime.fromtimestamp(day * DAY // 1_000_000, UTC):%Y-%m-%d}"


def _entries(rows: Rows) -> Iterator[Moment]:
    for row in rows.entries:
        fee = f", fee {Money(row['fee'], row['currency'])}" if row["fee"] else ""
        when = f"available on {_date(row['day'])}" if row["day"] else "available at once"
        what = f"{row['type'].replace('_', ' ')}: {Money(row['amount'], row['currency'])}{fee}"
        yield Moment(at=row["created_at"], kind="balance", what=what, detail=f"of {row['source']}, {when}", about=row["id"])


def _releases(rows: Rows) -> Iterator[Moment]:
    for row in rows.releases:
        yield Moment(at=row["released_at"], kind="balance", what=f"the funds of {_date(row['day'])} became available")


def _events(rows: Rows) -> Iterator[Moment]:
    for row in rows.events:
        by = f"by request {row['request_id']}" if row["request_id"] else ""
        yield Moment(at=row["created_at"], kind="event", what=row["type"], detail=by, about=row["id"])


def _webhooks(rows: Rows) -> Iterator[Moment]:
    for row in rows.webhooks:
        came = f"answered {row['status']}" if row["status"] is not None else f"not answered: {row['failure']}"
        yield Moment(
            at=row["sent_at"], kind="webhook", what=f"{row['type']} {came}", detail=f"to {row['endpoint']}, number {row['number']}",
            about=row["event"],
        )  # fmt: skip


def _unfinished(rows: Rows) -> Iterator[Moment]:
    """What stands open now, at the end of the timeline: when it will be looked at again."""
    for row in rows.open:
        holder = f", in the hands of {row['sender']}" if row["sender"] else ""
        tries = "no try" if row["tries"] == 0 else "1 try" if row["tries"] == 1 else f"{row['tries']} tries"
        yield Moment(
            at=row["retry_at"], kind="open", what=f"{row['state'].replace('_', ' ')}: will be looked at again",
            detail=f"slot {row['slot']}, {tries} so far{holder}", about=row["attempt"],
        )  # fmt: skip
