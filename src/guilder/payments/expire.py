"""Expire: authorizations that nobody captured in time are voided at the PSP, and only then let go in the books."""

from typing import Final

from guilder.core.clock import MINUTE
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
    begun = 0
    now = services.clock.now()
    for payment_id, account, livemode in await services.store.expired(now, now - AGAIN_AFTER, limit):
        payment = await services.store.read(payment_id, account, livemode)
        if payment is None or payment.facts.status != PaymentState.REQUIRES_CAPTURE:
            continue
        change = void(payment, None, None, EXPIRED, now=services.clock.now(), ids=services.ids)
        # Whoever else takes the slot first wins; the next round looks again.
        begun += await services.store.commit(change) is None
    return begun
