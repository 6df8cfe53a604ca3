"""Rows as structs and back. The facts' columns hold msgpack of the structs in shapes.facts and payments.model."""

from typing import Any, Final

import msgspec

from guilder.payments.model import Attempt, Charge, Refund, attempt_facts_from, noted_from
from guilder.psp.model import Operation
from guilder.shapes.facts import ChargeFacts, PaymentIntentFacts, RefundFacts

payment_facts_from: Final = msgspec.msgpack.Decoder(PaymentIntentFacts).decode
charge_facts_from: Final = msgspec.msgpack.Decoder(ChargeFacts).decode
refund_facts_from: Final = msgspec.msgpack.Decoder(RefundFacts).decode


def attempt_from(row: Any) -> Attempt:  # noqa: ANN401 - a row or a composite value of the database
    """An attempt's row."""
    return Attempt(
        id=row["id"], payment=row["payment"], account=row["account"], livemode=row["livemode"], operation=Operation(row["operation"]),
        slot=row["slot"], amount=row["amount"], currency=row["currency"], execute_by=row["execute_by"], created_at=row["created_at"],
        facts=attempt_facts_from(row["facts"]), refund=row["refund"], noted=noted_from(row["noted"]),
    )  # fmt: skip


def charge_from(row: Any) -> Charge:  # noqa: ANN401
    """A charge's row."""
    return Charge(
        facts=charge_facts_from(row["facts"]), refunded=row["refunded"], refunding=row["refunding"], day=row["day"], hold=row["hold"],
    )  # fmt: skip


def refund_from(row: Any) -> Refund:  # noqa: ANN401
    """A refund's row."""
    return Refund(facts=refund_facts_from(row["facts"]), waiting=row["waiting"])
