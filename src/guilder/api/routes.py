"""All routes, in the order in which the OpenAPI document lists them."""

from guilder.api import (
    account,
    balance,
    charges,
    checkout_sessions,
    customers,
    dead_letters,
    events,
    ledger,
    payment_intents,
    payment_methods,
    refunds,
    terminal,
    webhook_deliveries,
    webhook_endpoints,
)
from guilder.api.registry import Registry


def registry() -> Registry:
    """The registry of the whole API."""
    return Registry(
        payment_intents.ROUTES,
        payment_methods.ROUTES,
        customers.ROUTES,
        charges.ROUTES,
        refunds.ROUTES,
        checkout_sessions.ROUTES,
        events.ROUTES,
        webhook_endpoints.ROUTES,
        webhook_deliveries.ROUTES,
        dead_letters.ROUTES,
        balance.ROUTES,
        account.ROUTES,
        ledger.ROUTES,
        terminal.ROUTES,
    )
