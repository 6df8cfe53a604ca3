"""One request of a buyer on his way: where he is sent, or what he is told."""

import asyncio
from collections.abc import Callable
from html import escape
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from guilder.challenge.pages import page, redirect
from guilder.core.clock import sleep
from guilder.core.errors import Refusal, ResultUnknown, Unavailable
from guilder.db.errors import Again
from guilder.http_server import Incoming, Outgoing
from guilder.payments import Services, ask_issuer
from guilder.payments.begin import PATH
from guilder.payments.model import Payment, challenge_slot
from guilder.payments.states import ChallengeState, PaymentState
from guilder.payments.store import FoundChallenge

CHALLENGES: Final = f"{PATH}/"
"""Below it stands what is served here."""
# The bank is asked and the card is charged meanwhile, both in milliseconds; who is not through by then is shown a page
# that asks again by itself.
WAIT_SECONDS: Final = 8.0
LOOK_SECONDS: Final = 0.1
# How often that page asks again.
AGAIN_SECONDS: Final = 3

_PAID: Final = frozenset({PaymentState.SUCCEEDED, PaymentState.REQUIRES_CAPTURE})


class ChallengeWay:
    """Answers what is below /authenticate/. Mounted by whoever serves the checkout origin."""

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

    def refuse(self, refusal: Refusal) -> Outgoing:
        """The answer to what is no request, or cannot be taken."""
        return page("Not possible", escape(str(refusal)), status=refusal.status)

    async def _answer(self, path: str) -> Outgoing:
        id_, _, step = path.removeprefix(CHALLENGES).partition("/")
        found = await self._services.store.challenge(id_) if path.startswith(CHALLENGES) and step in ("", "return") else None
        if found is None:
            return page("Nothing here", "This address is not one of ours, or it is too old.", status=404)
        if step == "return":
            return await self._returned(found)
        if found.state == ChallengeState.OPEN:
            return redirect(found.url)
        return await self._ended(found)

    async def _returned(self, found: FoundChallenge) -> Outgoing:
        """The buyer says that he is back: the issuer is asked, and he waits for what comes of it."""
        if found.state == ChallengeState.OPEN:
            await ask_issuer(self._services, found)
        slot = challenge_slot(found.attempt)

        def asking(payment: Payment) -> bool:
            return payment.facts.status == PaymentState.PROCESSING or payment.open_in(slot) is not None

        payment = await self._settled(found, asking)
        waits_for_him = payment.challenge is not None and payment.challenge.attempt == found.attempt
        if waits_for_him and payment.open_in(slot) is None:
            return page("Not finished yet", "Your bank still waits for your answer.", link=(found.url, "Back to your bank"))
        if waits_for_him:
            return page("One moment", "We are asking your bank.", again=AGAIN_SECONDS)
        return end_of(payment)

    async def _ended(self, found: FoundChallenge) -> Outgoing:
        return end_of(await self._settled(found, lambda payment: payment.facts.status == PaymentState.PROCESSING))

    async def _settled(self, found: FoundChallenge, busy: Callable[[Payment], bool]) -> Payment:
        """The payment once nothing is under way for it any more, or after the longest wait."""
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_SECONDS
        while True:
            payment = await self._services.store.read(found.payment, found.account, found.livemode)
            if payment is None:
                raise Unavailable("a challenge's payment is not there")
            if not busy(payment) or loop.time() >= until:
                return payment
            await sleep(LOOK_SECONDS)


def end_of(payment: Payment) -> Outgoing:
    """Back to the shop, or the end of the way on a page of ours."""
    facts = payment.facts
    paid, pending = facts.status in _PAID, facts.status == PaymentState.PROCESSING
    if facts.return_url is not None:
        status = "succeeded" if paid else "pending" if pending else "failed"
        return redirect(returning(facts.return_url, facts.id, facts.client_secret, status))
    if pending:
        return page("One moment", "Your payment is being checked with the bank.", again=AGAIN_SECONDS)
    if paid:
        return page("Thank you", "Your payment is complete. You can close this page.")
    return page("Not paid", "Nothing was charged. Go back to the shop to try again.")


def returning(url: str, payment: str, client_secret: str, status: str) -> str:
    """The shop's address with what it is told there; its own parameters stay."""
    parts = urlsplit(url)
    told = (("payment_intent", payment), ("payment_intent_client_secret", client_secret), ("redirect_status", status))
    return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query, keep_blank_values=True), *told])))
