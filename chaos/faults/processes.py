"""P: processes of ours die, stand still, and are replaced."""

import os
import signal
import time
from typing import ClassVar

from chaos.faults.base import Fault
from chaos.lab import Lab
from chaos.system import alive, until

LOST = "SELECT 1 FROM sender WHERE lost AND role = 'executor'"
KILLED = ("api", "executor", "worker", "vault", "network", "checkout")


async def killed(lab: Lab, role: str) -> None:
    """SIGKILL, and wait until another process of the role runs."""
    pid = await lab.system.signal(role, signal.SIGKILL)
    lab.kills += 1
    await until(lambda: not alive(pid), f"{role} is dead")
    await lab.system.pid(role)


class Killed(Fault):
    """P1: SIGKILL of one role at a random moment."""

    kind = "P1"
    lasts = "step"

    def __init__(self, role: str) -> None:
        self.role = role

    def describe(self) -> str:
        return f"P1: SIGKILL of {self.role}"

    async def inject(self, lab: Lab) -> None:
        await killed(lab, self.role)


class KilledAt(Fault):
    """P1: SIGKILL of one role at a named point."""

    kind = "P1"
    verb: ClassVar[str] = "kill"

    def __init__(self, role: str, point: str) -> None:
        self.role, self.point = role, point
        self.reached = False

    def describe(self) -> str:
        return f"{self.kind}: {self.verb} {self.role} at `{self.point}`"

    async def inject(self, lab: Lab) -> None:
        lab.system.order(self.verb, self.role, self.point)

    async def heal(self, lab: Lab) -> None:
        """The order is carried out, or nobody passed there in time; either way the role runs."""
        end = time.monotonic() + lab.seconds("arrival")
        await until(lambda: lab.system.carried_out() or time.monotonic() > end, "the point is passed", 600)
        self.reached = lab.system.carried_out()
        lab.system.countermand()
        lab.kills += self.reached and self.verb == "kill"
        await lab.system.pid(self.role)

    async def suffer(self, lab: Lab) -> None:
        """At once: the point says when."""
        window = lab.begin(self.describe(), self.kind)
        await self.inject(lab)
        await self.heal(lab)
        window.ended = time.monotonic_ns()


class KilledAtStart(KilledAt):
    """P1: the same, of a process that begins because the one before it was killed."""

    async def inject(self, lab: Lab) -> None:
        await super().inject(lab)
        pid = await lab.system.signal(self.role, signal.SIGKILL)
        lab.kills += 1
        await until(lambda: not alive(pid), f"{self.role} is dead")


class KilledTwice(Fault):
    """P2: the executor is killed, and its replacement while it takes over."""

    kind = "P2"
    lasts = "step"
    points: ClassVar[tuple[str, ...]] = (
        "sql select sender_take_over after", "claim.before", "claim.after", "send.before query", "answer query",
        "sql from payments_claim after",
    )  # fmt: skip

    async def inject(self, lab: Lab) -> None:
        lab.system.order("kill", "executor", lab.chance.choice(self.points))
        await killed(lab, "executor")

    async def heal(self, lab: Lab) -> None:
        end = time.monotonic() + lab.seconds("step")
        await until(lambda: lab.system.carried_out() or time.monotonic() > end, "the second dies", 600)
        lab.kills += lab.system.carried_out()
        lab.system.countermand()
        await lab.system.pid("executor")


class Zombie(Fault):
    """P3: the executor stands still for longer than its lease, another takes over, and the first goes on."""

    kind = "P3"
    lasts = "lease"

    def __init__(self) -> None:
        self._pid = 0

    async def inject(self, lab: Lab) -> None:
        await lab.system.another("executor", lab.proxy.port)
        self._pid = await lab.system.signal("executor", signal.SIGSTOP)
        self._lost = len(await lab.system.rows(LOST))
        sql = "SELECT a.reference FROM attempt_open o JOIN attempt a ON a.id = o.attempt WHERE o.sender IS NOT NULL"
        self._held = {row["reference"] for row in await lab.system.rows(sql)}

    async def heal(self, lab: Lab) -> None:
        async def taken_over() -> bool:
            return len(await lab.system.rows(LOST)) > self._lost

        try:
            await until(taken_over, "another has taken over")
        finally:
            lab.zombies.append((time.monotonic(), self._held))
            if alive(self._pid):
                os.kill(self._pid, signal.SIGCONT)
        await lab.system.without("executor")


class Paused(Fault):
    """P3: a role stands still for longer than any lease, and goes on."""

    kind = "P3"
    lasts = "lease"

    def __init__(self, role: str) -> None:
        self.role = role
        self._pid = 0

    def describe(self) -> str:
        return f"P3: SIGSTOP of {self.role}"

    async def inject(self, lab: Lab) -> None:
        self._pid = await lab.system.signal(self.role, signal.SIGSTOP)

    async def heal(self, lab: Lab) -> None:
        if alive(self._pid):
            os.kill(self._pid, signal.SIGCONT)


class PowerCut(Fault):
    """P4: everything dies at once, PostgreSQL included, and is started again."""

    kind = "P4"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        lab.kills += len(lab.system.pids())
        await lab.system.down(signal.SIGKILL)

    async def heal(self, lab: Lab) -> None:
        await lab.up()


class OutOfMemory(Fault):
    """P5: whoever uses most memory is killed, as the kernel does."""

    kind = "P5"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        roles = lab.system.running().get("roles", {})
        sizes = {role: lab.system.memory(pid) for role, pids in roles.items() for pid in pids if role != "network"}
        await killed(lab, max(sizes, key=lambda role: sizes[role]))


class Rolled(Fault):
    """P6: each role ends in order and is replaced, one after the other, as an upgrade does."""

    kind = "P6"
    lasts = "step"

    async def inject(self, lab: Lab) -> None:
        for role in ("worker", "executor", "checkout", "api", "vault"):
            pid = await lab.system.signal(role, signal.SIGTERM)
            await until(lambda pid=pid: not alive(pid), f"{role} has ended")
            await lab.system.pid(role)


class FailedAt(KilledAt):
    """P7: one statement fails, before it is sent or with its answer lost."""

    kind = "P7"
    verb = "fail"


PROCESSES: tuple[type[Fault], ...] = (KilledTwice, Zombie, PowerCut, OutOfMemory, Rolled)
"""Those that need no arguments; the others are drawn with a role or a point."""
