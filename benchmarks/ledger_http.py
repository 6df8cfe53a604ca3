"""The ledger over HTTP: transfers between two accounts of the merchant's own, one of them in every transfer.

Each transfer has an id of its own that the client made, so every request may be repeated.
"""

import json
from itertools import count
from typing import Any, Final

import asyncpg
from msgspec import Struct, to_builtins

from benchmarks import measure
from benchmarks.books import Wrong
from benchmarks.generate import Order, generate
from benchmarks.payments import row_of
from benchmarks.system import System

JSON: Final = "application/json"
PATH: Final = "/v1/ledger/transfers"
STORED: Final = "SELECT count(*) FROM ledger_transfer WHERE debit = (SELECT number FROM ledger_account WHERE id = $1)"


class Load(Struct, frozen=True, kw_only=True):
    """One run. `each`: transfers in a request; 1 is a request without a list."""

    name: str
    connections: int
    seconds: float
    each: int = 1


class LedgerWorkload:
    """The workload on one system; runs follow one another."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._debit, self._credit = (self._account() for _ in range(2))
        self._runs = count(1)
        self._booked = 0

    async def run(self, load: Load) -> dict[str, Any]:
        """Send, and return the row for the history. Raises Wrong."""
        before = await measure.snapshot(self._system)
        report = generate(self._order(load))
        after = await measure.snapshot(self._system)
        if report.wrong:
            raise Wrong(f"{load.name}: {report.wrong} answers were not 200 and booked; the first: {report.first_wrong}")
        booked = report.good * load.each
        self._booked += booked
        cpu = measure.cpu_each(before, after, booked) | {"generator": round(report.cpu_seconds / booked * 1e6, 1)}
        machine = measure.machine(before, after, generator_seconds=report.cpu_seconds, folder=self._system.data)
        return {
            "run": load.name, **row_of(report), "per_second": round(report.per_second * load.each, 1), "each": load.each,
            "cpu_us": cpu, "cpu_us_all": round(sum(cpu.values()), 1), "machine": to_builtins(machine),
        }  # fmt: skip

    async def check(self) -> None:
        """Is every transfer that was answered in the books, and what stands on the accounts their sum? Raises Wrong."""
        connection = await asyncpg.connect(self._system.dsn)
        try:
            await connection.execute("SET ROLE guilder_app")
            stored = await connection.fetchval(STORED, self._debit)
        finally:
            await connection.close()
        if stored < self._booked:
            raise Wrong(f"{self._booked} transfers were answered, {stored} are stored")
        balance = self._system.get(f"/v1/ledger/accounts/{self._debit}")["balance"]["debits_posted"]
        if balance != stored:
            raise Wrong(f"{stored} transfers of 1 cent are stored, the account says {balance}")

    def _account(self) -> str:
        return str(self._system.post("/v1/ledger/accounts", {"currency": "eur"})["id"])

    def _order(self, load: Load) -> Order:
        run = next(self._runs)
        fields = {"debit": self._debit, "credit": self._credit, "amount": 1}
        if load.each == 1:
            body: dict[str, Any] = {"id": f"order{run}-{{n}}", **fields}
        else:
            body = {"transfers": [{"id": f"order{run}-{{n}}-{place:04d}", **fields} for place in range(load.each)]}
        request = self._system.request(PATH, JSON, json.dumps(body), mark=f"ledger-{run}")
        return Order(
            url=self._system.url, requests=(request,), contains='"kind":"posted"', connections=load.connections,
            seconds=load.seconds,
        )  # fmt: skip
