"""Plans: what a run does to the system. A plan is a script; the seed decides what it leaves to chance."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from chaos.asking import World
from chaos.faults import FAULTS, ONCE, Fault
from chaos.faults.disk import FullDisk
from chaos.faults.failover import AnswersLost, PrimaryLost, SplitBrain, StandbyLost, TailLost
from chaos.faults.kafka import KAFKA
from chaos.faults.processes import KILLED, FailedAt, Killed, KilledAt, KilledAtStart, Paused
from chaos.faults.replica import ReplicaBehind, ReplicaSilent
from chaos.faults.restore import Restored
from chaos.faults.surroundings import Away
from chaos.lab import Lab
from chaos.run import Script, one_after_the_other, say

# Long enough for every operation to have passed every point once, also the rare ones.
RECORD_SECONDS: Final = 12.0
# A mix: faults at once, and the share of quiet periods.
AT_ONCE_MAX: Final = 3
QUIET_SHARE: Final = 0.25
PERIOD_SECONDS: Final = (5.0, 20.0)
# What is away while whoever only has to accept still does.
AWAY: Final = ("executor", "worker", "network", "vault")
# Statements that fail, before they are sent or with their answer lost: the commits of a payment, and what reads for them.
FAILING: Final = tuple(
    (role, f"sql {what} {when}")
    for role, what in (
        ("api", "from payments_flush"), ("executor", "from payments_flush"), ("executor", "from payments_claim"), ("api", "from payment"),
        ("executor", "update sender"), ("worker", "update log_consumer"), ("vault", "insert vault_card"),
        ("checkout", "from payments_flush"), ("checkout", "select checkout_session_store"), ("api", "update terminal_reader"),
    )
    for when in ("before", "after")
)
# Faults that give an order to whoever passes a point.
ORDERED: Final = frozenset({"P1", "P2", "P7", "G7"})
ORDERS: Final = "order"
# What the log through Kafka adds.
KAFKA_POINTS: Final = ("relay", "offset.commit")
# Everything that a cluster can suffer; the restore last, since it loses what was done just before it.
CLUSTER: Final[Sequence[type[Fault]]] = (
    AnswersLost, ReplicaBehind, ReplicaSilent, StandbyLost, PrimaryLost, TailLost, SplitBrain, TailLost, PrimaryLost, Restored,
)  # fmt: skip
# Not the product's doing: whoever starts has no clients yet.
STARTING: Final = frozenset({"supervisor"})


def sweep(*only: str) -> Script:
    """Every point that the running system has passed: the process that passes it is killed there, one by one.

    Only those in which one of the words stands, where some are given.
    """

    async def script(lab: Lab, _world: World) -> None:
        await asyncio.sleep(RECORD_SECONDS)
        points = [
            (role, point) for role, passed in sorted(lab.system.passed().items()) for point in sorted(passed)
            if role not in STARTING and (not only or any(one in f"{role} {point}" for one in only))
        ]  # fmt: skip
        say(f"  {len(points)} points are passed by running roles")
        missed = [(role, point) for role, point in points if not await _killed_at(lab, KilledAt(role, point))]
        # What a process passes only when it begins is reached by one that begins.
        missed = [(role, point) for role, point in missed if not await _killed_at(lab, KilledAtStart(role, point))]
        others = "".join(f"\n    not at {role} {point}" for role, point in missed)
        lab.note(f"{len(points) - len(missed)} of {len(points)} recorded points were killed at{others}")
        if missed:
            lab.note(f"passed once and not again in time: {', '.join(f'{role} {point}' for role, point in missed)}")

    return script


async def _killed_at(lab: Lab, fault: KilledAt) -> bool:
    await fault.suffer(lab)
    return fault.reached


def everything_once() -> Script:
    """Every fault once, every role killed, paused and away once."""

    async def script(lab: Lab, _world: World) -> None:
        # First those whose availability is judged: a process whose clock was wrong accepts nothing until its next look at it.
        faults: list[Fault] = [
            *(Away(role) for role in AWAY), *(Killed(role) for role in KILLED), *(FailedAt(role, point) for role, point in FAILING),
            *(fault() for fault in FAULTS),
            *(Paused(role) for role in ("api", "checkout", "worker", "network")), *(fault() for fault in ONCE),
        ]  # fmt: skip
        for fault in faults:
            say(f"  {fault.describe()}")
            await fault.suffer(lab)
            await asyncio.sleep(lab.scale)

    return script


def failovers() -> Script:
    """Everything that a cluster can suffer, one after the other; then a restore from a backup, and the quarantine."""
    return one_after_the_other([fault() for fault in CLUSTER])


def through_kafka() -> Script:
    """On three brokers: every point of the relay and of those who read, whatever can happen to brokers, and one part away after another."""
    faults = [*(Away(role) for role in ("relay", "executor", "worker")), *(fault() for fault in KAFKA), Killed("relay"), Paused("relay")]
    return in_turn(sweep(*KAFKA_POINTS), one_after_the_other(faults))


def full_disk() -> Script:
    """The disk full, twice, on a file system of the run's own."""
    return one_after_the_other([FullDisk(), FullDisk()])


def until_payments(count: int, seconds_max: float) -> Script:
    """Load, until so many operations have been done in all."""

    async def script(lab: Lab, world: World) -> None:
        end = time.monotonic() + seconds_max
        while world.payments < count and time.monotonic() < end:  # noqa: ASYNC110 - who pays does not know that we count
            await asyncio.sleep(1.0)
        lab.note(f"{world.payments} payments were asked for")

    return script


def mix(minutes: float) -> Script:
    """For so long: periods in which chance has up to three faults at once, and quiet ones."""

    async def script(lab: Lab, _world: World) -> None:
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            drawn = () if lab.chance.random() < QUIET_SHARE else draw(lab)
            say(f"  {', '.join(fault.describe() for fault in drawn) or 'quiet'}")
            await asyncio.gather(*(fault.suffer(lab) for fault in drawn))
            await asyncio.sleep(lab.chance.uniform(*PERIOD_SECONDS) * lab.scale)

    return script


def draw(lab: Lab) -> Sequence[Fault]:
    """Up to three faults, of different kinds, since two of a kind would heal each other."""
    found: dict[str, Fault] = {}
    passed = [(role, point) for role, points in sorted(lab.system.passed().items()) if role not in STARTING for point in sorted(points)]
    for _ in range(lab.chance.randint(1, AT_ONCE_MAX)):
        luck = lab.chance.random()
        fault: Fault
        if luck < 0.2 and passed:
            fault = KilledAt(*lab.chance.choice(passed))
        elif luck < 0.35 and passed:
            fault = FailedAt(*lab.chance.choice([one for one in passed if one[1].startswith("sql ")]))
        elif luck < 0.55:
            fault = Killed(lab.chance.choice(KILLED))
        else:
            fault = lab.chance.choice(FAULTS)()
        # Orders to die, stop or fail share a file, and so do deadlocks: one of them at a time.
        found.setdefault(ORDERS if fault.kind in ORDERED else fault.kind[0], fault)
    return tuple(found.values())


def in_turn(*scripts: Script) -> Script:
    """One after the other, in one run."""

    async def script(lab: Lab, world: World) -> None:
        for one in scripts:
            await one(lab, world)

    return script
