"""Pay: the buyer places the order. The payment event is stored first: the PaymentIntent, in a commit of its own.

A try bears the number that stood in the form. Whoever sends an old one, by a double click, the back button, a reload or a
second tab, is shown how things stand, and nothing is charged.
"""

from typing import Final

from msgspec.structs import replace

from guilder.core.clock import SECOND
from guilder.core.errors import Refusal
from guilder.db.errors import may_be_stored
from guilder.idempotency import Claim
from guilder.orders.complete import complete
from guilder.orders.expire import payment_of
from guilder.orders.model import Pay, Session, Standing
from guilder.orders.services import Services
from guilder.orders.states import SESSION, SessionEvent, SessionState
from guilder.orders.store import SessionChange, moved
from guilder.payments import confirm
from guilder.payments.commands import ConfirmPayment, CreatePayment
from guilder.payments.confirm import check_tries
from guilder.payments.create import facts_of
from guilder.payments.events import event
from guilder.payments.model import Change
from guilder.payments.services import lock_timeout
from guilder.payments.states import PAYMENT, PaymentEvent, PaymentState, after, allows
from guilder.security import bind

FROM_BANK: Final = "next"
"""`step` in the page's address when the buyer comes back from his bank. From a submit of the form it is the number of that try."""

# Two tabs may each need a second look; more is a session that is hammered.
DECISIONS_MAX: Final = 5


async def stand(services: Services, session_id: str) -> Standing | None:
    """How things stand, None when there is no such session; completes a session whose payment has just succeeded."""
    session = await services.store.find(session_id)
    if session is None:
        return None
    standing = Standing(session=session, payment=await payment_of(services, session))
    return await complete(services, standing)


def payable(standing: Standing, now: int) -> bool:
    """Whether the buyer may try (again): the session is open, its time has not passed, and no attempt is under way."""
    facts, payment = standing.session.facts, standing.payment
    if facts.status != SessionState.OPEN or now >= facts.expires_at * SECOND:
        return False
    return payment is None or allows(PAYMENT, PaymentState(payment.facts.status), PaymentEvent.CONFIRMED)


async def pay(services: Services, command: Pay) -> Standing:
    """Try to take the session's money with this card, and say how things stand then; with an old number only that.

    Commits the payment's making, the card, and then as payments.confirm; waits for the outcome up to its longest wait.

    Raises:
        Refusal: no such session (404); the card cannot be (402), or a limit is reached (400); nothing was charged.
        Unavailable: nothing was charged. ResultUnknown: looking again tells.
    """
    standing = await _placed(services, command)
    payment = standing.payment
    if payment is None or standing.number != command.number or not payable(standing, services.clock.now()):
        return standing
    # Before the card is kept.
    check_tries(payment)
    session = standing.session
    method = await services.methods.store_now(await services.methods.prepare(
        session.account, command.card, livemode=session.facts.livemode, billing=command.buyer.details(), from_our_page=True,
    ))  # fmt: skip
    # A key of this submit alone: what makes two of them one is the number, which is checked under the payment's version.
    request = services.ids.new("req")
    claim = Claim(
        account=session.account, livemode=session.facts.livemode, key=request.replace("req", "key", 1),
        fingerprint=services.fingerprint(bind("pay", session.facts.id, str(command.number))), request_id=request,
    )  # fmt: skip
    try:
        result = await confirm(
            services.payments, claim,
            ConfirmPayment(
                payment=payment.facts.id, payment_method=method, checkout_session=session.facts.id, number=command.number,
            ),
        )  # fmt: skip
    except Refusal as refusal:
        # Somebody was quicker, or is under way: what stands now is the answer.
        if refusal.status != 409:
            raise
    else:
        error = result.answer.error
        if error is not None and result.answer.status == 400:
            raise Refusal(error.message, code=error.code, param=error.param)
    with may_be_stored("the payment was tried, and what came of it could not be read"):
        return await stand(services, session.facts.id) or standing


async def _placed(services: Services, command: Pay) -> Standing:
    """The session with its payment, which is made if there is none, and with who the buyer is."""
    for _ in range(DECISIONS_MAX):
        standing = await stand(services, command.session)
        if standing is None:
            raise Refusal("There is no such page.", status=404, code="resource_missing", param="id")
        if standing.number != command.number or not payable(standing, services.clock.now()):
            return standing
        session = await _with_buyer(services, standing.session, command)
        if standing.payment is not None:
            if session is standing.session or await services.store.commit(SessionChange(session=session)) is None:
                return replace(standing, session=session)
        else:
            await _make_payment(services, session)
    raise lock_timeout()


async def _with_buyer(services: Services, session: Session, command: Pay) -> Session:
    """The session with what the buyer typed in its sealed record; the same one when that is known already."""
    facts = session.facts
    details = {"customer_details": command.buyer.details()}
    personal = await services.personal.changed(session.account, facts.personal, details, livemode=facts.livemode)
    return session if personal == facts.personal else moved(session, replace(facts, personal=personal), session.due_at)


async def _make_payment(services: Services, session: Session) -> None:
    """Store the PaymentIntent, named by its session; nothing of both when somebody else has changed the session meanwhile."""
    facts = session.facts
    wanted = facts.payment
    payment = facts_of(services.payments, facts.livemode, CreatePayment(
        amount=facts.amount_total, currency=facts.currency, capture_method=wanted.capture_method, customer=facts.customer,
        description=wanted.description, metadata=wanted.metadata, personal=wanted.personal,
        statement_descriptor=wanted.statement_descriptor, statement_descriptor_suffix=wanted.statement_descriptor_suffix,
        setup_future_usage=wanted.setup_future_usage, return_url=f"{facts.url}?step={FROM_BANK}", checkout_session=facts.id,
        request_three_d_secure=wanted.request_three_d_secure,
    ))  # fmt: skip
    change = Change(
        account=session.account, livemode=facts.livemode, payment=payment, expected=None,
        events=(event(services.ids, session.account, "payment_intent.created", payment),),
    )  # fmt: skip
    state = after(SESSION, SessionState(facts.status), SessionEvent.ORDER_PLACED)
    placed = moved(session, replace(facts, status=state, payment_intent=payment.id), session.due_at)
    await services.store.commit_with_payment(placed, change)
