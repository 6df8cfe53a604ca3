"""Ledger: append-only double entry, the truth about money.

Owns:       tables ledger_head, ledger_account, ledger_standing, ledger_transfer, ledger_balance, and the only functions that write them.
Announces:  nothing.
May import: merchants, idempotency, log, db, security, config, shapes, core.
Start with: model.py, then docs/ledger.md, then ledger_book in db/migrations/0005_ledger.sql.
"""
