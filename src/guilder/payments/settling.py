"""Settling: what a decision about an outcome is made from, and what all of them have in common. Pure."""

from msgspec import Struct
from msgspec.structs import replace

from guilder.core.errors import ErrorFacts
from guilder.core.ids import Ids
from guilder.payments import books
from guilder.payments.answers import expand_of, success
from guilder.payments.events import event
from guilder.payments.model import Attempt, AttemptMove, Change, Charge, OpenSlot, Payment
from guilder.payments.schedule import Schedule
from guilder.payments.states import PAYMENT, PaymentEvent, PaymentState, after
from guilder.psp.model import Operation
from guilder.psp.router import Choice
from guilder.shapes.facts import ChargeFacts, PaymentIntentFacts, PaymentMethodFacts


class Settling(Struct, frozen=True, kw_only=True):
    """One outcome to be settled, with all that the decision needs.

    Args:
        asked: the operation of the order that brought the outcome: the attempt's own, a query or a reversal.
        reporter: the sender that reports it; what is not definite counts only while the row names them.
        origin: where buyers come back to from the issuer's challenge page.
        authenticates: the connector can authenticate buyers.
        schedule: the connector's retry policies.
        onward: where the payment goes on when this attempt has moved nothing; None for nowhere.
        horizon: from this instant on, what the PSP does not know never happened (its finality horizon); None for never.
    """

    payment: Payment
    attempt: Attempt
    open: OpenSlot
    asked: Operation
    now: int
    ids: Ids
    reporter: str | None = None
    horizon: int | None = None
    origin: str = ""
    authenticates: bool = False
    schedule: Schedule = Schedule()
    onward: Choice | None = None

    def retry_at(self, state: str, tries: int, *, answered: bool = False) -> int:
        """When the attempt is looked at again after so many tries in this state; `answered` as in Schedule.retry_at."""
        return self.schedule.retry_at(state, tries, self.now, self.ids.uniform, answered=answered)


def move(s: Settling, state: str, *, retry_at: int | None = None, tries: int = 0, reporter: str | None = None) -> AttemptMove:
    """The attempt's next state, in the slot that it holds."""
    return AttemptMove(
        attempt=s.attempt.id, slot=s.open.slot, before=s.open.state, after=state, reporter=reporter, retry_at=retry_at, tries=tries,
    )  # fmt: skip


def changed(s: Settling, facts: PaymentIntentFacts, move_: AttemptMove) -> Change:
    """The change of one attempt and its payment's facts, and nothing else yet."""
    return Change(
        account=s.payment.account, livemode=facts.livemode, payment=facts, expected=s.payment.version,
        confirmations=s.payment.confirmations, moves=(move_,), answers=s.attempt.facts.key,
    )  # fmt: skip


def failed(
    facts: PaymentIntentFacts, method: PaymentMethodFacts, error: ErrorFacts, charge: str | None,
) -> PaymentIntentFacts:  # fmt: skip
    """The payment after a try that did not get its money: it asks for a card again."""
    return replace(
        facts, status=after(PAYMENT, PaymentState(facts.status), PaymentEvent.FAILED), payment_method=None, last_payment_error=error,
        failed_payment_method=method, latest_charge=charge, in_doubt=False, next_action_url=None,
    )  # fmt: skip


def at_rest(
    s: Settling, facts: PaymentIntentFacts, state: str, charge: Charge, events: tuple[str, ...], booked: books.Booked | None,
) -> Change:  # fmt: skip
    """The change of an outcome that leaves the payment at rest."""
    key = s.attempt.facts.key
    shown: dict[str, ChargeFacts | PaymentIntentFacts] = {"charge": charge.facts, "payment_intent": facts}
    change = replace(
        changed(s, facts, move(s, state)), charges=(charge,), answer=success(facts, expand_of(key)),
        events=tuple(event(s.ids, s.payment.account, name, shown[name.partition(".")[0]], key) for name in events),
    )  # fmt: skip
    if booked is None:
        return change
    return replace(change, transfers=booked.transfers, balance_transactions=booked.entries)
