"""What the verbs of orders work with; built once per process by bootstrap."""

from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.customers import PaymentMethods, Personal
from guilder.db import Database
from guilder.orders.store import Store
from guilder.payments.services import Services as Payments
from guilder.security import PurposeKeys


class Services:
    """The dependencies of the verbs.

    Args:
        checkout_url: the address of the payment page's origin, as buyers reach it.
    """

    def __init__(
        self, *, db: Database, payments: Payments, methods: PaymentMethods, personal: Personal, keys: PurposeKeys, clock: Clock, ids: Ids,
        checkout_url: str,
    ) -> None:  # fmt: skip
        self.db = db
        self.store = Store(db, payments.store, clock)
        self.payments = payments
        self.methods = methods
        self.personal = personal
        self.fingerprint = keys.fingerprint
        self.clock = clock
        self.ids = ids
        self.checkout_url = checkout_url
