"""Payments: one customer paying one merchant once.

Owns:       tables payment, attempt, attempt_open, attempt_message, charge, refund.
Announces:  payment_intent.*, charge.*, refund.*
May import: shapes, psp, risk, wallet, customers, ledger, vault, merchants, idempotency, log, db, core.
Start with: states.py, then accept.py, claim.py, execute.py, settle.py.
"""
