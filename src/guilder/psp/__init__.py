"""PSPs: one port to whoever moves the money, a router that chooses, and the connectors behind it.

Owns:       table psp_latency; the connections to PSPs.
Announces:  psp_breaker.opened, psp_breaker.closed; outcomes go back to the caller, once per order.
May import: ledger, vault, iso8583, merchants, idempotency, log, db, security, config, shapes, core.
Start with: model.py, then router.py, then connectors/cardnet.
"""

from guilder.psp.announce import BREAKER_CLOSED, BREAKER_OPENED
from guilder.psp.errors import NoRoute, RouteRefused
from guilder.psp.model import (
    RECOVERY,
    Connector,
    ContractClass,
    Declares,
    Deliver,
    Direction,
    Exchange,
    Late,
    Operation,
    Order,
    Original,
    Permit,
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
    "BREAKER_CLOSED",
    "BREAKER_OPENED",
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
    "Operation",
    "Order",
    "Original",
    "Permit",
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
