"""Array arguments without abstract classes.

For every element of every array asyncpg asks collections.abc whether it is a container, which is a call in Python each time:
a sixth of the executor's time on a flush (measured: 20 us a payment over all roles). Concrete types answer in C. The names
are the driver's own; its version is locked, and a test says when they change.
"""

from typing import Final

from asyncpg.protocol import protocol

# What we hand over as an array.
CONTAINERS: Final = (list, tuple, set, frozenset)


def ask_concrete_types() -> None:
    """Have the driver of this process take these containers as arrays, and no others. May be called again."""
    protocol.IterableABC = protocol.SizedABC = CONTAINERS
    protocol.MappingABC = dict
