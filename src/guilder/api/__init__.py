"""API: HTTP in, Stripe's shape out. Thin: parse, one verb of a room below, bytes.

Owns:       no table; the route registry, from which routing and the OpenAPI document are made.
Announces:  nothing.
May import: payments, wallet, customers, ledger, vault, merchants, idempotency, log, metrics, db, http_server, security, shapes, core.
Start with: app.py, then payment_intents.py.
"""
