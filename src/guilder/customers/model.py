"""The nouns of customers: what is asked for, and what a mutation leaves behind."""

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from msgspec import UNSET, Struct, UnsetType

from guilder.core.clock import Micros
from guilder.customers.personal import PersonalRow
from guilder.security import Pan, Secret
from guilder.shapes.facts import CustomerFacts, Metadata, PaymentMethodFacts
from guilder.shapes.metadata import MetadataChange

CUSTOMER_FIELDS: Final = frozenset({"name", "email", "phone", "address", "shipping", "description", "preferred_locales", "tax_exempt"})
"""What a customer's personal record holds."""
BILLING_FIELDS: Final = frozenset({"name", "email", "phone", "address", "tax_id"})
"""What the personal record of billing_details holds."""

T = TypeVar("T")


class Change(Struct, Generic[T], frozen=True):
    """An object before and after a mutation; equal when nothing changed, and then there is nothing to announce."""

    before: T
    after: T

    @property
    def is_one(self) -> bool:
        """Whether anything changed."""
        return self.before != self.after


class CreateCustomer(Struct, frozen=True, kw_only=True):
    """Make a customer.

    Args:
        personal: of CUSTOMER_FIELDS, those that have a value.
        payment_method: an unattached PaymentMethod to attach at once.
        default_payment_method: may only be that one.
    """

    personal: Mapping[str, Any] = {}
    metadata: Metadata = ()
    payment_method: str | None = None
    default_payment_method: str | None = None
    invoice_prefix: str | None = None


class UpdateCustomer(Struct, frozen=True, kw_only=True):
    """Change a customer. `personal` holds only what the request named; None unsets a field."""

    customer: str
    personal: Mapping[str, Any] = {}
    metadata: MetadataChange = UNSET
    default_payment_method: str | UnsetType | None = UNSET


class CustomerCreated(Struct, frozen=True):
    """The new customer, and the PaymentMethod that was attached with it."""

    customer: CustomerFacts
    attached: PaymentMethodFacts | None = None


class CustomerDeleted(Struct, frozen=True):
    """The customer as it was, what is left of it, and its PaymentMethods, detached."""

    before: CustomerFacts
    after: CustomerFacts
    detached: tuple[PaymentMethodFacts, ...] = ()


class Attached(Struct, frozen=True):
    """A PaymentMethod that is attached now; `is_new` is False when it was before, and then there is nothing to announce."""

    payment_method: PaymentMethodFacts
    is_new: bool


class Detached(Struct, frozen=True, kw_only=True):
    """A PaymentMethod before and after it was detached, and its customer when that lost its default by it."""

    before: PaymentMethodFacts
    after: PaymentMethodFacts
    customer: Change[CustomerFacts] | None = None


class NewCard(Struct, frozen=True, kw_only=True):
    """A card as somebody entered it."""

    number: Pan
    exp_month: int
    exp_year: int
    cvc: Secret | None = None


class Prepared(Struct, frozen=True, kw_only=True):
    """A PaymentMethod whose card the vault already keeps, ready to be stored."""

    account: str
    facts: PaymentMethodFacts
    created_at: Micros
    billing: PersonalRow | None = None


class UpdatePaymentMethod(Struct, frozen=True, kw_only=True):
    """Change a PaymentMethod. `billing` holds only what the request named; None unsets a field."""

    payment_method: str
    exp_month: int | None = None
    exp_year: int | None = None
    billing: Mapping[str, Any] = {}
    metadata: MetadataChange = UNSET
    allow_redisplay: str | None = None
