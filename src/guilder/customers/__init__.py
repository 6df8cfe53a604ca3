"""Customers, their PaymentMethods, and the sealed records that hold what is personal.

Owns:       tables customer, payment_method, personal.
Announces:  nothing by itself: every mutation runs in a transaction of its caller, who announces customer.created, .updated,
            .deleted, payment_method.attached, .detached, .updated in it.
May import: ledger, vault, merchants, idempotency, log, db, security, config, shapes, core.
Start with: model.py, then customers.py and payment_methods.py.
"""

from guilder.customers.customers import Customers
from guilder.customers.model import (
    Attached,
    Change,
    CreateCustomer,
    CustomerCreated,
    CustomerDeleted,
    Detached,
    NewCard,
    Prepared,
    UpdateCustomer,
    UpdatePaymentMethod,
)
from guilder.customers.payment_methods import PaymentMethods, load_payment_methods, why_unusable
from guilder.customers.personal import Personal, PersonalRow
from guilder.customers.rules import check_customer
from guilder.customers.sandbox_cards import is_test_token

__all__ = [
    "Attached",
    "Change",
    "CreateCustomer",
    "CustomerCreated",
    "CustomerDeleted",
    "Customers",
    "Detached",
    "NewCard",
    "PaymentMethods",
    "Personal",
    "PersonalRow",
    "Prepared",
    "UpdateCustomer",
    "UpdatePaymentMethod",
    "check_customer",
    "is_test_token",
    "load_payment_methods",
    "why_unusable",
]
