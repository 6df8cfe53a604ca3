"""What the clients do: the mix of faults-and-invariants, by chance from the run's seed.

    pay               purchases in six currencies with exponents 0, 2 and 3, amounts that no other payment has
    pay at the PSP    at the second PSP's own page, where buyers pay, give up, close the window, and merchants cancel meanwhile
    pay by 3DS        frictionless, and with a challenge that the buyer answers at his bank
    order             at the payment page: the buyer, with a history of his own, is page.py; the merchant may expire it meanwhile
    till              at a reader: till.py
    auth + capture    in part or whole, or canceled
    refund            whole, in part, and clicked twice
    transfer          between wallets of the merchant, in the ledger
    set up            an endpoint that hears of nothing, and is deleted again; a ledger account and its balance
    read              what was made before, alone and in the list of the newest

A share of the cards goes to the second PSP (lab.py). Clients repeat a third of their requests under the same key at once or
later, send some keys with other parameters, and of some requests never hear again. Payouts and disputes come with the operations.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from chaos.asking import AT_FIRST, CURRENCIES, HANG_UP_SECONDS, Asking, Wallet, World
from chaos.client import Answer, Client, Merchant, Request
from chaos.page import Buyer, Order
from chaos.purse import Purse
from chaos.system import System
from chaos.till import Till

WEIGHTS: Final[Mapping[str, int]] = {
    "pay": 46, "pay_3ds": 5, "page": 4, "order": 4, "till": 3, "authorize": 10, "refund": 10, "transfer": 9, "decline": 3, "read": 5,
    "set_up": 1,
}  # fmt: skip
GONE: Final = 0.01
BY_NUMBER: Final = 0.2
CARDS_BIN: Final = "424242"
WALLETS_EACH: Final = 10
BUYER_SECONDS: Final = 15.0
# When the load ends, repeats go on for so long; what has no answer by then is for the final phase.
GIVE_UP_SECONDS: Final = 15.0
# What waits for its buyer at the PSP, newest first.
PAGE_OPEN: Final = """
SELECT a.reference, a.id, a.amount, a.currency FROM attempt_open o JOIN attempt a ON a.id = o.attempt
WHERE o.state = 'awaiting_buyer' ORDER BY o.since_at DESC LIMIT 10
"""
PAGE_LOOKS: Final = 20
LISTED: Final = "/v1/payment_intents?limit=20"
# Buyers who close the window, and as many who say no; of those who have paid, how many come back; and merchants who cancel meanwhile.
PAGE_CLOSED: Final = 0.12
PAGE_RETURNS: Final = 0.8
PAGE_CANCELED: Final = 0.15
SESSIONS: Final = "/v1/checkout/sessions"
# Orders that bear the mark of other operations, that say when they end, and that the merchant gives up.
MARKED: Final = 0.5
TIMED: Final = 0.2
ORDER_SECONDS: Final = 43_200
ORDER_GIVEN_UP: Final = 0.25
PAGE_CARD: Final = {"number": "4242424242424242", "expiry": "12/40", "cvc": "123"}


async def prepare(system: System, session: aiohttp.ClientSession, *, merchants: int, cards: int, mark: str) -> World:
    """Merchants, the cards of their buyers at the bank, and wallets in the ledger."""
    secrets = [system.ready["secret_key"], *await system.merchants(merchants - 1)]
    made = [Merchant(number, secret) for number, secret in enumerate(secrets)]
    answer = await system.bank("POST", "/accounts", {"bin": CARDS_BIN, "count": cards, "terms": {}})
    numbers = json.loads(answer)["numbers"]
    wallets = []
    for merchant in made:
        for _ in range(WALLETS_EACH):
            async with session.post(
                system.ready["api"] + "/v1/ledger/accounts", json={"currency": "eur"},
                headers={"Authorization": f"Bearer {merchant.secret}"},
            ) as opened:  # fmt: skip
                wallets.append(Wallet(merchant.number, (await opened.json())["id"]))
    return World(made, numbers, wallets, Purse(system), mark)


class Shopper:
    """One client at work, and the buyer whom it sends to its page: one operation after the other, with pauses that make up the rate.

    Args:
        mostly: an operation that is as frequent as all others together; none unless named.
    """

    def __init__(self, world: World, client: Client, buyer: Buyer, *, pause: float, mostly: str = "") -> None:
        self._world = world
        self._client = client
        self._buyer = buyer
        self._asking = Asking(world, client)
        self._chance = client.chance
        self._pause = pause
        self._weights = dict(WEIGHTS) | ({mostly: sum(WEIGHTS.values())} if mostly else {})
        self._operations: Mapping[str, Callable[[], Awaitable[None]]] = {
            "pay": self._pay, "pay_3ds": self._pay_3ds, "page": self._page, "order": self._sell, "till": Till(self._asking).sell,
            "authorize": self._authorize, "refund": self._refund, "transfer": self._transfer, "decline": self._decline,
            "read": self._read, "set_up": self._set_up,
        }  # fmt: skip

    async def work(self, stop: asyncio.Event) -> None:
        """Shop until told to stop, then wait for what was to be repeated later."""
        while not stop.is_set():
            [name] = self._chance.choices(list(self._weights), list(self._weights.values()))
            await self._operations[name]()
            self._world.done += 1
            await asyncio.sleep(self._chance.expovariate(1 / self._pause) if self._pause else 0)
        self._client.until = time.monotonic() + GIVE_UP_SECONDS
        await asyncio.gather(*self._asking.later)

    # --- operations ------------------------------------------------------------------------------------------------------

    async def _pay(self) -> None:
        merchant, params = self._order("pay")
        if self._chance.random() < GONE:
            # Sent, and never heard of again: the system finishes alone.
            await self._client.once(self._asking.post("gone", merchant, "/v1/payment_intents", params), hang_up_after=HANG_UP_SECONDS)
            return
        answer = await self._do("pay", merchant, "/v1/payment_intents", params)
        self._remember(merchant, answer)

    async def _decline(self) -> None:
        merchant, params = self._order("decline")
        params.pop("payment_method_data", None)
        params["payment_method"] = self._chance.choice(
            ("pm_card_visa_chargeDeclined", "pm_card_visa_chargeDeclinedInsufficientFunds", "pm_card_chargeDeclinedExpiredCard"),
        )  # fmt: skip
        await self._do("decline", merchant, "/v1/payment_intents", params)

    async def _pay_3ds(self) -> None:
        merchant, params = self._order("pay_3ds", self._chance.choice(AT_FIRST))
        params.pop("payment_method_data", None)
        challenged = self._chance.random() < 0.5
        params["payment_method"] = f"pm_card_{'threeDSecure2Required' if challenged else 'threeDSecureFrictionless'}"
        params["payment_method_options"] = {"card": {"request_three_d_secure": "any"}}
        params["return_url"] = "https://shop.example/done"
        answer = await self._do("pay_3ds", merchant, "/v1/payment_intents", params)
        if answer is None or answer.status != 200:
            return
        action = answer.document.get("next_action")
        if action:
            with suppress(aiohttp.ClientError, TimeoutError):
                await self._challenge(action["redirect_to_url"]["url"])

    async def _challenge(self, url: str) -> None:
        """The buyer goes to his bank, says yes or no, and comes back, unless somebody is down on the way."""
        bank, _ = await self._client.browse(url)
        if not bank:
            return
        back, _ = await self._client.browse(bank, {"answer": self._chance.choice(("pass", "pass", "fail"))})
        end = time.monotonic() + BUYER_SECONDS
        while back and urlsplit(back).netloc.startswith("127.0.0.1") and time.monotonic() < end:
            back, page = await self._client.browse(back)
            if "refresh" not in page and not back:
                return
            await asyncio.sleep(0.2)

    async def _page(self) -> None:
        """The buyer is to pay at the PSP's own page; and does, or not, or the merchant changes his mind."""
        merchant, params = self._order("page")
        for name in ("payment_method", "payment_method_data"):
            params.pop(name, None)
        params |= {
            "payment_method_types": ["psp_page"], "payment_method_data": {"type": "psp_page"}, "return_url": "https://shop.example/done",
        }  # fmt: skip
        answer = await self._do("page", merchant, "/v1/payment_intents", params)
        if answer is None or answer.status != 200:
            return
        payment = answer.document["id"]
        way = await self._way(merchant, payment)
        canceled = self._chance.random() < PAGE_CANCELED
        buying = asyncio.ensure_future(self._buy(way))
        if canceled:
            await asyncio.sleep(self._chance.random())
            await self._do("cancel", merchant, f"/v1/payment_intents/{payment}/cancel", {})
        await buying

    async def _way(self, merchant: Merchant, payment: str) -> str:
        """Where the buyer is sent; empty when that is not known in time."""
        for _ in range(PAGE_LOOKS):
            shown = await self._client.once(Request("look", merchant, "GET", f"/v1/payment_intents/{payment}"))
            action = shown.document.get("next_action") if shown is not None and shown.status == 200 else None
            if action:
                return str(action["redirect_to_url"]["url"])
            await asyncio.sleep(0.2)
        return ""

    async def _buy(self, way: str) -> None:
        with suppress(aiohttp.ClientError, TimeoutError):
            page, _ = await self._client.browse(way) if way else ("", "")
            luck = self._chance.random()
            if not page or luck < PAGE_CLOSED:
                return
            choice = PAGE_CARD | {"answer": "pay"} if luck > 2 * PAGE_CLOSED else {"answer": "cancel"}
            back, _ = await self._client.browse(page, choice)
            if back and self._chance.random() < PAGE_RETURNS:
                await self._client.browse(back)

    async def _sell(self) -> None:
        """A buyer is sent to the payment page; now and then the merchant gives the order up: before he pays, meanwhile, or after."""
        merchant, order = self._asking.order("order")
        marked = {"metadata": order["metadata"], "payment_intent_data": {"metadata": order["metadata"]}}
        price = {"currency": order["currency"], "unit_amount": order["amount"], "product_data": {"name": "Coffee"}}
        params = {
            "mode": "payment", "line_items": [{"price_data": price}], "success_url": "https://shop.example/thanks",
            "cancel_url": "https://shop.example/cart", **(marked if self._chance.random() < MARKED else {}),
            # By the merchant's clock, of which nobody knows by how much business time is ahead: what is too near is refused.
            **({"expires_at": int(time.time()) + ORDER_SECONDS} if self._chance.random() < TIMED else {}),
        }  # fmt: skip
        made = await self._do("order", merchant, SESSIONS, params)
        if made is None or made.status != 200:
            return
        session = made.document
        buying = asyncio.ensure_future(self._buyer.buy(Order(
            session["id"], session["url"], merchant.number, order["amount"], order["currency"],
        )))  # fmt: skip
        if self._chance.random() < ORDER_GIVEN_UP:
            await asyncio.wait((buying,), timeout=self._chance.choice((0.0, self._chance.random(), BUYER_SECONDS)))
            await self._do("expire", merchant, f"{SESSIONS}/{session['id']}/expire", {})
        await buying

    async def _authorize(self) -> None:
        merchant, params = self._order("authorize")
        answer = await self._do("authorize", merchant, "/v1/payment_intents", params | {"capture_method": "manual"})
        if answer is None or answer.status != 200 or answer.document["status"] != "requires_capture":
            return
        payment = answer.document["id"]
        luck = self._chance.random()
        if luck < 0.2:
            await self._do("cancel", merchant, f"/v1/payment_intents/{payment}/cancel", {})
        elif luck < 0.3:
            # Two people at once: one takes it, the other gives it up.
            await asyncio.gather(
                self._do("cancel", merchant, f"/v1/payment_intents/{payment}/cancel", {}),
                self._do("capture", merchant, f"/v1/payment_intents/{payment}/capture", {}),
            )  # fmt: skip
        elif luck < 0.9:
            whole = params["amount"]
            step = CURRENCIES[params["currency"]]
            part = self._chance.randint(1, whole // step) * step
            taken = {"amount_to_capture": part} if luck < 0.6 else {}
            self._remember(merchant, await self._do("capture", merchant, f"/v1/payment_intents/{payment}/capture", taken))

    async def _refund(self) -> None:
        if not self._world.paid:
            return
        merchant, payment, amount = self._chance.choice(self._world.paid)
        params: dict[str, Any] = {"payment_intent": payment}
        luck = self._chance.random()
        if luck < 0.6:
            params["amount"] = max(amount // self._chance.randint(2, 4) // 10 * 10, 10)
        if luck < 0.8:
            await self._do("refund", merchant, "/v1/refunds", params)
            return
        if luck > 0.9:
            # Two people at once, each with most of the amount: one of them must be refused.
            most = {"payment_intent": payment, "amount": max(amount * 2 // 3 // 10 * 10, 10)}
            await asyncio.gather(*(self._do("refund", merchant, "/v1/refunds", most) for _ in range(2)))
            return
        # Clicked twice: the same key at once.
        request = self._asking.post("refund", merchant, "/v1/refunds", params)
        await asyncio.gather(self._client.ask(request), self._client.ask(request))

    async def _transfer(self) -> None:
        first = self._chance.choice(self._world.wallets)
        second = self._chance.choice([one for one in self._world.wallets if one.merchant == first.merchant and one.id != first.id])
        number = next(self._world.numbers)
        params = {
            "id": f"{self._world.mark}-{number}", "debit": first.id, "credit": second.id, "amount": self._chance.randint(1, 100_000),
        }  # fmt: skip
        await self._do("transfer", self._world.merchants[first.merchant], "/v1/ledger/transfers", params)

    async def _set_up(self) -> None:
        """What merchants do now and then, off the path of payments."""
        [merchant] = self._chance.choices(self._world.merchants, self._world.shares)
        account = await self._do("set_up", merchant, "/v1/ledger/accounts", {"currency": "eur"})
        if account is not None and account.status == 200:
            await self._client.once(Request("look", merchant, "GET", f"/v1/ledger/accounts/{account.document['id']}"))
        params = {"url": "https://shop.example/events", "enabled_events": ["customer.deleted"]}
        endpoint = await self._do("set_up", merchant, "/v1/webhook_endpoints", params)
        if endpoint is not None and endpoint.status == 200:
            await self._client.once(Request("look", merchant, "DELETE", f"/v1/webhook_endpoints/{endpoint.document['id']}"))

    async def _read(self) -> None:
        if self._world.paid:
            merchant, payment, _ = self._chance.choice(self._world.paid)
            await self._client.once(Request("read", merchant, "GET", f"/v1/payment_intents/{payment}"))
            await self._client.once(Request("list", merchant, "GET", LISTED))

    # --- how they ask ----------------------------------------------------------------------------------------------------

    def _order(self, op: str, currency: str = "") -> tuple[Merchant, dict[str, Any]]:
        """An order that is to be paid at once, by a card."""
        merchant, params = self._asking.order(op, currency)
        params["confirm"] = True
        if self._chance.random() < BY_NUMBER:
            card = {"number": self._chance.choice(self._world.cards), "exp_month": 12, "exp_year": 2045, "cvc": "739"}
            params["payment_method_data"] = {"type": "card", "card": card}
        else:
            params["payment_method"] = self._chance.choice(("pm_card_visa", "pm_card_mastercard", "pm_card_amex"))
        return merchant, params

    async def _do(self, op: str, merchant: Merchant, path: str, params: dict[str, Any]) -> Answer | None:
        return await self._asking.do(op, merchant, path, params)

    def _remember(self, merchant: Merchant, answer: Answer | None) -> None:
        if answer is not None and answer.status == 200 and answer.document.get("status") == "succeeded":
            self._world.keep(merchant, answer.document["id"], answer.document["amount_received"])
