"""The buyer's way to the PSP's own page and back, on the checkout origin: /page/ATTEMPT/SECRET leads there, .../return back.

Plain GETs without cookies or script. What the browser says is a reason to ask the PSP, and never believed.
"""

import asyncio
from hmac import compare_digest
from typing import Final
from urllib.parse import urlsplit

from guilder.challenge.way import LOOK_SECONDS, WAIT_SECONDS, Leads, Tells, end_of
from guilder.core.clock import sleep
from guilder.core.errors import Unavailable
from guilder.core.outcome import ActionRequired
from guilder.payments import Services, ask_psp
from guilder.payments.begin import PAGE_PATH, RETURN
from guilder.payments.model import PAYMENT_SLOT, Attempt, Payment
from guilder.payments.states import AttemptState, PaymentState

PAGES: Final = f"{PAGE_PATH}/"
"""Below it stands what is served here."""
# How long a buyer who is back waits for the PSP to be asked before he is told that it has nothing yet. It is asked at once, and
# answers in a fraction of this.
ASKED_SECONDS: Final = 2.0


class PageWay:
    """Knows what is below /page/. Asked by whoever serves the checkout origin."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def go(self, path: str) -> Leads | Tells | None:
        """The next step of whoever is at this address, after the longest wait at most; None when nothing is there.

        Commits at most that the PSP is asked. Safe to repeat. Raises Unavailable, ResultUnknown, Again.
        """
        back = path.endswith(RETURN)
        attempt = await self._found(path if back else path + RETURN)
        if attempt is None:
            return None
        if back:
            return await self._returned(attempt)
        payment = await self._read(attempt)
        if _waits(payment, attempt) and isinstance(attempt.noted, ActionRequired):
            return Leads(attempt.noted.url)
        return end_of(payment)

    async def _found(self, way_back: str) -> Attempt | None:
        """The attempt whose buyer goes this way. To know the address is all that it takes; compared in constant time."""
        id_ = way_back.removeprefix(PAGES).partition("/")[0]
        attempt = await self._services.store.attempt(id_) if way_back.startswith(PAGES) else None
        if attempt is None or attempt.facts.own_page is None:
            return None
        ours = urlsplit(attempt.facts.own_page.returns_to).path
        return attempt if compare_digest(ours.encode(), way_back.encode()) else None

    async def _returned(self, attempt: Attempt) -> Leads | Tells:
        """The buyer says that he is back: the PSP is asked, and he waits for what comes of it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        payment = await self._read(attempt)
        if _waits(payment, attempt):
            tries = _tries(payment)
            await ask_psp(self._services, attempt)
            while _waits(payment, attempt) and _tries(payment) == tries and loop.time() - began < ASKED_SECONDS:
                await sleep(LOOK_SECONDS)
                payment = await self._read(attempt)
        while payment.facts.status == PaymentState.PROCESSING and loop.time() - began < WAIT_SECONDS:
            await sleep(LOOK_SECONDS)
            payment = await self._read(attempt)
        if not _waits(payment, attempt):
            return end_of(payment)
        if isinstance(attempt.noted, ActionRequired):
            return Tells(news="elsewhere", payment=payment, there=attempt.noted.url)
        return Tells(news="waiting", payment=payment)

    async def _read(self, attempt: Attempt) -> Payment:
        payment = await self._services.store.read(attempt.payment, attempt.account, attempt.livemode)
        if payment is None:
            raise Unavailable("a page's payment is not there")
        return payment


def _waits(payment: Payment, attempt: Attempt) -> bool:
    """Whether the payment waits for the buyer at this page."""
    open_ = payment.open_in(PAYMENT_SLOT)
    return open_ is not None and open_.attempt == attempt.id and open_.state == AttemptState.AWAITING_BUYER


def _tries(payment: Payment) -> int:
    open_ = payment.open_in(PAYMENT_SLOT)
    return open_.tries if open_ is not None else 0
