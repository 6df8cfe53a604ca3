"""The caller's end of the vault's socket. Connects when first used, and again by itself after the vault has restarted.

Every verb may be repeated, so a call whose connection broke is sent again until its time is over; only then the vault
counts as unavailable. Nothing is lost by that but CVCs, which a restarted vault no longer has.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from guilder.core.clock import sleep
from guilder.core.ensure import InvariantBroken, ensure
from guilder.core.errors import Unavailable
from guilder.security import Pan
from guilder.shapes.facts import CardFacts
from guilder.vault import wire
from guilder.vault.model import LIST_ITEMS_MAX, Amendment, Card, CardEntry, CardRefused, Reveal

# The whole of a call, reconnecting included. A restart of the vault takes a few hundred milliseconds, an answer less than
# two; and an executor may send for three seconds after it last renewed its lease, so a longer wait would be in vain.
CALL_SECONDS: Final = 2.0
# Between two tries to connect.
RECONNECT_SECONDS: Final = 0.05

# The vault's own trouble, which the caller can only wait out; any other problem is the caller's mistake.
_WEAKNESSES: Final = frozenset({wire.Problem.UNAVAILABLE, wire.Problem.BROKEN})

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Lost(Exception):
    """The connection broke before the answer came."""


class _Line:
    """One connection and the calls that wait on it."""

    def __init__(self) -> None:
        self._codec = wire.Codec()
        self._waiting: dict[int, asyncio.Future[wire.Answer]] = {}
        self._next = 0
        self.is_lost = False
        self.frames = wire.Frames(self._received, self._gone)

    def greet(self, *, may_reveal: bool) -> None:
        self.frames.send(self._codec.frame(wire.Hello(wire.VERSION, may_reveal)))

    async def call(self, make: Callable[[int], wire.Request]) -> wire.Answer:
        """Send a request and wait for its answer. Raises _Lost."""
        if self.is_lost:
            raise _Lost
        self._next += 1
        number = self._next
        future: asyncio.Future[wire.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self.frames.send(self._codec.frame(make(number)))
            return await future
        finally:
            self._waiting.pop(number, None)

    def _received(self, body: bytes) -> None:
        try:
            answer = self._codec.answer(body)
        except msgspec.MsgspecError:
            self.frames.close()
            return
        future = self._waiting.get(answer.id)
        # An answer whose caller has gone is dropped.
        if future is not None and not future.done():
            future.set_result(answer)

    def _gone(self) -> None:
        self.is_lost = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_Lost())


class VaultClient:
    """Calls the vault. One per process; belongs to the loop in which it is first used.

    Args:
        path: the vault's socket.
        may_reveal: True in the executor alone; the vault refuses `reveal` on any other connection.

    Every verb raises Unavailable when the vault does not answer within CALL_SECONDS, and takes lists of any length.
    """

    def __init__(self, path: Path, *, may_reveal: bool = False) -> None:
        self._path = path
        self._may_reveal = may_reveal
        self._line: _Line | None = None
        self._connecting = asyncio.Lock()

    async def tokenize(self, entries: Sequence[CardEntry]) -> list[CardFacts | CardRefused]:
        """Keep cards: what may be known of each, or why it was refused. Safe to repeat under the same ids."""

        async def once(part: list[CardEntry]) -> list[CardFacts | CardRefused]:
            answer = await self._call(lambda number: wire.Tokenize(number, part), wire.Tokenized)
            pairs = zip(answer.facts, answer.refused, strict=True)
            return [result for pair in pairs for result in pair if result is not None]

        return await _in_parts(entries, once)

    async def reveal(self, wanted: Sequence[Reveal]) -> list[Card | None]:
        """Cards in the clear, for connectors only; None where that merchant and mode has no such card."""

        async def once(part: list[Reveal]) -> list[Card | None]:
            return (await self._call(lambda number: wire.RevealCards(number, part), wire.Revealed)).cards

        return await _in_parts(wanted, once)

    async def amend(self, amendments: Sequence[Amendment]) -> list[bool]:
        """Change expiry dates and postal codes; False where that merchant and mode has no such card. Safe to repeat."""

        async def once(part: list[Amendment]) -> list[bool]:
            return (await self._call(lambda number: wire.Amend(number, part), wire.Done)).found

        return await _in_parts(amendments, once)

    async def drop_cvc(self, payment_method_ids: Sequence[str]) -> None:
        """Forget the CVCs of these PaymentMethods: an authorization that carried them was approved or declined."""

        async def once(part: list[str]) -> list[bool]:
            return (await self._call(lambda number: wire.DropCvc(number, part), wire.Done)).found

        await _in_parts(payment_method_ids, once)

    async def fingerprint(self, numbers: Sequence[Pan]) -> list[str]:
        """Keyed fingerprints of card numbers, to compare requests by; nothing is stored. Not those that cards show."""

        async def once(part: list[Pan]) -> list[str]:
            return (await self._call(lambda number: wire.Fingerprint(number, part), wire.Fingerprints)).prints

        return await _in_parts(numbers, once)

    async def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.frames.close()
            self._line = None
        # One turn, in which the transport tells that it is gone.
        await asyncio.sleep(0)

    async def _call(self, make: Callable[[int], wire.Request], wanted: type[Result]) -> Result:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await self._until_answered(make)
        except TimeoutError:
            raise Unavailable("the vault does not answer") from None
        if isinstance(answer, wire.Failed):
            if answer.problem in _WEAKNESSES:
                raise Unavailable(f"the vault is {answer.problem.value}")
            raise InvariantBroken(f"the vault answered {answer.problem.value}")
        if not isinstance(answer, wanted):
            raise InvariantBroken("the vault answered another question")
        return answer

    async def _until_answered(self, make: Callable[[int], wire.Request]) -> wire.Answer:
        while True:
            try:
                return await (await self._connected()).call(make)
            except (_Lost, OSError):
                await sleep(RECONNECT_SECONDS)

    async def _connected(self) -> _Line:
        line = self._line
        if line is not None and not line.is_lost:
            return line
        async with self._connecting:
            if self._line is None or self._line.is_lost:
                self._line = await self._connect()
            return self._line

    async def _connect(self) -> _Line:
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            with wire.socket_address(self._path) as address:
                await loop.sock_connect(connection, address)
            line = _Line()
            await loop.create_unix_connection(lambda: line.frames, sock=connection)
        except BaseException:
            connection.close()
            raise
        line.greet(may_reveal=self._may_reveal)
        return line


async def _in_parts(items: Sequence[Item], once: Callable[[list[Item]], Awaitable[list[Result]]]) -> list[Result]:
    """Call once per part that the vault takes, and join the answers."""
    results: list[Result] = []
    for start in range(0, len(items), LIST_ITEMS_MAX):
        part = list(items[start : start + LIST_ITEMS_MAX])
        answers = await once(part)
        ensure(len(answers) == len(part), "the vault answers each item")
        results.extend(answers)
    return results
