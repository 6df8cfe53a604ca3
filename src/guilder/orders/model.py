"""Orders' nouns: the commands, the session as stored, and how things stand for the buyer."""

from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from guilder.customers import NewCard
from guilder.payments.model import Payment
from guilder.shapes.facts import CheckoutSessionFacts, Metadata, OrderedPaymentFacts

# A card has room for a glance at so many lines; Stripe's limit too.
LINES_MAX: Final = 100

session_facts_from: Final = msgspec.msgpack.Decoder(CheckoutSessionFacts).decode
pack: Final = msgspec.msgpack.Encoder().encode


class Line(Struct, frozen=True, kw_only=True):
    """One thing to pay for; `unit_amount` in minor units."""

    name: str
    unit_amount: int
    quantity: int
    description: str | None = None
    product_metadata: Metadata = ()


class CreateSession(Struct, frozen=True, kw_only=True):
    """Ask a buyer for payment. `personal` are the fields of its sealed record, `payment_personal` those of the payment's."""

    currency: str
    lines: tuple[Line, ...]
    success_url: str
    cancel_url: str | None = None
    expires_at: int | None = None
    client_reference_id: str | None = None
    customer: str | None = None
    customer_email: str | None = None
    locale: str | None = None
    metadata: Metadata = ()
    submit_type: str | None = None
    payment: OrderedPaymentFacts = OrderedPaymentFacts()
    payment_personal: dict[str, object] = {}

    @property
    def total(self) -> int:
        """What the buyer is to pay, in minor units."""
        return sum(line.unit_amount * line.quantity for line in self.lines)


class UpdateSession(Struct, frozen=True, kw_only=True):
    """Change a session's metadata."""

    session: str
    metadata: dict[str, str | None] | None | UnsetType = UNSET


class Session(Struct, frozen=True, kw_only=True):
    """A session as read. `due_at` is when the worker looks at it next, in microseconds."""

    facts: CheckoutSessionFacts
    account: str
    version: int
    due_at: int | None


class Buyer(Struct, frozen=True, kw_only=True):
    """Who pays, as they typed it."""

    email: str
    name: str
    postal_code: str | None = None

    def details(self) -> dict[str, object]:
        """As customer_details and billing_details hold it."""
        details: dict[str, object] = {"email": self.email, "name": self.name}
        if self.postal_code:
            details["address"] = {"postal_code": self.postal_code}
        return details


class Pay(Struct, frozen=True, kw_only=True):
    """The buyer places the order: the `number`-th try of this session, counted from 1."""

    session: str
    number: int
    card: NewCard
    buyer: Buyer


class Standing(Struct, frozen=True, kw_only=True):
    """How things stand: the session, and its payment once there is one."""

    session: Session
    payment: Payment | None = None

    @property
    def number(self) -> int:
        """The number of the next try."""
        return 1 if self.payment is None else self.payment.confirmations + 1
