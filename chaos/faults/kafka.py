"""K: brokers die, lose what they had acknowledged, and bring messages twice, out of order, or from somebody else."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

from confluent_kafka import KafkaException
from msgspec.structs import replace
from tests.kafka.brokers import Cluster

from chaos.faults.base import Fault
from chaos.faults.processes import killed
from chaos.lab import Lab
from chaos.system import Broken, alive, until
from chaos.topics import MESSAGE_BYTES_MAX, PARTITIONS, TOPICS, Record, Topics, partition_of

TIMES: Final = 3
BROUGHT_AGAIN: Final = 2_000
STEP_SECONDS: Final = 0.2
# Shorter than the lease of whoever stands still.
UNREAD_SECONDS: Final = 0.7
_CONSUMERS: Final = "SELECT DISTINCT consumer, topic FROM log_consumer WHERE awaited"
_STREAM: Final = "SELECT id FROM log_stream"
_HEADS: Final = "SELECT topic, partition, head FROM log_head"
_UNREAD: Final = """
SELECT count(*) AS count FROM log_consumer c JOIN unnest($1::int[], $2::int[], $3::bigint[]) h(topic, partition, head)
    ON (h.topic, h.partition) = (c.topic, c.partition)
WHERE c.awaited AND c.applied_to < h.head
"""


class _Brokered(Fault):
    """One of the brokers' faults."""

    @staticmethod
    def cluster(lab: Lab) -> Cluster:
        """The lab's brokers."""
        if lab.brokers is None:
            raise RuntimeError("this fault needs brokers")
        return lab.brokers

    @classmethod
    def topics(cls, lab: Lab) -> Topics:
        """What they hold."""
        return Topics(cls.cluster(lab).bootstrap)


async def in_step(lab: Lab) -> None:
    """Return when every partition has its leader and all its copies again."""
    topics = _Brokered.topics(lab)
    await until(lambda: asyncio.to_thread(topics.led), "all of Kafka's partitions are in step")


async def rebuilt(lab: Lab) -> None:
    """What an operator does who knows that the topics have lost something."""
    status, said = await lab.system.command("log", "rebuild")
    if status:
        lab.finding("K", f"the log cannot be rebuilt: {said[-300:]}")
    await in_step(lab)


class BrokerLost(_Brokered):
    """K1: one of three brokers is killed, its partitions get other leaders, and it comes back."""

    kind = "K1"
    lasts = "outage"
    down = "broker"
    lost = 1

    async def inject(self, lab: Lab) -> None:
        for broker in lab.chance.sample(self.cluster(lab).brokers, self.lost):
            await asyncio.to_thread(broker.kill)
            lab.kills += 1

    async def heal(self, lab: Lab) -> None:
        await asyncio.to_thread(self.cluster(lab).start)
        await in_step(lab)


class TwoLost(BrokerLost):
    """K2: two of three brokers are killed: too few copies for any acknowledgement."""

    kind = "K2"
    down = "brokers"
    lost = 2


class AllLost(_Brokered):
    """K3: the cluster has lost everything; `guilder log rebuild` restores it from the outbox."""

    kind = "K3"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        await asyncio.to_thread(self.cluster(lab).lose_everything)
        lab.kills += len(self.cluster(lab).brokers)

    async def heal(self, lab: Lab) -> None:
        await asyncio.to_thread(self.cluster(lab).start)
        await rebuilt(lab)


class BroughtAgain(_Brokered):
    """K4: old messages come again, late and in any order."""

    kind = "K4"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        for _ in range(TIMES):
            known = await asyncio.to_thread(self.topics(lab).all)
            again = known[-BROUGHT_AGAIN:]
            lab.chance.shuffle(again)
            await asyncio.to_thread(self.topics(lab).put, again)


class Moved(_Brokered):
    """K5: partitions move to another executor in the middle of the work, and back by the first one's death."""

    kind = "K5"

    async def inject(self, lab: Lab) -> None:
        await lab.system.another("executor", lab.proxy.port)
        await asyncio.sleep(lab.seconds("step"))
        await killed(lab, "executor")
        await killed(lab, "worker")

    async def heal(self, lab: Lab) -> None:
        await lab.system.without("executor")


class EndLost(_Brokered):
    """K6: all brokers lose power, and the end of what they had acknowledged with it, before the worker has read it."""

    kind = "K6"
    lasts = "step"

    def __init__(self) -> None:
        self._heads: Sequence[Mapping[str, Any]] = ()

    async def inject(self, lab: Lab) -> None:
        cluster = self.cluster(lab)
        worker = await lab.system.signal("worker", signal.SIGSTOP)
        await asyncio.sleep(UNREAD_SECONDS)
        await asyncio.to_thread(cluster.stop)
        lab.kills += len(cluster.brokers)
        lab.note(f"K6: {await asyncio.to_thread(_cut, cluster.folder)} bytes of acknowledged messages are lost")
        self._heads = await lab.system.rows(_HEADS)
        os.kill(worker, signal.SIGCONT)
        await asyncio.to_thread(cluster.start)

    async def heal(self, lab: Lab) -> None:
        """Consumers read what is missing from the outbox by themselves; other readers of the topics get it by the rebuild."""
        columns = [[row[name] for row in self._heads] for name in ("topic", "partition", "head")]
        end = time.monotonic() + lab.rest_seconds
        while (await lab.system.rows(_UNREAD, *columns))[0]["count"]:
            if time.monotonic() > end:
                lab.finding("K6", "what Kafka has lost is not read from the outbox")
                break
            await asyncio.sleep(STEP_SECONDS)
        await rebuilt(lab)


def _cut(folder: Path) -> int:
    """Take the second half of each partition's newest segment away, on each broker alike; how many bytes went."""
    lost = 0
    for partition in folder.glob("broker*/data/guilder.*-*"):
        newest = max(partition.glob("*.log"))
        size = newest.stat().st_size
        os.truncate(newest, size // 2)
        lost += size - size // 2
        for rest in (*partition.glob("*.index"), *partition.glob("*.timeindex"), *partition.glob("*.snapshot")):
            rest.unlink()
    return lost


class OffsetsBack(_Brokered):
    """K7: the offsets that Kafka keeps for the consumers go back to the beginning, or anywhere, and consumers start there."""

    kind = "K7"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        for offset in (0, lab.chance.randint(0, 50)):
            for row in await lab.system.rows(_CONSUMERS):
                topic = TOPICS[row["topic"] - 1]
                await asyncio.to_thread(self.topics(lab).set_offsets, row["consumer"], topic, offset)
            await killed(lab, "executor")
            await killed(lab, "worker")


class Poison(_Brokered):
    """K8: messages that are none: without headers, of another stream, empty, huge, and old positions with other words."""

    kind = "K8"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        [row] = await lab.system.rows(_STREAM)
        for _ in range(TIMES):
            heads = {(TOPICS[one["topic"] - 1], one["partition"]): one["head"] for one in await lab.system.rows(_HEADS)}
            await asyncio.to_thread(self.topics(lab).put, _poison(lab.chance, row["id"], heads))
            await asyncio.sleep(lab.seconds("step") / 2)


def _poison(chance: Random, stream: str, heads: Mapping[tuple[str, int], int]) -> list[Record]:
    made = []
    for topic in TOPICS:
        for partition in range(PARTITIONS):
            key = next(key for n in count() if partition_of(key := b"junk%d" % n) == partition)
            junk = Record(topic, partition, key, chance.randbytes(200))
            old = (("position", b"%d" % chance.randint(1, 9)), ("stream", stream.encode()))
            head = heads[topic, partition]
            made += [
                junk, replace(junk, key=None, value=None), replace(junk, headers=(("position", b"\xff"), ("stream", b"\xfe"))),
                # An entry of ours that was applied long ago, with something else in it; and what another installation has next.
                replace(junk, headers=old),
                *(replace(junk, headers=(("position", b"%d" % (head + n)), ("stream", b"another"))) for n in range(1, 4)),
            ]
        made.append(Record(topic, chance.randrange(PARTITIONS), b"huge", bytes(MESSAGE_BYTES_MAX - 1_000)))
    chance.shuffle(made)
    return made


class SlowConsumer(_Brokered):
    """K9: the worker gets a tenth of the time, and falls behind."""

    kind = "K9"
    lasts = "outage"

    def __init__(self) -> None:
        self._pid = 0
        self._slowing: asyncio.Task[None] | None = None

    async def inject(self, lab: Lab) -> None:
        self._pid = await lab.system.pid("worker")
        self._slowing = asyncio.ensure_future(self._slow())

    async def _slow(self) -> None:
        while alive(self._pid):
            os.kill(self._pid, signal.SIGSTOP)
            await asyncio.sleep(9 * STEP_SECONDS)
            os.kill(self._pid, signal.SIGCONT)
            await asyncio.sleep(STEP_SECONDS)

    async def heal(self, lab: Lab) -> None:
        if self._slowing is not None:
            self._slowing.cancel()
        if alive(self._pid):
            os.kill(self._pid, signal.SIGCONT)


async def judge_topics(lab: Lab) -> None:
    """I7: the topics hold every entry that the outbox keeps, whatever else they hold; after the rebuild that ends K3 and K6."""
    if lab.brokers is None:
        return
    [row] = await lab.system.rows(_STREAM)
    try:
        held = {one.place for one in await asyncio.to_thread(Topics(lab.brokers.bootstrap).all)}
    except KafkaException as error:
        raise Broken(f"the topics cannot be read: {error}") from error
    kept = await lab.system.rows("SELECT topic, partition, position FROM log_entry")
    missing = [one for one in kept if (row["id"], TOPICS[one["topic"] - 1], one["partition"], one["position"]) not in held]
    if missing:
        lab.finding("I7", f"{len(missing)} of {len(kept)} entries are not in Kafka, {dict(missing[0])} among them")
    lab.note(f"{len(kept)} entries are in Kafka, of {len(held)} that are there")


KAFKA: tuple[type[Fault], ...] = (
    BrokerLost, TwoLost, BroughtAgain, Moved, OffsetsBack, Poison, SlowConsumer, EndLost, AllLost,
)  # fmt: skip
