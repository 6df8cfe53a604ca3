"""How clients ask: orders that can be told apart, a key for each request, and what clients do besides with their keys."""

import asyncio
from collections.abc import Mapping
from itertools import count
from random import Random
from typing import Any, Final

from msgspec import Struct

from chaos.client import Answer, Client, Merchant, Request
from chaos.purse import Purse

# Minor units per step: what the API takes of a currency with three decimals is a multiple of ten.
CURRENCIES: Final[Mapping[str, int]] = {"eur": 1, "usd": 1, "gbp": 1, "chf": 1, "jpy": 1, "kwd": 10}
# What only the first PSP takes: those that the routes send to the second one are left out.
AT_FIRST: Final = ("eur", "usd", "jpy", "kwd")
AMOUNT_FIRST: Final = 1_000
REPEATED: Final = 0.3
OTHER_PARAMETERS: Final = 0.02
HANG_UP_SECONDS: Final = 0.005
KEPT_MAX: Final = 500
# The share of merchant n among all is proportional to 1 / (n + 1).
ZIPF: Final = 1.0


class Wallet(Struct, frozen=True):
    """A ledger account of a merchant."""

    merchant: int
    id: str


class World:
    """What the clients of a run share: merchants, cards, wallets, and what they have made so far."""

    def __init__(self, merchants: list[Merchant], cards: list[str], wallets: list[Wallet], purse: Purse, mark: str) -> None:
        self.merchants = merchants
        self.cards = cards
        self.wallets = wallets
        self.purse = purse
        self.mark = mark
        self.numbers = count(1)
        self.paid: list[tuple[Merchant, str, int]] = []
        self.shares = [1 / (number + 1) ** ZIPF for number in range(len(merchants))]
        self.done = 0
        self.payments = 0

    def keep(self, merchant: Merchant, payment: str, amount: int) -> None:
        """A payment that succeeded may be refunded or read by anybody; the oldest are forgotten."""
        self.paid.append((merchant, payment, amount))
        if len(self.paid) > KEPT_MAX:
            del self.paid[: KEPT_MAX // 2]


class Asking:
    """One client's requests. `later` are those that it repeats when it has gone on to other things."""

    def __init__(self, world: World, client: Client) -> None:
        self.world = world
        self.client = client
        self.chance: Random = client.chance
        self.later: list[asyncio.Task[Any]] = []

    def order(self, op: str, currency: str = "") -> tuple[Merchant, dict[str, Any]]:
        """An order of somebody's: an amount that nobody else has in its currency (any, unless given), and a mark to find it by."""
        [merchant] = self.chance.choices(self.world.merchants, self.world.shares)
        number = next(self.world.numbers)
        self.world.payments += 1
        currency = currency or self.chance.choice(list(CURRENCIES))
        return merchant, {
            "amount": (AMOUNT_FIRST + number) * CURRENCIES[currency], "currency": currency,
            "metadata": {"order": f"{self.world.mark}-{number}", "op": op},
        }  # fmt: skip

    def post(self, op: str, merchant: Merchant, path: str, params: dict[str, Any]) -> Request:
        """A request with a key of its own."""
        return Request(op, merchant, "POST", path, params, f"{self.world.mark}-{self.chance.getrandbits(96):x}")

    async def do(self, op: str, merchant: Merchant, path: str, params: dict[str, Any]) -> Answer | None:
        """Ask until it is answered; and what clients do besides: the same again, or the same key for something else."""
        request = self.post(op, merchant, path, params)
        luck = self.chance.random()
        if luck < REPEATED / 3:
            # The second while the first runs.
            answers = await asyncio.gather(self.client.ask(request), self.client.once(request))
            return answers[0]
        answer = await self.client.ask(request)
        if answer is None:
            return None
        if luck < REPEATED:
            self.later.append(asyncio.ensure_future(self._repeat(request, self.chance.uniform(0, 10))))
        elif luck < REPEATED + OTHER_PARAMETERS and "amount" in params:
            other = Request("misuse", merchant, "POST", path, params | {"amount": params["amount"] + 10}, request.key)
            await self.client.ask(other)
        return answer

    async def _repeat(self, request: Request, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.client.ask(request)
