"""`make bench`: the canonical workload, the payment page, the ledger over HTTP, and the ledger from Python objects; no arguments needed.

What faults cost those who pay, and the spike at full size, are parts that are run by their names.

    python -m benchmarks [--quick] [--part payments|page|kafka|http|ledger|faults|spike ...] [--api-processes N]

Exits with 1 when the books, the answers or the bank world disagree; a missed figure is shown, and is no failure.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import faults, kafka, ledger_http, measure, page, payments, report, spike
from benchmarks.books import Wrong
from benchmarks.receiver import receiver
from benchmarks.system import System, system

PARTS: Final = ("payments", "page", "kafka", "http", "ledger")
# Only where they are asked for: minutes of outages and of waiting are not what `make bench` is for.
ASKED_FOR: Final = ("faults", "spike")
# The long run shows what short ones hide: checkpoints, vacuum, growing tables.
SECONDS: Final = {"warm": 5.0, "64": 30.0, "128": 90.0, "lone": 5.0, "open": 30.0, "page": 10.0, "http": 20.0, "spike": 60.0}
QUICK_SECONDS: Final = {"warm": 3.0, "64": 10.0, "128": 10.0, "lone": 3.0, "open": 10.0, "page": 5.0, "http": 8.0, "spike": 10.0}
OPEN_CONNECTIONS: Final = 256
LIST: Final = 100


def main() -> int:
    """Run what was asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="runs of 10 s")
    parser.add_argument("--part", action="append", choices=(*PARTS, *ASKED_FOR), help="only this part (may be repeated)")
    parser.add_argument("--api-processes", type=int, default=1, help="processes that serve the API")
    given = parser.parse_args()
    parts = given.part or PARTS
    # Told to end, we still end the system that we have started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if set(parts) - {"ledger", "faults"}:
            asyncio.run(_over_http(parts, quick=given.quick, api_processes=given.api_processes))
        if "faults" in parts:
            asyncio.run(_under_faults(quick=given.quick))
    except Wrong as wrong:
        sys.stderr.write(f"WRONG: {wrong}\n")
        return 1
    if "ledger" in parts:
        words = [sys.executable, "-m", "benchmarks.ledger", *(["--quick"] if given.quick else [])]
        return subprocess.run(words, cwd=Path(__file__).parent.parent, check=False).returncode
    return 0


async def _over_http(parts: Collection[str], *, quick: bool, api_processes: int) -> None:
    seconds = QUICK_SECONDS if quick else SECONDS
    loop_ms = min(measure.loop_ms() for _ in range(3))
    rows: list[dict[str, Any]] = []
    if {"payments", "page", "http"} & set(parts):
        with system(api_processes=api_processes) as running:
            rows += await _payments(running, seconds) if "payments" in parts else []
            rows += await page.run(running, page.Load(name="the page", seconds=seconds["page"])) if "page" in parts else []
            rows += await _ledger(running, seconds) if "http" in parts else []
    if "kafka" in parts:
        rows += await kafka.compared(seconds, api_processes=api_processes)
    if "spike" in parts:
        for row in await spike.compared(seconds["spike"], api_processes=api_processes):
            report.History("spike", quick=quick).add(row)
    if not rows:
        return
    history = report.History("http", quick=quick)
    for row in rows:
        history.add({**row, "disturbed": report.disturbed(row, loop_ms), "api_processes": api_processes})
    report.show(rows, loop_ms=loop_ms)


async def _under_faults(*, quick: bool) -> None:
    rows = await faults.measured(quick=quick)
    history = report.History("faults", quick=quick)
    for row in rows:
        history.add(row)
    for line in report.verdicts(rows):
        sys.stdout.write(f"{line}\n")


async def _payments(running: System, seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """The canonical workload; every run is followed by the check of all that was done."""
    workload = payments.Workload(running)
    await _said(workload.run(payments.Load(name="warm-up", connections=64, seconds=seconds["warm"])))
    rows = [
        await _said(workload.run(payments.Load(name="a lone payment", connections=1, seconds=seconds["lone"]))),
        await _said(workload.run(payments.Load(name="payments at 64", connections=64, seconds=seconds["64"]))),
        await _said(workload.run(payments.Load(name="payments at 128", connections=128, seconds=seconds["128"]))),
    ]
    half = max(row["per_second"] for row in rows) / 2
    rows.append(await _said(workload.run(payments.Load(
        name="payments at half, open loop", connections=OPEN_CONNECTIONS, seconds=seconds["open"], rate=half,
    ))))  # fmt: skip
    with receiver() as to:
        running.post("/v1/webhook_endpoints", {"url": to.url, "enabled_events": ["payment_intent.succeeded"]})
        load = payments.Load(name="payments at 128 *", connections=128, seconds=seconds["128"])
        rows.append(await _said(workload.run(load, to=to)))
    sys.stdout.write(f"* with a webhook of each payment; the last ones came {rows[-1]['drained_seconds']} s after the load\n")
    counts = await workload.check()
    sys.stdout.write(f"the books and the bank world agree: {counts}\n")
    return rows


async def _ledger(running: System, seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    workload = ledger_http.LedgerWorkload(running)
    loads = (
        ledger_http.Load(name="transfers by HTTP at 64", connections=64, seconds=seconds["http"]),
        ledger_http.Load(name="transfers by HTTP at 256", connections=256, seconds=seconds["http"]),
        ledger_http.Load(name="transfers by HTTP in lists", connections=8, seconds=seconds["http"], each=LIST),
    )
    rows = [await _said(workload.run(load)) for load in loads]
    await workload.check()
    return rows


async def _said(running: Any) -> dict[str, Any]:
    """Wait for a run, and tell in a line that it is done."""
    row: dict[str, Any] = await running
    sys.stdout.write(f"{row['run']}: {row['per_second']:,.0f}/s, p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms\n")
    sys.stdout.flush()
    return row


if __name__ == "__main__":
    sys.exit(main())
