"""Keep results: what came of deliveries is stored, however long the database is away."""

from collections.abc import Sequence
from typing import Final

import structlog

from guilder.core.clock import sleep
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db import Again, Database
from guilder.webhooks import store
from guilder.webhooks.model import Result

log = structlog.get_logger(__name__)

# How often a database that is away is asked again.
AGAIN_SECONDS: Final = 0.25


async def keep_results(db: Database, results: Sequence[Result], *, unsure: bool = False) -> None:
    """Store these. One that cannot be stored is left as it was, and reported; the others are stored without it.

    `unsure`: some of them may be stored already, by a commit whose answer was lost.
    """
    while True:
        try:
            await store.store_results(db, results)
            if unsure:
                # Nothing was left to change, so nothing was waited for: what has changed it may be on this server alone.
                await db.kept()
            return
        except (Unavailable, ResultUnknown, Again) as error:
            unsure = unsure or isinstance(error, ResultUnknown)
            log.warning("results_wait_for_database", reason=str(error), count=len(results))
            await sleep(AGAIN_SECONDS)
        except Exception:
            if len(results) == 1:
                log.exception("result_cannot_be_stored", endpoint=results[0].endpoint)
                return
            break
    middle = len(results) // 2
    await keep_results(db, results[:middle], unsure=unsure)
    await keep_results(db, results[middle:], unsure=unsure)
