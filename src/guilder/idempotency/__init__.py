"""Idempotency: one request, one effect, one answer, however often it is sent.

Owns:       table idempotency_key.
Announces:  nothing.
May import: shapes, db, core.
Start with: model.py, then once.py.
"""

from guilder.idempotency.model import Claim, Result
from guilder.idempotency.once import Pending, hold, in_use, let_go, look, mismatch, once, settled_first
from guilder.idempotency.tidy import tidy_keys

__all__ = ["Claim", "Pending", "Result", "hold", "in_use", "let_go", "look", "mismatch", "once", "settled_first", "tidy_keys"]
