"""Faults: one small class each, with `inject`, `heal` and `describe`. The letters are those of faults-and-invariants.

    processes.py   P   killed, paused, restarted, cut off from power
    database.py    G   PostgreSQL killed, locked, full, contended
    psp.py         X   the acquirer's own faults, by its control port
    wire.py        N   the way to the acquirer, by our proxy
    surroundings.py T, D, H  clocks, and everybody around

What is not there (K: Kafka; X10, X11, X12, X18: a second PSP and its notifications) comes with what it breaks.
"""

from chaos.faults.base import Fault
from chaos.faults.database import DATABASE
from chaos.faults.processes import PROCESSES
from chaos.faults.psp import PSP
from chaos.faults.surroundings import SURROUNDINGS
from chaos.faults.wire import WIRE

FAULTS: tuple[type[Fault], ...] = (*PROCESSES, *DATABASE, *PSP, *WIRE, *SURROUNDINGS)
"""Every fault that a mix may draw, in the order of faults-and-invariants."""

__all__ = ["FAULTS", "Fault"]
