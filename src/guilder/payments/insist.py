"""Insist: what nothing else has is kept in memory while the database is away, and stored when it is back."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from guilder.core.clock import sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.errors import Again

AGAIN_SECONDS: Final = 0.5
Kept = TypeVar("Kept")


async def insist(work: Callable[[], Awaitable[Kept]]) -> Kept:
    """Do it until the database lets us. It must be safe to repeat."""
    while True:
        try:
            return await work()
        except (Unavailable, ResultUnknown, Again):
            await sleep(AGAIN_SECONDS)
