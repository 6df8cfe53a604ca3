"""A desk: a small HTTP server of the experiment's own, which the system under test talks to."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

# Who is kept waiting on purpose need not be waited for in the end.
CLOSE_SECONDS: Final = 0.1


class Desk:
    """Listens on a port of this machine until it is closed; every POST to `path` is `answer`'s."""

    def __init__(self, path: str, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        app = web.Application()
        app.router.add_post(path, answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        self.port = 0

    async def start(self) -> None:
        """Listen; `port` is known from now on."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()
