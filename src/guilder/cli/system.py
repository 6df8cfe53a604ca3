"""Finding the system that a command is about: a running one, a given database, or a stopped one whose database is started."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from guilder.config import Settings
from guilder.core.errors import GuilderError

if TYPE_CHECKING:
    from guilder.merchants import Merchants

Result = TypeVar("Result")


class NoSystem(GuilderError):
    """There is nothing here that the command could work on; the message says what would help."""


@contextmanager
def with_database(settings: Settings, *, create: bool = False) -> Iterator[Settings]:
    """Settings whose database answers: GUILDER_DATABASE_URL, the running system's, or the stopped one's, started alone.

    `create` makes the embedded database when there is none yet. Raises NoSystem.
    """
    from guilder import folder

    if settings.database_url is not None:
        yield settings
        return
    running = folder.read_running(settings)
    if running is not None and folder.is_alive(settings):
        yield msgspec.structs.replace(settings, database_url=running.database_url, ports=running.ports)
        return
    server = folder.embedded_server(settings)
    if not server.exists and not create:
        raise NoSystem(f"there is no Guilder in {settings.data_dir}; start one with `guilder up`, or name its folder with --data")
    with folder.claimed(settings):
        server.create()
        server.start()
        try:
            server.wait_until_ready()
            yield msgspec.structs.replace(settings, database_url=server.dsn())
        finally:
            server.stop()


def with_merchants(settings: Settings, account: str | None, work: "Callable[[Merchants, str], Awaitable[Result]]") -> Result:
    """Do something with the merchants of the system that the settings name."""
    from guilder import bootstrap, folder
    from guilder.role import run_in_loop

    sandbox = folder.read_sandbox(settings)
    id_ = account or (sandbox.account if sandbox else None)
    if id_ is None:
        raise NoSystem(f"there is no sandbox merchant in {settings.data_dir}; name the merchant with --account")

    async def do(found: Settings) -> Result:
        async with bootstrap.merchants(found) as merchants:
            return await work(merchants, id_)

    with with_database(settings) as found:
        return run_in_loop(do(found))
