"""What a run costs the machine: CPU by process, idle and interrupt share, memory, the disk, and the machine's own pace."""

import os
import platform
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import asyncpg
from msgspec import Struct

from benchmarks.system import System

TICK_MICROSECONDS: Final = 1_000_000 // os.sysconf("SC_CLK_TCK")
# Turns of the fixed loop: about 0.1 s.
LOOP_TURNS: Final = 1_500_000
POSTMASTER: Final = "postgres: postmaster"
# Stands for all processes of the server that have ended, such as vacuums: the postmaster has their CPU.
ENDED: Final = 0
DISK_WRITES: Final = 60
DISK_BYTES: Final = 8192


class Snapshot(Struct, frozen=True):
    """One look at the clocks: names and CPU nanoseconds by process, and the machine's ticks by what they were spent on."""

    at: float
    names: Mapping[int, str]
    cpu: Mapping[int, int]
    ticks: Mapping[str, int]


class Machine(Struct, frozen=True, kw_only=True):
    """How the machine stood beside a run: whoever reads the figures must be able to see a slow one."""

    idle: float
    softirq: float
    stolen: float
    # Cores that neither the system nor the generator used: other work on the machine.
    others: float
    loop_ms: float
    disk_ms: float


async def processes(system: System) -> dict[int, str]:
    """Process id -> name of every process of the system and of those beside it; database sessions are named by their pool."""
    running = system.running()
    found = {**system.beside, system.supervisor: "supervisor", running["postgres"]: POSTMASTER}
    for role, pids in running["roles"].items():
        found |= dict.fromkeys(pids, role)
    connection = await asyncpg.connect(system.dsn)
    try:
        sessions = dict(await connection.fetch("SELECT pid, application_name FROM pg_stat_activity WHERE application_name <> ''"))
    finally:
        await connection.close()
    for pid in _children(running["postgres"]):
        name = sessions.get(pid)
        found[pid] = f"postgres: {name.removeprefix('guilder ') if name else _kind(pid)}"
    return found


async def snapshot(system: System) -> Snapshot:
    """Read the clocks now."""
    names = await processes(system)
    postmaster = next(pid for pid, name in names.items() if name == POSTMASTER)
    cpu = {pid: process_cpu(pid) for pid in names}
    return Snapshot(perf_counter(), {**names, ENDED: "postgres: ended meanwhile"}, {**cpu, ENDED: _ended(postmaster)}, _ticks())


def cpu_each(before: Snapshot, after: Snapshot, count: int) -> dict[str, float]:
    """CPU microseconds for each of `count` items, by process name; what used nothing worth a line is left out."""
    spent: Counter[str] = Counter()
    for pid, cpu in after.cpu.items():
        spent[after.names[pid]] += cpu - before.cpu.get(pid, 0)
    return {name: round(own / 1000 / count, 1) for name, own in sorted(spent.items()) if own / 1000 / count >= 0.05}


def machine(before: Snapshot, after: Snapshot, *, generator_seconds: float, folder: Path) -> Machine:
    """How the machine stood between two looks, and its pace and disk right now."""
    ticks = {name: after.ticks[name] - before.ticks[name] for name in after.ticks}
    total = sum(ticks.values())
    own = sum(cpu - before.cpu.get(pid, 0) for pid, cpu in after.cpu.items()) / 1e9 + generator_seconds
    busy = (total - ticks["idle"] - ticks["iowait"] - ticks["steal"]) * TICK_MICROSECONDS / 1e6
    return Machine(
        idle=round((ticks["idle"] + ticks["iowait"]) / total, 3), softirq=round((ticks["softirq"] + ticks["irq"]) / total, 3),
        stolen=round(ticks["steal"] / total, 3), others=round(max(0.0, busy - own) / (after.at - before.at), 2),
        loop_ms=loop_ms(), disk_ms=disk_ms(folder),
    )  # fmt: skip


def memory(at: Snapshot) -> dict[str, float]:
    """Megabytes of memory by process name: PSS, which counts shared pages once over all who share them."""
    kilobytes: Counter[str] = Counter()
    for pid, name in at.names.items():
        text = _read(f"/proc/{pid}/smaps_rollup")
        line = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
        kilobytes[name.partition(":")[0]] += int(line.split()[1])
    return {name: round(size / 1024, 1) for name, size in sorted(kilobytes.items())}


def loop_ms() -> float:
    """CPU milliseconds of a fixed piece of work: a slow machine shows itself here."""
    begun, total = process_time(), 0
    for number in range(LOOP_TURNS):
        total += number
    return round((process_time() - begun) * 1000, 1)


def disk_ms(folder: Path) -> float:
    """Median milliseconds of an overwrite and fdatasync in this folder."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(DISK_WRITES):
            begun = perf_counter()
            os.pwrite(file.fileno(), b"\0" * DISK_BYTES, 0)
            os.fdatasync(file.fileno())
            times.append(perf_counter() - begun)
    return round(statistics.median(times) * 1000, 3)


def about() -> dict[str, Any]:
    """The machine, for the history."""
    return {
        "cores": len(os.sched_getaffinity(0)), "processor": _field("/proc/cpuinfo", "model name"),
        "memory_mb": int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024, "kernel": platform.release(),
        "python": platform.python_version(),
    }  # fmt: skip


def process_cpu(pid: int) -> int:
    """CPU nanoseconds of all threads; ticks would be too coarse."""
    total = 0
    for task in _entries(f"/proc/{pid}/task"):
        text = _read(f"/proc/{pid}/task/{task}/schedstat")
        total += int(text.split()[0]) if text else 0
    return total


def _ended(parent: int) -> int:
    """CPU nanoseconds of those whom this process has started and reaped."""
    fields = _read(f"/proc/{parent}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[13:15])) * TICK_MICROSECONDS * 1000


def _ticks() -> dict[str, int]:
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    return dict(zip(names, map(int, _read("/proc/stat").splitlines()[0].split()[1:9]), strict=True))


def _children(parent: int) -> list[int]:
    """The processes that this one has started."""
    return [
        int(entry) for entry in _entries("/proc")
        if entry.isdigit() and _read(f"/proc/{entry}/stat").rpartition(")")[2].split()[1:2] == [str(parent)]
    ]  # fmt: skip


def _kind(pid: int) -> str:
    """What a process of the database server calls itself: checkpointer, walwriter and the like."""
    return _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip().removeprefix("postgres:").strip() or "another"


def _field(path: str, name: str) -> str:
    """What stands behind the first `name:` of a file."""
    return next((line.partition(":")[2].strip() for line in _read(path).splitlines() if line.startswith(name)), "0")


def _entries(folder: str) -> list[str]:
    try:
        return [path.name for path in Path(folder).iterdir()]
    except OSError:
        return []


def _read(path: str) -> str:
    """A file of /proc, empty when its process has ended."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
