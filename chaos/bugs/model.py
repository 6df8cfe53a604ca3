"""A seeded defect: the patch that plants it, and where the harness is to see it."""

from msgspec import Struct

from chaos.patches import Patch


class Bug(Struct, frozen=True, kw_only=True):
    """One defect.

    Args:
        name: how it is switched on.
        defect: what is wrong, in a sentence.
        patches: what plants it.
        drill: the run that must turn red: `simulation`, or a drill of chaos.bugs.drills on the real system.
        days: business time that passes when the load has ended, step by step.
        brokers: the drill's log goes through so many Kafka brokers.
        mostly: the operation that is as frequent in the drill as all others together; none unless named.
        clustered: the drill's PostgreSQL has a standby, from which lists are read.
    """

    name: str
    defect: str
    patches: tuple[Patch, ...]
    drill: str = "simulation"
    days: tuple[str, ...] = ()
    brokers: int = 0
    mostly: str = ""
    clustered: bool = False
