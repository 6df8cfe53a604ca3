"""Webhooks: deliveries a second to one receiver over loopback, and what each costs the worker and PostgreSQL.

    python -m benchmarks.webhooks [--deliveries N] [--profile]

Events of a typical payment are announced first, then written out and delivered by one worker process as the product wires
it, on an embedded PostgreSQL with fsync on. The receiver is a process of its own (benchmarks/receiver.py).
Prints CPU microseconds per delivery by process: the worker (fan-out, reading, rendering, signing, sending, storing), the
sessions of PostgreSQL, the receiver. The reference machine has two cores, shared with everything else.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import uvloop

from benchmarks import measure
from benchmarks.receiver import Receiver, receiver
from guilder.core.clock import SystemClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.db.embedded import EmbeddedServer
from guilder.db.migrate import migrate
from guilder.db.sender import Sender
from guilder.log import TOPIC_EVENTS, Consumer, NewEvent, Outbox, announce, hold_partitions
from guilder.security import PurposeKeys
from guilder.shapes.facts import PaymentIntentFacts
from guilder.webhooks import Allowed, CreateEndpoint, Endpoints
from guilder.webhooks.deliver import Deliverer
from guilder.webhooks.fan_out import CONSUMER, FanOut

ACCOUNT: Final = "acct_0123456789abcdefghijbnch"
_DELIVERED: Final = "SELECT count(*) FROM webhook_delivery WHERE state = 'delivered'"
PAID: Final = "payment_intent.succeeded"
# What is to be reached on the reference machine.
TARGET_PER_SECOND: Final = 3_500
TARGET_WORKER_US: Final = 120.0
TARGET_POSTGRES_US: Final = 60.0


class Bench:
    """One worker on a fresh database."""

    def __init__(self, db: Database, beats: Database) -> None:
        self.db = db
        self.beats = beats
        self.clock = SystemClock()
        self.ids = Ids(self.clock)
        self.keys = PurposeKeys(bytes(32))

    async def announce(self, count: int) -> None:
        """Announce so many payments, in the commits of a busy system."""
        for start in range(0, count, 50):
            async with self.db.transaction() as connection:
                events = [
                    NewEvent(id=self.ids.new("evt"), account=ACCOUNT, type=PAID, object=self._payment())
                    for _ in range(min(50, count - start))
                ]
                await announce(connection, livemode=False, now=self.clock.now(), key=events[0].id, events=events)

    def _payment(self) -> PaymentIntentFacts:
        id_ = self.ids.new("pi")
        return PaymentIntentFacts(
            id=id_, livemode=False, created=self.clock.now() // 1_000_000, amount=1000, currency="eur", status="succeeded",
            client_secret=f"{id_}_secret_x", amount_received=1000, payment_method=self.ids.new("pm"), automatic_payment_methods="",
            metadata=(("order", "7"),), latest_charge=self.ids.new("ch"),
        )  # fmt: skip

    async def deliver(self, count: int, to: Receiver) -> dict[str, float]:
        """Write out and deliver what was announced; the figures."""
        sender = Sender(self.beats, self.clock, self.ids, role="worker", lost=lambda _before: None)
        await sender.start()

        async def personal(_account: str, _ids: Any, _livemode: bool) -> Mapping[str, Mapping[str, Any]]:
            return {}

        allowed = Allowed.of(None, livemode=False)
        deliverer = Deliverer(
            db=self.db, sender=sender, clock=self.clock, ids=self.ids, keys=self.keys, personal=personal, allowed=(allowed, allowed),
            role="worker",
        )  # fmt: skip
        reader = Outbox(self.db).reader(CONSUMER, TOPIC_EVENTS, lambda: sender.id)
        consumer = Consumer(self.db, self.clock, self.ids, reader=reader, handle=FanOut(self.clock).handle)
        await hold_partitions(self.db, CONSUMER, sender.id, sender.epoch, role="worker")
        before = await self._backends()
        (_, spent), began, cpu = to.looked_at(), perf_counter(), process_time()
        system = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        running = asyncio.ensure_future(deliverer.run())
        while await consumer.run_once():
            deliverer.wake()
            await asyncio.sleep(0.02)
        written = perf_counter() - began
        while await self.db.fetchval("SELECT count(*) FROM webhook_retry") + to.looked_at()[0] < count:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        seconds = perf_counter() - began
        own, kernel = process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_stime - system
        while await self.db.fetchval(_DELIVERED) < count:  # noqa: ASYNC110 - nothing here tells when
            await asyncio.sleep(0.05)
        after = await self._backends()
        received = to.looked_at()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await sender.close()
        each = 1e6 / count
        return {
            "per_second": count / seconds, "fan_out_seconds": written, "worker_us": own * each, "of_which_kernel_us": kernel * each,
            "postgres_us": sum(after[pid] - before.get(pid, 0.0) for pid in after) * each, "receiver_us": (received[1] - spent) * each,
            "received": received[0],
        }  # fmt: skip

    async def _backends(self) -> dict[int, float]:
        """CPU seconds of each session of the database."""
        rows = await self.db.fetch("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'guilder%'")
        return {row["pid"]: measure.process_cpu(row["pid"]) / 1e9 for row in rows}


async def _run(dsn: str, deliveries: int, to: Receiver, *, profile: bool) -> dict[str, float]:
    db = await Database.connect(dsn, role="guilder_app", max_size=2, name="bench")
    beats = await Database.connect(dsn, role="guilder_app", max_size=1, name="bench beat")
    bench = Bench(db, beats)
    endpoints = Endpoints(db, bench.keys, bench.clock, bench.ids, allowed=(Allowed.of(None, livemode=False),) * 2)
    async with db.transaction() as connection:
        await endpoints.create(
            connection, ACCOUNT, CreateEndpoint(url=to.url, enabled_events=(PAID,)), livemode=False,
        )
    try:
        await bench.announce(deliveries)
        if not profile:
            return await bench.deliver(deliveries, to)
        import cProfile
        import pstats

        with cProfile.Profile() as found:
            figures = await bench.deliver(deliveries, to)
        pstats.Stats(found).sort_stats("tottime").print_stats(45)
        return figures
    finally:
        await db.close()
        await beats.close()


def main() -> int:
    """Run it, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.webhooks", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true", help="where the worker's time goes; the figures are worth nothing then")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="guilder-bench-", dir="/tmp") as folder:
        data = Path(folder)
        server = EmbeddedServer(
            data, socket_folder=data / "run", password_file=data / "passwords.json", log=data / "postgres.log",
        )  # fmt: skip
        server.create()
        server.start()
        try:
            server.wait_until_ready()
            uvloop.run(migrate(server.dsn()))
            with receiver() as to:
                figures = uvloop.run(_run(server.dsn(), given.deliveries, to, profile=given.profile))
        finally:
            server.stop()
    sys.stdout.write("".join(f"{name:>20} {value:10.1f}\n" for name, value in figures.items()))
    targets = f"{TARGET_PER_SECOND}/s, worker {TARGET_WORKER_US} us, PostgreSQL {TARGET_POSTGRES_US} us"
    sys.stdout.write(f"wanted: {targets}; this machine's loop takes {measure.loop_ms():.0f} ms\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
