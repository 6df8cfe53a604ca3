"""The clock guard against a real database's clock."""

from pathlib import Path

from guilder.core.clock import SECOND, Micros, SystemClock
from guilder.db import Database
from guilder.db.clock_guard import ClockGuard


class WrongClock(SystemClock):
    """A machine whose clock is off by so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def real(self) -> Micros:
        return Micros(super().real() + int(self.seconds * SECOND))


async def test_a_clock_that_agrees_is_sound(db: Database) -> None:
    """Within two seconds, either way."""
    assert await ClockGuard(db, SystemClock()).look()
    assert await ClockGuard(db, WrongClock(1.5)).look()
    assert await ClockGuard(db, WrongClock(-1.5)).look()


async def test_a_clock_that_differs_is_not_sound_until_it_agrees_again(db: Database) -> None:
    """Ahead or behind."""
    clock = WrongClock(3)
    guard = ClockGuard(db, clock)
    assert not await guard.look()
    clock.seconds = -3
    assert not await guard.look()
    clock.seconds = 0
    assert await guard.look()
    assert guard.sound


async def test_a_moved_business_clock_is_no_difference(db: Database, tmp_path: Path) -> None:
    """`guilder clock advance` moves business time only."""
    (tmp_path / "clock").write_text(str(7 * 86_400 * SECOND))
    assert await ClockGuard(db, SystemClock(tmp_path / "clock")).look()
