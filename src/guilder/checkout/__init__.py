"""Checkout: the payment page, on an origin of its own; the only place where a buyer types a card number.

Rendered here, works without JavaScript, loads nothing from elsewhere, sets no cookie. Not a client of the API: it uses the
rooms below it (DESIGN section 9).

Owns:       nothing.
Announces:  nothing.
May import: orders, payments, risk, customers, merchants, vault, metrics, db, http_server, security, config, shapes, core.
Start with: app.py, then show.py and submit.py; languages/en.py has every text.
"""

from guilder.checkout.app import Page
from guilder.checkout.services import Services

__all__ = ["Page", "Services"]
