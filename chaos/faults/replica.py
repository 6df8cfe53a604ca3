"""G15 and G16, of our own: the standby from which lists are read is behind, or silent. Payments and their answers do not depend on it."""

import asyncio

from chaos.faults.failover import Clustered
from chaos.faults.own import reading
from chaos.lab import Lab
from chaos.system import until


class ReplicaBehind(Clustered):
    """G15: the standby keeps what comes and shows none of it; lists say how old they are."""

    kind = "G15"

    async def inject(self, lab: Lab) -> None:
        async with reading(lab) as reads:
            # Without one that came from there, nothing would be tried here.
            await until(lambda: any(one.age is not None for one in reads), "a list comes from the replica")
            await self.cluster(lab).hold_behind()
            try:
                await asyncio.sleep(lab.seconds("lock"))
            finally:
                await self.cluster(lab).catch_up()
        ages = [one.age for one in reads if one.age is not None]
        lab.note(f"G15: {len(ages)} of {len(reads)} lists came from a replica that was behind, {max(ages, default=0.0):.1f} s old at most")


class ReplicaSilent(Clustered):
    """G16: the standby takes questions of readers and answers none; lists come from the primary."""

    kind = "G16"

    async def inject(self, lab: Lab) -> None:
        way = self.cluster(lab).reads
        async with reading(lab) as reads:
            way.hold()
            try:
                await asyncio.sleep(lab.seconds("trouble"))
                answered = len(reads)
            finally:
                way.go_on()
        longest = max((one.took for one in reads), default=0.0)
        lab.note(f"G16: {answered} lists were answered while the replica was silent, after {longest:.1f} s at most")
        if not answered:
            lab.finding("replica", "no list was answered while the replica was silent")
