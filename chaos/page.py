"""A buyer at the payment page: a browser without JavaScript, with a history of his own of what he sent and what he was told.

straight        the form once
declined        a card that is refused, and mostly another one
challenged      a card whose bank wants to see him: he says yes, or no, or goes away and takes another card
double click    the same form twice or three times at once
two tabs        two forms, a card in each, at once
back            an old form again, with another card
closed          he closes the window while the form is under way, and never looks again

Whatever happens he looks at how it stands, as the page asks him to, and mostly tries another card when it says that nothing was charged.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
from msgspec import Struct
from tests.payment_page import Seen, filled

from chaos.asking import HANG_UP_SECONDS
from chaos.client import ANSWER_SECONDS
from chaos.history import History
from chaos.purse import CHALLENGED, DECLINED, PAYS, Purse

# What the page says, in the words of its English: a claim that is held against the bank, or that there is none yet.
PAID: Final = "paid"
NOT_CHARGED: Final = "not charged"
NO_CLAIM: Final[Mapping[str, str]] = {
    "Checking with your bank": "waiting", "Your bank wants to know that it is you": "action", "We are not sure yet": "unknown",
}  # fmt: skip
_NOTHING: Final = re.compile(r"(?i)\b(?:nothing was|was not) charged(?! so far)")

WAYS: Final[Mapping[str, int]] = {
    "straight": 34, "declined": 14, "challenged": 22, "double_click": 12, "two_tabs": 8, "back": 8, "closed": 2,
}  # fmt: skip
LOOKS_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.3
ANOTHER_CARD: Final = 0.7
CARDS_MAX: Final = 4
PASSES: Final = 0.5
REFUSES: Final = 0.15
STAYS_AWAY: Final = 0.1


class Order(Struct, frozen=True):
    """What a buyer is to pay, and where; `amount` in minor units."""

    session: str
    url: str
    merchant: int
    amount: int
    currency: str


class Buyer:
    """One after the other buys what he is sent to. `session` keeps connections, as browsers do."""

    def __init__(self, session: aiohttp.ClientSession, history: History, purse: Purse, chance: Random) -> None:
        self._session = session
        self._history = history
        self._purse = purse
        self._chance = chance

    async def buy(self, order: Order) -> None:
        """Go to the page and pay, or try to."""
        await _Visit(self, order).go(self._chance)

    async def look(self, order: Order) -> str:
        """What the page says of an order now."""
        return word_of(await self.ask(order, "buy", order.url), posted=False)

    async def card(self, kind: str) -> str:
        """A card that nobody has used."""
        return await self._purse.card(kind)

    async def ask(
        self, order: Order, op: str, url: str, form: Mapping[str, str] | None = None, *, card: str = "", seconds: float = ANSWER_SECONDS,
    ) -> Seen | None:  # fmt: skip
        """One request of a browser that follows nothing: written down before, and what it was told after. None when the answer is lost.

        `card` is the number that the request has to do with.
        """
        method = "GET" if form is None else "POST"
        known: dict[str, Any] = {
            "merchant": order.merchant, "method": method, "path": urlsplit(url).path, "object": order.session, "amount": order.amount,
            "currency": order.currency, "params": {"number": card} if card else None,
        }  # fmt: skip
        asked = self._history.write("invoke", op, **known)
        try:
            async with self._session.request(
                method, url, data=form, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=seconds),
            ) as answer:  # fmt: skip
                headers = {name.lower(): value for name, value in answer.headers.items()}
                seen = Seen(answer.status, headers, await answer.text())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._history.write("fail", op, asked=asked, error=type(error).__name__, **known)
            return None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._history.write("info", op, asked=asked, error=type(error).__name__, **known)
            return None
        self._history.write("ok", op, asked=asked, status=seen.status, state=word_of(seen, posted=form is not None), **known)
        return seen


class _Visit:
    """One order of a buyer's: the card that he used last, and how many."""

    def __init__(self, buyer: Buyer, order: Order) -> None:
        self._buyer = buyer
        self._order = order
        self._card = ""
        self._cards = 0

    async def go(self, chance: Random) -> None:
        self._chance = chance
        ways: Mapping[str, Callable[[Seen], Awaitable[None]]] = {
            "straight": self._straight, "declined": self._declined, "challenged": self._challenged, "double_click": self._double_click,
            "two_tabs": self._two_tabs, "back": self._back,
        }  # fmt: skip
        [name] = chance.choices(list(WAYS), list(WAYS.values()))
        form = await self._form()
        if form is None:
            return
        if name == "closed":
            await self._send(form, await self._another(PAYS), seconds=HANG_UP_SECONDS)
            return
        await ways[name](form)
        await self._follow()

    # --- what he does with the form --------------------------------------------------------------------------------------

    async def _straight(self, form: Seen) -> None:
        await self._send(form, await self._another(PAYS))

    async def _declined(self, form: Seen) -> None:
        await self._send(form, await self._another(DECLINED))

    async def _challenged(self, form: Seen) -> None:
        await self._send(form, await self._another(CHALLENGED))

    async def _double_click(self, form: Seen) -> None:
        card = await self._another(PAYS)
        await asyncio.gather(*(self._send(form, card) for _ in range(self._chance.randint(2, 3))))

    async def _two_tabs(self, form: Seen) -> None:
        other = await self._form()
        cards = [await self._another(PAYS) for _ in range(2)]
        await asyncio.gather(*(self._send(tab, card) for tab, card in zip((form, other or form), cards, strict=True)))

    async def _back(self, form: Seen) -> None:
        await self._send(form, await self._another(self._chance.choice((PAYS, DECLINED))))
        await self._send(form, await self._another(PAYS))

    # --- what he sees, and does about it ---------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """He looks until the page says how it is, goes to his bank when it sends him there, and tries again when he may."""
        end = time.monotonic() + LOOKS_SECONDS
        while time.monotonic() < end:
            seen = await self._buyer.ask(self._order, "buy", self._order.url)
            if seen is not None and seen.bank:
                await self._at_bank(seen.bank)
            elif seen is not None and seen.fields:
                if self._cards >= CARDS_MAX or self._chance.random() > ANOTHER_CARD:
                    return
                await self._straight(seen)
            elif word_of(seen, posted=False) in (PAID, NOT_CHARGED):
                return
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def _at_bank(self, link: str) -> None:
        """He goes to his bank and answers, or takes another card; whoever is down on the way is met again when he looks next."""
        luck = self._chance.random()
        if luck > PASSES + REFUSES:
            # The page may still tell of the card before; that this one is not charged it cannot promise.
            other = await self._buyer.ask(self._order, "other card", f"{self._order.url}?card=other")
            if other is not None and other.fields:
                await self._straight(other)
            return
        way = await self._step(link)
        back = await self._step(_location(way), {"answer": "pass" if luck < PASSES else "fail"}) if _location(way) else None
        if self._chance.random() < STAYS_AWAY:
            return
        end = time.monotonic() + LOOKS_SECONDS
        here = _location(back)
        while here.startswith("http://127.0.0.1") and "redirect_status=" not in here and time.monotonic() < end:
            seen = await self._step(here)
            here = _location(seen) or (here if seen is not None and "refresh" in seen.html else "")
            await asyncio.sleep(LOOK_SECONDS)

    async def _step(self, url: str, form: Mapping[str, str] | None = None) -> Seen | None:
        return await self._buyer.ask(self._order, "bank", url, form, card=self._card)

    # --- how he asks -----------------------------------------------------------------------------------------------------

    async def _form(self) -> Seen | None:
        """The form; None when the page has none for him in time."""
        end = time.monotonic() + LOOKS_SECONDS
        while time.monotonic() < end:
            seen = await self._buyer.ask(self._order, "buy", self._order.url)
            if seen is not None and seen.fields:
                return seen
            if word_of(seen, posted=False) in (PAID, NOT_CHARGED):
                return None
            await asyncio.sleep(LOOK_SECONDS)
        return None

    async def _send(self, form: Seen, card: str, seconds: float = ANSWER_SECONDS) -> None:
        await self._buyer.ask(self._order, "buy", self._order.url, filled(form, card), card=card, seconds=seconds)

    async def _another(self, kind: str) -> str:
        self._card = await self._buyer.card(kind)
        self._cards += 1
        return self._card


def _location(seen: Seen | None) -> str:
    return seen.headers.get("location", "") if seen is not None and seen.status == 303 else ""


def word_of(seen: Seen | None, *, posted: bool) -> str:
    """What an answer says about the money: PAID, NOT_CHARGED, why that is not known yet, `form`, or nothing."""
    if seen is None:
        return ""
    told = parse_qs(urlsplit(_location(seen)).query).get("redirect_status", [""])[0]
    if told:
        return {"succeeded": PAID, "failed": NOT_CHARGED}.get(told, "waiting")
    if seen.status == 503:
        # It speaks of this request alone: who only looks has not asked for any money.
        return NOT_CHARGED if posted else "down"
    if seen.title == "Payment complete":
        return PAID
    if seen.title in NO_CLAIM:
        return NO_CLAIM[seen.title]
    if _NOTHING.search(seen.html):
        return NOT_CHARGED
    return "form" if seen.fields else ""
