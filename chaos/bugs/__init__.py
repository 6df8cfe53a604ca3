"""The bug bank: seeded defects that are planted one at a time, each of which must turn a run red."""

from chaos.bugs.buyers import BUYERS
from chaos.bugs.cluster import CLUSTER
from chaos.bugs.core import CORE
from chaos.bugs.model import Bug
from chaos.bugs.system import SYSTEM

BUGS: tuple[Bug, ...] = (*CORE, *BUYERS, *SYSTEM, *CLUSTER)
BY_NAME = {bug.name: bug for bug in BUGS}

__all__ = ["BUGS", "BY_NAME", "Bug"]
