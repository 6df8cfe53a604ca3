"""X: what a PSP does wrong, switched on at the bank world's control port by probability and seed."""

import json
from typing import Any, ClassVar

from chaos.faults.base import Fault
from chaos.lab import Lab

# Past the connector's answer timeout of 8 s, and past the first question.
LATE_MS = 8_600
LATER_MS = 12_000
SOME = 0.15


class AtBank(Fault):
    """A fault of the bank's own; which requests it hits is drawn from the rule's seed."""

    rules: ClassVar[tuple[dict[str, Any], ...]]

    def __init__(self) -> None:
        self._ids: list[str] = []

    async def inject(self, lab: Lab) -> None:
        for rule in self.rules:
            drawn = {"probability": SOME, "seed": lab.chance.getrandbits(31)} | rule
            self._ids.append(json.loads(await lab.system.bank("POST", "/faults", drawn))["id"])

    async def heal(self, lab: Lab) -> None:
        # A bank world that was restarted meanwhile has forgotten them.
        for id_ in self._ids:
            await lab.system.bank("DELETE", f"/faults?id={id_}")


class LateAnswers(AtBank):
    """X2: answers come after our timeout, the effect is done."""

    kind = "X2"
    rules = ({"kind": "late_answer", "delay_ms": LATE_MS},)


class LostAnswers(AtBank):
    """X3: answers are lost, the effect is done."""

    kind = "X3"
    rules = ({"kind": "lost_answer"},)


class LostRequests(AtBank):
    """X4: requests are lost, without effect."""

    kind = "X4"
    rules = ({"kind": "lost_request"},)


class DuplicateRequests(AtBank):
    """X5: the network delivers requests twice, and answers too."""

    kind = "X5"
    rules = ({"kind": "duplicate_request", "probability": 0.5}, {"kind": "duplicate_answer", "delay_ms": 300, "probability": 0.5})


class AfterNotFound(AtBank):
    """X6: a question says "not found", and then the request arrives after all."""

    kind = "X6"
    rules = ({"kind": "after_not_found", "delay_ms": 500}, {"kind": "late_request", "delay_ms": LATER_MS, "probability": 0.05})


class BadAnswers(AtBank):
    """X7: errors before and after the effect; amounts, currencies and references that are wrong."""

    kind = "X7"
    rules = (
        {"kind": "error", "code": "96", "effect": True, "probability": 0.08}, {"kind": "error", "code": "91", "probability": 0.08},
        {"kind": "wrong_amount", "probability": 0.04}, {"kind": "wrong_currency", "probability": 0.04},
        {"kind": "wrong_reference", "probability": 0.04},
    )  # fmt: skip


class Garbage(AtBank):
    """X7: frames that are none, and connections that close in place of an answer."""

    kind = "X7"
    rules = (
        {"kind": "malformed", "probability": 0.02}, {"kind": "close", "probability": 0.02},
        {"kind": "close", "effect": False, "probability": 0.02},
    )  # fmt: skip


class StaleQueries(AtBank):
    """X9: questions are answered "not found" whatever is true."""

    kind = "X9"
    rules = ({"kind": "not_found", "operation": "query", "probability": 0.5}, {"kind": "lost_answer"})


class Drip(AtBank):
    """X13: answers come byte by byte."""

    kind = "X13"
    rules = ({"kind": "slow", "delay_ms": 10, "probability": 0.1},)


class BrownOut(AtBank):
    """X14: half of all requests end in errors."""

    kind = "X14"
    rules = ({"kind": "error", "code": "96", "probability": 0.25}, {"kind": "error", "code": "96", "effect": True, "probability": 0.25})


class Impatience(AtBank):
    """X15: what belongs to one payment overtakes itself: captures, voids and refunds are late while others come."""

    kind = "X15"
    rules = tuple(
        {"kind": "late_request", "delay_ms": 2_000, "operation": one, "probability": 0.3} for one in ("capture", "void", "refund")
    )


PSP: tuple[type[Fault], ...] = (
    LateAnswers, LostAnswers, LostRequests, DuplicateRequests, AfterNotFound, BadAnswers, Garbage, StaleQueries, Drip, BrownOut, Impatience,
)  # fmt: skip
