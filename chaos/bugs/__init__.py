"""The bug bank."""

from chaos.bugs.model import Bug

BUGS: tuple[Bug, ...] = ()
BY_NAME = {bug.name: bug for bug in BUGS}
