"""Who reads which partitions: each sender of a role holds its fair share. A lease serves order and economy; safety rests elsewhere."""

from typing import Final

from guilder.db.pool import Database
from guilder.log.model import PARTITIONS

_HOLD: Final = "SELECT log_hold_partitions($1, $2, $3, $4, $5)"


async def hold_partitions(db: Database, consumer: str, sender: str, epoch: int, *, role: str) -> int:
    """Take this sender's share of a consumer's partitions, and let go of what is beyond it; returns how many it holds.

    Commits by itself; to be repeated every second or so, because senders come and go.
    """
    return int(await db.fetchval(_HOLD, consumer, sender, epoch, role, PARTITIONS))
