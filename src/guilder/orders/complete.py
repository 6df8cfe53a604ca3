"""Complete: the payment has succeeded, so the order is paid. The page does it on the spot, the worker for everybody else.

The outcome of the payment commits without its session: payments lies below and knows nothing of orders. The news goes up by
the log (attend.py), within a second, whatever becomes of the page; whoever comes second finds it done.
"""

from msgspec.structs import replace

from guilder.core.ids import Ids
from guilder.orders.model import Session, Standing
from guilder.orders.services import Services
from guilder.orders.states import NEWS_OF_PAYMENT, SESSION, SessionEvent, SessionState
from guilder.orders.store import SessionChange, moved
from guilder.payments.events import event
from guilder.payments.states import PaymentState, after, allows

PAID = "paid"


async def complete(services: Services, standing: Standing) -> Standing:
    """Complete the session if its payment has made it so; the session as it is then. Commits once; safe to repeat."""
    change = completed(standing, services.ids)
    if change is None:
        return standing
    # Whoever else has changed it has either completed it too, or the worker will.
    await services.store.commit(change)
    session = await services.store.find(standing.session.facts.id)
    return standing if session is None else replace(standing, session=session)


def completed(standing: Standing, ids: Ids) -> SessionChange | None:
    """The change that the payment's state makes of the session; None when it makes none. Pure but for the event's id."""
    session, payment = standing.session, standing.payment
    if payment is None:
        return None
    facts = session.facts
    news = NEWS_OF_PAYMENT.get(PaymentState(payment.facts.status))
    if news is None and payment.charge is not None:
        # Authorized, and being captured or let go since: the buyer had placed the order.
        news = SessionEvent.AUTHORIZED
    state = SessionState(facts.status)
    if news is SessionEvent.PAID and state is SessionState.COMPLETE and facts.payment_status != PAID:
        return _changed(session, SessionEvent.CAPTURED, ids)
    if news is None or not allows(SESSION, state, news):
        return None
    return _changed(session, news, ids)


def _changed(session: Session, news: SessionEvent, ids: Ids) -> SessionChange:
    """One event, `completed`: a capture that comes later is told by the payment's own."""
    facts = replace(
        session.facts, status=after(SESSION, SessionState(session.facts.status), news),
        payment_status=session.facts.payment_status if news is SessionEvent.AUTHORIZED else PAID,
    )  # fmt: skip
    events = () if news is SessionEvent.CAPTURED else (event(ids, session.account, "checkout.session.completed", facts),)
    return SessionChange(session=moved(session, facts, None), events=events)
