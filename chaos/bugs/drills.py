"""Drills: short runs on the real system with just the faults that a defect needs, and the canary."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from chaos.faults.base import Fault
from chaos.faults.failover import TailLost
from chaos.faults.kafka import EndLost, Poison
from chaos.faults.processes import FailedAt, Killed, KilledAt
from chaos.faults.psp import AtBank, BadAnswers, LateAnswers, LostAnswers
from chaos.faults.replica import ReplicaBehind, ReplicaSilent
from chaos.faults.restore import Restored
from chaos.faults.surroundings import Receivers, RiskUnwell
from chaos.faults.web import ElsewhereInDoubt, KeyNotHonoured, Notices
from chaos.lab import Lab
from chaos.run import Script, one_after_the_other
from guilder.core.clock import Micros
from guilder.iso8583 import Mti, Processing, Tag, encode, pack_tags
from guilder.psp.model import transmission_time

QUIET_SECONDS: Final = 8.0
COMMITS_LOST: Final = 40
RELAYS_KILLED: Final = 8
EXECUTORS_KILLED: Final = 3
# An executor that is being stopped from working by the standby's silence claims for less than a second before.
TAILS_LOST: Final = 6


class Nothing(Fault):
    """Only load."""

    kind = "-"

    async def inject(self, lab: Lab) -> None:
        await asyncio.sleep(QUIET_SECONDS)


class Canary(Nothing):
    """A purchase at the bank that nobody intended: sent by ourselves, past the product."""

    async def inject(self, lab: Lab) -> None:
        running = lab.system.running()
        reader, writer = await asyncio.open_connection("127.0.0.1", running["ports"]["network_iso"])
        sent = transmission_time(Micros(1_767_225_600))
        frame = encode(Mti.PURCHASE, {
            2: "4242424242424242", 3: Processing.PURCHASE, 4: "000000004242", 7: sent, 11: "000042", 14: "4512", 22: "812", 25: "59",
            32: "42010000001", 37: "CANARY000001", 42: "GUILDERSANDBOX1", 48: pack_tags({Tag.PSP_KEY: "canary"}), 49: "978",
        })  # fmt: skip
        writer.write(frame)
        await reader.read(1024)
        writer.close()


class Doubts(AtBank):
    """A third of all connections close in place of an answer."""

    kind = "X7"
    rules = ({"kind": "close", "probability": 0.3},)


FAULTS: Final[Mapping[str, Sequence[type[Fault]]]] = {
    "quiet": (Nothing,), "doubt": (LateAnswers,), "errors": (BadAnswers, BadAnswers), "cards": (Doubts, Doubts), "losses": (LostAnswers,),
    "notices": (Notices,), "elsewhere": (ElsewhereInDoubt,), "keys": (KeyNotHonoured, KeyNotHonoured), "poison": (Poison,), "end": (EndLost,),
    "receivers": (Receivers,), "risk": (RiskUnwell, RiskUnwell), "canary": (Canary,), "tail": (TailLost,) * TAILS_LOST, "behind": (ReplicaBehind,),
    "silent": (ReplicaSilent,), "restored": (Restored,),
}  # fmt: skip


def drill(name: str) -> Script:
    """What happens in the drill of this name."""
    if name == "kills":
        # Several times: what is in hand just then may be of the PSP that knows a repeated request by its key.
        return one_after_the_other([
            one for _ in range(EXECUTORS_KILLED)
            for one in (KilledAt("executor", "send.after purchase"), KilledAt("executor", "answer purchase"), Killed("executor"))
        ])  # fmt: skip
    if name == "relay":
        return one_after_the_other([KilledAt("relay", "relay.publish") for _ in range(RELAYS_KILLED)])
    if name == "commits":
        return one_after_the_other([FailedAt("api", "sql from payments_flush after") for _ in range(COMMITS_LOST)], quiet=0.1)
    return one_after_the_other([fault() for fault in FAULTS[name]])


