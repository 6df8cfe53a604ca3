"""Refunds: what a refund's attempt leaves behind. Pure; the verbs that begin one are in refund.py."""

from typing import Final

from msgspec.structs import replace

from guilder.core.ensure import present
from guilder.core.ids import Ids
from guilder.core.outcome import Declined
from guilder.core.retry import Retry
from guilder.payments import books
from guilder.payments.answers import expand_of, success
from guilder.payments.begin import pay_back
from guilder.payments.events import event
from guilder.payments.model import Attempt, Change, Charge, Payment, Refund
from guilder.payments.schedule import AFTER_RECHECKS, after_wait
from guilder.payments.states import REFUND, RefundEvent, RefundState, after
from guilder.shapes.facts import Facts

ADJUSTMENT: Final = "adjustment"
"""The type of a balance transaction for what a PSP paid beyond what anybody asked for."""


def of(payment: Payment, attempt: Attempt) -> Refund:
    """The refund that an attempt is for."""
    refund = next((refund for refund in payment.refunds if refund.facts.id == attempt.refund), None)
    return present(refund, "a refund's attempt has its refund", attempt=attempt.id)


def charge_of(payment: Payment) -> Charge:
    """The charge that refunds of this payment are counted against."""
    return present(payment.charge, "a refunded payment has its charge", payment=payment.facts.id)


def counted(charge: Charge, *, refunded: int, refunding: int) -> Charge:
    """The charge with other amounts given back; what is under way shows in `amount_refunded` too."""
    back = refunded + refunding
    facts = replace(charge.facts, amount_refunded=back, refunded=back > 0 and back == charge.facts.amount_captured)
    return replace(charge, facts=facts, refunded=refunded, refunding=refunding)


def paid_back(change: Change, payment: Payment, attempt: Attempt, *, ids: Ids) -> Change:
    """The money went back to the buyer."""
    refund, charge = of(payment, attempt), charge_of(payment)
    facts = replace(refund.facts, status=after(REFUND, RefundState(refund.facts.status), RefundEvent.PAID_BACK), pending_reason=None,
                    reference=attempt.facts.wire.reference)  # fmt: skip
    charge = counted(charge, refunded=charge.refunded + attempt.amount, refunding=charge.refunding - attempt.amount)
    return _settled(
        change, charge, Refund(facts=facts), attempt, ids, books.refund_paid(attempt, charge, ids=ids),
        (("charge.refunded", charge.facts), ("refund.updated", facts), ("charge.refund.updated", facts)),
    )  # fmt: skip


def refused(change: Change, payment: Payment, attempt: Attempt, declined: Declined, *, now: int, ids: Ids) -> Change:
    """The issuer would not take it back: the reserved money returns, as a balance transaction of its own."""
    refund, charge = of(payment, attempt), charge_of(payment)
    booked = books.refund_failed(payment, attempt, charge, refund.facts, now=now, ids=ids)
    facts = replace(
        refund.facts, status=after(REFUND, RefundState(refund.facts.status), RefundEvent.DECLINED), pending_reason=None,
        failure_reason=failure_reason(declined), failure_balance_transaction=booked.entries[0].facts.id,
    )  # fmt: skip
    charge = counted(charge, refunded=charge.refunded, refunding=charge.refunding - attempt.amount)
    return _settled(
        change, charge, Refund(facts=facts), attempt, ids, booked,
        (("refund.failed", facts), ("charge.refund.updated", facts)),
    )  # fmt: skip


def returned(change: Change, payment: Payment, attempt: Attempt, declined: Declined, *, now: int, ids: Ids) -> Change:
    """A refund that had been paid came back: it has failed after all, and the merchant has the money again."""
    refund, charge = of(payment, attempt), charge_of(payment)
    # The request that asked for the refund has long had its answer.
    change = replace(change, answers=None)
    if refund.facts.status != RefundState.SUCCEEDED or refund.facts.reference != attempt.facts.wire.reference:
        # It was paid beyond what was asked for, and that came back.
        booked = books.refund_returned(payment, attempt, charge, refund.facts, ADJUSTMENT, now=now, ids=ids)
        return replace(change, transfers=booked.transfers, balance_transactions=booked.entries)
    booked = books.refund_returned(payment, attempt, charge, refund.facts, "refund_failure", now=now, ids=ids)
    facts = replace(
        refund.facts, status=after(REFUND, RefundState(refund.facts.status), RefundEvent.RETURNED),
        failure_reason=failure_reason(declined), failure_balance_transaction=booked.entries[0].facts.id,
    )  # fmt: skip
    charge = counted(charge, refunded=charge.refunded - attempt.amount, refunding=charge.refunding)
    return _settled(
        change, charge, Refund(facts=facts), attempt, ids, booked,
        (("refund.failed", facts), ("charge.refund.updated", facts)),
    )  # fmt: skip


def found(change: Change, payment: Payment, attempt: Attempt, *, now: int, ids: Ids) -> Change:
    """The PSP has paid by an attempt that had been closed: a fact, whatever has become of the refund meanwhile.

    While the refund is pending, this was it. One that had failed has succeeded after all, where the charge still has room
    for it. Whatever else the PSP paid (a refund twice, or more than was taken) nobody asked for: it is booked as an
    adjustment that names the refund, and neither the refund nor the charge counts it.
    """
    refund, charge = of(payment, attempt), charge_of(payment)
    state = RefundState(refund.facts.status)
    if state is RefundState.PENDING:
        return paid_back(change, payment, attempt, ids=ids)
    change = replace(change, answers=None)
    room = charge.facts.amount_captured - charge.refunded - charge.refunding
    if state is not RefundState.FAILED or attempt.amount > room:
        return adjusted(change, payment, attempt, now=now, ids=ids)
    booked = books.refund_found(payment, attempt, charge, refund.facts, "refund", now=now, ids=ids)
    facts = replace(
        refund.facts, status=after(REFUND, state, RefundEvent.FOUND), failure_reason=None, reference=attempt.facts.wire.reference,
        balance_transaction=booked.entries[0].facts.id,
    )  # fmt: skip
    charge = counted(charge, refunded=charge.refunded + attempt.amount, refunding=charge.refunding)
    return _settled(
        change, charge, Refund(facts=facts), attempt, ids, booked,
        (("charge.refunded", charge.facts), ("refund.updated", facts), ("charge.refund.updated", facts)),
    )  # fmt: skip


def adjusted(change: Change, payment: Payment, attempt: Attempt, *, now: int, ids: Ids) -> Change:
    """The PSP has paid what nobody asked for: a balance transaction that names the refund, and that nothing counts."""
    booked = books.refund_found(payment, attempt, charge_of(payment), of(payment, attempt).facts, ADJUSTMENT, now=now, ids=ids)
    return replace(change, answers=None, transfers=booked.transfers, balance_transactions=booked.entries)


def begun_anew(
    change: Change, payment: Payment, attempt: Attempt, policy: Retry, *, undone: bool, now: int, ids: Ids,
) -> Change:  # fmt: skip
    """The attempt did nothing: the refund stays pending, its money reserved, and another attempt is due later, by the policy.

    After one that was undone it waits until that one has been asked about for the last time: nobody knows how the buyer
    would give back what was paid twice.
    """
    refund = of(payment, attempt)
    after(REFUND, RefundState(refund.facts.status), RefundEvent.TRIED_AGAIN)
    tries = attempt.facts.number
    begin_at = after_wait(policy, tries, now, ids.uniform)
    if undone:
        begin_at = max(begin_at, now + AFTER_RECHECKS)
    reservation = present(attempt.facts.reservation, "a refund's attempt has its reservation", attempt=attempt.id)
    again = pay_back(payment, refund.facts, reservation, None, now=now, ids=ids)
    again = replace(again, begin_at=begin_at, facts=replace(again.facts, number=tries + 1))
    answer = success(refund.facts, expand_of(attempt.facts.key))
    return replace(change, attempts=(again,), answer=answer)


def failure_reason(declined: Declined) -> str:
    """Stripe's word for why a refund failed."""
    return declined.code if declined.code in ("lost_or_stolen_card", "expired_or_canceled_card") else "declined"


def _settled(
    change: Change, charge: Charge, refund: Refund, attempt: Attempt, ids: Ids, booked: books.Booked,
    events: tuple[tuple[str, Facts], ...],
) -> Change:  # fmt: skip
    return replace(
        change, charges=(charge,), refunds=(refund,), transfers=booked.transfers, balance_transactions=booked.entries,
        events=tuple(event(ids, change.account, name, facts, attempt.facts.key) for name, facts in events),
        answer=success(refund.facts, expand_of(attempt.facts.key)) if change.answers else None,
    )  # fmt: skip
