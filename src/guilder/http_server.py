"""An ASGI application on a listening socket, until its role is told to stop. uvicorn does the HTTP."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from guilder.role import Context

# An idle connection is kept longer than clients keep theirs, so that it is the client who closes: a request that meets
# a closing connection is lost, and its sender cannot know.
KEEP_ALIVE_SECONDS: Final = 75
# After the word to stop, running requests get so long to be answered; the supervisor waits little longer.
GRACE_SECONDS: Final = 1


class _Server(uvicorn.Server):
    """uvicorn, told to stop by its role instead of by signals, and saying when it serves."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The role has the signals."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self._ready()


async def serve_http(app: Any, listener: socket.socket, context: Context) -> None:
    """Serve until the role is told to stop; then answer what is under way and close."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, context.ready)

    async def stop() -> None:
        await context.stop.wait()
        server.should_exit = True

    stopping = asyncio.ensure_future(stop())
    try:
        await server.serve(sockets=[listener])
    finally:
        stopping.cancel()
