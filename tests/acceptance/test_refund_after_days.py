"""A refund in doubt when the clock jumps by days: it is paid once, whatever was forgotten meanwhile."""

import json
import time
import urllib.request
from typing import Any

import pytest
import stripe
from whole_system import System

SECONDS_MAX = 30.0


@pytest.mark.parametrize("token", ["pm_card_visa", "pm_card_pendingRefund"])
def test_a_refund_in_doubt_over_days_is_paid_once(system: System, token: str) -> None:
    """Its answer is lost, or it is in progress; then two days pass before anybody asks."""
    line = system.up()
    shop = stripe.StripeClient(line["secret_key"], base_addresses={"api": line["api"]}, max_network_retries=2)
    paid = shop.v1.payment_intents.create({"amount": 1700, "currency": "eur", "payment_method": token, "confirm": True})
    if token == "pm_card_visa":
        post(f"{system.running()['network_control']}/faults", {"kind": "lost_answer", "operation": "refund", "count": 1})
    refund = shop.v1.refunds.create({"payment_intent": paid.id, "amount": 500})
    system.command("clock", "advance", "2d")
    end = time.monotonic() + SECONDS_MAX
    while refund.status == "pending" and time.monotonic() < end:
        refund = shop.v1.refunds.retrieve(refund.id)
    assert refund.status == "succeeded"
    checked = system.command("check")
    assert checked.returncode == 0, checked.stdout


def post(url: str, body: dict[str, Any]) -> None:
    """Send JSON to the bank's control port."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status < 300
