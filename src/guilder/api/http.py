"""HTTP as this API speaks it: what is read of a request, and how a reply goes out."""

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from guilder.core.clock import SECOND
from guilder.core.errors import Refusal
from guilder.http_server import Incoming, Outgoing
from guilder.shapes.render import API_VERSION

Headers = Mapping[bytes, bytes]

# A request with every parameter at its limit, 50 metadata values of 500 four-byte characters percent-encoded included,
# is below 400 kB.
BODY_BYTES_MAX: Final = 512 * 1024
# What a client is told to wait when we cannot serve: the database is back within seconds, or not at all.
RETRY_AFTER_SECONDS: Final = 1
# The longest that a client may say it waits: nobody waits longer, and what is larger was meant in milliseconds.
TIMEOUT_SECONDS_MAX: Final = 600
# Stripe's limit.
IDEMPOTENCY_KEY_CHARACTERS_MAX: Final = 255

FORM: Final = b"application/x-www-form-urlencoded"
JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"


class Reply(Struct, frozen=True, kw_only=True):
    """What goes out. `should_retry` None leaves the decision to the client's own rules; `age_seconds`: read from a replica so old."""

    body: bytes
    status: int = 200
    replayed: bool = False
    should_retry: bool | None = None
    retry_after: int | None = None
    content_type: bytes = JSON
    age_seconds: float | None = None


class Request:
    """One request as it came.

    Attributes:
        headers: by lower-case name; of several with one name the last.
        body: reads it whole, up to a limit.
        key: the idempotency key that every answer to a POST names: the client's, or one that we made. Set once it is known.
        came: when its head had arrived, in business time; its own timeout counts from there.
        account: the account that `Stripe-Account` named, once it is known to be the caller's; the answer names it too.
    """

    __slots__ = ("account", "body", "came", "headers", "id", "key", "method", "path", "query")

    def __init__(self, incoming: Incoming, request_id: str, came: int) -> None:
        self.id = request_id
        self.came = came
        self.method = incoming.method
        self.path = incoming.path
        self.query = incoming.query
        self.headers: Headers = incoming.headers
        self.body = incoming.body
        self.key: str | None = None
        self.account: str | None = None

    @property
    def wants_problem(self) -> bool:
        """Whether the client asked for RFC 9457 members beside `error`."""
        return PROBLEM in self.headers.get(b"accept", b"").lower()


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


def timeout_micros(headers: Headers) -> int | None:
    """How many microseconds the client waits for its answer, None when it has not said. Raises Refusal (400) for what is no such time."""
    given = headers.get(b"request-timeout", b"").strip().decode("latin-1")
    if not given:
        return None
    found = _SECONDS.fullmatch(given)
    micros = int(found[1]) * SECOND + int((found[2] or "").ljust(6, "0")) if found else 0
    if not 0 < micros <= TIMEOUT_SECONDS_MAX * SECOND:
        raise Refusal(f"Request-Timeout must be seconds, above 0 and at most {TIMEOUT_SECONDS_MAX}, such as 2.5.")
    return micros


def outgoing_of(reply: Reply, request_id: str, *, key: str | None = None, account: str | None = None) -> Outgoing:
    """The reply with the headers that every answer bears."""
    headers = [
        (b"content-type", reply.content_type),
        (b"cache-control", b"no-store"),
        (b"request-id", request_id.encode()),
        (b"stripe-version", _VERSION),
    ]
    if key is not None:
        headers.append((b"idempotency-key", key.encode("latin-1", "replace")))
    if account is not None:
        headers.append((b"stripe-account", account.encode()))
    if reply.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    if reply.should_retry is not None:
        headers.append((b"stripe-should-retry", b"true" if reply.should_retry else b"false"))
    if reply.retry_after is not None:
        headers.append((b"retry-after", b"%d" % reply.retry_after))
    if reply.age_seconds is not None:
        headers.append((b"guilder-data-age", b"%.3f" % reply.age_seconds))
    if reply.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="Guilder"'))
    return Outgoing(status=reply.status, headers=headers, body=reply.body)


_SECONDS: Final = re.compile(r"(\d{1,4})(?:\.(\d{1,6}))?", re.ASCII)
_VERSION: Final = API_VERSION.encode()
