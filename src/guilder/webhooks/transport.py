"""Transport: one POST to a receiver, within limits. aiohttp lives here and in listen.py.

The numeric address is looked at when the socket is made (`socket_factory`): after the name was resolved, and for addresses
that are written as numbers as well. So neither a name that changes between a look and a use nor a redirect, which is never
followed, leads anywhere else. The right to send is asked for after the connection stands, right before the first byte.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct

from guilder import __version__
from guilder.webhooks.addresses import Allowed
from guilder.webhooks.rules import ANSWER_CHARACTERS_MAX

# From the first look at the name to the last byte of the answer. Receivers are asked to store the event and answer.
DEADLINE_SECONDS: Final = 15.0
# Of which for a connection, TLS included.
CONNECT_SECONDS: Final = 5.0
# What is read of an answer's body; the rest is not waited for, and the connection is closed.
ANSWER_BYTES_MAX: Final = 4 * ANSWER_CHARACTERS_MAX
# Head of an answer: lines and number of them.
HEAD_LINE_MAX: Final = 8_190
HEAD_LINES_MAX: Final = 100
# A name is asked for again after this; every new connection is checked whatever stands in the cache.
NAMES_SECONDS: Final = 10
# Below the idle time after which common servers close (60 s and more), so that a first byte seldom meets a closed door.
IDLE_SECONDS: Final = 20.0

USER_AGENT: Final = f"Guilder/{__version__} (webhooks)"

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""(name, port) -> numeric addresses."""


class Answered(Struct, frozen=True):
    """What a receiver answered; `body` is the beginning of it, `retry_after` the header as it came."""

    status: int
    body: bytes
    retry_after: str | None = None


class Unreached(Struct, frozen=True):
    """Why there is no answer, in a few words."""

    why: str


class NotPermitted(Exception):
    """This process has lost the right to send; nothing was written."""


class _RefusedAddressError(OSError):
    """The address is one that nothing is sent to."""


class Transport:
    """Connections to receivers, kept for the next delivery. One per mode and process, made inside its loop.

    Args:
        permitted: whether a first byte may be written now.
        lookup: resolves names; the system's resolver when None.
    """

    def __init__(self, allowed: Allowed, permitted: Callable[[], bool], lookup: Lookup | None = None) -> None:
        self._allowed = allowed
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # Whoever calls bounds how many there are, for each endpoint and in all.
                limit=0, resolver=_Resolver(lookup or _system_lookup), socket_factory=self._socket, ttl_dns_cache=NAMES_SECONDS,
                keepalive_timeout=IDLE_SECONDS, ssl=_trust(),
            ),
            timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS, connect=CONNECT_SECONDS, ceil_threshold=DEADLINE_SECONDS + 1),
            request_class=_guarded(permitted), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"), max_line_size=HEAD_LINE_MAX,
            max_field_size=HEAD_LINE_MAX, max_headers=HEAD_LINES_MAX,
        )  # fmt: skip

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answered | Unreached:
        """Send one request and read the beginning of its answer. Never follows, never waits beyond the deadline.

        A kept connection that was closed under us before anything was answered is tried once more on a fresh one.
        Raises NotPermitted.
        """
        for again in (True, False):
            try:
                return await self._post(url, headers, body)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if again and not isinstance(error, aiohttp.ClientConnectorError):
                    continue
                return Unreached(_why(error))
            except TimeoutError as error:
                if isinstance(error, aiohttp.ServerTimeoutError):
                    return Unreached(f"no connection within {CONNECT_SECONDS:g} s")
                return Unreached(f"no answer within {DEADLINE_SECONDS:g} s")
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return Unreached(_why(error))
        return Unreached("the connection was closed")

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answered:
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return Answered(response.status, await _beginning(response), response.headers.get("Retry-After"))

    def _socket(self, found: Any) -> socket.socket:  # noqa: ANN401 - aiohttp's AddrInfoType
        """A socket for an address that may be connected to. Raises OSError for one that may not."""
        family, kind, protocol, _, address = found
        why = self._allowed.refuses(str(address[0]))
        if why is not None:
            raise _RefusedAddressError(errno.EACCES, why)
        return socket.socket(family=family, type=kind, proto=protocol)


def _trust() -> ssl.SSLContext:
    """Certificates as every program on this machine trusts them: for the name in the address, by the system's store.

    OpenSSL adds what SSL_CERT_FILE and SSL_CERT_DIR name, so an authority of one's own needs no setting of ours.
    """
    return ssl.create_default_context()


def _guarded(permitted: Callable[[], bool]) -> type[aiohttp.ClientRequest]:
    class Guarded(aiohttp.ClientRequest):
        """A request that asks for the right to send when its connection stands."""

        async def send(self, conn: Any) -> aiohttp.ClientResponse:  # noqa: ANN401 - aiohttp's Connection
            if not permitted():
                raise NotPermitted
            return await super().send(conn)

    return Guarded


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes of the body. What does not come, or is too much, is left, and the connection with it."""
    length = response.content_length
    if length == 0:
        return b""
    parts: list[bytes] = []
    size = 0
    try:
        while size < ANSWER_BYTES_MAX:
            part = await response.content.readany()
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
    except (aiohttp.ClientError, TimeoutError):
        # The status has arrived, and it alone decides.
        pass
    response.close()
    return b"".join(parts)[:ANSWER_BYTES_MAX]


class _Resolver(AbstractResolver):
    """aiohttp's view of a lookup."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        found = await self._lookup(host, port)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET6 if ":" in address else socket.AF_INET, proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
            if family in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in address else socket.AF_INET)
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is kept."""


async def _system_lookup(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _why(error: BaseException) -> str:
    """What went wrong, without what the library says of itself."""
    inner = getattr(error, "os_error", None)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the certificate is not valid: {_tls_reason(error.certificate_error)}"[:200]
    if isinstance(inner, ssl.SSLError):
        return f"no TLS connection: {_tls_reason(inner)}"[:200]
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError) or isinstance(inner, ConnectionResetError):
        return "the connection was closed without an answer"
    said = inner.strerror or str(inner) if isinstance(inner, OSError) else str(error)
    return (said or type(error).__name__)[:200]


def _tls_reason(error: BaseException) -> str:
    """OpenSSL's words alone: `certificate has expired`, `wrong version number`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return reason.replace("_", " ").lower() if reason else str(error) or type(error).__name__
