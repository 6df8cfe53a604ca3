"""HTTP as this API speaks it: what is read of a request, and how a reply goes out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from msgspec import Struct

from guilder.core.errors import Refusal
from guilder.shapes.render import API_VERSION

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Mapping[bytes, bytes]

# A request with every parameter at its limit, 50 metadata values of 500 four-byte characters percent-encoded included,
# is below 400 kB.
BODY_BYTES_MAX: Final = 512 * 1024
# What is read of a body that is refused, so that its sender gets to see the refusal.
DRAIN_BYTES_MAX: Final = 32 * 1024 * 1024
# Longest that we wait for a body to arrive: ten times what a phone on a bad line needs.
BODY_TIMEOUT_SECONDS: Final = 30.0
# What a client is told to wait when we cannot serve: the database is back within seconds, or not at all.
RETRY_AFTER_SECONDS: Final = 1
# Stripe's limit.
IDEMPOTENCY_KEY_CHARACTERS_MAX: Final = 255

FORM: Final = b"application/x-www-form-urlencoded"
JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"


class Reply(Struct, frozen=True, kw_only=True):
    """What goes out. `should_retry` None leaves the decision to the client's own rules."""

    body: bytes
    status: int = 200
    replayed: bool = False
    should_retry: bool | None = None
    retry_after: int | None = None
    content_type: bytes = JSON


class HungUpError(Exception):
    """The client hung up before its request was complete: there is nobody to answer."""


class Request:
    """One request as it came.

    Attributes:
        headers: by lower-case name; of several with one name the last.
        key: the idempotency key that every answer to a POST names: the client's, or one that we made. Set once it is known.
        account: the account that `Stripe-Account` named, once it is known to be the caller's; the answer names it too.
    """

    __slots__ = ("account", "headers", "id", "key", "method", "path", "query", "receive")

    def __init__(self, scope: Scope, receive: Receive, request_id: str) -> None:
        self.id = request_id
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: Headers = dict(scope["headers"])
        self.receive = receive
        self.key: str | None = None
        self.account: str | None = None

    @property
    def wants_problem(self) -> bool:
        """Whether the client asked for RFC 9457 members beside `error`."""
        return PROBLEM in self.headers.get(b"accept", b"").lower()


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        Refusal: 413 when it is larger than the limit, 408 when it does not arrive.
        HungUpError: the client hung up.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            message = await _next(request.receive)
            body: bytes = message.get("body", b"")
            if message.get("more_body"):
                body = await _rest(request.receive, body, limit)
    except TimeoutError:
        raise Refusal("The request's body did not arrive in time.", status=408, should_retry=True) from None
    if len(body) > limit:
        raise Refusal(f"The request's body is too large: at most {limit} bytes are accepted.", status=413, should_retry=False)
    return body


async def _rest(receive: Receive, first: bytes, limit: int) -> bytes:
    """The body from its first part on. Past the limit it is read on and forgotten.

    A connection that is closed on unread bytes is reset, and the client would never see why.
    """
    parts, size, more = [first], len(first), True
    while more and size < limit + DRAIN_BYTES_MAX:
        message = await _next(receive)
        part: bytes = message.get("body", b"")
        if size <= limit:
            parts.append(part)
        size += len(part)
        more = bool(message.get("more_body"))
    return b"".join(parts)


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] != "http.request":
        raise HungUpError
    return message


def is_json(headers: Headers) -> bool:
    """Whether the body is JSON; False for a form, which is also what a request without a content type is taken for.

    Raises Refusal (400) for anything else, as Stripe does.
    """
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind in (FORM, b""):
        return False
    if kind == JSON:
        return True
    raise Refusal("Invalid request (check that your POST content type is application/x-www-form-urlencoded or application/json).")


def idempotency_key(headers: Headers) -> str | None:
    """The client's key, None when it sent none. Raises Refusal (400) for one that is too long."""
    key = headers.get(b"idempotency-key", b"").strip().decode("latin-1")
    if len(key) > IDEMPOTENCY_KEY_CHARACTERS_MAX:
        raise Refusal(f"Idempotency-Key is too long: at most {IDEMPOTENCY_KEY_CHARACTERS_MAX} characters are accepted.")
    return key or None


async def send_reply(send: Send, reply: Reply, request: Request) -> None:
    """Send the reply with the headers that every answer bears."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        (b"cache-control", b"no-store"),
        (b"request-id", request.id.encode()),
        (b"stripe-version", _VERSION),
    ]
    if request.key is not None:
        headers.append((b"idempotency-key", request.key.encode("latin-1", "replace")))
    if request.account is not None:
        headers.append((b"stripe-account", request.account.encode()))
    if reply.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    if reply.should_retry is not None:
        headers.append((b"stripe-should-retry", b"true" if reply.should_retry else b"false"))
    if reply.retry_after is not None:
        headers.append((b"retry-after", b"%d" % reply.retry_after))
    if reply.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="Guilder"'))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


_VERSION: Final = API_VERSION.encode()
