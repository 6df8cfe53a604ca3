"""PSPs: one port to whoever moves the money, a router that chooses, and the connectors behind it.

Owns:       tables psp_notification, psp_latency; the connections to PSPs.
Announces:  psp_breaker.opened, psp_breaker.closed; outcomes go back to the caller, once per order.
May import: ledger, vault, iso8583, merchants, idempotency, log, db, security, config, shapes, core.
Start with: model.py, then router.py, rules.py, then connectors/cardnet, connectors/webpsp.
"""

from guilder.psp.announce import BREAKER_CLOSED, BREAKER_OPENED
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
from guilder.psp.router import Asked, Choice, Considered, Route, Rule, choose, consider
from guilder.psp.rules import BRANDS, WrongRules, read_rules

__all__ = [
    "BRANDS",
    "BREAKER_CLOSED",
    "BREAKER_OPENED",
    "RECOVERY",
    "Asked",
    "Choice",
    "Connector",
    "Considered",
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
    "Rule",
    "Wire",
    "WrongRules",
    "choose",
    "consider",
    "draw_wire",
    "original_of",
    "query_about",
    "read_rules",
    "reversal_of",
]
