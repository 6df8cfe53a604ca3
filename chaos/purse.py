"""Cards that are used for one try each, so that their account at the bank alone tells what became of it."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from chaos.system import System

# The accounts behind these numbers by what their issuer does: says yes, says no, wants to see the buyer first.
PAYS: Final = "pays"
DECLINED: Final = "declined"
CHALLENGED: Final = "challenged"
KINDS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    PAYS: ("424243", {}),
    DECLINED: ("424244", {"code": "05"}),
    CHALLENGED: ("424245", {"wants_authentication": "always", "authentication": "C"}),
}
BIN_DIGITS: Final = 6
# What each account is opened with, in whole units of every currency: no payment of a run comes near it.
OPENING: Final = 1_000_000_000
DECIMALS: Final[Mapping[str, int]] = {"jpy": 0, "kwd": 3}
OPENED_AT_ONCE: Final = 200
AGAIN_SECONDS: Final = 0.2
ASKED_AT_ONCE: Final = 8


class Purse:
    """All such cards of a run. `used` are the numbers that were handed out."""

    def __init__(self, system: System) -> None:
        self.used: list[str] = []
        self._system = system
        self._left: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self._opening = asyncio.Lock()

    async def card(self, kind: str) -> str:
        """A number that nobody has used; waits for the bank when there are no more."""
        async with self._opening:
            while not self._left[kind]:
                await self._open(kind)
        number = self._left[kind].pop()
        self.used.append(number)
        return number

    async def _open(self, kind: str) -> None:
        bin_, terms = KINDS[kind]
        wanted = {"bin": bin_, "count": OPENED_AT_ONCE, "terms": {"opening_major": OPENING, **terms}}
        answer = json.loads(await self._system.bank("POST", "/accounts", wanted))
        self._left[kind] = answer.get("numbers", [])
        if not self._left[kind]:
            # Its disk is full; the accounts are there as soon as there is room.
            await asyncio.sleep(AGAIN_SECONDS)

    async def taken(self) -> Mapping[str, Counter[str]]:
        """What each used card's account lacks now, held or spent: minor units by currency; an account that is whole lacks nothing."""
        found: dict[str, Counter[str]] = {}
        for at in range(0, len(self.used), ASKED_AT_ONCE):
            numbers = self.used[at : at + ASKED_AT_ONCE]
            answers = await asyncio.gather(*(self._system.bank("GET", f"/accounts?name={account_of(number)}") for number in numbers))
            found |= {number: lacking(json.loads(answer)) for number, answer in zip(numbers, answers, strict=True)}
        return found


def account_of(number: str) -> str:
    """The bank's name for the account of a generated number: its BIN, and its place in the BIN's sequence."""
    return f"{number[:BIN_DIGITS]}-{int(number[BIN_DIGITS:-1])}"


def lacking(answer: Mapping[str, Any]) -> Counter[str]:
    """What the account that a bank shows lacks, by currency."""
    [account] = answer["accounts"]
    lacks = Counter({
        currency: OPENING * 10 ** DECIMALS.get(currency, 2) - shown["balance"] + shown["held"]
        for currency, shown in account["balances"].items()
    })  # fmt: skip
    return Counter({currency: amount for currency, amount in lacks.items() if amount})
