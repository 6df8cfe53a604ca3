"""A spike: ten times what the acquirer takes, for a minute, on either log. All is accepted, waits in the log, and ends right.

Every second payment is without a buyer and may wait; those with the buyer present have to end by their `execute_by`.
"""

import asyncio
import json
import sys
import tempfile
import urllib.request
from collections import Counter
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg

from benchmarks import books
from benchmarks.books import Wrong
from benchmarks.generate import Order, generate
from benchmarks.kafka import cluster, there_is_one
from benchmarks.payments import AMOUNTS, CARD, FORM
from benchmarks.system import System, system

# Payments a second that come, and that the acquirer does meanwhile.
RATE: Final = 300.0
THROTTLE: Final = {"kind": "throttled", "operation": "purchase", "delay_ms": 33}
# Each is waited for 10 s: so many are under way at once, and some more. All are opened at the start, and used within 20 s.
CONNECTIONS: Final = 3_300
TUNING: Final = "[fallback]\nwait_seconds = 3600\n"
# Longest wait after the throttle is lifted: until `execute_by` of the last, and what a late answer takes.
DRAIN_SECONDS: Final = 90.0
LOOK_SECONDS: Final = 0.25
CONTROL_SECONDS: Final = 20.0

# What was undone is asked about for a day, and is at rest.
OPEN: Final = "SELECT count(*) FROM attempt_open WHERE state <> 'recheck'"
# A purchase is sent before its `execute_by`; its answer may come up to the connector's timeout later.
LATE: Final = """
SELECT count(*) FROM attempt WHERE finished_at > execute_by + 10000000
"""
STATES: Final = """
SELECT a.execute_by - a.created_at > 60000000 AS may_wait, p.state, a.state AS attempt, count(*) AS n
FROM payment p JOIN attempt a ON a.payment = p.id GROUP BY 1, 2, 3
"""
# Whoever may wait succeeds; so does who is present, or nothing of it was sent and the buyer is asked again.
RIGHT: Final = {
    (True, "succeeded", "approved"), (False, "succeeded", "approved"), (False, "requires_payment_method", "not_sent"),
}  # fmt: skip
# Of what must hold in the books those that do not ask for success.
LEFT_OUT: Final = ("payments that did not succeed", "attempts that were not approved")


async def compared(seconds: float, *, api_processes: int) -> list[dict[str, Any]]:
    """Run it on both logs, on the outbox alone where there is no Kafka; a row of each, and a line that tells it. Raises Wrong."""
    rows = []
    with tempfile.NamedTemporaryFile("w", prefix="guilder-bench-", suffix=".toml") as tuning:
        tuning.write(TUNING)
        tuning.flush()
        with system(api_processes=api_processes, GUILDER_CONFIG=tuning.name) as running:
            rows.append(await _one("outbox", running, seconds))
        if await there_is_one():
            with cluster() as (bootstrap, _), system(
                api_processes=api_processes, GUILDER_CONFIG=tuning.name, GUILDER_KAFKA_BOOTSTRAP=bootstrap,
            ) as running:  # fmt: skip
                rows.append(await _one("Kafka", running, seconds))
    return rows


async def _one(name: str, running: System, seconds: float) -> dict[str, Any]:
    method = running.post("/v1/payment_methods", CARD)["id"]
    requests = tuple(
        running.request("/v1/payment_intents", FORM, _body(method, amount, may_wait=bool(number % 2)), mark="spike")
        for number, amount in enumerate(AMOUNTS[: len(AMOUNTS) // 2 * 2])
    )
    order = Order(
        url=running.url, requests=requests, contains='"object":"payment_intent"', connections=CONNECTIONS, seconds=seconds, rate=RATE,
    )  # fmt: skip
    await _control(running, "POST", THROTTLE)
    loading = asyncio.create_task(asyncio.to_thread(generate, order))
    await asyncio.sleep(seconds)
    done = await _count(running, "SELECT count(*) FROM payment WHERE state = 'succeeded'")
    await _control(running, "DELETE", None)
    lifted = perf_counter()
    await _until_settled(running)
    drained = perf_counter() - lifted
    report = await loading
    if report.wrong:
        raise Wrong(f"{name}: {report.wrong} of {report.sent} were not accepted; the first: {report.first_wrong}")
    states = await _states(running, report.sent)
    sys.stdout.write(
        f"a spike, {name}: {report.sent:,} accepted in {seconds:.0f} s, {done:,} of them done when the throttle was lifted, "
        f"the last {drained:.1f} s after that; {_in_words(states)}\n"
    )
    sys.stdout.flush()
    return {
        "run": f"a spike, {name}", "seconds": seconds, "sent": report.sent, "done_before_lifted": done,
        "last_done_after_seconds": round(drained, 1), "ended": {" ".join(_words(one)): number for one, number in sorted(states.items())},
    }  # fmt: skip


def _body(method: str, amount: int, *, may_wait: bool) -> str:
    return urlencode({
        "amount": amount, "currency": "eur", "payment_method": method, "confirm": "true", "automatic_payment_methods[enabled]": "true",
        "metadata[order]": "6735", **({"off_session": "true"} if may_wait else {}),
    })  # fmt: skip


async def _control(running: System, method: str, rule: dict[str, Any] | None) -> None:
    """Tell the bank world how slow it is."""
    address = f"{running.running()['network_control']}/faults"
    body = None if rule is None else json.dumps(rule).encode()
    request = urllib.request.Request(address, method=method, data=body)
    with await asyncio.to_thread(urllib.request.urlopen, request, timeout=CONTROL_SECONDS):
        pass


async def _count(running: System, query: str) -> int:
    connection = await asyncpg.connect(running.dsn)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def _until_settled(running: System) -> None:
    begun = perf_counter()
    while await _count(running, OPEN):
        if perf_counter() - begun > DRAIN_SECONDS:
            raise Wrong(f"attempts are still open {DRAIN_SECONDS} s after the throttle was lifted")
        await asyncio.sleep(LOOK_SECONDS)


async def _states(running: System, sent: int) -> Counter[tuple[bool, str, str]]:
    """What became of the payments. Raises Wrong when one did not end right, in our books or in the bank's."""
    connection = await asyncpg.connect(running.dsn)
    try:
        await connection.execute("SET ROLE guilder_app")
        states = Counter({(row["may_wait"], row["state"], row["attempt"]): row["n"] for row in await connection.fetch(STATES)})
        problems = [f"{late} attempts that ended after their time"] if (late := await connection.fetchval(LATE)) else []
        problems += [
            f"{found} {what}" for what, query in books.NONE_OF if what not in LEFT_OUT and (found := await connection.fetchval(query))
        ]
        taken = Counter({row["reference"]: row["amount"] for row in await connection.fetch(books.TAKEN)})
    finally:
        await connection.close()
    problems += [f"{number} ended as {state}" for state, number in states.items() if state not in RIGHT]
    if states.total() != sent:
        problems.append(f"{states.total()} attempts for {sent} payments")
    if taken != books.captures(running)[1]:
        problems.append("the bank world has taken other payments than the books say")
    if problems:
        raise Wrong("; ".join(problems))
    return states


def _in_words(states: Counter[tuple[bool, str, str]]) -> str:
    return ", ".join(f"{number:,} {' '.join(_words(one))}" for one, number in sorted(states.items()))


def _words(state: tuple[bool, str, str]) -> tuple[str, str]:
    may_wait, payment, _attempt = state
    return "that may wait" if may_wait else "with the buyer present", payment
