"""Test tokens: `pm_card_visa` and its like stand for published test cards, so that tests need no card numbers.

Each use makes a new PaymentMethod. They exist in test mode only.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from guilder.core.clock import Micros, epoch_seconds
from guilder.customers.model import NewCard
from guilder.security import Pan, Secret

PREFIXES: Final = ("pm_card_", "tok_")
EXPIRY_MONTH: Final = 12
CVC: Final = "123"
# American Express prints four digits.
CVC_AMEX: Final = "1234"

# Name after the prefix -> the card's first six digits and the rest. Numbers are put together only when one is used.
CARDS: Final[Mapping[str, tuple[str, str]]] = {
    "visa": ("424242", "4242424242"),
    "us": ("424242", "4242424242"),
    "visa_debit": ("400005", "6655665556"),
    "mastercard": ("555555", "5555554444"),
    "mastercard_debit": ("520082", "8282828210"),
    "mastercard_prepaid": ("510510", "5105105100"),
    "amex": ("378282", "246310005"),
    "discover": ("601111", "1111111117"),
    "diners": ("305693", "0009020004"),
    "jcb": ("356600", "2020360505"),
    "unionpay": ("620000", "0000000005"),
    "bypassPending": ("400000", "0000000077"),
    "visa_chargeDeclined": ("400000", "0000000002"),
    "visa_chargeDeclinedInsufficientFunds": ("400000", "0000009995"),
    "visa_chargeDeclinedLostCard": ("400000", "0000009987"),
    "visa_chargeDeclinedStolenCard": ("400000", "0000009979"),
    "visa_chargeDeclinedVelocityLimitExceeded": ("400000", "0000006975"),
    "chargeDeclinedExpiredCard": ("400000", "0000000069"),
    "chargeDeclinedIncorrectCvc": ("400000", "0000000127"),
    "chargeDeclinedProcessingError": ("400000", "0000000119"),
    "chargeCustomerFail": ("400000", "0000000341"),
    "cvcCheckFail": ("400000", "0000000101"),
    "avsZipFail": ("400000", "0000000036"),
    "radarBlock": ("410000", "0000000019"),
    "riskLevelHighest": ("400000", "0000004954"),
    "riskLevelElevated": ("400000", "0000009235"),
    "authenticationRequiredOnSetup": ("400000", "2500003155"),
    "authenticationRequired": ("400000", "2760003184"),
    "authenticationRequiredSetupForOffSession": ("400000", "3800000446"),
    "threeDSecure2Required": ("400000", "0000003220"),
    "threeDSecureRequired": ("400000", "0000003220"),
    "threeDSecureRequiredChargeDeclined": ("400000", "8400001629"),
    "threeDSecureOptional": ("400000", "0000003055"),
    "threeDSecureFrictionless": ("400000", "0000003238"),
    "threeDSecureRequiredProcessingError": ("400000", "8400001280"),
    "threeDSecureOptionalProcessingError": ("400000", "0000003097"),
    "authenticationRequiredChargeDeclinedInsufficientFunds": ("400000", "8260003178"),
    "createDispute": ("400000", "0000000259"),
    "createDisputeProductNotReceived": ("400000", "0000002685"),
    "createDisputeInquiry": ("400000", "0000001976"),
    "createIssuerFraudRecord": ("400000", "0000005423"),
    "pendingRefund": ("400000", "0000007726"),
    "refundFail": ("400000", "0000005126"),
}

# The same declines are also written without the brand, as the older tokens are.
_BRAND: Final = "visa_"


def is_test_token(text: str) -> bool:
    """Whether this has the form of a test token, known or not; no stored object's id has it."""
    return text.startswith(PREFIXES)


def card_of(token: str, now: Micros) -> NewCard | None:
    """The card that a test token stands for; None for an unknown one."""
    for prefix in PREFIXES:
        if token.startswith(prefix):
            name = token.removeprefix(prefix)
            parts = CARDS.get(name) or (CARDS.get(_BRAND + name) if name.startswith("chargeDeclined") else None)
            if parts is not None:
                year = datetime.fromtimestamp(epoch_seconds(now), UTC).year + 1
                cvc = CVC_AMEX if name == "amex" else CVC
                return NewCard(number=Pan("".join(parts)), exp_month=EXPIRY_MONTH, exp_year=year, cvc=Secret(cvc))
    return None
