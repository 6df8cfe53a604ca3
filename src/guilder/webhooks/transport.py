"""Transport: one POST to a receiver, within limits.

A name is looked up for each new connection, and what is connected to is a numeric address that was looked at. So neither a
name that changes between a look and a use nor a redirect, which is never followed, leads anywhere else. The right to send is
asked for after the connection stands, right before the first byte.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import aiohappyeyeballs
from msgspec import Struct
from yarl import URL

from guilder import __version__
from guilder.webhooks.addresses import Allowed, numeric
from guilder.webhooks.connection import Answered, ClosedError, Connection

# From the first look at the name to the last byte of the answer. Receivers are asked to store the event and answer.
DEADLINE_SECONDS: Final = 15.0
# Of which for a connection, TLS included.
CONNECT_SECONDS: Final = 5.0
# A name with several addresses: how long one is tried before the next is tried beside it (RFC 8305 section 5).
NEXT_ADDRESS_SECONDS: Final = 0.25
# Below the idle time after which common servers close (60 s and more), so that a first byte seldom meets a closed door.
IDLE_SECONDS: Final = 20.0
FAILURE_CHARACTERS_MAX: Final = 200

USER_AGENT: Final = f"Guilder/{__version__} (webhooks)"

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""(name, port) -> numeric addresses."""


class Unreached(Struct, frozen=True):
    """Why there is no answer, in a few words."""

    why: str


class NotPermitted(Exception):
    """This process has lost the right to send; nothing was written."""


class _NoAddressError(Exception):
    """There is none, or none that anything is sent to."""


class Target(Struct, frozen=True):
    """Where a URL leads, and the head of a request to it as far as it is always the same."""

    tls: bool
    host: str
    port: int
    head: str


@lru_cache(maxsize=1_024)
def target_of(url: str) -> Target:
    """Take a URL apart. Raises ValueError."""
    parsed = URL(url)
    host, port = parsed.raw_host, parsed.port
    if host is None or port is None:
        raise ValueError("the address has no host")
    return Target(parsed.scheme == "https", host, port, f"POST {parsed.raw_path_qs} HTTP/1.1\r\nHost: {parsed.host_port_subcomponent}\r\n")


class Transport:
    """Connections to receivers, kept for the next delivery. One per mode and process, made inside its loop.

    Args:
        permitted: whether a first byte may be written now.
        lookup: resolves names; the system's resolver when None.
    """

    def __init__(self, allowed: Allowed, permitted: Callable[[], bool], lookup: Lookup | None = None) -> None:
        self._allowed = allowed
        self._permitted = permitted
        self._lookup = lookup or _system_lookup
        self._loop = asyncio.get_running_loop()
        self._trust = _trust()
        # Whoever calls bounds how many there are, for each endpoint and in all.
        self._kept: dict[tuple[bool, str, int], list[Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """Close all connections that are not in use."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for kept in self._kept.values():
            for connection in kept:
                connection.close()
        self._kept.clear()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answered | Unreached:
        """Send one request and read the beginning of its answer. Never follows, never waits beyond the deadline.

        A kept connection that was closed under us before anything was answered is tried once more on a fresh one.
        Raises NotPermitted.
        """
        ends = self._loop.time() + DEADLINE_SECONDS
        try:
            target = target_of(url)
            request = _request(target, headers, body)
            connection = self._take(target)
            if connection is not None:
                try:
                    return await self._exchange(target, connection, request, ends)
                except ClosedError:
                    pass
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._connect(target)
            except TimeoutError:
                return Unreached(f"no connection within {CONNECT_SECONDS:g} s")
            return await self._exchange(target, connection, request, ends)
        except TimeoutError:
            return Unreached(f"no answer within {DEADLINE_SECONDS:g} s")
        except (_NoAddressError, OSError, ValueError) as error:
            return Unreached(why(error)[:FAILURE_CHARACTERS_MAX])

    async def _exchange(self, target: Target, connection: Connection, request: bytes, ends: float) -> Answered:
        if not self._permitted():
            self._keep(target, connection)
            raise NotPermitted
        answered = await connection.post(request, ends - self._loop.time())
        self._keep(target, connection)
        return answered

    async def _connect(self, target: Target) -> Connection:
        """A fresh connection. Raises _NoAddressError, OSError."""
        addresses = await self._addresses(target)
        opened = await aiohappyeyeballs.start_connection(
            [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, target.port)) for family, address in addresses],
            happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, loop=self._loop,
        )  # fmt: skip
        _, connection = await self._loop.create_connection(
            Connection, sock=opened, ssl=self._trust if target.tls else None, server_hostname=target.host if target.tls else None,
        )  # fmt: skip
        return connection

    async def _addresses(self, target: Target) -> Sequence[tuple[socket.AddressFamily, str]]:
        """The numeric addresses that may be connected to. Raises _NoAddressError."""
        literal = numeric(target.host)
        try:
            found = [literal] if literal is not None else await self._lookup(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise _NoAddressError("the name cannot be resolved") from error
        refused = [why for address in found if (why := self._allowed.refuses(address)) is not None]
        if not found or len(refused) == len(found):
            raise _NoAddressError(refused[0] if refused else "the name has no address")
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            for address in found if self._allowed.refuses(address) is None
        ]  # fmt: skip

    # --- connections that are not in use ----------------------------------------------------------------------------

    def _take(self, target: Target) -> Connection | None:
        """The one that was used last; None when there is none that may still be good."""
        kept = self._kept.get((target.tls, target.host, target.port))
        while kept:
            connection = kept.pop()
            if connection.usable:
                return connection
        return None

    def _keep(self, target: Target, connection: Connection) -> None:
        """Put it back for the next delivery; one that cannot be used again is closed."""
        if not connection.usable:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._kept.setdefault((target.tls, target.host, target.port), []).append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what nobody has used for a while."""
        before = self._loop.time() - IDLE_SECONDS
        for origin, kept in list(self._kept.items()):
            for connection in kept:
                if connection.idle_since <= before:
                    connection.close()
            self._kept[origin] = [connection for connection in kept if connection.usable]
            if not self._kept[origin]:
                del self._kept[origin]
        self._sweeper = self._loop.call_later(IDLE_SECONDS / 2, self._sweep) if self._kept else None


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{target.head}{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _trust() -> ssl.SSLContext:
    """Certificates as every program on this machine trusts them: for the name in the address, by the system's store.

    OpenSSL adds what SSL_CERT_FILE and SSL_CERT_DIR name, so an authority of one's own needs no setting of ours.
    """
    return ssl.create_default_context()


async def _system_lookup(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def why(error: BaseException) -> str:
    """What went wrong, in words for the merchant."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        # OpenSSL's words alone: `wrong version number`.
        return f"no TLS connection: {error.reason.replace('_', ' ').lower() if error.reason else error}"
    if isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
        return "the connection was closed without an answer"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
