"""The canonical workload: create and confirm a payment with a card that is kept, automatic capture, one merchant.

Each request has an idempotency key of its own; each answer must be 200 and `succeeded`.
"""

from itertools import count
from typing import Any, Final
from urllib.parse import urlencode

from msgspec import Struct, to_builtins

from benchmarks import books, measure
from benchmarks.generate import Order, Report, generate
from benchmarks.receiver import Receiver
from benchmarks.system import System

FORM: Final = "application/x-www-form-urlencoded"
CARD: Final = {"type": "card", "card": {"number": "4242424242424242", "exp_month": 12, "exp_year": 2034}}
"""A card without a CVC, as a kept one is: a CVC is sent once."""
# Different amounts, so that books and bank world can be compared to the cent.
AMOUNTS: Final = tuple(range(1_000, 10_000, 127))
SUCCEEDED: Final = '"status":"succeeded"'


class Load(Struct, frozen=True, kw_only=True):
    """One run of the workload. `rate` 0: closed loop."""

    name: str
    connections: int
    seconds: float
    rate: float = 0.0


class Workload:
    """The workload on one system; runs follow one another."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._method: str = system.post("/v1/payment_methods", CARD)["id"]
        self._runs = count(1)
        self._good = 0

    async def run(self, load: Load, *, to: Receiver | None = None) -> dict[str, Any]:
        """Send, wait until all is settled, and return the row for the history.

        Args:
            to: gets a webhook of each payment; what is left of them when the load ends is waited for and counted too.
        """
        system = self._system
        marked = await books.markers(system)
        before = await measure.snapshot(system)
        came, spent = to.looked_at() if to else (0, 0.0)
        report = generate(self._order(load))
        drained = {"drained_seconds": round(to.drained(came + report.good), 2)} if to else {}
        await books.settled(system)
        after = await measure.snapshot(system)
        self._good += report.good
        if report.wrong:
            raise books.Wrong(f"{load.name}: {report.wrong} answers were not 200 and succeeded; the first: {report.first_wrong}")
        since = marked["newest"]
        wal = (await books.markers(system))["wal"] - marked["wal"]
        cpu = measure.cpu_each(before, after, report.good) | {"generator": round(report.cpu_seconds / report.good * 1e6, 1)}
        ours = report.cpu_seconds
        if to is not None:
            received, until = to.looked_at()
            ours += until - spent
            cpu["receiver"] = round((until - spent) / report.good * 1e6, 1)
            if received - came < report.good:
                raise books.Wrong(f"{load.name}: {received - came} webhooks for {report.good} payments")
        machine = measure.machine(before, after, generator_seconds=ours, folder=system.data)
        return {
            "run": load.name, **row_of(report), **drained, "rate": load.rate, "cpu_us": cpu, "cpu_us_all": round(sum(cpu.values()), 1),
            "machine": to_builtins(machine), "batches": await books.batches(system, since),
            "wal_bytes_each": wal // max(report.good, 1), "memory_mb": measure.memory(after),
        }  # fmt: skip

    async def check(self) -> dict[str, int]:
        """Compare the books with all that was done so far. Raises Wrong."""
        return await books.check_payments(self._system, least=self._good)

    def _order(self, load: Load) -> Order:
        run = next(self._runs)
        requests = tuple(
            self._system.request("/v1/payment_intents", FORM, self._body(amount), mark=f"payment-{run}") for amount in AMOUNTS
        )
        return Order(
            url=self._system.url, requests=requests, contains=SUCCEEDED, connections=load.connections, seconds=load.seconds,
            rate=load.rate, seed=run,
        )  # fmt: skip

    def _body(self, amount: int) -> str:
        return urlencode({
            "amount": amount, "currency": "eur", "payment_method": self._method, "confirm": "true",
            "automatic_payment_methods[enabled]": "true", "metadata[order]": "6735",
        })  # fmt: skip


def row_of(report: Report) -> dict[str, Any]:
    """A generator's report as the history keeps it."""
    left_out = ("wrong", "first_wrong", "cpu_seconds")
    return {name: getattr(report, name) for name in report.__struct_fields__ if name not in left_out}
