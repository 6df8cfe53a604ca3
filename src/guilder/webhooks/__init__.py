"""Webhooks: each event at each endpoint that wants it, signed, numbered, at least once.

Owns:       tables webhook_endpoint, webhook_lane, webhook_delivery, webhook_retry, webhook_attempt.
Announces:  webhook_endpoint.disabled.
May import: log, metrics, db, security, config, shapes, core; `httptools`, `aiohappyeyeballs`, `yarl`; `aiohttp` in forward.py, listen.py.
Start with: model.py, types.py, rules.py, then fan_out.py, lane.py and deliver.py.
"""

from guilder.webhooks.addresses import Allowed
from guilder.webhooks.deliveries import Deliveries
from guilder.webhooks.endpoints import OVERLAP_HOURS_MAX, Endpoints
from guilder.webhooks.model import Attempt, CreateEndpoint, Delivery, UpdateEndpoint

__all__ = [
    "OVERLAP_HOURS_MAX",
    "Allowed",
    "Attempt",
    "CreateEndpoint",
    "Deliveries",
    "Delivery",
    "Endpoints",
    "UpdateEndpoint",
]
