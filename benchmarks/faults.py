"""What a fault costs those who pay: a PSP's outage, lost answers, an executor that is killed, a role that is not there.

A crowd (crowd.py) goes on asking whatever happens. Each row has the figures that the targets are about:

    an outage           seconds until a new payment is as fast as before; PSP calls for each payment (first sends and resends);
                        seconds until 99% of what was open when the PSP came back is settled
    lost answers        seconds from a payment's doubt to the PSP's word about it
    executor killed     the longest time without an outcome
    without a role      the share of requests that are accepted while it is not there
    without a broker    the same while one of three is killed under the crowd
"""

import asyncio
import json
import os
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg
from msgspec import Struct
from tests.kafka import brokers

from benchmarks import books, generate, kafka, payments
from benchmarks.system import CALL_SECONDS_MAX, System, system

CONNECTIONS_MAX: Final = 850
"""What one API process takes, and some to spare."""
SHARE_OF_CAPACITY: Final = 0.2
BEFORE_SECONDS: Final = 8.0
# The first seconds warm up, and in the last one some are caught; "as before" is the slowest of the others, and this at the least.
WARM_SECONDS: Final = 3
NORMAL_MS_LEAST: Final = 100.0
# Single seconds scatter: only twice as slow as before is slow.
SLOWER: Final = 2.0
# Longest that an API waits for an outcome, and a connector for an answer: what was asked before the end comes back after it.
WAIT_SECONDS: Final = 12.0
READ_SECONDS: Final = 8.0
# A crowd that only wants to be accepted, each of whom may wait for WAIT_SECONDS.
ACCEPTING_RATE: Final = 50.0
SETTLED_SECONDS_MAX: Final = 150.0
LOOK_SECONDS: Final = 0.2
ACCEPTED: Final = frozenset({"200", "402"})
"""Answers that stand for ever under their key: the payment is stored."""

OUTAGES: Final = {"a PSP that stands still": None, "a PSP that closes": {"kind": "close", "effect": False}}
WITHOUT: Final = ("executor", "worker", "network", "vault")
WITHOUT_ON_KAFKA: Final = ("executor", "worker", "relay")
# The least of which one can be lost and two still acknowledge.
BROKERS: Final = 3


class Seconds(Struct, frozen=True, kw_only=True):
    """How long things last. `after`: how long the crowd goes on when the PSP is back."""

    capacity: float
    outage: float
    after: float
    without: float


FULL: Final = Seconds(capacity=15.0, outage=60.0, after=65.0, without=20.0)
QUICK: Final = Seconds(capacity=8.0, outage=15.0, after=25.0, without=8.0)


class Bank:
    """The bank world's control port: faults, and how many requests it has seen."""

    def __init__(self, running: System) -> None:
        self._system = running
        self.url = str(running.running()["network_control"])

    def call(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        """One call. Raises OSError."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(self.url + path, method=method, data=body)
        with urllib.request.urlopen(request, timeout=CALL_SECONDS_MAX) as answer:
            return json.loads(answer.read() or b"null")

    def count(self) -> None:
        """Begin to count purchases that arrive, by a rule that never hits."""
        self.call("DELETE", "/faults")
        self.call("POST", "/faults", {"kind": "lost_answer", "operation": "purchase", "probability": 0})

    def purchases(self) -> int:
        """How many have arrived since."""
        return int(self.call("GET", "/faults")["faults"][0]["seen"])

    def begin(self, rule: Mapping[str, Any] | None) -> Callable[[], None]:
        """The outage by this rule, or without one the process standing still; returns what ends it."""
        if rule is None:
            [pid] = self._system.running()["roles"]["network"]
            os.kill(pid, signal.SIGSTOP)
            return lambda: os.kill(pid, signal.SIGCONT)
        id_ = self.call("POST", "/faults", rule)["id"]
        return lambda: self.call("DELETE", f"/faults?id={id_}")


class Crowds:
    """Runs crowds on one system; each has idempotency keys of its own."""

    def __init__(self, running: System) -> None:
        self._system = running
        self._method: str = running.post("/v1/payment_methods", payments.CARD)["id"]
        self._runs = 0

    async def run(self, *, rate: float, seconds: float, confirm: bool = True) -> dict[str, Any]:
        """So many payments a second for so long, by saved card; `confirm` off: they are only made."""
        self._runs += 1
        fields = {"amount": 1_050, "currency": "eur", "payment_method": self._method, "automatic_payment_methods[enabled]": "true"}
        body = urlencode(fields | ({"confirm": "true"} if confirm else {}))
        connections = min(CONNECTIONS_MAX, int(rate * WAIT_SECONDS) + 1)
        order = generate.Order(
            url=self._system.url, connections=connections, seconds=seconds, rate=rate, seed=self._runs,
            requests=(self._system.request("/v1/payment_intents", payments.FORM, body, mark=f"crowd-{self._runs}"),),
            contains=payments.SUCCEEDED if confirm else '"status":"requires_confirmation"',
        )  # fmt: skip
        return await asyncio.to_thread(generate.crowd, order)


async def measured(*, quick: bool) -> list[dict[str, Any]]:
    """All rows. Raises Wrong when anything was lost, doubled, or is open in the end."""
    seconds = QUICK if quick else FULL
    rows = []
    with system() as running:
        workload = payments.Workload(running)
        await workload.run(payments.Load(name="warm-up", connections=64, seconds=seconds.capacity / 3))
        capacity = await workload.run(payments.Load(name="capacity", connections=64, seconds=seconds.capacity))
        rate = round(capacity["per_second"] * SHARE_OF_CAPACITY)
        crowds, bank = Crowds(running), Bank(running)
        for name, rule in OUTAGES.items():
            rows.append(_said(await _outage(running, crowds, bank, rule, seconds=seconds, rate=rate) | {"run": name}))
        rows.append(_said(await _lost_answers(running, crowds, bank, seconds=seconds)))
        rows.append(_said(await _executor_killed(running, crowds, seconds=seconds, rate=rate)))
        rows += [_said(await _without(running, crowds, role, seconds=seconds)) for role in WITHOUT]
        await _agree(running)
    if await kafka.there_is_one():
        rows += await _on_kafka(seconds)
    return rows


async def _on_kafka(seconds: Seconds) -> list[dict[str, Any]]:
    """The rows of a system whose log goes through Kafka; brokers that somebody gave us are not killed."""
    with kafka.cluster(BROKERS) as (bootstrap, ours), system(GUILDER_KAFKA_BOOTSTRAP=bootstrap) as running:
        crowds = Crowds(running)
        rows = [_said(await _without(running, crowds, role, seconds=seconds, log="Kafka")) for role in WITHOUT_ON_KAFKA]
        if ours:
            rows.append(_said(await _broker_killed(running, crowds, ours[0], seconds=seconds)))
        await _agree(running)
    return rows


async def _outage(
    running: System, crowds: Crowds, bank: Bank, rule: Mapping[str, Any] | None, *, seconds: Seconds, rate: float,
) -> dict[str, Any]:  # fmt: skip
    before = await _payments(running)
    bank.count()
    lasting = BEFORE_SECONDS + seconds.outage + seconds.after
    crowd = asyncio.create_task(crowds.run(rate=rate, seconds=lasting))
    began = time.monotonic()
    await asyncio.sleep(BEFORE_SECONDS)
    heal = bank.begin(rule)
    await asyncio.sleep(seconds.outage)
    heal()
    healed_at, healed = time.time_ns() // 1_000, time.monotonic() - began
    report = await crowd
    await _rest(running)
    made = await _payments(running) - before
    calls = bank.purchases()
    bank.call("DELETE", "/faults")
    usual = max(NORMAL_MS_LEAST, *(one["p99_ms"] for one in report["seconds"][WARM_SECONDS : int(BEFORE_SECONDS) - 1]))
    return {
        "rate": rate, "seconds": lasting, "statuses": report["statuses"], "payments": made, "psp_calls_each": round(calls / made, 3),
        "usual_p99_ms": usual, "normal_after_seconds": _normal_after(report["seconds"], int(healed) + 1, usual),
        "settled_after_seconds": await _settled_after(running, healed_at),
    }  # fmt: skip


def _normal_after(seconds: Sequence[Mapping[str, Any]], healed: int, usual: float) -> int:
    """Seconds from the end of an outage after which every payment is answered as fast as before, and paid."""

    def is_wrong(one: Mapping[str, Any]) -> bool:
        return bool(one["answered"] and (one["p99_ms"] > SLOWER * usual or one["good"] < one["answered"]))

    slow = [number for number, one in enumerate(seconds) if is_wrong(one)]
    return max(0, max(slow, default=0) + 1 - healed)


async def _settled_after(running: System, healed_at: int) -> float:
    """How long after the PSP was back 99% of the attempts were settled that were open at that moment; 0 when none was."""
    found = await _ask(
        running,
        "SELECT coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY finished_at - $1), 0)::float8 / 1000000 FROM attempt "
        "WHERE created_at < $1 AND finished_at >= $1", healed_at,
    )  # fmt: skip
    return round(float(found), 2)


async def _lost_answers(running: System, crowds: Crowds, bank: Bank, *, seconds: Seconds) -> dict[str, Any]:
    """The PSP does what it is asked and says nothing; asked about it, it answers."""
    since = time.time_ns() // 1_000
    rule = bank.call("POST", "/faults", {"kind": "lost_answer", "operation": "purchase", "probability": 0.2})["id"]
    report = await crowds.run(rate=10, seconds=seconds.without)
    bank.call("DELETE", f"/faults?id={rule}")
    await _rest(running)
    worst = await _ask(
        running, "SELECT max(finished_at - created_at)::float8 / 1000000 FROM attempt WHERE created_at > $1 AND state = 'approved'", since,
    )  # fmt: skip
    return {"run": "lost answers", "statuses": report["statuses"], "known_after_doubt_seconds": round(float(worst) - READ_SECONDS, 2)}


async def _executor_killed(running: System, crowds: Crowds, *, seconds: Seconds, rate: float) -> dict[str, Any]:
    since = time.time_ns() // 1_000
    crowd = asyncio.create_task(crowds.run(rate=rate, seconds=seconds.without))
    await asyncio.sleep(seconds.without / 2)
    [pid] = running.running()["roles"]["executor"]
    os.kill(pid, signal.SIGKILL)
    report = await crowd
    await _rest(running)
    gap = await _ask(
        running,
        "SELECT max(gap)::float8 / 1000000 FROM (SELECT finished_at - lag(finished_at) OVER (ORDER BY finished_at) AS gap "
        "FROM attempt WHERE finished_at > $1) x", since,
    )  # fmt: skip
    return {"run": "executor killed", "rate": rate, "statuses": report["statuses"], "without_outcome_seconds": round(float(gap), 2)}


async def _without(running: System, crowds: Crowds, role: str, *, seconds: Seconds, log: str = "outbox") -> dict[str, Any]:
    """The role stands still, and is killed in the end; then everything that was accepted comes to its end."""
    [pid] = running.running()["roles"][role]
    os.kill(pid, signal.SIGSTOP)
    answered = await _accepting(crowds, seconds)
    os.kill(pid, signal.SIGKILL)
    await _rest(running)
    return {"run": f"without {role}, {log}", **answered}


async def _broker_killed(running: System, crowds: Crowds, broker: brokers.Broker, *, seconds: Seconds) -> dict[str, Any]:
    """One of three brokers dies at the work and does not come back; then everything that was accepted comes to its end."""
    crowd = asyncio.create_task(_accepting(crowds, seconds))
    await asyncio.sleep(WARM_SECONDS)
    await asyncio.to_thread(broker.kill)
    answered = await crowd
    await _rest(running)
    return {"run": "without a broker, Kafka", **answered}


async def _accepting(crowds: Crowds, seconds: Seconds) -> dict[str, Any]:
    """What a crowd is told that only wants to be accepted."""
    reports = await asyncio.gather(
        crowds.run(rate=ACCEPTING_RATE, seconds=seconds.without),
        crowds.run(rate=ACCEPTING_RATE / 5, seconds=seconds.without, confirm=False),
    )
    sent = sum(report["sent"] for report in reports)
    statuses = sum((Counter(report["statuses"]) for report in reports), Counter[str]())
    accepted = sum(statuses[status] for status in ACCEPTED)
    return {"sent": sent, "statuses": dict(statuses), "accepted_share": round(accepted / sent, 5)}


async def _rest(running: System) -> None:
    """Wait until nothing is open but later looks at what was undone. Raises Wrong."""
    end = time.monotonic() + SETTLED_SECONDS_MAX
    while found := await _ask(running, "SELECT count(*) FROM attempt_open WHERE state <> 'recheck'"):
        if time.monotonic() > end:
            raise books.Wrong(f"{found} attempts are still open {SETTLED_SECONDS_MAX:.0f} s after the last request")
        await asyncio.sleep(LOOK_SECONDS)


async def _agree(running: System) -> None:
    """The books and the bank's truth say the same of every payment. Raises Wrong."""
    command = (str(Path(sys.executable).with_name("guilder")), "check", "--data", str(running.data), "--json")
    asked = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await asked.communicate()
    if asked.returncode != 0:
        raise books.Wrong(said.decode()[-2_000:])
    sys.stdout.write("the books and the bank world agree\n")


async def _payments(running: System) -> int:
    return int(await _ask(running, "SELECT count(*) FROM payment"))


async def _ask(running: System, sql: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(running.dsn)
    try:
        await connection.execute("SET ROLE guilder_app")
        return await connection.fetchval(sql, *arguments)
    finally:
        await connection.close()


def _said(row: dict[str, Any]) -> dict[str, Any]:
    figures = ", ".join(f"{name} {value}" for name, value in row.items() if name != "run")
    sys.stdout.write(f"{row['run']}: {figures}\n")
    sys.stdout.flush()
    return row
