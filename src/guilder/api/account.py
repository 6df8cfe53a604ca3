"""/v1/account: the merchant whose key is used."""

from typing import Any, Final

from guilder.api.call import Call
from guilder.api.http import Reply
from guilder.api.params import Params
from guilder.api.registry import Route
from guilder.merchants import MerchantFacts

KIND: Final = "account"


async def retrieve(call: Call, _p: Params) -> Reply:
    """The caller's own account."""
    return call.plain(account_json(await call.services.merchants.retrieve(call.account)))


def account_json(facts: MerchantFacts) -> dict[str, Any]:
    """An account in Stripe's shape."""
    return {
        "id": facts.id,
        "object": "account",
        "business_profile": {
            "annual_revenue": None,
            "estimated_worker_count": None,
            "mcc": None,
            "minority_owned_business_designation": None,
            "name": facts.name,
            "product_description": None,
            "support_address": None,
            "support_email": None,
            "support_phone": None,
            "support_url": None,
            "url": None,
        },
        "business_type": None,
        "capabilities": {"card_payments": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": facts.country,
        "created": facts.created,
        "default_currency": facts.default_currency,
        "details_submitted": True,
        "email": facts.email,
        "metadata": {},
        # Money leaves by the merchant's own agreements with its PSPs; there is no payout of ours yet.
        "payouts_enabled": False,
        "settings": {
            "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
            "card_payments": {
                "statement_descriptor_prefix": None,
                "statement_descriptor_prefix_kana": None,
                "statement_descriptor_prefix_kanji": None,
            },
            "dashboard": {"display_name": facts.name, "timezone": "Etc/UTC"},
            "payments": {
                "statement_descriptor": facts.statement_descriptor,
                "statement_descriptor_kana": None,
                "statement_descriptor_kanji": None,
            },
        },
        "type": "standard",
    }


ROUTES: Final = (
    Route(method="GET", path="/v1/account", params=Params, handle=retrieve, answers=KIND, summary="Retrieve your account"),
)
