"""Time, handed in. Two clocks: business time, which the sandbox may move forward, and real time, which nobody moves.

Business time decides what a merchant sees (created, expiries, release days, retry schedules). Real time decides
leases, send deadlines, timeouts, waits and signature timestamps (DESIGN section 11). Instants are integers of
microseconds since 1970 UTC: exact, cheap to store and to compare.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NewType, Protocol

Micros = NewType("Micros", int)
"""An instant: microseconds since 1970-01-01 UTC."""

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

# How often the offset file is looked at. `guilder clock advance` waits until every process has confirmed, so this
# bounds how long that takes; a stat costs 2 us.
OFFSET_REFRESH_SECONDS: Final = 0.1


class Clock(Protocol):
    """What every part that needs the time is handed."""

    def now(self) -> Micros:
        """Business time."""
        ...

    def real(self) -> Micros:
        """Wall-clock time, never moved."""
        ...

    def boot(self) -> float:
        """Seconds of CLOCK_BOOTTIME: goes on during suspend, jumps for nobody; for leases and send deadlines."""
        ...


class SystemClock:
    """The machine's clock plus the offset that stands in DATA/clock (microseconds, as text); no file means zero."""

    def __init__(self, offset_file: Path | None = None) -> None:
        self._offset_file = offset_file
        self._offset = 0
        self._looked_at = float("-inf")
        self.refresh()

    @property
    def offset(self) -> int:
        """Microseconds that business time is ahead of real time, as this process last saw it."""
        return self._offset

    def refresh(self) -> int:
        """Read the offset file now, and return the offset. Time never goes back: a smaller offset is ignored."""
        self._looked_at = time.monotonic()
        if self._offset_file is not None:
            with suppress(FileNotFoundError):
                self._offset = max(self._offset, int(self._offset_file.read_text() or 0))
        return self._offset

    def now(self) -> Micros:
        if self._offset_file is not None and time.monotonic() - self._looked_at > OFFSET_REFRESH_SECONDS:
            self.refresh()
        return Micros(time.time_ns() // 1000 + self._offset)

    def real(self) -> Micros:
        return Micros(time.time_ns() // 1000)

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class ManualClock:
    """A clock that moves only when told to: for tests and for the simulation."""

    def __init__(self, start: int = 1_767_225_600 * SECOND) -> None:
        self._now = start

    def advance(self, micros: int) -> None:
        """Move forward by so many microseconds."""
        self._now += micros

    def now(self) -> Micros:
        return Micros(self._now)

    def real(self) -> Micros:
        return Micros(self._now)

    def boot(self) -> float:
        return self._now / SECOND


def epoch_seconds(instant: int) -> int:
    """What the API shows of an instant: whole seconds since 1970."""
    return instant // SECOND


def day_of(instant: int) -> int:
    """The UTC day of an instant, as days since 1970."""
    return instant // DAY


async def sleep(seconds: float) -> None:
    """Wait in real time. The one place that does, so that every other wait is found by name."""
    await asyncio.sleep(seconds)
