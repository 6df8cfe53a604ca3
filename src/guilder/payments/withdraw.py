"""Withdraw: have a page at the PSP closed because something else is to be done with the payment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from guilder.idempotency.model import Claim
from guilder.payments.own_page import PageOpen, withdrawn
from guilder.payments.services import Services


@asynccontextmanager
async def withdrawing(services: Services, claim: Claim, payment: str) -> AsyncIterator[None]:
    """What is refused because a page may be paid has that page undone, and may come again. Raises PageOpen in any case.

    The key has been looked up by then: a request that was seen before closes nothing. Commits at most once, safe to repeat.
    """
    try:
        yield
    except PageOpen:
        read = await services.store.read(payment, claim.account, claim.livemode)
        change = None if read is None else withdrawn(read, now=services.clock.now(), ids=services.ids)
        if change is not None:
            # Whoever moves the payment meanwhile has been told, or has made it needless.
            await services.store.commit(change)
        raise
