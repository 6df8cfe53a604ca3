"""One step of a buyer on his way: where he is led, or what he is told."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from guilder.core.clock import sleep
from guilder.core.errors import Unavailable
from guilder.payments import Services, ask_issuer
from guilder.payments.begin import PATH
from guilder.payments.model import Payment, challenge_slot
from guilder.payments.states import ChallengeState, PaymentState
from guilder.payments.store import FoundChallenge

CHALLENGES: Final = f"{PATH}/"
"""Below it stands what is answered here."""
# The bank is asked and the card is charged meanwhile, both in milliseconds; who is not through by then is told to wait,
# and asks again.
WAIT_SECONDS: Final = 8.0
LOOK_SECONDS: Final = 0.1

_PAID: Final = frozenset({PaymentState.SUCCEEDED, PaymentState.REQUIRES_CAPTURE})

News = Literal["unanswered", "elsewhere", "waiting", "paid", "failed"]
"""What a buyer is told: the bank or the PSP still waits for him, we still wait for them, or how it has ended."""


class Leads(Struct, frozen=True):
    """The buyer is led to this address: his bank's, the PSP's, or the shop's."""

    url: str


class Tells(Struct, frozen=True, kw_only=True):
    """The buyer stays and is told how the payment stands. `there`: where he is waited for; empty where nobody does."""

    news: News
    payment: Payment
    there: str = ""


class ChallengeWay:
    """Knows what is below /authenticate/. Asked by whoever serves the checkout origin."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def go(self, path: str) -> Leads | Tells | None:
        """The next step of whoever is at this address, after the longest wait at most; None when nothing is there.

        Commits at most that the issuer is asked. Safe to repeat. Raises Unavailable, ResultUnknown, Again.
        """
        id_, _, step = path.removeprefix(CHALLENGES).partition("/")
        found = await self._services.store.challenge(id_) if path.startswith(CHALLENGES) and step in ("", "return") else None
        if found is None:
            return None
        if step == "return":
            return await self._returned(found)
        if found.state == ChallengeState.OPEN:
            return Leads(found.url)
        return await self._ended(found)

    async def _returned(self, found: FoundChallenge) -> Leads | Tells:
        """The buyer says that he is back: the issuer is asked, and he waits for what comes of it."""
        if found.state == ChallengeState.OPEN:
            await ask_issuer(self._services, found)
        slot = challenge_slot(found.attempt)

        def asking(payment: Payment) -> bool:
            return payment.facts.status == PaymentState.PROCESSING or payment.open_in(slot) is not None

        payment = await self._settled(found, asking)
        waits_for_him = payment.challenge is not None and payment.challenge.attempt == found.attempt
        if waits_for_him:
            asked = payment.open_in(slot) is not None
            return Tells(news="waiting" if asked else "unanswered", payment=payment, there=found.url)
        return end_of(payment)

    async def _ended(self, found: FoundChallenge) -> Leads | Tells:
        payment = await self._settled(found, lambda payment: payment.facts.status == PaymentState.PROCESSING)
        return end_of(payment)

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


def end_of(payment: Payment) -> Leads | Tells:
    """Back to the shop, or the end of the way with us."""
    facts = payment.facts
    paid, pending = facts.status in _PAID, facts.status == PaymentState.PROCESSING
    if facts.return_url is not None:
        status = "succeeded" if paid else "pending" if pending else "failed"
        return Leads(returning(facts.return_url, facts.id, facts.client_secret, status))
    return Tells(news="waiting" if pending else "paid" if paid else "failed", payment=payment)


def returning(url: str, payment: str, client_secret: str, status: str) -> str:
    """The shop's address with what it is told there; its own parameters stay."""
    parts = urlsplit(url)
    told = (("payment_intent", payment), ("payment_intent_client_secret", client_secret), ("redirect_status", status))
    return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query, keep_blank_values=True), *told])))
