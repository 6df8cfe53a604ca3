"""The till: a reader takes payments, one after the other. What it is told is a claim that is held against the buyer's account."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from chaos.asking import HANG_UP_SECONDS, Asking
from chaos.client import Answer, Merchant
from chaos.purse import DECLINED, PAYS

READERS: Final = "/v1/terminal/readers"
ADDRESS: Final[Mapping[str, str]] = {"line1": "Damrak 1", "city": "Amsterdam", "country": "NL", "postal_code": "1012"}
CANCELED: Final = 0.12
CANCELED_BEFORE: Final = 0.05
GONE: Final = 0.04
REFUSED: Final = 0.12
ANOTHER_CARD: Final = 0.5
CANCEL_WITHIN_SECONDS: Final = 0.3


class Till:
    """The readers of one client: one for each merchant, taken out of service when nobody knows what it is doing."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._chance = asking.chance
        self._readers: dict[int, str] = {}

    async def sell(self) -> None:
        """An order is paid at the reader, or not; a buyer who was told that it was not may try another card."""
        merchant, params = self._asking.order("till")
        made = await self._asking.do("till", merchant, "/v1/payment_intents", params | {"payment_method_types": ["card_present"]})
        if made is None or made.status != 200:
            return
        while await self._take(merchant, made.document["id"]) == "failed" and self._chance.random() < ANOTHER_CARD:
            continue

    async def _take(self, merchant: Merchant, payment: str) -> str:
        """One card is held to the reader: what the reader's action came to; empty when that is not known."""
        reader = await self._reader(merchant)
        path = f"{READERS}/{reader}"
        if not reader or not _is_done(await self._do("process", merchant, f"{path}/process_payment_intent", {"payment_intent": payment})):
            self._readers.pop(merchant.number, None)
            return ""
        luck = self._chance.random()
        if luck < CANCELED_BEFORE:
            await self._do("cancel_action", merchant, f"{path}/cancel_action", {})
        number = await self._asking.world.purse.card(DECLINED if self._chance.random() < REFUSED else PAYS)
        shown = {"type": "card_present", "card_present": {"number": number}}
        helper = f"/v1/test_helpers/terminal/readers/{reader}/present_payment_method"
        if luck > 1 - GONE:
            # The till loses its power: what the reader does from now on nobody knows.
            await self._asking.client.once(self._asking.post("gone", merchant, helper, shown), hang_up_after=HANG_UP_SECONDS)
            self._readers.pop(merchant.number)
            return ""
        holding = asyncio.ensure_future(self._do("present", merchant, helper, shown))
        canceled = self._asking.post("cancel_action", merchant, f"{path}/cancel_action", {})
        if luck < CANCELED:
            await asyncio.sleep(CANCEL_WITHIN_SECONDS * self._chance.random())
            await self._asking.client.ask(canceled)
        answer = await holding
        if luck < CANCELED:
            # Pressed once more: what it was refused, or had, it is refused, or has, for ever.
            await self._asking.client.ask(canceled)
        if answer is None:
            # Nothing stands under the card's key yet: a repeat of it would be taken for a card of the next order's.
            self._readers.pop(merchant.number, None)
            return ""
        action = answer.document.get("action") if answer.status == 200 else None
        return str(action["status"]) if action else ""

    async def _reader(self, merchant: Merchant) -> str:
        """The merchant's reader; empty when there is none in time."""
        if merchant.number not in self._readers:
            place = await self._do("set_up", merchant, "/v1/terminal/locations", {"display_name": "Shop", "address": dict(ADDRESS)})
            if not _is_done(place):
                return ""
            params = {"registration_code": "simulated-wpe", "location": place.document["id"]}
            made = await self._do("set_up", merchant, READERS, params)
            if not _is_done(made):
                return ""
            # Another order of this client's may have come before.
            self._readers.setdefault(merchant.number, made.document["id"])
        return self._readers[merchant.number]

    async def _do(self, op: str, merchant: Merchant, path: str, params: dict[str, Any]) -> Answer | None:
        return await self._asking.do(op, merchant, path, params)


def _is_done(answer: Answer | None) -> TypeGuard[Answer]:
    return answer is not None and answer.status == 200
