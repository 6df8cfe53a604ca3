"""Wallet: what each merchant has, pending, available and held; a view of ledger accounts.

Owns:       tables balance_transaction, wallet_release, and the functions wallet_book, wallet_release_due.
Announces:  nothing; whoever releases announces balance.available from the rows that the release returns.
May import: ledger, merchants, idempotency, log, db, security, config, shapes, core.
Start with: events.py, then docs/ledger.md, then wallet_book in db/migrations/0006_wallet.sql.
"""
