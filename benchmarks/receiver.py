"""A webhook receiver in a process of its own: asyncio and httptools, answers 200 to whatever comes, and verifies nothing."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from time import process_time
from typing import Any, Final

import httptools
import uvloop

ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOK_SECONDS: Final = 0.02
# A backlog that is still there after so long is reported as it is.
DRAIN_SECONDS_MAX: Final = 60.0


class _Receiving(asyncio.Protocol):
    count = 0
    transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        _Receiving.count += 1
        self.transport.write(ANSWER)


def _serve(pipe: Pipe) -> None:
    """Say the port, then on each question how many came and the CPU seconds that it took."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Receiving, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        loop.add_reader(pipe.fileno(), lambda: (pipe.recv(), pipe.send((_Receiving.count, process_time()))))
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


class Receiver:
    """The receiver, seen from outside."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.url = f"http://127.0.0.1:{pipe.recv()}/webhooks"

    def looked_at(self) -> tuple[int, float]:
        """Requests so far, and CPU seconds."""
        self._pipe.send(None)
        count, cpu = self._pipe.recv()
        return count, cpu

    def drained(self, count: int) -> float:
        """Wait until so many requests have come in all; the seconds that it took."""
        began = time.monotonic()
        while self.looked_at()[0] < count and time.monotonic() - began < DRAIN_SECONDS_MAX:
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - began


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A receiver that runs until the end of the block."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield Receiver(ours)
    finally:
        process.terminate()
        process.join()
