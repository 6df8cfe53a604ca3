"""The lab: the system under test with everything of ours around it. Faults and checks are handed one."""

import asyncio
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

from msgspec import Struct
from tests.kafka.brokers import Cluster as Brokers
from tests.kafka.brokers import can_run

from chaos import entry
from chaos.client import Merchant
from chaos.cluster import Cluster
from chaos.http_proxy import HttpProxy
from chaos.proxy import FrameProxy, Way
from chaos.receiver import Receiver
from chaos.restored import Restore
from chaos.risk import RiskDesk
from chaos.system import System

# How long faults last, by name, in seconds; a run scales them all by one factor.
DURATIONS: Final[Mapping[str, float]] = {
    "lease": 6.0,  # longer than the 3.5 s after which another takes over, at any scale
    "outage": 8.0,  # a part is away
    "again": 20.0,  # something is asked for, asked about, and asked for again
    "trouble": 6.0,  # something answers badly
    "lock": 3.0,  # somebody holds a lock that everybody needs
    "arrival": 6.0,  # how long a named point is waited for
    "step": 2.0,  # between two steps of a clock
}


# Both PSPs take part: a share of what is paid by card goes to the second one, and what the first one cannot take goes on there.
ROUTES: Final = """
[[rule]]
name = "pounds and francs"
currencies = ["gbp", "chf"]
own_page = false
connectors = { cardnet = 1, webpsp = 2 }
"""
TUNING: Final = """
[fallback]
next_connector = true
"""
# After healing nothing may be in doubt for longer (I18).
REST_SECONDS: Final = 60.0


class NotHere(Exception):
    """This machine cannot do what the run needs."""


class Window(Struct):
    """When a fault was in force, on the clients' clock (nanoseconds of CLOCK_MONOTONIC)."""

    fault: str
    kind: str
    began: int
    ended: int = 0
    # The part that was down, if the fault is one.
    down: str = ""


class Lab:
    """One run's instruments.

    Args:
        seed: all chance of the run comes from it.
        scale: factor on DURATIONS.
        bug: the defect to plant, by name; none in a real run.
        disk_bytes: the data folder is a file system of its own of this size; 0 for where it is.
        clustered: PostgreSQL with a synchronous standby, which the harness runs, in place of the embedded one.
        brokers: the log goes through so many Kafka brokers, which the harness runs; 0 for the outbox.
    """

    def __init__(
        self, folder: Path, *, seed: int, scale: float = 1.0, bug: str = "", clustered: bool = False, disk_bytes: int = 0, brokers: int = 0,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.seed = seed
        self.scale = scale
        self.chance = Random(seed)
        self.proxy = FrameProxy(Random(seed + 1))
        self.web = HttpProxy(Random(seed + 3))
        self.ways: tuple[Way, ...] = (self.proxy, self.web)
        self.receiver = Receiver(Random(seed + 2))
        self.risk = RiskDesk(Random(seed + 5))
        self.histories = folder / "clients"
        self.clocks = folder / "clocks"
        self.windows: list[Window] = []
        self.findings: list[str] = []
        self.notes: list[str] = []
        self.kills = 0
        self.failovers = 0
        self.rest_seconds = REST_SECONDS
        # When a process that was paused went on, and the references that were in hand when it stood still.
        self.zombies: list[tuple[float, set[str]]] = []
        # What must stand nowhere in the clear; and each endpoint's id and its merchant's key, by the receiver's name for it.
        self.secrets: list[str] = []
        self.endpoints: dict[str, tuple[str, str]] = {}
        self.merchants: Sequence[Merchant] = ()
        # The backup that has taken the database's place, if one has.
        self.restore: Restore | None = None
        self._bug = bug
        self._clustered = clustered
        self._disk_bytes = disk_bytes
        self._variables: dict[str, str] = {}
        self.system = System(folder, {})
        self.cluster: Cluster | None = None
        self.brokers: Brokers | None = None
        self._brokers = brokers

    async def start(self) -> None:
        """Proxy, receiver, system; before it the cluster, where there is to be one."""
        if self._disk_bytes:
            self.system.data.mkdir()
            options = f"size={self._disk_bytes}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.system.data)], check=True, capture_output=True)
        if self._clustered:
            self.cluster = Cluster(self.folder / "cluster")
            await self.cluster.start()
            self._variables |= {"GUILDER_DATABASE_URL": self.cluster.url, "GUILDER_REPLICA_URL": self.cluster.replica_url}
        if self._brokers:
            if not await asyncio.to_thread(can_run):
                raise NotHere("neither Java 17 nor Maven can bring Kafka here")
            self.brokers = Brokers(self.folder / "kafka", self._brokers)
            await asyncio.to_thread(self.brokers.start)
            self._variables["GUILDER_KAFKA_BOOTSTRAP"] = self.brokers.bootstrap
        self.clocks.mkdir(parents=True, exist_ok=True)
        for way in self.ways:
            await way.start()
        await self.receiver.start()
        await self.risk.start()
        (self.folder / "routes.toml").write_text(ROUTES)
        (self.folder / "guilder.toml").write_text(TUNING + self.risk.tuning)
        self.system = System(self.folder, self._variables | {
            entry.ACQUIRER: str(self.proxy.port), entry.WEB: str(self.web.port), entry.CLOCKS: str(self.clocks),
            "GUILDER_ROUTES": str(self.folder / "routes.toml"), "GUILDER_CONFIG": str(self.folder / "guilder.toml"),
            **({entry.BUG: self._bug} if self._bug else {}),
        })  # fmt: skip
        await self.up()

    async def up(self) -> None:
        """Start the system, also again; the proxies follow it to its ports."""
        await self.system.up()
        ports = self.system.running()["ports"]
        self.proxy.aim(ports["network_iso"])
        self.web.aim(ports["network_http"])

    async def close(self) -> None:
        """End what is ours."""
        if self.cluster is not None:
            self.cluster.close()
        if self.brokers is not None:
            await asyncio.to_thread(self.brokers.stop)
        for way in self.ways:
            await way.close()
        await self.receiver.close()
        await self.risk.close()
        if self._disk_bytes:
            subprocess.run(["umount", "-l", str(self.system.data)], check=False, capture_output=True)

    def seconds(self, name: str) -> float:
        """How long a fault of this name lasts in this run."""
        return DURATIONS[name] * (max(self.scale, 1.0) if name == "lease" else self.scale)

    def begin(self, fault: str, kind: str, down: str = "") -> Window:
        """A fault is in force from now on."""
        window = Window(fault, kind, time.monotonic_ns(), down=down)
        self.windows.append(window)
        return window

    def finding(self, invariant: str, text: str) -> None:
        """Something is not as it must be."""
        self.findings.append(f"{invariant} {text}")

    def note(self, text: str) -> None:
        """Worth telling, and no violation."""
        self.notes.append(text)
