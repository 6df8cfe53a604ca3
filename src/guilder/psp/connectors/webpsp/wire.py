"""The wire: one request over HTTP, with a record of its own of whether a byte was written. aiohttp lives here.

The right to send is asked for in the step that writes the first byte, when the connection stands: a POST's head and body
leave in one write, which its payload makes; a GET's when it is sent.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Final, Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from msgspec import Struct

from guilder import __version__
from guilder.psp.connectors.webpsp.requests import Call
from guilder.psp.connectors.webpsp.settings import ANSWER_BYTES_MAX, IDLE_SECONDS, Limits, WebpspSettings
from guilder.psp.model import Reason

USER_AGENT: Final = f"Guilder/{__version__} (webpsp)"


class Parcel(Protocol):
    """Whoever's request it is."""

    def leave(self) -> bool:
        """Whether it may go now; asked right before its first byte."""
        ...

    def leaves(self) -> None:
        """Its first byte is about to be written: from now on it can only be answered or unknown."""
        ...

    def left(self) -> None:
        """It has been written."""
        ...


class Answer(Struct, frozen=True):
    """What came back. `retry_after` in seconds, where the PSP said when to come again."""

    status: int
    body: bytes
    retry_after: int | None = None


class Broken(Exception):
    """There is no answer; why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class _NotAllowedError(Exception):
    """The parcel was held back; nothing was written."""


_parcel: ContextVar[Parcel] = ContextVar("webpsp_parcel")


class _Guarded(aiohttp.ClientRequest):
    async def send(self, conn: Any) -> aiohttp.ClientResponse:  # noqa: ANN401 - aiohttp's Connection
        if self.method != "GET":
            return await super().send(conn)
        parcel = _parcel.get()
        _go(parcel)
        response = await super().send(conn)
        parcel.left()
        return response


class _Body(aiohttp.BytesPayload):
    """A body that asks for the right to send when it, and the head before it, are about to be written."""

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        parcel = _parcel.get()
        _go(parcel)
        await super().write_with_length(writer, content_length)
        parcel.left()


def _go(parcel: Parcel) -> None:
    if not parcel.leave():
        raise _NotAllowedError
    parcel.leaves()


class Wire:
    """A pool of connections. Made inside the loop.

    Args:
        connected: told how many seconds each new connection took, its name and TLS included.
    """

    def __init__(self, settings: WebpspSettings, limits: Limits, connections_max: int, connected: Callable[[float], None]) -> None:
        self._url = settings.url.rstrip("/")
        self._authorization = f"Bearer {settings.api_key.reveal()}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections_max, keepalive_timeout=IDLE_SECONDS, ssl=_tls(settings), ttl_dns_cache=10,
            ),
            # `connect` counts the wait for a connection of the pool, too. Rounding waits up to whole seconds would lengthen short ones.
            timeout=aiohttp.ClientTimeout(
                total=limits.queue_seconds + limits.late_seconds, connect=limits.queue_seconds, sock_connect=limits.connect_seconds,
                sock_read=limits.silence_seconds, ceil_threshold=limits.queue_seconds + limits.late_seconds + 1,
            ),
            request_class=_Guarded, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, raise_for_status=False,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"}, auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",), trace_configs=[_timed(connected)],
        )  # fmt: skip

    async def ask(self, call: Call, parcel: Parcel) -> Answer:
        """Send a request and read its answer. Never follows a redirect, never sends twice what may have left.

        Raises Broken.
        """
        _parcel.set(parcel)
        headers = {"Authorization": self._authorization}
        body = None
        if call.key is not None:
            headers |= {"Idempotency-Key": call.key, "Content-Type": "application/json"}
            body = _Body(call.body, content_type="application/json")
        try:
            async with self._session.request(
                call.method, self._url + call.path, data=body, headers=headers, allow_redirects=False,
            ) as response:  # fmt: skip
                return await _read(response)
        except (aiohttp.ClientError, _NotAllowedError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise Broken(_reason(error)) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _timed(connected: Callable[[float], None]) -> aiohttp.TraceConfig:
    """Have connections timed, from the begin of one to where requests can be written to it."""

    async def begins(_session: object, context: SimpleNamespace, _told: object) -> None:
        context.began = asyncio.get_running_loop().time()

    async def stands(_session: object, context: SimpleNamespace, _told: object) -> None:
        connected(asyncio.get_running_loop().time() - context.began)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(begins)
    trace.on_connection_create_end.append(stands)
    return trace


async def _read(response: aiohttp.ClientResponse) -> Answer:
    """The answer, whole. Raises Broken when there is more of it than can be one."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            response.close()
            raise Broken(Reason.UNREADABLE)
    after = response.headers.get("Retry-After", "")
    return Answer(response.status, bytes(body), int(after) if after.isascii() and after.isdigit() else None)


def _reason(error: BaseException) -> Reason:
    """What went wrong on the way; whether a byte had left, the parcel knows."""
    if isinstance(error, TimeoutError):
        return Reason.TIMEOUT
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError | ValueError):
        return Reason.UNREADABLE
    return Reason.RESET


def _tls(settings: WebpspSettings) -> ssl.SSLContext | bool:
    """How the PSP's certificate is checked: always, and its name, against these authorities."""
    if settings.ca_file is None:
        return True
    return ssl.create_default_context(cafile=str(settings.ca_file))


