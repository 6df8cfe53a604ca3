"""Forward: one event to an address of the developer's own, signed as a webhook is, and the reason when there is no answer."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from guilder.core.clock import SECOND, Clock
from guilder.core.errors import GuilderError
from guilder.security import Signer
from guilder.webhooks.headers import headers_of, shown_headers
from guilder.webhooks.transport import why

# A debugger may stop the receiver for a while.
DEADLINE_SECONDS: Final = 60.0

# What HTTP itself says of a message, beside what we send with every event.
_TAKEN: Final = frozenset({"content-length", "transfer-encoding", "connection", *map(str.lower, shown_headers("", 0))})
# RFC 9110 section 5.6.2.
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_RIGHT: Final = "pass a port as 4242, or an address as localhost:4242/webhooks or https://example.com/webhooks"


class WrongTarget(GuilderError):
    """Nothing could ever be forwarded like this; the message says what would be right."""


class Forwarded(Struct, frozen=True):
    """One event that was forwarded: the answer's status, or why there was none."""

    event: str
    type: str
    status: int | None
    failure: str | None


class Forwarder:
    """Forwards events, each once.

    Args:
        url: where to, as `target_url` has it.
        headers: sent beside our own, as `extra_headers` has them.
        verify: whether the certificate of an https:// address must be good.
    """

    def __init__(self, *, url: str, headers: Mapping[str, str], verify: bool, signer: Signer, clock: Clock) -> None:
        self.url = url
        self._headers = headers
        self._verify = verify
        self._signer = signer
        self._clock = clock

    async def forward(self, session: aiohttp.ClientSession, event: Mapping[str, Any], number: int) -> Forwarded:
        """Send one event. Never raises for what the receiver does."""
        id_, type_, body = event["id"], event["type"], msgspec.json.encode(event)
        headers = {**headers_of(id_, number, self._clock.real() // SECOND, self._signer, body), **self._headers}
        try:
            async with session.post(
                self.url, data=body, headers=headers, allow_redirects=False, ssl=self._verify,
                timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS),
            ) as response:  # fmt: skip
                return Forwarded(id_, type_, response.status, None)
        except TimeoutError:
            failure = f"no answer within {DEADLINE_SECONDS:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = reason(error)
        return Forwarded(id_, type_, None, failure)


def reason(error: Exception) -> str:
    """What went wrong between us and an HTTP server, in words for people."""
    if isinstance(error, aiohttp.ClientConnectorDNSError | UnicodeError):
        return "the name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return why(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return why(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    if isinstance(error, aiohttp.InvalidURL):
        return "it is no address"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not HTTP"
    return why(error)


def target_url(text: str) -> str:
    """The address that people mean: a port stands for this machine, and http:// may be left out. Raises WrongTarget."""
    if text.isascii() and text.isdigit():
        text = f"localhost:{text}"
    url = text if "://" in text else f"http://{text}"
    wrong = _wrong(url)
    if wrong is not None:
        # Without what stands before an @: it may be a password.
        raise WrongTarget(f"nothing can be forwarded to {text.rpartition('@')[2]!r}: {wrong}; {_RIGHT}")
    return url


def _wrong(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host:
            # What the client takes apart with, whose rules for names are stricter.
            URL(url)
    except ValueError:
        return "it is no address"
    if parts.scheme not in ("http", "https"):
        return "only http:// and https:// are spoken"
    if not host or any(character.isspace() for character in url):
        return "it names no host"
    if host.isdigit():
        return f"{host} is no host"
    if port == 0:
        return "there is no port 0"
    if parts.username is not None or parts.password is not None:
        return "a user name or password goes into --headers 'Authorization: ...'"
    return None


def extra_headers(lines: Sequence[str]) -> Mapping[str, str]:
    """Headers that are written as `Key: value`. Raises WrongTarget, which never repeats a value: it may be a secret."""
    found = {}
    for line in lines:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not name or not set(name) <= _TOKEN or not value.isprintable():
            raise WrongTarget("a header is written as --headers 'Key: value', in printable characters")
        if name.lower() in _TAKEN:
            raise WrongTarget(f"the header {name} is Guilder's own: it is sent with every event")
        found[name] = value
    return found
