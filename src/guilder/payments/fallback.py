"""Fallback: what becomes of a payment that could not be sent, or was declined for a reason that lies in the way. Pure.

    next connector   only while every attempt of this confirm is *not sent* or declined for a reason that allows it: one that may
                     have moved money is settled first, so no two PSPs are ever in doubt about one payment; never from a PSP's own
                     page, where the buyer may be paying
    wait             a payment without a buyer, while no PSP is up or we cannot send, until the time that its merchant sets
    room             a bulkhead that is full has room again soon, whoever waits

The first two are off unless they are configured (`tuning.Fallback`); each stands in the attempt that it led to.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from msgspec.structs import replace

from guilder.core.outcome import Declined, NotFound, NotSent, Outcome
from guilder.payments.answers import expand_of, success
from guilder.payments.begin import successor, taking
from guilder.payments.fallen import Fallen
from guilder.payments.model import NEW_PAYMENTS, Attempt, Change
from guilder.payments.settling import Settling, changed, move
from guilder.payments.states import ATTEMPT, AttemptEvent, AttemptState, after
from guilder.psp.errors import RouteRefused
from guilder.psp.model import Operation, Reason, breaker_name
from guilder.psp.router import Choice, Route, Rule, choose
from guilder.tuning import Fallback

DOWN: Final = frozenset({Reason.CONNECT.value, Reason.BREAKER_OPEN.value})
"""Reasons that say that the PSP cannot be reached at all."""
OURS: Final = frozenset({Reason.CLOSED.value, Reason.FENCED.value, Reason.VAULT.value})
"""Reasons that lie with us, and pass: the connector is closed here, the right to send has lapsed, the vault is away."""
IsUp = Callable[[str, Operation], bool]
"""(connector, operation) -> whether a payment that waits may go there now. Asked once for each: a yes may be the only one for a while."""
RISK_REFUSED: Final = "risk_refused"
RISK_SILENT: Final = "risk_silent"
"""An attempt that was to wait for the external risk service: it said no, or nothing yet."""


def onward(
    routes: Sequence[Route], rules: Sequence[Rule], fallback: Fallback, attempt: Attempt, outcome: Outcome | NotFound, *,
    up: IsUp,
) -> Choice | None:  # fmt: skip
    """The connector at which a payment goes on whose attempt has ended so; None when there is none, or it may not.

    Args:
        routes, rules: as in psp.router.choose: the operator's rules decide among those that are left, too.
        up: whether a payment that waits may go to a connector now, as far as this process knows; asked only about where it would go.
            It goes on at whichever is back, also where it has been tried before, if nothing was sent there.
    """
    if not fallback.next_connector or not _may_go_on(fallback, attempt, outcome):
        return None
    facts = attempt.facts
    fallen = facts.fallen or Fallen()
    found = _next(routes, rules, attempt, {*fallen.tried, facts.connector})
    if found is not None or not fallen.waits:
        return found
    out = {*fallen.declined, facts.connector}
    while (found := _next(routes, rules, attempt, out)) is not None and not up(found.connector, attempt.operation):
        out.add(found.connector)
    return found


def _may_go_on(fallback: Fallback, attempt: Attempt, outcome: Outcome | NotFound) -> bool:
    secure = attempt.facts.three_d_secure
    if attempt.operation not in NEW_PAYMENTS or (secure is not None and secure.proof is not None):
        # A proof was made for the connector that the buyer was authenticated at.
        return False
    if attempt.facts.own_page is not None:
        # The buyer is sent to the page of one PSP. He may stand there already, and as long as it can be paid nobody else is asked.
        return False
    match outcome:
        case NotSent(reason=reason):
            return reason in DOWN
        case Declined(code=code, wants_authentication=wants):
            return code in fallback.declines and not wants
        case _:
            return False


def _next(routes: Sequence[Route], rules: Sequence[Rule], attempt: Attempt, tried: Collection[str]) -> Choice | None:
    facts = attempt.facts
    try:
        return choose(
            routes, currency=attempt.currency, amount_minor=attempt.amount, brand=facts.payment_method.card.brand,
            livemode=attempt.livemode, tried=tried, card_present=facts.till is not None, payment=attempt.payment, rules=rules,
        )  # fmt: skip
    except RouteRefused:
        return None


def goes_on(s: Settling, choice: Choice, outcome: NotSent | Declined) -> Change:
    """The attempt has moved nothing; the payment goes on at another connector, accepted in the same commit."""
    event = AttemptEvent.PROVED_UNSENT if isinstance(outcome, NotSent) else AttemptEvent.DECLINE
    state = after(ATTEMPT, AttemptState(s.open.state), event)
    facts = replace(s.payment.facts, in_doubt=False)
    before = s.attempt.facts
    fallen = before.fallen or Fallen()
    why = f"not sent, {outcome.reason}" if isinstance(outcome, NotSent) else f"declined, {outcome.code}"
    declined = () if isinstance(outcome, NotSent) else (before.connector,)
    # However long it goes to and fro, it is told once: these grow with the connectors, not with the tries.
    fallen = replace(
        fallen, tried=_with(fallen.tried, before.connector), declined=(*fallen.declined, *declined),
        notes=_with(fallen.notes, f"{before.connector}: {why}"),
    )  # fmt: skip
    next_ = successor(s.attempt, facts, taking(facts), before.three_d_secure, execute_by=s.attempt.execute_by, now=s.now, ids=s.ids)
    next_ = replace(
        next_, begin_at=s.now if before.till else None,
        facts=replace(
            next_.facts, connector=choice.connector, psp_merchant=choice.psp_merchant, route_reason=choice.reason, fallen=fallen,
        ),
    )  # fmt: skip
    reporter = s.reporter if isinstance(outcome, NotSent) else None
    return replace(changed(s, facts, move(s, state, reporter=reporter)), attempts=(next_,))


def _with(known: tuple[str, ...], one: str) -> tuple[str, ...]:
    return known if one in known else (*known, one)


def may_wait(s: Settling, outcome: NotSent) -> bool:
    """Whether an attempt that could not be sent is kept for later, because it still can be."""
    if s.now >= s.attempt.execute_by or s.attempt.operation is Operation.AUTHENTICATE:
        return False
    fallen = s.attempt.facts.fallen
    match outcome.reason:
        case Reason.BULKHEAD.value | "risk_silent":
            return True
        case reason if reason in DOWN | OURS:
            return fallen is not None and fallen.waits
        case _:
            return False


def put_off(s: Settling, outcome: NotSent) -> Change:
    """Nothing was sent, and it is looked at again later, until its time is over. A caller without a buyer is answered at once."""
    state = after(ATTEMPT, AttemptState(s.open.state), AttemptEvent.PUT_OFF)
    tries = s.open.tries + 1
    retry_at = min(s.retry_at(state, tries), s.attempt.execute_by)
    stopped = outcome.reason == Reason.BREAKER_OPEN.value
    breaker = breaker_name(s.attempt.facts.connector, s.attempt.operation) if stopped else None
    again = replace(move(s, state, retry_at=retry_at, tries=tries, reporter=s.reporter), noted=outcome, breaker=breaker)
    change = changed(s, s.payment.facts, again)
    fallen = s.attempt.facts.fallen
    if fallen is None or not fallen.waits or s.open.tries:
        return change
    return replace(change, answer=success(s.payment.facts, expand_of(s.attempt.facts.key)))
