"""Notifications: the web PSP tells its merchant that something has changed. A reason to ask, no more.

Each is signed over its time and body; a repeated one is signed anew. They live in memory: a PSP's notifications get lost,
and whoever relies on them loses money. POST over plain asyncio: one request a connection.
"""

import asyncio
import hmac
import ssl
from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import Struct

from guilder.core.clock import SECOND, Clock, sleep
from guilder.iso8583 import Message, Mti
from guilder.network.faults import Face, FaultKind, Faults
from guilder.network.web.merchant import WebMerchant
from guilder.network.web.requests import ACQUIRER

# Waits before a notification is sent again that was not answered with 2xx; then it is given up.
RETRIES_SECONDS: Final = (1.0, 5.0, 30.0, 120.0)
# A receiver answers in milliseconds: all that it has to do is store.
ANSWER_SECONDS: Final = 5.0
# Notifications under way; beyond that they are lost, as at any PSP that is flooded.
WAITING_MAX: Final = 10_000
SIGNATURE: Final = "Webpsp-Signature"

_log = structlog.get_logger("guilder.network")


class Notice(Struct, frozen=True, kw_only=True):
    """What a notification says. `id` is the same each time that it is sent."""

    id: str
    type: str
    reference: str
    status: str
    amount: int
    currency: str
    metadata: dict[str, str] = {}


class Notifier:
    """Sends notifications in tasks of their own, with the faults that are switched on."""

    def __init__(self, merchant: WebMerchant, faults: Faults, clock: Clock) -> None:
        self._merchant = merchant
        self._faults = faults
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, notice: Notice) -> None:
        """Send a notification some time, or never; returns at once."""
        if self._merchant.notify_url is None or len(self._tasks) >= WAITING_MAX:
            return
        rule = self._faults.draw(_as_message(notice), Face.NOTICE)
        kind = rule.kind if rule else None
        if kind is FaultKind.NOTICE_LOST:
            return
        delay = rule.delay_ms / 1000 if rule and kind is FaultKind.NOTICE_LATE else 0.0
        for _ in range(2 if kind is FaultKind.NOTICE_DUPLICATE else 1):
            self._spawn(self._send(self._merchant.notify_url, notice, delay))

    def close(self) -> None:
        """Send nothing more."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, url: str, notice: Notice, delay_seconds: float) -> None:
        await sleep(delay_seconds)
        body = msgspec.json.encode(notice)
        for wait in (*RETRIES_SECONDS, None):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    status = await _post(url, body, self._signature(body))
            except (OSError, ValueError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
                status = 0
            if 200 <= status < 300:
                return
            if wait is not None:
                await sleep(wait)
        _log.warning("network.notification_given_up", reference=notice.reference)

    def _signature(self, body: bytes) -> str:
        """As `t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY` under the shared secret, real time."""
        seconds = self._clock.real() // SECOND
        signed = hmac.digest(self._merchant.signing_secret.encode(), b"%d." % seconds + body, "sha256")
        return f"t={seconds},v1={signed.hex()}"


def _as_message(notice: Notice) -> Message:
    """What the faults' rules are compared with."""
    return Message(Mti.PURCHASE, {4: f"{notice.amount:012d}", 32: ACQUIRER, 37: notice.reference})


async def _post(url: str, body: bytes, signature: str) -> int:
    """Send one request and read the status of its answer; raises OSError, ValueError or IncompleteReadError."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secure else 80), ssl=ssl.create_default_context() if secure else None,
    )
    try:
        head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        head += f"{SIGNATURE}: {signature}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        line = await reader.readline()
        return int(line.split(b" ", 2)[1]) if line.count(b" ") else 0
    finally:
        writer.close()
