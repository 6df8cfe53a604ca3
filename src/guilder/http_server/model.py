"""A request as it arrives, its answer, and the application between them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from guilder.core.errors import Refusal
from guilder.http_server.limits import DRAIN_BYTES_MAX

Header = tuple[bytes, bytes]


class HungUpError(Exception):
    """The client hung up before its request was complete: there is nobody to answer."""


class Outgoing(Struct, frozen=True, kw_only=True):
    """An answer. Length, date and the connection's fate are added where it is written; a header that holds CR or LF is never sent."""

    body: bytes
    status: int = 200
    headers: Sequence[Header] = ()


class App(Protocol):
    """Who answers."""

    async def answer(self, incoming: "Incoming") -> Outgoing:
        """The answer to one request. Raises HungUpError when its body will never come."""
        ...

    def refuse(self, refusal: Refusal) -> Outgoing:
        """The answer to what is no request, or cannot be taken."""
        ...


class Incoming:
    """One request whose head has arrived; its body may still be on its way.

    Attributes:
        path: decoded; `*` where OPTIONS asks about the server.
        query: as it came.
        headers: by lower-case name; of several with one name the last.
        ask: the connection's, told once that the body is wanted and how much of it.
        peer: the address at the other end of the connection; a proxy's, where there is one.
    """

    __slots__ = ("_complete", "_failure", "_limit", "_parts", "_size", "_waiter", "ask", "headers", "method", "path", "peer", "query")

    def __init__(self, method: str, path: str, query: bytes, headers: Mapping[bytes, bytes]) -> None:
        self.method: Final = method
        self.path: Final = path
        self.query: Final = query
        self.headers: Final = headers
        self.ask: Callable[[], None] | None = None
        self.peer = ""
        self._parts: list[bytes] = []
        self._size = 0
        self._complete = False
        self._limit: int | None = None
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def body(self, limit: int) -> bytes:
        """The whole body. What is larger is read on and forgotten, and then refused.

        Raises:
            Refusal: 413 when it is larger than the limit, 408 when it does not arrive, 400 when it is malformed.
            HungUpError: the client hung up.
        """
        if not self._complete:
            await self._rest(limit)
        if self._size > limit:
            raise _too_large(limit)
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    async def _rest(self, limit: int) -> None:
        if self._failure is None:
            if self.expects_continue and self._declared > limit:
                # It has not been sent yet, and need not be.
                raise _too_large(limit)
            self._limit = limit
            self._waiter = asyncio.get_running_loop().create_future()
            if self.ask is not None:
                self.ask()
            await self._waiter
        if self._failure is not None:
            raise self._failure

    # --- for the connection ---------------------------------------------------------------------------------------

    @property
    def expects_continue(self) -> bool:
        """Whether the client sends its body only after it was told to."""
        return self.headers.get(b"expect", b"").lower() == b"100-continue" and self._size == 0

    @property
    def complete(self) -> bool:
        """Whether all of it has arrived."""
        return self._complete

    @property
    def unasked_bytes(self) -> int:
        """Bytes of the body that are kept although nobody has asked for it yet."""
        return self._size if self._limit is None else 0

    @property
    def _declared(self) -> int:
        return int(self.headers.get(b"content-length", b"0"))

    def take(self, part: bytes) -> None:
        """The next part of the body."""
        self._size += len(part)
        if self._limit is None or self._size <= self._limit:
            self._parts.append(part)
        elif self._size > self._limit + DRAIN_BYTES_MAX:
            self.fail(_too_large(self._limit))

    def finish(self) -> None:
        """That was all."""
        self._complete = True
        self._wake()

    def fail(self, failure: Exception) -> None:
        """It will never be complete."""
        if self._failure is None and not self._complete:
            self._failure = failure
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _too_large(limit: int) -> Refusal:
    return Refusal(f"The request's body is too large: at most {limit} bytes are accepted.", status=413, should_retry=False)
