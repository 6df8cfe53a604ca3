"""All routes, in the order in which the OpenAPI document lists them."""

from guilder.api import (
    account,
    balance,
    charges,
    customers,
    events,
    ledger,
    payment_intents,
    payment_methods,
    refunds,
    terminal,
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
        events.ROUTES,
        balance.ROUTES,
        account.ROUTES,
        ledger.ROUTES,
        terminal.ROUTES,
    )
