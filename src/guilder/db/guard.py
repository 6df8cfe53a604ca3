"""A guard: whether this process may work, looked at from time to time."""

import asyncio
from abc import ABC, abstractmethod

from guilder.core.clock import sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.errors import Again


class Guard(ABC):
    """Looks once at the start and then every so many seconds; `sound` says what the last look found."""

    def __init__(self, every_seconds: float) -> None:
        self._every = every_seconds
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.sound = True

    async def start(self) -> None:
        """Look once, and go on."""
        await self.look()
        self._task = asyncio.get_running_loop().create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @abstractmethod
    async def look(self) -> bool:
        """Look now, and say what was found. Raises what the database does."""

    async def until(self, *, sound: bool) -> None:
        """Return when it is so, at once if it is."""
        while self.sound is not sound:
            await self._changed.wait()

    def found(self, *, sound: bool) -> bool:
        """What a look has found."""
        self.sound = sound
        self._changed.set()
        self._changed = asyncio.Event()
        return sound

    async def _keep_looking(self) -> None:
        while True:
            await sleep(self._every)
            try:
                await self.look()
            except (Unavailable, ResultUnknown, Again):
                # A database that is away says nothing.
                continue
