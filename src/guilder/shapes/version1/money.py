"""BalanceTransactions and the Balance, as JSON."""

from typing import Any

from guilder.shapes.facts import BalanceFacts, BalanceTransactionFacts
from guilder.shapes.units import to_wire
from guilder.shapes.version1.personal import Personal


def balance_transaction(facts: BalanceTransactionFacts, _personal: Personal) -> dict[str, Any]:
    """A BalanceTransaction; net is what the balance moved by, whatever rounding the wire needs for amount and fee."""
    amount, fee = to_wire(facts.amount, facts.currency), to_wire(facts.fee, facts.currency)
    details = [
        {
            "amount": fee,
            "application": None,
            "currency": facts.currency,
            "description": facts.fee_description,
            "type": "stripe_fee",
        }
    ]
    return {
        "id": facts.id,
        "object": "balance_transaction",
        "amount": amount,
        "available_on": facts.available_on,
        "balance_type": "payments",
        "created": facts.created,
        "currency": facts.currency,
        "description": facts.description,
        "exchange_rate": None,
        "fee": fee,
        "fee_details": details if fee else [],
        "net": amount - fee,
        "reporting_category": facts.reporting_category,
        "source": facts.source,
        "status": "available" if facts.available else "pending",
        "type": facts.type,
    }


def balance(facts: BalanceFacts, _personal: Personal) -> dict[str, Any]:
    """The merchant's balance, one entry for each currency in each list."""
    return {
        "object": "balance",
        "available": _amounts(facts.available),
        "livemode": facts.livemode,
        "pending": _amounts(facts.pending),
    }


def _amounts(pairs: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    wire = [(currency, to_wire(amount, currency)) for currency, amount in pairs]
    return [{"amount": amount, "currency": currency, "source_types": {"card": amount}} for currency, amount in wire]
