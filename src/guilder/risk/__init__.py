"""Risk: whether a payment is tried at all. Decided before anything is sent, on what is known by then.

Owns:       no table; counters in memory, one set per process.
Announces:  nothing.
May import: customers, ledger, vault, merchants, idempotency, log, metrics, db, security, config, shapes, core.
Start with: rules.py; external.py is the port to a risk service outside, client.py its HTTP client.
"""

from guilder.risk.client import HttpRiskService
from guilder.risk.external import Opinion, Question, RiskService, Silent, joined, without_opinion
from guilder.risk.rules import Decision, Limit, Rules, Signals, Verdict, decide
from guilder.risk.signals import LIVE_RULES, TEST_RULES, SignalSource
from guilder.risk.velocity import Velocity

__all__ = [
    "LIVE_RULES",
    "TEST_RULES",
    "Decision",
    "HttpRiskService",
    "Limit",
    "Opinion",
    "Question",
    "RiskService",
    "Rules",
    "SignalSource",
    "Signals",
    "Silent",
    "Velocity",
    "Verdict",
    "decide",
    "joined",
    "without_opinion",
]
