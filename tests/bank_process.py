"""The bank world as its peers meet it: over TCP and HTTP, in this process or in one of its own."""

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

from guilder.core.clock import Clock
from guilder.iso8583 import FrameReader, Message, decode, encode
from guilder.network import Addresses, NetworkSettings, serve

# Nothing here takes longer, however busy the machine is.
PATIENCE_SECONDS = 20.0


class Peer:
    """A connection to the acquirer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._bodies: list[bytes] = []

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Connect to an acquirer of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, *messages: Message) -> None:
        """Write requests, all in one."""
        self.send_raw(b"".join(encode(message.mti, message.fields) for message in messages))

    def send_raw(self, data: bytes) -> None:
        """Write bytes."""
        self._writer.write(data)

    async def ask(self, message: Message) -> Message:
        """Send a request and take the next answer."""
        self.send(message)
        return await self.receive()

    async def code(self, message: Message) -> str:
        """The response code of the next answer."""
        return (await self.ask(message)).fields[39]

    async def receive(self) -> Message:
        """The next answer."""
        return decode(await self.receive_body())

    async def receive_body(self) -> bytes:
        """The body of the next frame; ConnectionResetError when the connection ends."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._bodies:
                data = await self._reader.read(65536)
                if not data:
                    raise ConnectionResetError
                self._bodies += self._frames.feed(data)
        return self._bodies.pop(0)

    async def ended(self) -> bool:
        """Whether the acquirer closes the connection without another answer."""
        with suppress(ConnectionResetError):
            await self.receive_body()
            return False
        return True

    async def silent(self) -> bool:
        """Whether no answer is on its way: what is asked next is answered next."""
        echo = Message("0800", {7: "0102030405", 11: "777777", 70: "301"})
        return (await self.ask(echo)).fields[11] == "777777"

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class ControlPort:
    """The HTTP port of a bank world."""

    def __init__(self, port: int) -> None:
        self._port = port

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and document."""
        status, data = await asyncio.to_thread(self.call, method, path, body)
        return status, json.loads(data)

    async def fault(self, kind: str, **rule: Any) -> str:
        """Switch a rule on; returns its id."""
        status, standing = await self.ask("POST", "/faults", {"kind": kind, **rule})
        assert status == 201, standing
        return str(standing["id"])

    async def truth(self, reference: str | None = None) -> list[dict[str, Any]]:
        """What really happened."""
        path = "/truth" if reference is None else f"/truth?reference={reference}"
        status, data = await asyncio.to_thread(self.call, "GET", path)
        assert status == 200
        return [json.loads(line) for line in data.splitlines()]

    async def kinds(self, reference: str) -> list[str]:
        """The kinds of effects under a reference."""
        return [effect["kind"] for effect in await self.truth(reference)]


class Running:
    """A bank world that runs in this process."""

    def __init__(self, addresses: Addresses, clock: Clock) -> None:
        self.addresses = addresses
        self.clock = clock
        self.control = ControlPort(addresses.http_port)
        self._peers: list[Peer] = []

    async def peer(self) -> Peer:
        """A new connection, closed with the bank world."""
        peer = await Peer.connect(self.addresses.iso_port)
        self._peers.append(peer)
        return peer

    def hang_up(self) -> None:
        """Close all connections."""
        for peer in self._peers:
            peer.close()


@asynccontextmanager
async def running(folder: Path, clock: Clock) -> AsyncIterator[Running]:
    """Serve in this process until the block ends."""
    ready: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(NetworkSettings(data=folder), ready=ready.set_result, clock=clock))
    await asyncio.wait({ready, serving}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    bank = Running(await ready, clock)
    try:
        yield bank
    finally:
        bank.hang_up()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


class BankProcess:
    """A bank world in a process of its own, as `python -m guilder.network` runs it."""

    def __init__(self, folder: Path, *, prefix: Sequence[str] = (), arguments: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "guilder.network", "--data", str(folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.addresses = json.loads(line) if line else None

    @property
    def control(self) -> ControlPort:
        """Its HTTP port."""
        return ControlPort(self.addresses["http_port"])

    async def peer(self) -> Peer:
        """A new connection."""
        return await Peer.connect(self.addresses["iso_port"])

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.end()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.end()[0]

    def end(self) -> tuple[int, str]:
        """Wait for the end: exit code and what stood on stderr."""
        try:
            _, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            self.process.kill()
        return self.process.returncode, errors
