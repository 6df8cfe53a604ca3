"""What a publishable key may see: an allow-list for PaymentIntents, and PaymentMethods without what links cards."""

from typing import Any, Final

PAYMENT_INTENT: Final = (
    "id",
    "object",
    "amount",
    "amount_details",
    "automatic_payment_methods",
    "canceled_at",
    "cancellation_reason",
    "capture_method",
    "client_secret",
    "confirmation_method",
    "created",
    "currency",
    "description",
    "last_payment_error",
    "livemode",
    "next_action",
    "payment_method",
    "payment_method_configuration_details",
    "payment_method_types",
    "processing",
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "source",
    "status",
    "guilder",
)
"""Fields of a PaymentIntent that its buyer may see; the rest is the merchant's."""


def redacted(view: dict[str, Any]) -> dict[str, Any]:
    """The same object for the buyer's browser."""
    if view["object"] == "payment_intent":
        view = {name: view[name] for name in PAYMENT_INTENT if name in view}
        failure = view.get("last_payment_error")
        if failure is not None and "payment_method" in failure:
            failure["payment_method"] = redacted(failure["payment_method"])
    elif view["object"] == "payment_method":
        view["metadata"] = {}
        if view["type"] != "psp_page":
            view[view["type"]]["fingerprint"] = None
    return view
