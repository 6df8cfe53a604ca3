"""T and others: clocks that are wrong, parts that are away for a while, receivers and a risk service in trouble."""

import asyncio
import os
import signal

from chaos.faults.base import Fault
from chaos.lab import Lab
from chaos.system import alive


class BusinessTime(Fault):
    """T1: business time jumps an hour ahead in every process: deadlines, schedules and holds are suddenly due."""

    kind = "T1"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        status, said = await lab.system.command("clock", "advance", "1h")
        if status:
            lab.note(f"clock advance: {said.strip()}")


class WrongClock(Fault):
    """T1: the wall clock of one role is an hour or a day wrong."""

    kind = "T1"

    async def inject(self, lab: Lab) -> None:
        self.role = lab.chance.choice(("api", "checkout", "executor", "worker"))
        (lab.clocks / self.role).write_text(str(lab.chance.choice((-86_400, -3_600, 3_600, 86_400))))

    async def heal(self, lab: Lab) -> None:
        (lab.clocks / self.role).unlink()


class SteppingClock(Fault):
    """T2: the wall clock of one role steps backward again and again."""

    kind = "T2"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        self.role = lab.chance.choice(("api", "checkout", "executor", "worker"))
        for step in range(1, 4):
            (lab.clocks / self.role).write_text(str(-step))
            await asyncio.sleep(lab.seconds("step"))

    async def heal(self, lab: Lab) -> None:
        (lab.clocks / self.role).unlink()


class Away(Fault):
    """I19: one part is away for longer than a restart takes, and whoever only has to accept still does."""

    kind = "I19"
    lasts = "outage"

    def __init__(self, role: str) -> None:
        self.down = role  # type: ignore[misc]
        self._pid = 0

    def describe(self) -> str:
        return f"I19: {self.down} is away"

    async def inject(self, lab: Lab) -> None:
        self._pid = await lab.system.signal(self.down, signal.SIGSTOP)

    async def heal(self, lab: Lab) -> None:
        if alive(self._pid):
            os.kill(self._pid, signal.SIGCONT)


class Receivers(Fault):
    """X11 of our own webhooks: receivers fail, are slow, and come back."""

    kind = "X11"

    async def inject(self, lab: Lab) -> None:
        lab.receiver.in_trouble = True

    async def heal(self, lab: Lab) -> None:
        lab.receiver.in_trouble = False


class RiskUnwell(Fault):
    """R: the external risk service is slow, silent, resets, fails, or answers with what is no opinion."""

    kind = "R"

    async def inject(self, lab: Lab) -> None:
        lab.risk.in_trouble = True

    async def heal(self, lab: Lab) -> None:
        lab.risk.in_trouble = False


SURROUNDINGS: tuple[type[Fault], ...] = (BusinessTime, WrongClock, SteppingClock, Receivers, RiskUnwell)
