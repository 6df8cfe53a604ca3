"""G12: a restore from a backup that was taken under load, and the quarantine after it (docs/running.md)."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from chaos.client import Merchant, Request
from chaos.faults.failover import Clustered
from chaos.faults.own import own_client
from chaos.faults.psp import AtBank
from chaos.history import Line, read, told
from chaos.lab import Lab
from chaos.records import Books, read_books
from chaos.restored import REFUSED, Restore, incomplete, lost_attempts, quarantine_kept, sent_meanwhile, strangers
from chaos.system import Broken, until
from chaos.workload import LISTED

# Of the requests that the restore took with it, so many are repeated by us beside those that clients repeat.
REPEATED_MAX: Final = 20
_STREAM: Final = "SELECT id FROM log_stream"
_SESSIONS: Final = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'guilder %' AND backend_type = 'client backend'"
_DELIVERED: Final = "SELECT event, number FROM webhook_delivery"


class _Slow(AtBank):
    """Answers take a second, so that payments are open in the backup."""

    rules = ({"kind": "late_answer", "delay_ms": 1_000, "probability": 0.5},)


class Restored(Clustered):
    """G12: all is lost, and a backup that was taken under load takes its place; a person lifts the quarantine."""

    kind = "G12"

    def __init__(self) -> None:
        self._up = 0
        self._open = 0
        self._sent: Counter[str] = Counter()
        self._heard: dict[str, int] = {}

    async def inject(self, lab: Lab) -> None:
        cluster, slow = self.cluster(lab), _Slow()
        await slow.inject(lab)
        early, began = await self._books(lab), time.monotonic_ns()
        await cluster.back_up()
        await slow.heal(lab)
        await self._until_it_shows(lab)
        lab.kills += len(lab.system.pids())
        await lab.system.down(signal.SIGKILL)
        before = await self._books(lab)
        await cluster.restore()
        after = await self._books(lab)
        for text in incomplete(early, after):
            lab.finding("I2", text)
        lab.restore = Restore(began=began, at=time.monotonic_ns(), lost=lost_attempts(before, after))
        self._open = len(after.open)
        self._sent = lab.proxy.counted + lab.web.counted
        await self._forget_deliveries(lab)
        await lab.up()
        self._up = time.monotonic_ns()
        await _tell(lab, before, after)
        await self._look(lab, before)

    async def heal(self, lab: Lab) -> None:
        """Judge the quarantine and lift it, as the documentation says; then repeat what may be charged again, and what may not."""
        if not self._up or lab.restore is None:
            return
        _, said = await lab.system.command("check", "--json")
        named = {one["name"]: one["violated"] for one in json.JSONDecoder().raw_decode(said[said.index("{") :])[0]["checks"]}
        books = await self._books(lab)
        unknown = strangers(await lab.system.truth(), books.attempts)
        if named["truth"] < len(unknown):
            lab.finding("quarantine", f"`guilder check` names {named['truth']} of {len(unknown)} effects that no book has")
        for text in sent_meanwhile(self._sent, lab.proxy.counted + lab.web.counted):
            lab.finding("quarantine", text)
        for name, seen in lab.receiver.seen.items():
            if len(seen) != self._heard[name]:
                lab.finding("quarantine", f"{name} was told something")
        ended, lines = time.monotonic_ns(), list(read(lab.histories))
        for text in quarantine_kept(lines, self._up, ended):
            lab.finding("quarantine", text)
        refused = sum(line.status == REFUSED and self._up < line.at < ended for line in lines)
        lab.note(f"G12: {(ended - self._up) / 1e9:.1f} s in quarantine, in which {refused} requests were refused")
        await self._lift(lab)
        await self._ask_again(lab, lab.restore, books)
        await asyncio.sleep(lab.seconds("trouble"))

    @staticmethod
    async def _until_it_shows(lab: Lab) -> None:
        """Load goes on, at least until a restore to the backup will be noticed: the number beside the database has grown."""
        file = lab.system.data / "generation"
        number = file.read_text()
        await asyncio.sleep(lab.seconds("trouble"))
        await until(lambda: file.read_text() != number, "the generation is raised")

    async def _books(self, lab: Lab) -> Books:
        """What the database holds now, when nobody is at work there any more if the system has just ended."""
        async with self.cluster(lab).database() as connection:

            async def left() -> bool:
                return lab.system.is_up or await connection.fetchval(_SESSIONS)

            await until(left, "every session of the product has ended")
            return await read_books(connection)

    async def _forget_deliveries(self, lab: Lab) -> None:
        """Of what receivers have got, the restored database knows some; numbers of the rest are given again, to other events."""
        async with self.cluster(lab).database() as connection:
            known = {(row["event"], row["number"]) for row in await connection.fetch(_DELIVERED)}
        gone = 0
        for name, seen in lab.receiver.seen.items():
            kept = [one for one in seen if (one.event, one.number) in known]
            gone += len(seen) - len(kept)
            seen[:] = kept
            self._heard[name] = len(kept)
        lab.note(f"G12: {gone} webhooks told of what was lost, under numbers that were given again")

    async def _look(self, lab: Lab, before: Books) -> None:
        """Reads are answered, what was lost is not there, and nothing is taken."""
        status, said = await lab.system.command("quarantine", "show", "--json")
        if status or json.loads(said)["quarantine"] is None:
            lab.finding("quarantine", f"a restored database is not in quarantine: {said}")
        largest = lab.merchants[0]
        async with own_client(lab) as client:
            for row in before.payments[-3:]:
                await client.once(Request("look", largest, "GET", f"/v1/payment_intents/{row['id']}"))
            await client.once(Request("list", largest, "GET", LISTED))
            order = {"amount": 990, "currency": "eur"}
            await client.once(Request("gone", largest, "POST", "/v1/payment_intents", order, f"s{lab.seed:x}-quarantine"))

    async def _lift(self, lab: Lab) -> None:
        stream = await lab.system.rows(_STREAM)
        status, said = await lab.system.command("quarantine", "lift", "--json")
        if status:
            raise Broken(f"quarantine lift: {said}")
        if json.loads(said)["asked_about"] != self._open:
            lab.finding("quarantine", f"{self._open} attempts were open in the backup, and the lift says {said}")
        if await lab.system.rows(_STREAM) == stream:
            lab.finding("quarantine", "the log's stream is the one of before")

    async def _ask_again(self, lab: Lab, restore: Restore, books: Books) -> None:
        """Under keys of payments that were open in the backup, which nobody may be charged for again; and under some that are lost."""
        lines, known = list(read(lab.histories)), {row["id"] for row in books.payments}
        open_ = {row["payment"] for row in books.open}
        answered = [line for line in lines if line.phase == "ok" and line.key and line.status == 200 and line.op in ("pay", "authorize")]
        again = [line for line in answered if line.object in open_]
        gone = [line for line in answered if restore.began < line.at < restore.at and line.object not in known][:REPEATED_MAX]
        asked = {line.key: line for line in lines if line.phase == "invoke" and line.op != "misuse"}
        async with own_client(lab) as client:
            for line in {line.key: line for line in (*again, *gone)}.values():
                merchant: Merchant = lab.merchants[line.merchant]
                answer = await client.ask(Request(line.op, merchant, line.method, line.path, asked[line.key].params, line.key))
                if answer is not None and line.object in known and told(answer.body).get("object") != line.object:
                    lab.finding("I9", f"{line.key} was answered with {line.object} before the restore, and with something else after it")


async def _tell(lab: Lab, before: Books, after: Books) -> None:
    """What was lost, as figures: what can be lost with a backup is the operator's choice, and no violation."""
    restore = lab.restore
    if restore is None:
        return
    kept = {row["id"] for row in after.payments}
    lost = {row["id"] for row in before.payments} - kept
    acknowledged = {line.object for line in _acknowledged(list(read(lab.histories)))} & lost
    captured = {effect["reference"] for effect in await lab.system.truth() if effect["kind"] == "capture"} & restore.references
    newest = max((row["created_at"] for row in after.attempts), default=0)
    last = max((row["created_at"] for row in before.attempts), default=0)
    lab.note(
        f"G12: restored to {(last - newest) / 1e6:.1f} s before the end: {len(acknowledged)} acknowledged payments and "
        f"{len(restore.lost)} attempts are lost with it, {len(captured)} of them captures that the bank has done; "
        f"{len(after.open)} attempts were open in the backup",
    )  # fmt: skip


def _acknowledged(lines: Sequence[Line]) -> list[Any]:
    return [line for line in lines if line.phase == "ok" and line.key and line.object.startswith("pi_")]
