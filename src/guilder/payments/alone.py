"""Alone: work through a list, in which one that cannot be worked on keeps no other from it."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import structlog

from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.errors import Again

log = structlog.get_logger(__name__)

Item = TypeVar("Item", bound=tuple[Any, ...])


async def each_alone(items: Iterable[Item], work: Callable[[Item], Awaitable[bool]], *, problem: str, field: str) -> int:
    """Do it with each; returns with how many it was done. One that fails is left as it was, and reported.

    Args:
        problem: the name of the report.
        field: what an item's first element is called there: the id of what it is about.

    Raises what the database does: then it is away for all of them.
    """
    done = 0
    for item in items:
        try:
            done += await work(item)
        except (Unavailable, ResultUnknown, Again):
            raise
        except Exception:
            log.exception(problem, **{field: item[0]})
    return done
