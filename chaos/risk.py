"""An external risk service: scores each payment over HTTP, refuses some, and has troubles of its own on request."""

import asyncio
import zlib
from collections.abc import Mapping
from random import Random
from typing import Final

from aiohttp import web

from chaos.desk import Desk

TIMEOUT_SECONDS: Final = 0.5
# What passes while it says nothing, minor units by currency: all, the smaller ones, and nothing of what is not listed.
PASS_UP_TO: Final[Mapping[str, int]] = {"eur": 1_000_000_000, "usd": 3_000, "jpy": 3_000}
TUNING: Final = """
[risk]
url = "http://127.0.0.1:{port}/score"
timeout_seconds = {seconds}
pass_up_to = {{ {limits} }}
[risk.breaker]
cool_down_seconds = 1.0
"""
# One payment in so many is refused, whoever asks how often.
REFUSED_EACH: Final = 50
TROUBLES: Final = ("slow", "silent", "reset", "error", "garbage", "none")


class RiskDesk(Desk):
    """The risk service. `opinions` is what it has said, by payment."""

    def __init__(self, chance: Random) -> None:
        super().__init__("/score", self._answer)
        self.opinions: dict[str, str] = {}
        self.in_trouble = False
        self._chance = chance

    @property
    def tuning(self) -> str:
        """What the system under test is configured with to ask here."""
        limits = ", ".join(f"{currency} = {amount}" for currency, amount in PASS_UP_TO.items())
        return TUNING.format(port=self.port, seconds=TIMEOUT_SECONDS, limits=limits)

    async def _answer(self, request: web.Request) -> web.Response:
        payment = str((await request.json())["payment"])
        match self._chance.choice(TROUBLES) if self.in_trouble else "none":
            case "silent":
                await asyncio.sleep(4 * TIMEOUT_SECONDS)
                return web.Response(status=504)
            case "reset":
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=500)
            case "error":
                return web.Response(status=503)
            case "garbage":
                return web.Response(text="it depends")
            case "slow":
                # In time, or just not.
                await asyncio.sleep(self._chance.uniform(0.5, 1.5) * TIMEOUT_SECONDS)
        verdict = "refuse" if zlib.crc32(payment.encode()) % REFUSED_EACH == 0 else "allow"
        self.opinions[payment] = verdict
        return web.json_response({"verdict": verdict, "score": 20})
