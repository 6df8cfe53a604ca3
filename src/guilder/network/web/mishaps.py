"""What each fault does to a request of the web PSP: one function each, in the order of `FaultKind`.

Effects become durable as always; only what the peer sees is wrong.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from guilder.core.clock import sleep
from guilder.iso8583 import Message, Mti
from guilder.network.faults import FaultKind, Rule, original_of
from guilder.network.http import Manner, Response

# Pause between two bytes of a slow answer when the rule names none.
DRIP_SECONDS: Final = 0.005
# Requests held back by the fault "after not found".
PARKED_MAX: Final = 10_000
_ERROR_PAGE: Final = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

Do = Callable[[], Awaitable[Response]]
"""Carry the request out; what would be answered."""


class Mishaps:
    """Requests that are held back until a question or a reversal has missed them."""

    def __init__(self) -> None:
        self._parked: dict[str, asyncio.Event] = {}

    async def missed(self, reference: str) -> None:
        """Wait until somebody has asked about this reference, or reversed it."""
        if len(self._parked) >= PARKED_MAX:
            return
        event = self._parked.setdefault(reference, asyncio.Event())
        await event.wait()

    def noticed(self, message: Message) -> None:
        """A request has come: the question or reversal that a parked one waits for, perhaps."""
        if not self._parked:
            return
        missed = message.fields[37] if message.mti == Mti.INQUIRY else original_of(message) if message.mti == Mti.REVERSAL else ""
        event = self._parked.pop(missed, None)
        if event is not None:
            event.set()


async def suffer(rule: Rule, mishaps: Mishaps, message: Message, do: Do) -> Response:
    """Let this request have its fault."""
    if rule.kind is FaultKind.AFTER_NOT_FOUND:
        await mishaps.missed(message.fields[37])
        await sleep(rule.delay_ms / 1000)
        return await do()
    return await _MISHAPS[rule.kind](rule, do)


async def _late_answer(rule: Rule, do: Do) -> Response:
    response = await do()
    await sleep(rule.delay_ms / 1000)
    return response


async def _lost_answer(_rule: Rule, do: Do) -> Response:
    return replace(await do(), manner=Manner(silent=True))


async def _lost_request(_rule: Rule, _do: Do) -> Response:
    return Response(b"", manner=Manner(silent=True))


async def _late_request(rule: Rule, do: Do) -> Response:
    await sleep(rule.delay_ms / 1000)
    return await do()


async def _not_found(_rule: Rule, _do: Do) -> Response:
    return _error("operation_not_found", 404)


async def _duplicate_request(_rule: Rule, do: Do) -> Response:
    await do()
    return await do()


async def _malformed(_rule: Rule, do: Do) -> Response:
    return replace(await do(), body=b"\x00\xff this is no document")


async def _slow(rule: Rule, do: Do) -> Response:
    return replace(await do(), manner=Manner(drip_seconds=rule.delay_ms / 1000 if rule.delay_ms else DRIP_SECONDS))


async def _wrong_amount(_rule: Rule, do: Do) -> Response:
    return _changed(await do(), lambda content: {"amount": content.get("amount", 0) + 1})


async def _wrong_currency(_rule: Rule, do: Do) -> Response:
    return _changed(await do(), lambda content: {"currency": "chf" if content.get("currency") != "chf" else "eur"})


async def _wrong_reference(_rule: Rule, do: Do) -> Response:
    def other(content: dict[str, Any]) -> dict[str, Any]:
        reference = str(content.get("reference", "0"))
        return {"reference": ("1" if reference[0] == "0" else "0") + reference[1:]}

    return _changed(await do(), other)


async def _error_answer(rule: Rule, do: Do) -> Response:
    if rule.effect:
        await do()
    return _error("internal_error", 500)


async def _close(rule: Rule, do: Do) -> Response:
    if rule.effect is not False:
        await do()
    return Response(b"", manner=Manner(cut=True))


async def _error_page(rule: Rule, do: Do) -> Response:
    if rule.effect is not False:
        await do()
    return Response(_ERROR_PAGE, 502, "text/html")


async def _truncated(_rule: Rule, do: Do) -> Response:
    response = await do()
    body = response.body if isinstance(response.body, bytes) else b""
    return replace(response, body=body[: len(body) // 2])


async def _rate_limited(_rule: Rule, _do: Do) -> Response:
    response = _error("rate_limited", 429)
    return replace(response, headers=(("Retry-After", "1"),))


async def _stale(_rule: Rule, do: Do) -> Response:
    """An old replica: it has the operation, and does not know yet what came of it."""

    def before(content: dict[str, Any]) -> dict[str, Any]:
        return {"status": "in_progress"} if "status" in content else {}

    return _changed(await do(), before)


def _changed(response: Response, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Response:
    content = msgspec.json.decode(response.body if isinstance(response.body, bytes) else b"{}")
    return replace(response, body=msgspec.json.encode(content | change(content)))


def _error(code: str, status: int) -> Response:
    return Response(msgspec.json.encode({"error": {"code": code, "message": "on purpose"}}), status, keep=True)


_MISHAPS: Final[Mapping[FaultKind, Callable[[Rule, Do], Awaitable[Response]]]] = {
    FaultKind.LATE_ANSWER: _late_answer,
    FaultKind.LOST_ANSWER: _lost_answer,
    FaultKind.LOST_REQUEST: _lost_request,
    FaultKind.LATE_REQUEST: _late_request,
    FaultKind.NOT_FOUND: _not_found,
    FaultKind.DUPLICATE_REQUEST: _duplicate_request,
    FaultKind.MALFORMED: _malformed,
    FaultKind.SLOW: _slow,
    FaultKind.WRONG_AMOUNT: _wrong_amount,
    FaultKind.WRONG_CURRENCY: _wrong_currency,
    FaultKind.WRONG_REFERENCE: _wrong_reference,
    FaultKind.ERROR: _error_answer,
    FaultKind.CLOSE: _close,
    FaultKind.ERROR_PAGE: _error_page,
    FaultKind.TRUNCATED: _truncated,
    FaultKind.RATE_LIMITED: _rate_limited,
    FaultKind.STALE: _stale,
}
