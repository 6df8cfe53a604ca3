"""Idempotency: one request, one effect, one answer, however often it is sent.

Owns:       table idempotency_key.
Announces:  nothing.
May import: shapes, db, core.
Start with: model.py, then once.py.
"""

from guilder.idempotency.model import Claim, Result
from guilder.idempotency.once import look, once
from guilder.idempotency.tidy import tidy_keys

__all__ = ["Claim", "Result", "look", "once", "tidy_keys"]
