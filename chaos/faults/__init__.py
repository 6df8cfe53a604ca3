"""Faults: one small class each, with `inject`, `heal` and `describe`. The letters are those of faults-and-invariants.

    processes.py   P   killed, paused, restarted, cut off from power
    database.py    G   PostgreSQL killed, locked, full, contended
    psp.py         X   the acquirer's own faults, by its control port
    web.py         X   what needs notifications, keys that run out, rate limits, or two PSPs
    wire.py        N   the ways to the PSPs, by our proxies
    surroundings.py T, D, H  clocks, and everybody around

What needs a system of its own kind is not among FAULTS: failover.py (a standby), disk.py (a small disk), kafka.py (K: brokers).
"""

from chaos.faults.base import Fault
from chaos.faults.database import DATABASE
from chaos.faults.processes import PROCESSES
from chaos.faults.psp import PSP
from chaos.faults.surroundings import SURROUNDINGS
from chaos.faults.web import ONCE, WEB
from chaos.faults.wire import WIRE

FAULTS: tuple[type[Fault], ...] = (*PROCESSES, *DATABASE, *PSP, *WEB, *WIRE, *SURROUNDINGS)
"""Every fault that a mix may draw, in the order of faults-and-invariants."""

__all__ = ["FAULTS", "ONCE", "Fault"]
