"""A client as merchants' servers are: asynchronous HTTP, an idempotency key on each request, and repeats until it is answered."""

import asyncio
import time
from random import Random
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct

from chaos.history import History, digest, told

# What a client waits for one answer; the API itself answers after 10 s whatever happens.
ANSWER_SECONDS: Final = 20.0
# Waits between repeats: from the first to the cap, doubling, with full jitter, as the official SDKs do.
WAIT_FIRST_SECONDS: Final = 0.1
WAIT_MAX_SECONDS: Final = 2.0
# Statuses that promise nothing: repeat with the same key. 503 promises that nothing was stored.
UNTOLD: Final = frozenset({500, 502, 504})
UNAVAILABLE: Final = 503
# Of those who are told 503, so many do not come back.
LEFT: Final = 0.2


class Merchant(Struct, frozen=True):
    """One of the merchants of the run."""

    number: int
    secret: str


class Answer(Struct, frozen=True):
    """One HTTP answer."""

    status: int
    body: bytes
    replayed: bool
    should_retry: bool
    # By how many seconds it says that it may be old; None where it says nothing of that.
    age: float | None = None

    @property
    def definite(self) -> bool:
        """Whether nothing more is to be learned under this key."""
        return not (self.status in UNTOLD or self.status in (UNAVAILABLE, 429) or (self.status == 409 and self.should_retry))

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object."""
        found: dict[str, Any] = msgspec.json.decode(self.body)
        return found


class Request(Struct, frozen=True):
    """What is asked, by whom, under which key."""

    op: str
    merchant: Merchant
    method: str
    path: str
    params: dict[str, Any] | None = None
    key: str = ""


class Client:
    """One client with its own file and its own luck.

    Args:
        url: where the API is.
        until: repeats end at this moment of the loop's clock; what has no answer by then is left to the final phase.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, history: History, chance: Random, *, until: float) -> None:
        self.url = url
        self.chance = chance
        self.until = until
        self._session = session
        self._history = history

    async def ask(self, request: Request) -> Answer | None:
        """The definite answer, with as many repeats as it takes; None when there was none in time."""
        wait = WAIT_FIRST_SECONDS
        while True:
            answer = await self.once(request)
            if answer is not None and answer.definite:
                return answer
            if time.monotonic() > self.until:
                return None
            if answer is not None and answer.status == UNAVAILABLE and self.chance.random() < LEFT:
                # It was told that nothing is stored, and goes elsewhere: nothing may be.
                self._history.write("left", request.op, key=request.key, merchant=request.merchant.number, params=request.params)
                return None
            await asyncio.sleep(wait * self.chance.random())
            wait = min(2 * wait, WAIT_MAX_SECONDS)

    async def once(self, request: Request, *, hang_up_after: float | None = None) -> Answer | None:
        """Send once: written down before, and what came of it after. None when the answer is lost, or not waited for."""
        known: dict[str, Any] = {
            "key": request.key, "merchant": request.merchant.number, "method": request.method, "path": request.path,
        }  # fmt: skip
        known["asked"] = self._history.write("invoke", request.op, params=request.params, **known)
        try:
            answer = await self._send(request, hang_up_after or ANSWER_SECONDS)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._history.write("fail", request.op, error=type(error).__name__, **known)
            return None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._history.write("info", request.op, error=type(error).__name__, **known)
            return None
        phase = "ok" if answer.definite else "info" if answer.status in UNTOLD or answer.status == 409 else "fail"
        self._history.write(
            phase, request.op, status=answer.status, digest=digest(answer.body), replayed=answer.replayed, age=answer.age, **known,
            **told(answer.body),
        )  # fmt: skip
        return answer

    async def _send(self, request: Request, seconds: float) -> Answer:
        headers = {"Authorization": f"Bearer {request.merchant.secret}"}
        if request.key:
            headers["Idempotency-Key"] = request.key
        async with self._session.request(
            request.method, self.url + request.path, json=request.params, headers=headers, timeout=aiohttp.ClientTimeout(total=seconds),
            allow_redirects=False,
        ) as answer:  # fmt: skip
            body = await answer.read()
            age = answer.headers.get("Guilder-Data-Age")
            return Answer(
                answer.status, body, answer.headers.get("Idempotent-Replayed") == "true",
                answer.headers.get("Stripe-Should-Retry") == "true", None if age is None else float(age),
            )  # fmt: skip

    async def browse(self, url: str, form: dict[str, str] | None = None) -> tuple[str, str]:
        """A buyer's step: where he is sent to (empty when nowhere) and the page."""
        async with self._session.request(
            "POST" if form else "GET", url, data=form, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        ) as answer:  # fmt: skip
            return answer.headers.get("Location", ""), await answer.text()
