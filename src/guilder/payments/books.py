"""What an outcome books: the ledger's transfers, the balance transaction that shows them, and the charge that names it. Pure."""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from guilder.core.clock import DAY, day_of, epoch_seconds
from guilder.core.ensure import present
from guilder.core.ids import Ids
from guilder.core.money import share
from guilder.ledger.model import Transfer
from guilder.payments.model import Attempt, BalanceTransaction, Charge, Payment
from guilder.shapes.facts import BalanceTransactionFacts, RefundFacts
from guilder.shapes.units import smallest_fee_minor
from guilder.wallet import events as wallet
from guilder.wallet.chart import AT_ONCE, Books

# Funds of a card payment become available on the second day after the capture's (UTC).
PENDING_DAYS: Final = 2


class Booked(Struct, frozen=True):
    """What goes into the books with a change."""

    charge: Charge
    transfers: tuple[Transfer, ...]
    entries: tuple[BalanceTransaction, ...] = ()


def purchase(attempt: Attempt, charge: Charge, *, available_now: bool, now: int, ids: Ids) -> Booked:
    """A purchase was approved: gross to the merchant's day, the fee off it."""
    day = AT_ONCE if available_now else day_of(now) + PENDING_DAYS
    fee = _fee(attempt)
    transfers = wallet.captured(_books(attempt), ids, gross=attempt.amount, fee=fee, day=day, charge=charge.facts.id)
    return _taken(attempt, charge, transfers, fee, day, now, ids)


def authorization(attempt: Attempt, charge: Charge, *, ids: Ids) -> Booked:
    """An authorization was approved: its amount is held."""
    hold = ids.new(wallet.TRANSFER_PREFIX)
    transfers = wallet.authorized(_books(attempt), hold=hold, amount=attempt.amount, charge=charge.facts.id)
    return Booked(replace(charge, hold=hold), transfers)


def capture(attempt: Attempt, charge: Charge, *, now: int, ids: Ids) -> Booked:
    """A held amount was captured, whole or in part; the rest is let go."""
    day = day_of(now) + PENDING_DAYS
    fee = _fee(attempt)
    transfers = wallet.hold_captured(
        _books(attempt), ids, hold=_hold(charge), amount=attempt.amount, fee=fee, day=day, charge=charge.facts.id,
    )  # fmt: skip
    return _taken(attempt, charge, transfers, fee, day, now, ids)


def release(charge: Charge, *, ids: Ids) -> Booked:
    """An authorization was voided or has expired: its hold is let go."""
    return Booked(charge, wallet.hold_released(ids, hold=_hold(charge), charge=charge.facts.id))


def refund_reserved(payment: Payment, charge: Charge, refund: RefundFacts, *, now: int, ids: Ids) -> Booked:
    """A refund is accepted: its amount is set aside, and counts as gone. The ledger may refuse it for lack of funds."""
    taken_by = present(payment.authorized_by, "a captured charge has its attempt", charge=charge.facts.id)
    reservation = ids.new(wallet.TRANSFER_PREFIX)
    transfers = wallet.refund_reserved(
        _books(taken_by), reservation=reservation, amount=refund.amount, day=_day(charge), refund=refund.id,
    )  # fmt: skip
    return Booked(charge, transfers, (_refund_entry(payment, _day(charge), refund, "refund", -refund.amount, now, ids),))


def refund_paid(attempt: Attempt, charge: Charge, *, ids: Ids) -> Booked:
    """The money went back: what was set aside is posted."""
    refund = present(attempt.refund, "a refund's attempt names it", attempt=attempt.id)
    return Booked(charge, wallet.refund_settled(ids, reservation=_reservation(attempt), refund=refund))


def refund_failed(payment: Payment, attempt: Attempt, charge: Charge, refund: RefundFacts, *, now: int, ids: Ids) -> Booked:
    """The refund was refused: what was set aside returns, shown by a balance transaction of its own."""
    transfers = wallet.refund_failed(ids, reservation=_reservation(attempt), refund=refund.id)
    return Booked(charge, transfers, (_refund_entry(payment, _day(charge), refund, "refund_failure", refund.amount, now, ids),))


def refund_returned(
    payment: Payment, attempt: Attempt, charge: Charge, refund: RefundFacts, type_: str, *, now: int, ids: Ids,
) -> Booked:  # fmt: skip
    """A refund that had been paid came back from the buyer's bank: a fact, shown by a balance transaction of its own."""
    transfers = wallet.refund_returned(_books(attempt), ids, amount=attempt.amount, day=_day(charge), refund=refund.id)
    return Booked(charge, transfers, (_refund_entry(payment, _day(charge), refund, type_, attempt.amount, now, ids),))


def refund_found(
    payment: Payment, attempt: Attempt, charge: Charge, refund: RefundFacts, type_: str, *, now: int, ids: Ids,
) -> Booked:  # fmt: skip
    """The PSP has paid what no reservation stands for any more: a fact, shown by a balance transaction of its own."""
    transfers = wallet.refund_found(_books(attempt), ids, amount=attempt.amount, day=_day(charge), refund=refund.id)
    return Booked(charge, transfers, (_refund_entry(payment, _day(charge), refund, type_, -attempt.amount, now, ids),))


def _fee(attempt: Attempt) -> int:
    """The fee as the terms of the accept have it, in units that the wire can show."""
    unit = smallest_fee_minor(attempt.currency)
    return share(attempt.amount // unit, attempt.facts.terms.basis_points) * unit


def _hold(charge: Charge) -> str:
    return present(charge.hold, "an authorized charge has its hold", charge=charge.facts.id)


def _day(charge: Charge) -> int:
    return present(charge.day, "a captured charge has its day", charge=charge.facts.id)


def _reservation(attempt: Attempt) -> str:
    return present(attempt.facts.reservation, "a refund's attempt has its reservation", attempt=attempt.id)


def _books(attempt: Attempt) -> Books:
    return Books(attempt.account, attempt.livemode, attempt.currency, attempt.facts.connector)


def _taken(attempt: Attempt, charge: Charge, transfers: tuple[Transfer, ...], fee: int, day: int, now: int, ids: Ids) -> Booked:
    entry = BalanceTransactionFacts(
        id=ids.new("txn"), created=epoch_seconds(now), amount=attempt.amount, fee=fee, currency=attempt.currency, type="charge",
        source=charge.facts.id, available_on=_available_on(day, now), reporting_category="charge", description=charge.facts.description,
        available=day == AT_ONCE,
    )  # fmt: skip
    charge = replace(charge, facts=replace(charge.facts, balance_transaction=entry.id), day=day)
    return Booked(charge, transfers, (BalanceTransaction(facts=entry, payment=attempt.payment, day=day),))


def _refund_entry(payment: Payment, day: int, refund: RefundFacts, type_: str, amount: int, now: int, ids: Ids) -> BalanceTransaction:
    entry = BalanceTransactionFacts(
        id=ids.new("txn"), created=epoch_seconds(now), amount=amount, fee=0, currency=refund.currency, type=type_, source=refund.id,
        available_on=_available_on(day, now), reporting_category=type_, available=day == AT_ONCE, fee_description=None,
    )  # fmt: skip
    return BalanceTransaction(facts=entry, payment=payment.facts.id, day=day)


def _available_on(day: int, now: int) -> int:
    """The start of the day, or now for what is available at once or whose day has come."""
    return max(epoch_seconds(day * DAY), epoch_seconds(now))
