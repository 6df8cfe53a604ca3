"""The cards of the sandbox: Stripe's test numbers and what each is for (docs/iso8583.md, section 7)."""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from guilder.iso8583 import Authenticated, Code
from guilder.network.issuer import AMEX_CVC_LENGTH, Refunds, Terms, Wants

_PAYS: Final = Terms()
_AMEX: Final = Terms(cvc_length=AMEX_CVC_LENGTH, authentication=Authenticated.NOT_SUPPORTED)
_CHALLENGES: Final = Terms(wants_authentication=Wants.ALWAYS, authentication=Authenticated.CHALLENGE)

# Card number -> (the account's name, what its issuer holds true of it).
CARDS: Final[Mapping[str, tuple[str, Terms]]] = {
    # Brands: these simply pay.
    "4242424242424242": ("visa", _PAYS),
    "4000056655665556": ("visa_debit", _PAYS),
    "5555555555554444": ("mastercard", _PAYS),
    "2223003122003222": ("mastercard_2_series", _PAYS),
    "5200828282828210": ("mastercard_debit", _PAYS),
    "5105105105105100": ("mastercard_prepaid", _PAYS),
    "378282246310005": ("amex", _AMEX),
    "371449635398431": ("amex_second", _AMEX),
    "6011111111111117": ("discover", _PAYS),
    "6011000990139424": ("discover_second", _PAYS),
    "3056930009020004": ("diners", _PAYS),
    "36227206271667": ("diners_14_digits", _PAYS),
    "3566002020360505": ("jcb", _PAYS),
    "6200000000000005": ("unionpay", _PAYS),
    # Funds at once.
    "4000000000000077": ("bypass_pending", Terms(available_at_once=True)),
    # Declines.
    "4000000000000002": ("declined", Terms(code=Code.DO_NOT_HONOR)),
    "4000000000009995": ("insufficient_funds", Terms(opening_major=0)),
    "4000000000009987": ("lost", Terms(code=Code.LOST_CARD)),
    "4000000000009979": ("stolen", Terms(code=Code.STOLEN_CARD)),
    "4000000000000069": ("expired", Terms(code=Code.EXPIRED_CARD)),
    "4000000000000127": ("incorrect_cvc", Terms(code=Code.WRONG_CVC)),
    "4000000000000119": ("processing_error", Terms(code=Code.PROCESSING_ERROR)),
    "4000000000006975": ("velocity_limit_exceeded", Terms(code=Code.LIMIT_EXCEEDED)),
    "4000000000000341": ("charge_customer_fail", Terms(code=Code.DO_NOT_HONOR)),
    # Checks that fail; the charge itself succeeds, as at Stripe: blocking on a check is for the risk rules.
    "4000000000000101": ("cvc_check_fails", Terms(cvc_fails=True)),
    "4000000000000036": ("postal_code_check_fails", Terms(postal_code_fails=True)),
    # Refunds with a life of their own.
    "4000000000007726": ("refund_pending", Terms(refunds=Refunds.PENDING)),
    "4000000000005126": ("refund_returned", Terms(refunds=Refunds.RETURNED)),
    # Risk is not the issuer's to judge: what gets here pays.
    "4100000000000019": ("risk_blocked", _PAYS),
    "4000000000004954": ("risk_highest", _PAYS),
    "4000000000009235": ("risk_elevated", _PAYS),
    # 3-D Secure.
    "4000002500003155": ("authentication_on_setup", _CHALLENGES),
    "4000002760003184": ("authentication_always", _CHALLENGES),
    "4000003800000446": (
        "authentication_set_up", Terms(wants_authentication=Wants.ON_SESSION, authentication=Authenticated.CHALLENGE),
    ),
    "4000000000003220": ("three_d_secure_required", _CHALLENGES),
    "4000000000003238": (
        "three_d_secure_frictionless", Terms(wants_authentication=Wants.ALWAYS, authentication=Authenticated.PASSED),
    ),
    "4000008400001629": ("three_d_secure_then_declined", replace(_CHALLENGES, code=Code.DO_NOT_HONOR)),
    "4000008260003178": ("three_d_secure_then_insufficient_funds", replace(_CHALLENGES, opening_major=0)),
    "4000008400001280": (
        "three_d_secure_required_unavailable", replace(_CHALLENGES, authentication=Authenticated.UNAVAILABLE),
    ),
    "4000000000003055": ("three_d_secure_optional", Terms(authentication=Authenticated.CHALLENGE)),
    "4000000000003097": ("three_d_secure_optional_unavailable", Terms(authentication=Authenticated.UNAVAILABLE)),
    # Disputes: these pay.
    "4000000000000259": ("dispute_fraudulent", _PAYS),
    "4000000000002685": ("dispute_not_received", _PAYS),
    "4000000000001976": ("dispute_inquiry", _PAYS),
    "4000000000005423": ("early_fraud_warning", _PAYS),
}
