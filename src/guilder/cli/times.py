"""Instants and days as people read them, in UTC."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(micros: int, *, fine: bool = False) -> str:
    """Microseconds since 1970 as 2026-01-31 12:34:56, with `fine` to the millisecond."""
    at = _EPOCH + timedelta(microseconds=micros)
    return f"{at:%Y-%m-%d %H:%M:%S}" + (f".{at.microsecond // 1000:03}" if fine else "")


def date(day: int) -> str:
    """Days since 1970 as 2026-01-31."""
    return f"{_EPOCH + timedelta(days=day):%Y-%m-%d}"
