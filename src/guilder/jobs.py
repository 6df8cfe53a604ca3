"""Jobs: work that is due by time rather than by request, one loop for all of it in a process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from msgspec import Struct

from guilder.core.clock import sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.errors import Again


class Job(Struct, frozen=True):
    """One kind of work.

    Args:
        run_once: does a bounded piece and returns how much it was.
        full: a piece of at least this size is followed by the next without a pause, because more is waiting.
    """

    name: str
    pause_seconds: float
    run_once: Callable[[], Awaitable[int]]
    full: int = 1


async def run_jobs(jobs: Sequence[Job]) -> None:
    """Run all jobs for ever, each at its own pace; ends only by cancellation. One that fails harms no other."""
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_run(job))


async def _run(job: Job) -> None:
    log = structlog.get_logger(__name__)
    while True:
        try:
            done = await job.run_once()
        except (Unavailable, ResultUnknown, Again) as error:
            log.warning("job_waits_for_database", job=job.name, reason=str(error))
            done = 0
        except Exception:
            log.exception("job_failed", job=job.name)
            done = 0
        if done < job.full:
            await sleep(job.pause_seconds)
