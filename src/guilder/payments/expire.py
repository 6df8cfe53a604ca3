"""Expire: authorizations that nobody captured in time are voided at the PSP, and only then let go in the books."""

from typing import Final

from guilder.core.clock import MINUTE
from guilder.payments.alone import each_alone
from guilder.payments.cancel import void
from guilder.payments.services import Services
from guilder.payments.states import PaymentState

EXPIRED: Final = "expired"
# Voids begun in one round; the PSP must not feel a day's expiries at once.
ROUND_MAX: Final = 100
# How soon a void that could not be sent, or was declined, is begun again: an outage must not fill the books with attempts.
AGAIN_AFTER: Final = 15 * MINUTE


async def expire_authorizations(services: Services, limit: int = ROUND_MAX) -> int:
    """Begin to void authorizations whose time has passed, at most so many; returns how many were begun. Safe to repeat."""

    async def begun(found: tuple[str, str, bool]) -> bool:
        payment = await services.store.read(*found)
        if payment is None or payment.facts.status != PaymentState.REQUIRES_CAPTURE:
            return False
        change = void(payment, None, None, EXPIRED, now=services.clock.now(), ids=services.ids)
        # Whoever else takes the slot first wins; the next round looks again.
        return await services.store.commit(change) is None

    now = services.clock.now()
    found = await services.store.expired(now, now - AGAIN_AFTER, limit)
    return await each_alone(found, begun, problem="authorization_not_expired", field="payment")
