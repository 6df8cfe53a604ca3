"""Integrity: proves that what we promise holds, and tells what happened to one payment.

It reads every table by its own SQL and its own arithmetic, so that a mistake in the rooms cannot hide itself: two paths
to one fact. It writes nothing; its sessions have the role guilder_reader.

Owns:       no table.
Announces:  nothing.
May import: db, security, core.
Start with: check.py (the invariants, one file for each group of them), then story.py (one payment as a timeline).
"""

from guilder.integrity.check import CHECKS, examine
from guilder.integrity.model import Progress, Result, Violation
from guilder.integrity.story import Moment, NoSuchPayment, Story, tell
from guilder.integrity.witness import Lines, WitnessSilent, over_http

__all__ = [
    "CHECKS",
    "Lines",
    "Moment",
    "NoSuchPayment",
    "Progress",
    "Result",
    "Story",
    "Violation",
    "WitnessSilent",
    "examine",
    "over_http",
    "tell",
]
