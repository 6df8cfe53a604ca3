"""N, and X1: the ways between the executor and both PSPs, by our proxies."""

import asyncio
from typing import Any, ClassVar

from chaos.faults.base import Fault
from chaos.lab import Lab


class Weathered(Fault):
    """Other weather on the wire."""

    weather: ClassVar[dict[str, Any]]

    async def inject(self, lab: Lab) -> None:
        for way in lab.ways:
            way.change(**self.weather)

    async def heal(self, lab: Lab) -> None:
        for way in lab.ways:
            way.clear()


class Refused(Fault):
    """X1: both PSPs refuse connections."""

    kind = "X1"
    lasts = "outage"
    down = "psp"

    async def inject(self, lab: Lab) -> None:
        for way in lab.ways:
            way.refuse = True
            way.reset()

    async def heal(self, lab: Lab) -> None:
        for way in lab.ways:
            way.clear()


class Blackhole(Weathered):
    """X1: both PSPs take everything and say nothing."""

    kind = "X1"
    lasts = "outage"
    down = "psp"
    weather = {"blocked_out": True, "blocked_back": True}


class Reset(Fault):
    """X1: connections are reset in the middle of whatever is under way, again and again."""

    kind = "X1"

    async def inject(self, lab: Lab) -> None:
        for _ in range(3):
            for way in lab.ways:
                way.reset()
            await asyncio.sleep(lab.seconds("step"))


class Latency(Weathered):
    """N1: latency and jitter."""

    kind = "N1"
    weather = {"delay_seconds": 0.2, "jitter_seconds": 1.5}


class Loss(Weathered):
    """N2: one message in ten is lost, either way."""

    kind = "N2"
    weather = {"lose_requests": 0.1, "lose_answers": 0.1}


class Duplicates(Weathered):
    """N3: requests are delivered twice."""

    kind = "N3"
    weather = {"duplicate": 0.5}


class Reordering(Weathered):
    """N4: messages overtake each other."""

    kind = "N4"
    weather = {"reorder": 0.4, "jitter_seconds": 0.05}


class OneWay(Weathered):
    """N5: requests arrive, answers do not."""

    kind = "N5"
    weather = {"blocked_back": True}


class HalfOpen(Weathered):
    """N6: connections stay open and carry nothing to the PSPs."""

    kind = "N6"
    weather = {"blocked_out": True}


class Narrow(Weathered):
    """N7: ten kilobytes a second."""

    kind = "N7"
    weather = {"bytes_per_second": 10_000}


WIRE: tuple[type[Fault], ...] = (Refused, Blackhole, Reset, Latency, Loss, Duplicates, Reordering, OneWay, HalfOpen, Narrow)
