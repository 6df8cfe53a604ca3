"""Listen: forward a merchant's events to an address on the developer's own machine, as they happen.

Events are read from the API by the merchant's key, so what is forwarded is what a webhook would bear. Nothing is stored and
nothing is tried again: this is for building a receiver, not for running one.
"""

import asyncio
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct

from guilder.core.clock import SECOND, Clock, sleep
from guilder.security import Signer
from guilder.webhooks.headers import headers_of

# How often new events are asked for.
POLL_SECONDS: Final = 0.2
PAGE: Final = 100
# Forwarded at once: a receiver that waits for another event before it answers must not wait for ever.
FLYING_MAX: Final = 8
# A debugger may stop the receiver for a while.
DEADLINE_SECONDS: Final = 60.0


class Forwarded(Struct, frozen=True):
    """One event that was forwarded: the answer's status, or why there was none."""

    event: str
    type: str
    status: int | None
    failure: str | None


class Listening:
    """Forwards until cancelled.

    Args:
        api: the API's address, and the merchant's secret key.
        types: only these; a `*` in one stands for anything. Empty means all.
        got, forwarded: called when an event is there, and when its answer is.
        reached: called with False when the API does not answer any more, and with True when it does again.
    """

    def __init__(
        self, *, api: str, key: str, url: str, types: Sequence[str], signer: Signer, clock: Clock,
        got: Callable[[str, str], None], forwarded: Callable[[Forwarded], None], reached: Callable[[bool], None],
    ) -> None:  # fmt: skip
        self._api = api
        self._key = key
        self._url = url
        self._types = types
        self._signer = signer
        self._clock = clock
        self._got = got
        self._forwarded = forwarded
        self._reached = reached
        self._number = 0
        self._room = asyncio.Semaphore(FLYING_MAX)

    async def run(self, ready: Callable[[], None]) -> None:
        """Forward every event that happens after `ready` was called, those of a time in which the API was away included."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS), trust_env=False) as session:
            newest = await self._events(session, {"limit": "1"})
            cursor = newest[0]["id"] if newest else None
            ready()
            away = False
            async with asyncio.TaskGroup() as group:
                while True:
                    await sleep(POLL_SECONDS)
                    try:
                        found = await self._events(session, {"limit": str(PAGE), **({"ending_before": cursor} if cursor else {})})
                    except (aiohttp.ClientError, TimeoutError):
                        if not away:
                            self._reached(False)
                        away = True
                        continue
                    if away:
                        self._reached(True)
                    away = False
                    for event in reversed(found):
                        cursor = event["id"]
                        if not self._types or any(fnmatchcase(event["type"], one) for one in self._types):
                            await self._room.acquire()
                            group.create_task(self._forward(session, event))

    async def _events(self, session: aiohttp.ClientSession, query: dict[str, str]) -> list[dict[str, Any]]:
        """A page of events, newest first. Raises aiohttp.ClientError."""
        headers = {"Authorization": f"Bearer {self._key}"}
        async with session.get(f"{self._api}/v1/events", params=query, headers=headers, raise_for_status=True) as response:
            found: list[dict[str, Any]] = msgspec.json.decode(await response.read())["data"]
            return found

    async def _forward(self, session: aiohttp.ClientSession, event: dict[str, Any]) -> None:
        id_, type_, body = event["id"], event["type"], msgspec.json.encode(event)
        self._number += 1
        self._got(id_, type_)
        headers = headers_of(id_, self._number, self._clock.real() // SECOND, self._signer, body)
        status, failure = None, None
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except TimeoutError:
            failure = f"no answer within {DEADLINE_SECONDS:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = str(error) or type(error).__name__
        finally:
            self._room.release()
        self._forwarded(Forwarded(id_, type_, status, failure))
