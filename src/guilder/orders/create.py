"""Create: the merchant says what a buyer is asked to pay. Nothing is charged, and no payment exists yet."""

from typing import Final

from msgspec.structs import replace

from guilder.core.clock import HOUR, MINUTE, SECOND, epoch_seconds
from guilder.core.errors import Refusal
from guilder.db import Connection
from guilder.idempotency import Claim, Result, once
from guilder.orders.model import CreateSession, Session
from guilder.orders.services import Services
from guilder.orders.states import SessionState
from guilder.shapes.facts import SHAPE, Answer, CheckoutSessionFacts, LineItemFacts

# Stripe's: long enough to find the card, short enough that stock is not held for ever.
OPEN_SECONDS_MIN: Final = 30 * MINUTE // SECOND
OPEN_SECONDS_MAX: Final = 24 * HOUR // SECOND
# A merchant's clock may be a little ahead of or behind ours.
CLOCK_SECONDS: Final = 60

# After the merchant's page: the id that stands there tells them which session it was.
PAGE_PATH: Final = "/c/"
SESSION_ID: Final = "{CHECKOUT_SESSION_ID}"


async def create(services: Services, claim: Claim, command: CreateSession) -> Result:
    """Store a session, open until its end. Commits once; safe to repeat under one key.

    Raises Refusal: `expires_at` is too near or too far (400).
    """
    now = services.clock.now()
    expires_at = _end(epoch_seconds(now), command.expires_at)

    async def store(connection: Connection) -> Answer:
        facts = await _facts(services, claim, command, connection, created=epoch_seconds(now), expires_at=expires_at)
        session = Session(facts=facts, account=claim.account, version=1, due_at=expires_at * SECOND)
        await services.store.insert(connection, session)
        return Answer(SHAPE, 200, facts, None, claim.expand)

    return await once(services.db, claim, now, store)


async def _facts(
    services: Services, claim: Claim, command: CreateSession, connection: Connection, *, created: int, expires_at: int,
) -> CheckoutSessionFacts:
    ids, seal = services.ids, services.personal.keep
    id_ = ids.new("cs_live" if claim.livemode else "cs_test")
    personal = await seal(claim.account, {"customer_email": command.customer_email}, livemode=claim.livemode, connection=connection)
    of_payment = await seal(claim.account, command.payment_personal, livemode=claim.livemode, connection=connection)
    return CheckoutSessionFacts(
        id=id_, livemode=claim.livemode, created=created, currency=command.currency, amount_total=command.total,
        line_items=tuple(
            LineItemFacts(
                ids.new("li"), ids.new("price"), ids.new("prod"), line.name, line.unit_amount, line.quantity, line.description,
                line.product_metadata,
            )
            for line in command.lines
        ),
        status=SessionState.OPEN, payment_status="unpaid", expires_at=expires_at, success_url=command.success_url,
        url=f"{services.checkout_url}{PAGE_PATH}{id_}", cancel_url=command.cancel_url, client_reference_id=command.client_reference_id,
        customer=command.customer, personal=personal, locale=command.locale, metadata=command.metadata,
        submit_type=command.submit_type, payment=replace(command.payment, personal=of_payment),
    )  # fmt: skip


def _end(now: int, wanted: int | None) -> int:
    """When the session ends, in epoch seconds."""
    if wanted is None:
        return now + OPEN_SECONDS_MAX
    if not now + OPEN_SECONDS_MIN - CLOCK_SECONDS <= wanted <= now + OPEN_SECONDS_MAX + CLOCK_SECONDS:
        raise Refusal(
            "The `expires_at` timestamp must be at least 30 minutes and less than 24 hours after the session is created.",
            param="expires_at",
        )
    return wanted


def success_url(facts: CheckoutSessionFacts) -> str:
    """Where the buyer goes after paying, the session's id filled in."""
    return facts.success_url.replace(SESSION_ID, facts.id)
