"""The buyer's way to the PSP's own page and back, on the checkout origin: /page/ATTEMPT/SECRET leads there, .../return back.

Plain GETs without cookies or script. What the browser says is a reason to ask the PSP, and never believed.
"""

import asyncio
from hmac import compare_digest
from typing import Final
from urllib.parse import urlsplit

from guilder.challenge.pages import page, redirect
from guilder.challenge.way import AGAIN_SECONDS, LOOK_SECONDS, WAIT_SECONDS, end_of
from guilder.core.clock import sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.core.outcome import ActionRequired
from guilder.db.errors import Again
from guilder.http_server import Incoming, Outgoing
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
    """Answers what is below /page/. Mounted by whoever serves the checkout origin."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, incoming: Incoming) -> Outgoing:
        """The answer to one request; never raises for what the database does."""
        if incoming.method not in ("GET", "HEAD"):
            return page("Not possible", "Open this address in a browser.", status=405)
        try:
            return await self._answer(incoming.path)
        except (Unavailable, ResultUnknown, Again):
            return page("One moment", "This is not possible right now. We try again.", status=503, again=AGAIN_SECONDS)

    async def _answer(self, path: str) -> Outgoing:
        back = path.endswith(RETURN)
        attempt = await self._found(path if back else path + RETURN)
        if attempt is None:
            return page("Nothing here", "This address is not one of ours, or it is too old.", status=404)
        if back:
            return await self._returned(attempt)
        payment = await self._read(attempt)
        if _waits(payment, attempt) and isinstance(attempt.noted, ActionRequired):
            return redirect(attempt.noted.url)
        return end_of(payment)

    async def _found(self, way_back: str) -> Attempt | None:
        """The attempt whose buyer goes this way. To know the address is all that it takes; compared in constant time."""
        id_ = way_back.removeprefix(PAGES).partition("/")[0]
        attempt = await self._services.store.attempt(id_) if way_back.startswith(PAGES) else None
        if attempt is None or attempt.facts.own_page is None:
            return None
        ours = urlsplit(attempt.facts.own_page.returns_to).path
        return attempt if compare_digest(ours.encode(), way_back.encode()) else None

    async def _returned(self, attempt: Attempt) -> Outgoing:
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
        if _waits(payment, attempt):
            link = (attempt.noted.url, "Back to the payment") if isinstance(attempt.noted, ActionRequired) else None
            return page("Not finished yet", "The payment provider still waits for you.", link=link, again=AGAIN_SECONDS)
        return end_of(payment)

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
