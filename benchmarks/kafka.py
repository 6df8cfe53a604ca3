"""The canonical workload with Kafka as the log, beside the same with the outbox: what the way through a broker costs.

The broker runs on the same machine, so what it uses the payments do not have. Its CPU is among the processes' figures, unless it
is one that KAFKA_BOOTSTRAP names.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.kafka import brokers

from benchmarks import payments
from benchmarks.system import system

CONNECTIONS: Final = 128


async def compared(seconds: Mapping[str, float], *, api_processes: int) -> list[dict[str, Any]]:
    """Run both, one after the other; the rows for the history. Nothing where neither a broker is named nor can be run."""
    if not await there_is_one():
        return []
    rows = [await _one("payments at 128, outbox beside Kafka", seconds, api_processes=api_processes)]
    with cluster() as (bootstrap, ours):
        rows.append(await _one(
            "payments at 128, Kafka", seconds, api_processes=api_processes, beside=processes(ours), GUILDER_KAFKA_BOOTSTRAP=bootstrap,
        ))  # fmt: skip
    share = rows[1]["per_second"] / rows[0]["per_second"]
    rows[1]["share_of_outbox"] = round(share, 3)
    sys.stdout.write(f"through Kafka: {share:.2f} of the outbox's throughput\n")
    return rows


async def _one(
    name: str, seconds: Mapping[str, float], *, api_processes: int, beside: Mapping[int, str] | None = None, **variables: str,
) -> dict[str, Any]:  # fmt: skip
    with system(api_processes=api_processes, beside=beside, **variables) as running:
        workload = payments.Workload(running)
        await workload.run(payments.Load(name="warm-up", connections=CONNECTIONS, seconds=seconds["warm"]))
        row = await workload.run(payments.Load(name=name, connections=CONNECTIONS, seconds=seconds["64"]))
        await workload.check()
    sys.stdout.write(f"{row['run']}: {row['per_second']:,.0f}/s, p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms\n")
    return row


async def there_is_one() -> bool:
    """Whether a broker is named or can be run; where not, it says so."""
    if brokers.bootstrap_of_the_environment() is None and not await asyncio.to_thread(brokers.can_run):
        sys.stdout.write("Kafka: left out, there is neither KAFKA_BOOTSTRAP nor Java 17 with Maven\n")
        return False
    return True


@contextmanager
def cluster(count: int = 1) -> Iterator[tuple[str, tuple[brokers.Broker, ...]]]:
    """The brokers that KAFKA_BOOTSTRAP names, or so many of ours, which live as long as the run; none of those that are named is ours."""
    if (given := brokers.bootstrap_of_the_environment()) is not None:
        yield given, ()
        return
    with tempfile.TemporaryDirectory(prefix="guilder-bench-kafka-") as folder:
        made = brokers.Cluster(Path(folder) / "cluster", brokers=count)
        try:
            made.start()
            yield made.bootstrap, tuple(made.brokers)
        finally:
            made.stop()


def processes(of: Iterable[brokers.Broker]) -> dict[int, str]:
    """Their processes, for the figures."""
    return {one.process.pid: "kafka broker" for one in of if one.process is not None}
