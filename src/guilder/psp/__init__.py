"""PSPs: one port to whoever moves the money, a router that chooses, and the connectors behind it.

Owns:       no table; the connections to PSPs.
Announces:  nothing: outcomes go back to the caller, once per order.
May import: ledger, vault, iso8583, merchants, idempotency, log, db, security, config, shapes, core.
Start with: model.py, then router.py, then connectors/cardnet.
"""

from guilder.psp.errors import NoRoute, NotificationRefused, RouteRefused
from guilder.psp.model import (
    RECOVERY,
    Connector,
    ContractClass,
    Declares,
    Deliver,
    Direction,
    Exchange,
    Late,
    Notification,
    Operation,
    Order,
    Original,
    OwnPage,
    Permit,
    ReadNotification,
    Reason,
    Recorder,
    Wire,
    draw_wire,
    original_of,
    query_about,
    reversal_of,
)
from guilder.psp.router import Choice, Route, choose

__all__ = [
    "RECOVERY",
    "Choice",
    "Connector",
    "ContractClass",
    "Declares",
    "Deliver",
    "Direction",
    "Exchange",
    "Late",
    "NoRoute",
    "Notification",
    "NotificationRefused",
    "Operation",
    "Order",
    "Original",
    "OwnPage",
    "Permit",
    "ReadNotification",
    "Reason",
    "Recorder",
    "Route",
    "RouteRefused",
    "Wire",
    "choose",
    "draw_wire",
    "original_of",
    "query_about",
    "reversal_of",
]
