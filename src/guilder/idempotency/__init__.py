"""Idempotency: one request, one effect, one answer, however often it is sent.

Owns:       table idempotency_key.
Announces:  nothing.
May import: shapes, db, core.
Start with: model.py, then once.py.
"""

from guilder.idempotency.model import Claim, Result
from guilder.idempotency.once import look, once

__all__ = ["Claim", "Result", "look", "once"]
