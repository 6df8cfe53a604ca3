"""Payments: one customer paying one merchant once.

Owns:       tables payment, attempt, attempt_open, attempt_message, charge, refund, refund_offer, challenge.
Announces:  payment_intent.*, charge.*, refund.*
May import: shapes, psp, risk, wallet, customers, ledger, vault, merchants, idempotency, log, db, core.
Start with: states.py, then accept.py, claim.py, execute.py, outcomes.py, settle.py.
"""

from guilder.payments.ask_issuer import ask_issuer, expire_challenges
from guilder.payments.ask_psp import ask_psp, told_by_psp
from guilder.payments.cancel import cancel
from guilder.payments.capture import capture
from guilder.payments.confirm import confirm
from guilder.payments.create import create
from guilder.payments.declines import is_a_decline
from guilder.payments.execute import Executor
from guilder.payments.expire import expire_authorizations
from guilder.payments.offer import note_money, note_waiting, offer_refunds
from guilder.payments.refund import cancel_refund, refund
from guilder.payments.services import Services
from guilder.payments.store import Store
from guilder.payments.till import take_at_till
from guilder.payments.update import update, update_charge, update_refund
from guilder.payments.waiting import Waiting

__all__ = [
    "Executor",
    "Services",
    "Store",
    "Waiting",
    "ask_issuer",
    "ask_psp",
    "cancel",
    "cancel_refund",
    "capture",
    "confirm",
    "create",
    "expire_authorizations",
    "expire_challenges",
    "is_a_decline",
    "note_money",
    "note_waiting",
    "offer_refunds",
    "refund",
    "take_at_till",
    "told_by_psp",
    "update",
    "update_charge",
    "update_refund",
]
