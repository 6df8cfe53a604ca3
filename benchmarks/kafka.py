"""The canonical workload with Kafka as the log, beside the same with the outbox: what the way through a broker costs.

The broker runs on the same machine, so what it uses the payments do not have. Its CPU is among the processes' figures, unless it
is one that KAFKA_BOOTSTRAP names.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterator, Mapping
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
    with broker() as (bootstrap, beside):
        rows.append(await _one(
            "payments at 128, Kafka", seconds, api_processes=api_processes, beside=beside, GUILDER_KAFKA_BOOTSTRAP=bootstrap,
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
def broker() -> Iterator[tuple[str, dict[int, str]]]:
    """The broker that KAFKA_BOOTSTRAP names, or one that lives as long as the run; and its process, if it is ours."""
    if (given := brokers.bootstrap_of_the_environment()) is not None:
        yield given, {}
        return
    with tempfile.TemporaryDirectory(prefix="guilder-bench-kafka-") as folder:
        cluster = brokers.Cluster(Path(folder) / "cluster")
        try:
            cluster.start()
            yield cluster.bootstrap, {one.process.pid: "kafka broker" for one in cluster.brokers if one.process is not None}
        finally:
            cluster.stop()
