"""X8, X10, X11, X12, X18: what needs a PSP with keys that run out, notifications and rate limits, and what needs two of them."""

import asyncio
import hmac
import json
import time
from collections import Counter

import aiohttp

from chaos.faults.base import Fault
from chaos.faults.psp import AtBank
from chaos.lab import Lab
from chaos.system import until
from chaos.workload import PAGE_OPEN

HEADER = "Webpsp-Signature"
# A PSP knows a key for a day; what it says that it does not know a day after that, it never did.
WINDOW = "25h"
# A refund that was undone by that is begun anew when the last question about it has been asked.
ANEW = "27h"
_ELSEWHERE = """
SELECT count(*) FROM attempt a WHERE operation IN ('purchase', 'authorize') AND position('webpsp'::bytea IN facts) > 0
AND EXISTS (SELECT FROM attempt b WHERE b.payment = a.payment AND b.created_at <= a.created_at AND b.id <> a.id AND b.state = 'not_sent')
"""

_OLD_DOUBTS = """
SELECT 1 FROM attempt_open o JOIN attempt a ON a.id = o.attempt
WHERE o.state = 'in_doubt' AND a.created_at < (SELECT max(created_at) FROM attempt) - 86400000000
"""


class KeyWindow(AtBank):
    """X8: captures and refunds are in doubt until the keys under which they were sent have run out."""

    kind = "X8"
    rules = tuple(
        {"kind": kind, "operation": one, "probability": 0.4} for one in ("capture", "refund") for kind in ("lost_answer", "lost_request")
    )

    async def heal(self, lab: Lab) -> None:
        await self._advance(lab, WINDOW)
        await super().heal(lab)
        # Past the horizon, what the PSP does not know is known not to have happened.
        await self._advance(lab, WINDOW)
        # Clients make new payments meanwhile, by which the age of the others is told.
        await asyncio.sleep(lab.seconds("step"))
        await until(lambda: self._nothing_old(lab), "what is a day old is not in doubt any more")
        await self._advance(lab, ANEW)

    @staticmethod
    async def _nothing_old(lab: Lab) -> bool:
        return not await lab.system.rows(_OLD_DOUBTS)

    @staticmethod
    async def _advance(lab: Lab, step: str) -> None:
        status, said = await lab.system.command("clock", "advance", step)
        if status:
            lab.note(f"clock advance: {said.strip()}")


class KeyNotHonoured(AtBank):
    """X8: what the PSP did and does not know of is sent again, and most of it is done once more, or declined as done."""

    kind = "X8"
    lasts = "again"
    rules = (
        # The first that hits is the one: what is not cut off here is done once more, if it was done before.
        *({"kind": "close", "face": "web", "operation": one, "probability": 0.5} for one in ("capture", "refund")),
        {"kind": "key_ignored", "face": "web", "probability": 0.9},
        {"kind": "not_found", "face": "web", "operation": "query", "probability": 0.8},
    )  # fmt: skip

    async def heal(self, lab: Lab) -> None:
        await super().heal(lab)
        refunded = Counter(effect["reference"] for effect in await lab.system.truth() if effect["kind"] == "refund")
        lab.note(f"X8: {sum(times > 1 for times in refunded.values())} refunds were done more than once")

async def told(lab: Lab, *, key: str | None = None) -> tuple[int, int]:
    """Tell of each page that waits for its buyer that it was paid, signed as the PSP signs, or by another key.

    Returns how many were told and how many of them taken.
    """
    account = json.loads((lab.system.data / "keys" / "webpsp.json").read_bytes())
    secret, taken = (key or account["signing_secret"]).encode(), 0
    rows = await until(lambda: lab.system.rows(PAGE_OPEN), "a buyer is at the PSP's page")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        for number, row in enumerate(rows):
            body = json.dumps({
                "id": f"evt_{time.monotonic_ns()}_{number}", "type": "operation.updated", "status": "approved",
                "reference": row["reference"], "amount": row["amount"], "currency": row["currency"], "metadata": {"attempt": row["id"]},
            }).encode()  # fmt: skip
            seconds = int(time.time())
            signed = hmac.digest(secret, b"%d." % seconds + body, "sha256").hex()
            try:
                async with session.post(
                    lab.system.ready["api"] + "/psp/webpsp", data=body, headers={HEADER: f"t={seconds},v1={signed}"},
                ) as answer:  # fmt: skip
                    taken += answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                continue
    return len(rows), taken


class Contradicted(AtBank):
    """X10: the PSP notifies of payments that its own answers do not know or call unfinished."""

    kind = "X10"
    rules = (
        {"kind": "not_found", "face": "web", "operation": "query", "probability": 0.3},
        {"kind": "stale", "face": "web", "operation": "query", "probability": 0.3},
    )

    async def inject(self, lab: Lab) -> None:
        await super().inject(lab)
        for _ in range(3):
            await told(lab)
            await asyncio.sleep(lab.seconds("step") / 2)


class Notices(AtBank):
    """X11: notifications are lost, late so that others overtake them, sent twice, and forged."""

    kind = "X11"
    rules = (
        {"kind": "notice_lost", "probability": 0.25}, {"kind": "notice_late", "delay_ms": 3_000, "probability": 0.4},
        {"kind": "notice_duplicate", "probability": 0.5},
    )  # fmt: skip

    async def inject(self, lab: Lab) -> None:
        await super().inject(lab)
        for _ in range(3):
            _, taken = await told(lab, key="forged")
            if taken:
                lab.finding("X11", f"{taken} forged notifications were taken for the PSP's")
            await asyncio.sleep(lab.seconds("step") / 2)


class RateLimited(AtBank):
    """X12: the web PSP answers 429 with Retry-After, again and again."""

    kind = "X12"
    rules = ({"kind": "rate_limited", "face": "web", "probability": 0.4},)


class Pages(AtBank):
    """X7: the web PSP answers with a proxy's error page, or with half a document."""

    kind = "X7"
    rules = (
        {"kind": "error_page", "face": "web", "probability": 0.08}, {"kind": "truncated", "face": "web", "probability": 0.08},
        {"kind": "error_page", "face": "web", "effect": False, "probability": 0.08},
    )  # fmt: skip


class ElsewhereInDoubt(AtBank):
    """X18: the first PSP goes down with payments in doubt, and whatever comes then goes on at the second one."""

    kind = "X18"
    lasts = "outage"
    down = "cardnet"
    rules = ({"kind": "lost_answer", "face": "iso", "probability": 0.5},)

    async def inject(self, lab: Lab) -> None:
        self._before = await self._two(lab)
        await super().inject(lab)
        await asyncio.sleep(lab.seconds("step"))
        lab.proxy.refuse = True
        lab.proxy.reset()

    async def heal(self, lab: Lab) -> None:
        await super().heal(lab)
        lab.proxy.clear()
        lab.note(f"X18: {await self._two(lab) - self._before} payments had a second try elsewhere")

    @staticmethod
    async def _two(lab: Lab) -> int:
        [row] = await lab.system.rows(_ELSEWHERE)
        return int(row["count"])


WEB: tuple[type[Fault], ...] = (Contradicted, Notices, RateLimited, Pages, ElsewhereInDoubt)
ONCE: tuple[type[Fault], ...] = (KeyNotHonoured, KeyWindow)
"""What a mix does not draw: a long one would outlive whatever is kept for a month, by business time that moves by days; and with keys
that are not honoured, what the wire has doubled nobody could know of."""
