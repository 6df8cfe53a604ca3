"""Shape version 1: API version 2026-05-27.dahlia. Each function makes one object as a dict, keys in Stripe's order.

Owns:       nothing.
Announces:  nothing.
May import: shapes.facts, shapes.units, core.
Start with: payment.py. Nothing here may change a byte: a new shape is a new package beside this one.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from guilder.shapes import facts
from guilder.shapes.version1 import customer, money, payment, psp, session, terminal, webhook
from guilder.shapes.version1.personal import Personal

Builder = Callable[[Any, Personal], dict[str, Any]]

BUILDERS: Final[Mapping[type, Builder]] = {
    facts.PaymentIntentFacts: payment.payment_intent,
    facts.ChargeFacts: payment.charge,
    facts.RefundFacts: payment.refund,
    facts.PaymentMethodFacts: customer.payment_method,
    facts.CustomerFacts: customer.customer,
    facts.BalanceTransactionFacts: money.balance_transaction,
    facts.BalanceFacts: money.balance,
    facts.WebhookEndpointFacts: webhook.endpoint,
    facts.CheckoutSessionFacts: session.checkout_session,
    facts.LocationFacts: terminal.location,
    facts.ReaderFacts: terminal.reader,
    facts.PspBreakerFacts: psp.breaker,
}
