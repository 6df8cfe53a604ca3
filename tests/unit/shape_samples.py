"""One answer for each object and each branch of its shape: what the golden file was made from, and what the schema check reads.

`python tests/unit/shape_samples.py N` writes the golden file of a NEW shape version N. A file that exists is never written again.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from guilder.core.errors import ErrorFacts
from guilder.shapes.facts import (
    SHAPE,
    Answer,
    BalanceFacts,
    BalanceTransactionFacts,
    CardFacts,
    ChargeFacts,
    CustomerFacts,
    PaymentIntentFacts,
    PaymentMethodFacts,
    RefundFacts,
    encode,
)
from guilder.shapes.render import render_answer

GOLDEN = Path(__file__).parent / "golden"

PERSONAL: dict[str, dict[str, Any]] = {
    "psn_billing": {
        "name": "Ada Lovelace", "email": "ada@example.com", "phone": "+31 20 123 4567",
        "address": {"line1": "Damrak 1", "city": "Amsterdam", "postal_code": "1012 LG", "country": "NL"},
    },
    "psn_payment": {
        "receipt_email": "ada@example.com",
        "shipping": {"name": "Ada Lovelace", "address": {"line1": "Damrak 1", "country": "NL"}, "carrier": "post"},
    },
    "psn_customer": {
        "name": "Ada Lovelace", "email": "ada@example.com", "phone": None, "description": "a \"quoted\" name, é and \u2028",
        "address": {"line1": "Damrak 1"}, "shipping": {"name": "Ada", "address": {"line1": "Damrak 1"}, "phone": "1"},
    },
}  # fmt: skip

CARD = CardFacts(
    brand="visa", last4="4242", exp_month=12, exp_year=2034, fingerprint="Xt5EWLLDS7FJjR1c", iin="424242", cvc_check="pass",
    postal_code_check="fail",
)  # fmt: skip
METHOD = PaymentMethodFacts(
    id="pm_1", livemode=False, created=1767225600, card=CARD, customer="cus_1", billing="psn_billing", metadata=(("a", "1"),),
)  # fmt: skip
PAYMENT = PaymentIntentFacts(
    id="pi_1", livemode=False, created=1767225600, amount=1999, currency="eur", status="succeeded", client_secret="pi_1_secret_x",
    amount_received=1999, payment_method="pm_1", automatic_payment_methods="", customer="cus_1", description="Order 7",
    metadata=(("order", "7"), ("note", "")), personal="psn_payment", latest_charge="ch_1",
)  # fmt: skip
BARE_PAYMENT = PaymentIntentFacts(
    id="pi_2", livemode=True, created=1767225600, amount=500, currency="jpy", status="requires_payment_method",
    client_secret="pi_2_secret_x",
)  # fmt: skip
DECLINE = ErrorFacts(
    type="card_error", message="Your card has insufficient funds.", code="card_declined", decline_code="insufficient_funds",
    charge="ch_2", network_decline_code="51", advice_code="try_again_later",
)  # fmt: skip
DECLINED_PAYMENT = PaymentIntentFacts(
    id="pi_3", livemode=False, created=1767225600, amount=1999, currency="eur", status="requires_payment_method",
    client_secret="pi_3_secret_x", latest_charge="ch_2", last_payment_error=DECLINE, failed_payment_method=METHOD,
)  # fmt: skip
WAITING_PAYMENT = PaymentIntentFacts(
    id="pi_4", livemode=False, created=1767225600, amount=150, currency="isk", status="requires_action",
    client_secret="pi_4_secret_x",
    next_action_url="http://127.0.0.1/challenge", return_url="https://example.com", setup_future_usage="off_session",
    automatic_payment_methods="never", request_three_d_secure="any",
)  # fmt: skip
DOUBTFUL_PAYMENT = PaymentIntentFacts(
    id="pi_5", livemode=False, created=1767225600, amount=1500, currency="kwd", status="processing",
    client_secret="pi_5_secret_x",
    payment_method="pm_1", capture_method="manual", confirmation_method="manual", in_doubt=True,
)  # fmt: skip
CANCELED_PAYMENT = PaymentIntentFacts(
    id="pi_6", livemode=False, created=1767225600, amount=500, currency="mga", status="canceled", client_secret="pi_6_secret_x",
    canceled_at=1767225700, cancellation_reason="expired", statement_descriptor="GUILDER", statement_descriptor_suffix="SHOP",
)  # fmt: skip
CHARGE = ChargeFacts(
    id="ch_1", livemode=False, created=1767225601, amount=1999, currency="eur", status="succeeded", payment_intent="pi_1",
    payment_method="pm_1", card=CARD, captured=True, amount_captured=1999, amount_refunded=999, balance_transaction="txn_1",
    customer="cus_1", metadata=(("order", "7"),), billing="psn_billing", personal="psn_payment", risk_score=12,
    authorization_code="A1B2C3", network_transaction_id="123456789012345", connector="cardnet",
)  # fmt: skip
HELD_CHARGE = ChargeFacts(
    id="ch_3", livemode=False, created=1767225601, amount=1999, currency="eur", status="succeeded", payment_intent="pi_1",
    payment_method=None, card=CARD, capture_before=1767830400, statement_descriptor="GUILDER",
)  # fmt: skip
FAILED_CHARGE = ChargeFacts(
    id="ch_2", livemode=False, created=1767225601, amount=1999, currency="eur", status="failed", payment_intent="pi_3",
    payment_method="pm_1", card=CARD, failure_code="card_declined", failure_message="Your card has insufficient funds.",
    decline_code="insufficient_funds", network_decline_code="51", outcome_type="issuer_declined",
    outcome_reason="insufficient_funds",
)  # fmt: skip
BLOCKED_CHARGE = ChargeFacts(
    id="ch_4", livemode=False, created=1767225601, amount=1999, currency="eur", status="failed", payment_intent="pi_3",
    payment_method="pm_1", card=CARD, failure_code="card_declined", failure_message="Your card was declined.",
    decline_code="fraudulent", outcome_type="blocked", outcome_reason="highest_risk_level", risk_level="highest", risk_score=90,
)  # fmt: skip
REFUND = RefundFacts(
    id="re_1", livemode=False, created=1767225700, amount=999, currency="eur", status="succeeded", charge="ch_1",
    payment_intent="pi_1",
    reason="requested_by_customer", metadata=(("why", "broken"),), balance_transaction="txn_2", reference="0123456789AB",
)  # fmt: skip
FAILED_REFUND = RefundFacts(
    id="re_2", livemode=False, created=1767225700, amount=1, currency="eur", status="failed", charge="ch_1",
    payment_intent="pi_1",
    balance_transaction="txn_2", failure_balance_transaction="txn_3", failure_reason="lost_or_stolen_card",
)  # fmt: skip
PENDING_REFUND = RefundFacts(
    id="re_3", livemode=False, created=1767225701, amount=5, currency="ugx", status="pending", charge="ch_1",
    payment_intent="pi_1",
    pending_reason="insufficient_funds",
)  # fmt: skip
CUSTOMER = CustomerFacts(
    id="cus_1", livemode=False, created=1767225000, personal="psn_customer", metadata=(("tier", "gold"),),
    default_payment_method="pm_1", currency="eur", invoice_prefix="AB12CD34",
)  # fmt: skip
GONE_CUSTOMER = CustomerFacts(id="cus_2", livemode=False, created=1767225000, deleted=True)
ENTRY = BalanceTransactionFacts(
    id="txn_1", created=1767225601, amount=1999, fee=30, currency="eur", type="charge", source="ch_1", available_on=1767398400,
    reporting_category="charge",
)  # fmt: skip
REFUND_ENTRY = BalanceTransactionFacts(
    id="txn_2", created=1767225700, amount=-999, fee=0, currency="eur", type="refund", source="re_1", available_on=1767398400,
    reporting_category="refund", description="REFUND FOR CHARGE", available=True,
)  # fmt: skip
BALANCE = BalanceFacts(livemode=False, available=(("eur", -500), ("jpy", 0)), pending=(("eur", 1969), ("ugx", 5)))

SAMPLES: dict[str, Answer] = {
    "payment_intent": Answer(SHAPE, 200, PAYMENT),
    "payment_intent_bare": Answer(SHAPE, 200, BARE_PAYMENT),
    "payment_intent_declined": Answer(SHAPE, 200, DECLINED_PAYMENT),
    "payment_intent_waiting": Answer(SHAPE, 200, WAITING_PAYMENT),
    "payment_intent_in_doubt": Answer(SHAPE, 200, DOUBTFUL_PAYMENT),
    "payment_intent_canceled": Answer(SHAPE, 200, CANCELED_PAYMENT),
    "payment_intent_expanded": Answer(
        SHAPE, 200, PAYMENT, None,
        ("customer.invoice_settings.default_payment_method", "latest_charge.balance_transaction.source", "latest_charge.refunds",
         "payment_method"),
        (CUSTOMER, METHOD, CHARGE, ENTRY, REFUND, FAILED_REFUND),
    ),
    "decline": Answer(SHAPE, 402, DECLINED_PAYMENT, DECLINE),
    "refusal": Answer(SHAPE, 400, None, ErrorFacts(type="invalid_request_error", message="No.", param="amount")),
    "charge": Answer(SHAPE, 200, CHARGE),
    "charge_held": Answer(SHAPE, 200, HELD_CHARGE),
    "charge_failed": Answer(SHAPE, 200, FAILED_CHARGE),
    "charge_blocked": Answer(SHAPE, 200, BLOCKED_CHARGE),
    "refund": Answer(SHAPE, 200, REFUND),
    "refund_expanded": Answer(
        SHAPE, 200, REFUND, None, ("charge", "payment_intent", "balance_transaction"), (CHARGE, PAYMENT, REFUND_ENTRY),
    ),
    "refund_failed": Answer(SHAPE, 200, FAILED_REFUND),
    "refund_pending": Answer(SHAPE, 200, PENDING_REFUND),
    "payment_method": Answer(SHAPE, 200, METHOD),
    "payment_method_expanded": Answer(SHAPE, 200, METHOD, None, ("customer",), (GONE_CUSTOMER, CUSTOMER)),
    "customer": Answer(SHAPE, 200, CUSTOMER),
    "customer_deleted": Answer(SHAPE, 200, GONE_CUSTOMER),
    "balance_transaction": Answer(SHAPE, 200, ENTRY),
    "balance_transaction_of_refund": Answer(SHAPE, 200, REFUND_ENTRY, None, ("source.charge",), (REFUND, CHARGE)),
    "balance": Answer(SHAPE, 200, BALANCE),
}  # fmt: skip


def write(version: int) -> None:
    """Write the golden file of a new shape version."""
    path = GOLDEN / f"shape_{version}.jsonl"
    with path.open("x") as file:
        for name, answer in SAMPLES.items():
            stored = base64.b64encode(encode(answer)).decode()
            file.write(json.dumps({"name": name, "stored": stored, "rendered": render_answer(answer, PERSONAL).decode()}) + "\n")


if __name__ == "__main__":
    write(int(sys.argv[1]))
