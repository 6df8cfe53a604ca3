"""What must hold in the simulated world: at every commit, and when everything has come to rest."""

from typing import TYPE_CHECKING, Final

from chaos.simulation.books import held, wallet
from chaos.simulation.store import Violation
from guilder.payments.model import NEW_PAYMENTS, Payment
from guilder.payments.states import AttemptState, PaymentState
from guilder.psp.model import Operation

if TYPE_CHECKING:
    from chaos.simulation.world import World

# Of one request, however often it is in doubt: queries and reversals apart, and those are bounded by their schedules.
REQUESTS_MAX: Final = 60


def check(world: "World", payment_id: str) -> None:
    """At every commit: amounts, wallet, and nothing shown as failed that the bank holds as approved."""
    store, payment = world.store, world.store.payments[payment_id]
    has, made = wallet(store.ledger, store.numbers), sum(sum(amounts) for amounts in store.entries.values())
    if has != made:
        raise Violation(f"I5 the wallet has {has}, its entries make {made}")
    opened = {row.attempt for row in store.rows.values()}
    for id_, state in store.ended.items():
        attempt = store.attempts[id_]
        if attempt.payment != payment_id or id_ in opened or attempt.operation not in NEW_PAYMENTS:
            continue
        stands = world.bank.stands(attempt.facts.wire.reference)
        if stands and state in (AttemptState.DECLINED, AttemptState.NOT_SENT):
            raise Violation(f"I4 {attempt.operation} is shown as {state}, and the bank has it")
        if not stands and state == AttemptState.APPROVED:
            raise Violation(f"I2 {attempt.operation} is approved here, and the bank has nothing")
    processing = payment.facts.status == PaymentState.PROCESSING
    if processing != (not store.slot_free(payment_id)):
        raise Violation(f"I10 the payment is {payment.facts.status}, its slot {'taken' if not processing else 'free'}")


def check_end(world: "World") -> None:
    """At rest: the bank's truth is what the books say, to the minor unit; every key has its answer."""
    store = world.store
    _check_attempts(world)
    for payment_id, payment in store.payments.items():
        _check_payment(world, payment_id, payment)
    for key, row in store.keys.items():
        if row.answer is None:
            raise Violation(f"I9 the key {key} has no answer")
    for request in world.requests:
        if request.key in store.keys:
            world.tell(request)
    authorized = sum(one.facts.amount for one in store.payments.values() if one.facts.status == PaymentState.REQUIRES_CAPTURE)
    if held(store.ledger) != authorized:
        raise Violation(f"I6 {held(store.ledger)} is held or reserved in the ledger, {authorized} is authorized")
    if any(times > REQUESTS_MAX for times in world.sends.values()):
        raise Violation(f"I20 one request was sent {max(world.sends.values())} times")


def _check_attempts(world: "World") -> None:
    store = world.store
    for id_, attempt in store.attempts.items():
        reference, approved = attempt.facts.wire.reference, store.ended.get(id_) == AttemptState.APPROVED
        if world.bank.stands(reference) != approved:
            raise Violation(f"I2 {attempt.operation} {store.ended.get(id_)}, at the bank {world.bank.amounts.get(reference)}")
        if approved and world.bank.amounts[reference][1:] != (attempt.amount, attempt.currency):
            raise Violation(f"I2 {attempt.amount} {attempt.currency} at the bank as {world.bank.amounts[reference]}")
    for reference in world.bank.amounts:
        if not any(attempt.facts.wire.reference == reference for attempt in store.attempts.values()):
            raise Violation(f"I3 the bank did {world.bank.amounts[reference]} under {reference}, which nobody intended")


def _check_payment(world: "World", payment_id: str, payment: Payment) -> None:
    charge = payment.charge
    mine = [one for one in world.store.attempts.values() if one.payment == payment_id and world.bank.stands(one.facts.wire.reference)]
    taken = [one.amount for one in mine if one.operation in (Operation.PURCHASE, Operation.CAPTURE)]
    back = sum(one.amount for one in mine if one.operation is Operation.REFUND)
    if len(taken) > 1 or sum(taken) > payment.facts.amount:
        raise Violation(f"I1 the bank took {taken} of {payment.facts.amount}")
    if payment.facts.amount_received != sum(taken):
        raise Violation(f"I2 {payment.facts.amount_received} received, the bank took {sum(taken)}")
    if charge is not None and charge.facts.amount_captured != sum(taken) and charge.facts.captured:
        raise Violation(f"I2 the charge shows {charge.facts.amount_captured} captured, the bank took {sum(taken)}")
    if any(one.currency != payment.facts.currency for one in mine):
        raise Violation(f"I2 a payment in {payment.facts.currency} was followed by {[one.currency for one in mine]}")
    if back > sum(taken):
        raise Violation(f"I1 the bank gave {back} back of {taken}")
    # What the wallet has of a payment is what was taken, less fee and refunds.
    fee = sum(round_half_up(amount * 150, 10_000) for amount in taken)
    found = sum(world.store.entries[payment_id])
    if found != sum(taken) - back - fee:
        raise Violation(f"I6 the wallet has {found} of a payment of {taken}, {back} given back, {fee} fee")


def round_half_up(dividend: int, divisor: int) -> int:
    """The nearest integer, half up."""
    return (2 * dividend + divisor) // (2 * divisor)
