"""Values read often and changed rarely: held for so long and no longer, read once however many ask."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from guilder.core.clock import Clock

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# Past this part of its life a value that is asked for is read again in the background, so that nobody waits for it.
REFRESH_FROM: Final = 0.5


class _Held(NamedTuple, Generic[Value]):
    value: Value
    # When the read began, by CLOCK_BOOTTIME: the value was true then or later.
    asked: float


class _Reading(NamedTuple, Generic[Value]):
    task: asyncio.Task[Value]
    asked: float


class Fresh(Generic[Key, Value]):
    """A read-through cache whose values are never older than `age_seconds`.

    Args:
        read: reads one value; what it raises goes to those who waited, and nothing is held.
        held_max: values held at most; the one that was read first goes.
    """

    def __init__(
        self, read: Callable[[Key], Coroutine[Any, Any, Value]], clock: Clock, *, age_seconds: float, held_max: int,
    ) -> None:
        self._read = read
        self._clock = clock
        self._age_seconds = age_seconds
        self._held_max = held_max
        self._held: dict[Key, _Held[Value]] = {}
        self._reading: dict[Key, _Reading[Value]] = {}

    async def get(self, key: Key) -> Value:
        """The value, held or read now."""
        held = self._held.get(key)
        if held is not None:
            age = self._clock.boot() - held.asked
            if age < self._age_seconds * REFRESH_FROM:
                return held.value
            if age < self._age_seconds:
                self._start(key)
                return held.value
        # Shielded: a caller that goes away takes nothing from the others who wait.
        return await asyncio.shield(self._start(key))

    def forget(self, key: Key) -> None:
        """Read anew next time; for what this process has just changed itself."""
        self._held.pop(key, None)
        self._reading.pop(key, None)

    def _start(self, key: Key) -> asyncio.Task[Value]:
        """The read under way; a new one when there is none, or when that one began too long ago to be believed."""
        now = self._clock.boot()
        reading = self._reading.get(key)
        if reading is not None and now - reading.asked < self._age_seconds:
            return reading.task
        task = asyncio.get_running_loop().create_task(self._read(key))
        self._reading[key] = _Reading(task, now)
        task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def _ended(self, key: Key, task: asyncio.Task[Value]) -> None:
        reading = self._reading.get(key)
        # A background read may fail without anybody waiting; whoever asks after the value's end reads again.
        failed = task.cancelled() or task.exception() is not None
        if reading is None or reading.task is not task:
            return
        del self._reading[key]
        if failed:
            return
        self._held.pop(key, None)
        self._held[key] = _Held(task.result(), reading.asked)
        while len(self._held) > self._held_max:
            del self._held[next(iter(self._held))]
