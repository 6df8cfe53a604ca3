"""Begin an operation: the attempt's row, which is the intent and stands before a byte is sent."""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from guilder.core.clock import SECOND, Micros
from guilder.core.ensure import present
from guilder.core.ids import Ids
from guilder.payments.fallen import Fallen
from guilder.payments.model import (
    PAYMENT_SLOT,
    Attempt,
    AttemptFacts,
    Key,
    Payment,
    Terms,
    Till,
    refund_slot,
)
from guilder.payments.secure import ThreeDSecure
from guilder.payments.states import PAYMENT, PaymentEvent, PaymentState, after
from guilder.psp.model import Operation, Original, OwnPage, draw_wire
from guilder.psp.router import Choice
from guilder.shapes.facts import PaymentIntentFacts, PaymentMethodFacts, RefundFacts

# With the buyer present nobody waits longer for the first byte; past it the attempt is closed as not sent.
EXECUTE_BY_SECONDS: Final = 60
# At a till the buyer stands and waits: what is not final by then is not paid, and undone.
TILL_SECONDS: Final = 8
# Captures, voids and refunds have no buyer waiting: they may be sent as long as the operation makes sense.
EXECUTE_BY_LATER_SECONDS: Final = 30 * 24 * 3600
# When somebody looks at an attempt that nobody has claimed: a lost wake-up or log entry costs this long.
UNCLAIMED_RETRY_SECONDS: Final = 5

MANUAL: Final = "manual"
CHALLENGE: Final = "challenge"

CVC_SECONDS: Final = 15 * 60
"""How long the vault keeps a CVC after its entry (DESIGN 2.4)."""

# As long as a challenge: a buyer who has not paid by then has gone, and the basket is held no longer.
PAGE_SECONDS: Final = 15 * 60
PAGE_PATH: Final = "/page"
"""Where the buyer's way to the PSP's own page and back begins and ends, on the checkout origin."""

# Whoever knows a challenge's address may answer for the buyer, so nobody guesses it.
CHALLENGE_BITS: Final = 160
PATH: Final = "/authenticate"
"""Where the buyer's way to the issuer and back begins and ends, on the checkout origin."""


RETURN: Final = "/return"


class Try(Struct, frozen=True, kw_only=True):
    """How a payment is to be taken: what the rules decided before anything was stored."""

    payment_method: PaymentMethodFacts
    choice: Choice
    terms: Terms
    send_cvc: bool
    off_session: bool = False
    error_on_requires_action: bool = False
    risk_level: str = "normal"
    risk_score: int = 0
    # To authenticate the buyer first, because the merchant asks for it; "challenge" where he is to be challenged.
    authenticate: str | None = None
    # Where buyers come back to from the issuer's challenge page.
    origin: str = ""
    till: Till | None = None
    fallen: Fallen | None = None
    # How long it may wait for a PSP; None for as long as a buyer would.
    wait_seconds: int | None = None
    # When the caller stops waiting, where it has said; a payment that may wait for a PSP has its own time.
    deadline: int | None = None

    def execute_by(self, now: int) -> int:
        """Until when its first byte may be sent."""
        if self.wait_seconds is not None:
            return now + self.wait_seconds * SECOND
        if self.till is not None:
            return now + TILL_SECONDS * SECOND
        usual = now + EXECUTE_BY_SECONDS * SECOND
        return usual if self.deadline is None else min(usual, self.deadline)


def take(facts: PaymentIntentFacts, try_: Try, key: Key | None, *, account: str, now: int, ids: Ids) -> tuple[PaymentIntentFacts, Attempt]:
    """The payment under way, and the attempt that is to take or authorize its money.

    Automatic capture is one message (purchase); manual capture authorizes only.
    """
    state = after(PAYMENT, PaymentState(facts.status), PaymentEvent.CONFIRMED)
    id_ = ids.new("at")
    processing = replace(
        facts, status=state, payment_method=try_.payment_method.id, last_payment_error=None, failed_payment_method=None,
        next_action_url=None,
    )  # fmt: skip
    secure = None
    if try_.authenticate is not None:
        operation = Operation.AUTHENTICATE
        secure = asked_of_issuer(try_.origin, ids, wants_challenge=try_.authenticate == CHALLENGE)
    else:
        operation = taking(facts)
    attempt = Attempt(
        id=id_, payment=facts.id, account=account, livemode=facts.livemode, operation=operation, slot=PAYMENT_SLOT,
        amount=facts.amount, currency=facts.currency, created_at=now,
        execute_by=try_.execute_by(now),
        # Due at once: whichever executor looks first takes it, with or without the log.
        begin_at=now if try_.till else None,
        facts=AttemptFacts(
            connector=try_.choice.connector, psp_merchant=try_.choice.psp_merchant, wire=draw_wire(ids, Micros(now)), terms=try_.terms,
            payment_method=try_.payment_method, key=key, send_cvc=try_.send_cvc, off_session=try_.off_session,
            error_on_requires_action=try_.error_on_requires_action, risk_level=try_.risk_level, risk_score=try_.risk_score,
            route_reason=try_.choice.reason, three_d_secure=secure, till=try_.till, fallen=try_.fallen,
            own_page=own_page(try_.origin, id_, now, ids) if try_.payment_method.card.own_page else None,
        ),
    )  # fmt: skip
    return processing, attempt


def own_page(origin: str, attempt: str, now: int, ids: Ids) -> OwnPage:
    """The PSP's own page for an attempt: where it sends the buyer back to, whose address is the secret of his way, and until when."""
    secret = ids.secret("", CHALLENGE_BITS)
    return OwnPage(f"{origin}{PAGE_PATH}/{attempt}/{secret}{RETURN}", now + PAGE_SECONDS * SECOND)


def way_to_page(page: OwnPage) -> str:
    """Where the buyer's way to the PSP's own page begins."""
    return page.returns_to.removesuffix(RETURN)


def taking(facts: PaymentIntentFacts) -> Operation:
    """The operation that takes a payment's money, or holds it."""
    return Operation.AUTHORIZE if facts.capture_method == MANUAL else Operation.PURCHASE


def asked_of_issuer(origin: str, ids: Ids, *, wants_challenge: bool = False, required: bool = False) -> ThreeDSecure:
    """What an authentication asks of the issuer: the challenge that it may open has its address before it is asked."""
    challenge = ids.secret("chl_", CHALLENGE_BITS)
    return ThreeDSecure(
        required=required, wants_challenge=wants_challenge, challenge=challenge, returns_to=f"{origin}{PATH}/{challenge}/return",
    )  # fmt: skip


def successor(
    before: Attempt, facts: PaymentIntentFacts, operation: Operation, secure: ThreeDSecure | None, *, execute_by: int, now: int, ids: Ids,
) -> Attempt:
    """The next attempt of the same try, at the same connector, with wire fields and a key of its own.

    Amount and capture method are the payment's as it stands.
    """
    known = before.facts
    fresh = now // SECOND - known.payment_method.created < CVC_SECONDS
    return Attempt(
        id=ids.new("at"), payment=facts.id, account=before.account, livemode=before.livemode, operation=operation, slot=PAYMENT_SLOT,
        amount=facts.amount, currency=facts.currency, execute_by=execute_by, created_at=now,
        facts=replace(
            known, wire=draw_wire(ids, Micros(now)), send_cvc=known.send_cvc and fresh, announces_payment=False, three_d_secure=secure,
        ),
    )  # fmt: skip


def follow(
    payment: Payment, operation: Operation, amount: int, key: Key | None, *, now: int, ids: Ids, cancellation_reason: str | None = None,
) -> Attempt:
    """The attempt of a capture or void: it acts on the authorization, at the connector that made it."""
    authorized_by = present(payment.authorized_by, "an authorized payment has its attempt", payment=payment.facts.id)
    return _on(authorized_by, payment, operation, PAYMENT_SLOT, amount, key, now=now, ids=ids, cancellation_reason=cancellation_reason)


def pay_back(payment: Payment, refund: RefundFacts, reservation: str, key: Key | None, *, now: int, ids: Ids) -> Attempt:
    """The attempt of a refund: it acts on the purchase, or on the capture where that was a message of its own."""
    taken = present(payment.captured_by or payment.authorized_by, "a refunded payment has its attempt", payment=payment.facts.id)
    attempt = _on(taken, payment, Operation.REFUND, refund_slot(refund.id), refund.amount, key, now=now, ids=ids)
    return replace(attempt, refund=refund.id, facts=replace(attempt.facts, reservation=reservation))


def original(attempt: Attempt) -> Original:
    """This attempt's request, as a later one names it."""
    wire = attempt.facts.wire
    return Original(reference=wire.reference, transmitted_at=wire.transmitted_at, stan=wire.stan, operation=attempt.operation)


def _on(
    acted_on: Attempt, payment: Payment, operation: Operation, slot: str, amount: int, key: Key | None, *,
    now: int, ids: Ids, cancellation_reason: str | None = None,
) -> Attempt:  # fmt: skip
    before = acted_on.facts
    return Attempt(
        id=ids.new("at"), payment=payment.facts.id, account=payment.account, livemode=payment.facts.livemode, operation=operation,
        slot=slot, amount=amount, currency=payment.facts.currency, execute_by=now + EXECUTE_BY_LATER_SECONDS * SECOND, created_at=now,
        facts=AttemptFacts(
            connector=before.connector, psp_merchant=before.psp_merchant, wire=draw_wire(ids, Micros(now)), terms=before.terms,
            payment_method=before.payment_method, key=key, original=original(acted_on), route_reason=f"where {acted_on.id} went",
            cancellation_reason=cancellation_reason,
        ),
    )  # fmt: skip
