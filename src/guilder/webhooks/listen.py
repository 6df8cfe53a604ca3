"""Listen: follow a merchant's events as they happen, and forward them to an address on the developer's own machine.

Events are read from the API by the merchant's key, so what is forwarded is what a webhook would bear. Nothing is stored and
nothing is tried again: this is for building a receiver, not for running one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct

from guilder.core.clock import sleep
from guilder.core.errors import GuilderError
from guilder.core.retry import Kind, Retry
from guilder.security import mask_text
from guilder.webhooks.forward import Forwarded, Forwarder, reason
from guilder.webhooks.types import fits

# How often new events are asked for.
POLL_SECONDS: Final = 0.2
PAGE: Final = 100
# Forwarded at once: a receiver that waits for another event before it answers must not wait for ever.
FLYING_MAX: Final = 8
# Of one question to the API, which answers within milliseconds.
ASK_SECONDS: Final = 10.0
# Of an API that is away. A system starts within seconds, and nobody wants to wait much longer than that for the first event.
AGAIN: Final = Retry(kind=Kind.EXPONENTIAL, base_seconds=POLL_SECONDS, factor=2.0, cap_seconds=2.0)
# A timeout, a conflict, too much at once: the API may answer otherwise in a moment, as it may after any 5xx.
PASSING: Final = frozenset({408, 409, 425, 429})
REFUSED_KEY: Final = frozenset({401, 403})


class KeyRefused(GuilderError):
    """The API does not accept the key, or not for this; the message is the API's."""


class ApiRefused(GuilderError):
    """The API does not answer as one does that has events; to ask again would not help."""


class _AwayError(Exception):
    """There is no answer now; the text says why."""


class _Page(Struct, frozen=True):
    """A page of events, newest first, and whether there are more."""

    data: list[dict[str, Any]]
    has_more: bool


class Listening:
    """Follows until cancelled.

    Args:
        api: the API's address, and the merchant's secret key.
        types: only these; a `*` in one stands for any characters. Empty means all.
        forwarder: None for an audience of `got` alone.
        got, forwarded: called with an event when it is there, and when its answer is.
        away, back: called with the reason when the API does not answer any more, and when it does again.
    """

    def __init__(
        self, *, api: str, key: str, types: Sequence[str], forwarder: Forwarder | None, got: Callable[[dict[str, Any]], None],
        forwarded: Callable[[Forwarded], None], away: Callable[[str], None], back: Callable[[], None],
    ) -> None:  # fmt: skip
        self._api = api
        self._key = key
        self._types = types
        self._forwarder = forwarder
        self._got = got
        self._forwarded = forwarded
        self._away = away
        self._back = back
        self._number = 0
        self._room = asyncio.Semaphore(FLYING_MAX)

    async def run(self, ready: Callable[[], None]) -> None:
        """Take every event that happens after `ready` was called once and in order, those of a time in which the API was away included.

        Raises KeyRefused, ApiRefused: at any time, after what was on its way has been answered.
        """
        ended: GuilderError | None = None
        async with aiohttp.ClientSession(trust_env=False) as session, asyncio.TaskGroup() as group:
            try:
                async for event in self._follow(session, ready):
                    if self._types and not fits(event["type"], self._types):
                        continue
                    if self._forwarder is None:
                        self._got(event)
                        continue
                    await self._room.acquire()
                    self._number += 1
                    self._got(event)
                    group.create_task(self._forward(session, self._forwarder, event, self._number))
            except (KeyRefused, ApiRefused) as error:
                ended = error
        if ended is not None:
            raise ended

    async def _forward(self, session: aiohttp.ClientSession, forwarder: Forwarder, event: dict[str, Any], number: int) -> None:
        try:
            self._forwarded(await forwarder.forward(session, event, number))
        finally:
            self._room.release()

    async def _follow(self, session: aiohttp.ClientSession, ready: Callable[[], None]) -> AsyncIterator[dict[str, Any]]:
        """The events after this moment, oldest first, for ever."""
        newest = (await self._ask(session, limit="1")).data
        cursor = newest[0]["id"] if newest else None
        ready()
        while True:
            page = await self._first(session) if cursor is None else await self._ask(session, limit=str(PAGE), ending_before=cursor)
            for event in reversed(page.data):
                cursor = event["id"]
                yield event
            if not page.has_more:
                await sleep(POLL_SECONDS)

    async def _first(self, session: aiohttp.ClientSession) -> _Page:
        """A page with the very first event alone; empty as long as there is none."""
        page = await self._ask(session, limit=str(PAGE))
        while page.has_more:
            page = await self._ask(session, limit=str(PAGE), starting_after=page.data[-1]["id"])
        return _Page(page.data[-1:], bool(page.data))

    async def _ask(self, session: aiohttp.ClientSession, **query: str) -> _Page:
        """A page of events, however long the API is away. Raises KeyRefused, ApiRefused."""
        tries = 0
        while True:
            try:
                page = await self._page(session, query)
            except _AwayError as away:
                tries += 1
                if tries == 1:
                    self._away(str(away))
                await sleep(AGAIN.wait(tries))
            else:
                if tries:
                    self._back()
                return page

    async def _page(self, session: aiohttp.ClientSession, query: dict[str, str]) -> _Page:
        headers = {"Authorization": f"Bearer {self._key}"}
        try:
            async with session.get(
                f"{self._api}/v1/events", params=query, headers=headers, allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=ASK_SECONDS),
            ) as response:  # fmt: skip
                status, body = response.status, await response.read()
        except TimeoutError as error:
            raise _AwayError(f"no answer within {ASK_SECONDS:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _AwayError(reason(error)) from error
        if status >= 500 or status in PASSING:
            raise _AwayError(f"it answers {status}")
        if status != 200:
            refused = KeyRefused if status in REFUSED_KEY else ApiRefused
            raise refused(f"{self._api} answers {status}: {_message(body)}")
        try:
            return msgspec.json.decode(body, type=_Page)
        except msgspec.DecodeError as error:
            raise ApiRefused(f"{self._api} answers what is no list of events; does something else listen there?") from error


def _message(body: bytes) -> str:
    """What the API says in an error, without keys."""
    try:
        return mask_text(str(msgspec.json.decode(body)["error"]["message"]))
    except (msgspec.DecodeError, KeyError, TypeError):
        return "without a reason"
