"""What the API shows is stored as bytes beside the columns that SQL checks: here the two are compared."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from guilder.integrity.model import Examination

# Rows in one statement: some milliseconds of decoding.
PIECE: Final = 10_000

_PAYMENTS: Final = """
SELECT p.id, p.state, p.facts, coalesce(c.captured, 0) AS captured
FROM payment p LEFT JOIN LATERAL (SELECT z.captured FROM charge z WHERE z.payment = p.id AND z.succeeded OFFSET 0) c ON true
WHERE p.id > $1 ORDER BY p.id LIMIT $2
"""
_CHARGES: Final = """
SELECT id, payment, succeeded, captured, refunded, refunding, facts FROM charge WHERE id > $1 ORDER BY id LIMIT $2
"""
_REFUNDS: Final = "SELECT id, charge, payment, state, amount, facts FROM refund WHERE id > $1 ORDER BY id LIMIT $2"


class _Payment(Struct, array_like=True, tag_field="object", tag="payment_intent"):
    """The fields of a stored payment that are also facts of the books, up to the last of them; Raw is not looked at."""

    id: str
    livemode: Raw
    created: Raw
    amount: int
    currency: Raw
    status: str
    client_secret: Raw
    capture_method: Raw
    confirmation_method: Raw
    amount_capturable: int
    amount_received: int


class _Charge(Struct, array_like=True, tag_field="object", tag="charge"):
    id: str
    livemode: Raw
    created: Raw
    amount: int
    currency: Raw
    status: str
    payment_intent: str
    payment_method: Raw
    card: Raw
    captured: bool
    amount_captured: int
    amount_refunded: int
    refunded: bool


class _Refund(Struct, array_like=True, tag_field="object", tag="refund"):
    id: str
    livemode: Raw
    created: Raw
    amount: int
    currency: Raw
    status: str
    charge: str
    payment_intent: str


_payment: Final = msgspec.msgpack.Decoder(_Payment).decode
_charge: Final = msgspec.msgpack.Decoder(_Charge).decode
_refund: Final = msgspec.msgpack.Decoder(_Refund).decode


async def shown(x: Examination) -> int:
    """Decode every payment, charge and refund as it would be shown."""
    total = sum([await x.count(table) for table in ("payment", "charge", "refund")])
    done = 0
    for sql, differs in ((_PAYMENTS, _payment_differs), (_CHARGES, _charge_differs), (_REFUNDS, _refund_differs)):
        last = ""
        while rows := await x.connection.fetch(sql, last, PIECE):
            for row in rows:
                try:
                    difference = differs(row)
                except msgspec.MsgspecError as error:
                    difference = f"what is stored cannot be read: {error}"
                if difference:
                    x.violation(row["id"], difference)
            last = rows[-1]["id"]
            done += len(rows)
            x.progress(done, total)
    return total


def _payment_differs(row: Any) -> str:
    facts = _payment(row["facts"])
    capturable = facts.amount if facts.status == "requires_capture" else 0
    if (facts.id, facts.status) != (row["id"], row["state"]):
        return f"shows {facts.id} {facts.status}, is {row['state']}"
    if facts.amount_received != row["captured"]:
        return f"shows {facts.amount_received} received, {row['captured']} is captured"
    # While a capture or a void is under way, what could be captured before it began is still shown.
    if facts.status != "processing" and facts.amount_capturable != capturable:
        return f"is {facts.status} and shows {facts.amount_capturable} as capturable"
    return ""


def _charge_differs(row: Any) -> str:
    facts = _charge(row["facts"])
    back = row["refunded"] + row["refunding"]
    if (facts.id, facts.payment_intent, facts.status == "succeeded") != (row["id"], row["payment"], row["succeeded"]):
        return f"shows {facts.id} of {facts.payment_intent}, {facts.status}"
    if (facts.captured, facts.amount_captured) != (row["captured"] > 0, row["captured"]):
        return f"shows {facts.amount_captured} captured, {row['captured']} is"
    if (facts.refunded, facts.amount_refunded) != (0 < back == row["captured"], back):
        return f"shows {facts.amount_refunded} refunded, {back} is or is on its way"
    return ""


def _refund_differs(row: Any) -> str:
    facts = _refund(row["facts"])
    shows = (facts.id, facts.charge, facts.payment_intent, facts.status, facts.amount)
    if shows != (row["id"], row["charge"], row["payment"], row["state"], row["amount"]):
        return f"shows {facts.status} of {facts.amount}, is {row['state']} of {row['amount']}"
    return ""
