"""A merchant's webhook receiver: checks each signature by itself, keeps what came, and has troubles of its own on request."""

import asyncio
import hmac
import json
from collections import Counter
from random import Random
from typing import Any, Final

from aiohttp import web
from msgspec import Struct

from chaos.desk import Desk

# A receiver in trouble fails so many of its requests.
TROUBLE: Final = 0.3


class Seen(Struct, frozen=True):
    """One delivery as it arrived."""

    event: str
    type: str
    number: int
    object: str
    state: str
    made: int


class Receiver(Desk):
    """The receiver of all endpoints, each with a path of its own; see `expect`."""

    def __init__(self, chance: Random) -> None:
        super().__init__("/{endpoint}", self._take)
        self.seen: dict[str, list[Seen]] = {}
        self.forged: Counter[str] = Counter()
        self.in_trouble = False
        self._secrets: dict[str, bytes] = {}
        self._chance = chance

    def expect(self, name: str, secret: str) -> None:
        """Deliveries to /name are signed with this."""
        self._secrets[name] = secret.encode()
        self.seen[name] = []

    async def _take(self, request: web.Request) -> web.Response:
        name, body = request.match_info["endpoint"], await request.read()
        if not self._signed(name, request.headers.get("Stripe-Signature", ""), body):
            self.forged[name] += 1
            return web.Response(status=400)
        document = json.loads(body)
        if self.in_trouble and self._chance.random() < TROUBLE:
            await asyncio.sleep(self._chance.random())
            return web.Response(status=self._chance.choice((500, 503)))
        about: dict[str, Any] = document["data"]["object"]
        self.seen[name].append(Seen(
            document["id"], document["type"], int(request.headers.get("Guilder-Sequence", 0)), about.get("id", ""),
            str(about.get("status", "")), document["created"],
        ))  # fmt: skip
        return web.Response()

    def _signed(self, name: str, header: str, body: bytes) -> bool:
        parts = [part.partition("=") for part in header.split(",")]
        times = [value for key, _, value in parts if key == "t"]
        if len(times) != 1 or name not in self._secrets:
            return False
        wanted = hmac.new(self._secrets[name], times[0].encode() + b"." + body, "sha256").hexdigest()
        return any(key == "v1" and hmac.compare_digest(value, wanted) for key, _, value in parts)
