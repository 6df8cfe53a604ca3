"""Orders: the payment event. A Checkout Session is what one buyer is asked to pay; it is stored before anything else happens.

Owns:       table checkout_session.
Announces:  checkout.session.completed, checkout.session.expired (and payment_intent.created of the payment that it makes).
May import: payments, customers, idempotency, log, db, shapes, core.
Start with: states.py, then create.py, pay.py, expire.py, attend.py.
"""

from guilder.orders.attend import attend_sessions, note_payments
from guilder.orders.complete import complete
from guilder.orders.create import create
from guilder.orders.expire import expire
from guilder.orders.model import Buyer, CreateSession, Line, Pay, Standing, UpdateSession
from guilder.orders.pay import pay, stand
from guilder.orders.read import list_sessions, retrieve_session
from guilder.orders.services import Services
from guilder.orders.update import update

__all__ = [
    "Buyer",
    "CreateSession",
    "Line",
    "Pay",
    "Services",
    "Standing",
    "UpdateSession",
    "attend_sessions",
    "complete",
    "create",
    "expire",
    "list_sessions",
    "note_payments",
    "pay",
    "retrieve_session",
    "stand",
    "update",
]
