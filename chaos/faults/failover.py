"""G2 to G6: what only a PostgreSQL with a standby can suffer, with the harness as its cluster manager (cluster.py)."""

import asyncio
import time
from typing import Final

import asyncpg

from chaos.cluster import PROMOTED_SECONDS, Cluster, Look
from chaos.faults.base import Fault
from chaos.faults.own import reading
from chaos.http_proxy import FIRST_PATHS
from chaos.lab import Lab
from chaos.proxy import FIRST
from chaos.reads import unknown_claims

_CLAIMS: Final = """
SELECT a.reference, o.attempt IS NOT NULL AS unsent
FROM attempt a LEFT JOIN attempt_open o ON o.attempt = a.id AND o.state = 'created' AND o.sender IS NULL
"""


class Clustered(Fault):
    """One of the cluster's faults."""

    lasts = "step"

    @staticmethod
    def cluster(lab: Lab) -> Cluster:
        """The lab's cluster."""
        if lab.cluster is None:
            raise RuntimeError("this fault needs a cluster")
        return lab.cluster


class PrimaryLost(Clustered):
    """G2: the primary is killed, the standby promoted; the old one stays fenced, and a new standby is made."""

    kind = "G2"
    lost = True

    async def inject(self, lab: Lab) -> None:
        began = time.monotonic()
        await self.cluster(lab).fail_over(lost=self.lost, look=self.judge_claims(lab))
        await lab.system.rows("SELECT 1")
        took = time.monotonic() - began
        lab.kills += 1
        lab.failovers += 1
        if took > PROMOTED_SECONDS:
            lab.finding("failover", f"{took:.1f} s until the database served again")
        lab.note(f"{self.kind}: {took:.1f} s until the database served again")

    @staticmethod
    def judge_claims(lab: Lab) -> Look:
        """The claim's LSN: of whatever has left by the wires, the one that was promoted has the claim."""

        async def look(connection: asyncpg.Connection) -> None:
            sent = [one.reference for one in (*lab.proxy.sent, *lab.web.sent) if one.mti in FIRST | FIRST_PATHS]
            for text in unknown_claims(sent, await connection.fetch(_CLAIMS)):
                lab.finding("claim", text)

        return look

    async def heal(self, lab: Lab) -> None:
        await self.cluster(lab).add_standby()


class SplitBrain(PrimaryLost):
    """G4: the primary is cut off and lives on while the standby is promoted."""

    kind = "G4"
    lost = False


class StandbyLost(Clustered):
    """G3: the standby stands still: commits wait, and none goes on without it; reads are answered."""

    kind = "G3"

    async def inject(self, lab: Lab) -> None:
        async with reading(lab):
            await self.cluster(lab).without_standby(lab.seconds("lock"))


class TailLost(PrimaryLost):
    """G5: waits for the standby are canceled, answered with success and a warning; then the primary is lost with that tail."""

    kind = "G5"

    async def inject(self, lab: Lab) -> None:
        canceled = await self.cluster(lab).lose_the_tail(lab.seconds("lock"), self.judge_claims(lab))
        lab.kills += 1
        lab.failovers += 1
        lab.note(f"G5: {canceled} waits for the standby were canceled, and their commits lost")


class AnswersLost(Clustered):
    """G6: statements are committed, and their answers are lost with the connection."""

    kind = "G6"

    async def inject(self, lab: Lab) -> None:
        for _ in range(5):
            # The clients' idempotency keys, which accepts and outcomes carry.
            self.cluster(lab).way.lose_answers(f"s{lab.seed:x}-", 3)
            await asyncio.sleep(lab.seconds("step"))
        lab.note(f"G6: {self.cluster(lab).way.cuts} answers were lost after their commit")
