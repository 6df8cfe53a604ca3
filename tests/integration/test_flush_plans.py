"""The plans of everything that runs on a payment's way, as PostgreSQL makes them on a fresh database: no growing table is read whole.

Nothing here names a statement: payments of every kind are made, and the server tells the plan of each statement that it ran,
those inside the functions too (auto_explain).
"""

import asyncio
import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from guilder.core.clock import DAY, HOUR, MINUTE, SECOND
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Unknown
from guilder.db import Database
from guilder.payments import cancel, capture, confirm, create, expire_authorizations, offer_refunds, refund, update
from guilder.payments.commands import CancelPayment, CapturePayment, ConfirmPayment, CreatePayment, CreateRefund, UpdatePayment
from guilder.payments.offer import note_accounts
from guilder.psp.model import Operation

EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_level": "notice",
    "auto_explain.log_timing": "off",
    # As the hot connections have it; the others must do as well without statistics.
    "plan_cache_mode": "force_generic_plan",
}
# Tables that have as many rows as there are processes, partitions, accounts with waiting refunds or open attempts.
SMALL = frozenset({"sender", "log_head", "log_consumer", "attempt_open", "refund_offer", "installation"})
# The worker's polls, twice a second: they may go by statistics, which a fresh database has after a minute.
POLLS = ("SELECT c.payment, c.account, c.livemode FROM charge c", "INSERT INTO refund_offer")
# asyncpg's own question about types, once for each connection.
DRIVERS = "typeinfo"


class Plans:
    """Every statement that ran and its plan, by the pool that ran it."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], str] = {}

    def note(self, pool: str, message: str) -> None:
        """Keep what auto_explain says."""
        if "Query Text:" in message and DRIVERS not in message:
            text = message.partition("Query Text:")[2]
            # The plan begins at the first line that has a cost.
            statement, plan = re.split(r"\n(?=[A-Z][^\n]*\(cost=)", text, maxsplit=1)
            self.seen[pool, " ".join(statement.partition("Query Parameters:")[0].split())] = plan

    def whole_reads(self) -> set[tuple[str, str]]:
        """Statements that read a growing table from end to end."""
        return {
            (statement, table)
            for (_, statement), plan in self.seen.items()
            for table in re.findall(r"Seq Scan on (\w+)", plan)
            if table not in SMALL and not statement.startswith(POLLS)
        }

    def quadratic(self) -> set[str]:
        """Hot statements that compare two lists item by item."""
        return {
            f"{statement}: {line.strip()}"
            for (pool, statement), plan in self.seen.items()
            for line in plan.splitlines()
            if pool == "test hot" and re.search(r"Join Filter: .*[^<>] = ", line)
        }


@pytest.fixture
async def plans(server: dict[str, str], database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plans]:
    """Have the server explain everything in this database from now on; asked for before the room that is watched."""
    name = database.partition("?")[0].rpartition("/")[2]
    admin = await asyncpg.connect(server["superuser"])
    for setting, value in EXPLAIN.items():
        await admin.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    await admin.close()
    inside = await asyncpg.connect(server["superuser"], database=name)
    # A slow machine must not get statistics on the way: with them a table of ten rows is best read whole.
    for table in await inside.fetch("SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"):
        await inside.execute(f"ALTER TABLE {table['name']} SET (autovacuum_enabled = false)")
    await inside.close()
    found, heard = Plans(), Database._noticed

    def noticed(self: Database, connection, notice) -> None:
        found.note(self.name, notice.message)
        heard(self, connection, notice)

    monkeypatch.setattr(Database, "_noticed", noticed)
    yield found


async def every_kind_of_payment(world) -> None:
    """Purchases, authorizations, captures, voids and refunds that pass, fail, are in doubt, expire and wait."""
    services, claim = world.services, world.claim
    said: dict[Operation, object] = {}
    world.psp.answer = lambda order: said.get(order.operation, Approved(order.reference, "123456"))

    async def pay(**more):
        command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card(), **more)
        return (await create(services, claim(), command)).answer.root.id

    async def at_rest():
        world.clock.advance(10 * SECOND)
        return not await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE state <> 'recheck'")

    await asyncio.gather(*(pay() for _ in range(20)))
    for outcome in (Declined("insufficient_funds", "51"), NotSent("connect"), Unknown("timeout")):
        said[Operation.PURCHASE] = outcome
        await pay()
    await world.until(at_rest)
    said.update({Operation.PURCHASE: Unknown("timeout"), Operation.QUERY: NotFound()})
    await pay()
    await world.until(at_rest)
    said.clear()
    first, second, third = [await pay(capture_method="manual") for _ in range(3)]
    said[Operation.CAPTURE] = Unknown("timeout")
    await capture(services, claim(), CapturePayment(payment=first, amount_to_capture=400))
    said.clear()
    await world.until(at_rest)
    await cancel(services, claim(), CancelPayment(payment=second))
    await update(services, claim(), UpdatePayment(payment=third, metadata={"a": "b"}))
    await refund(services, claim(), CreateRefund(payment=first, amount=100))
    said[Operation.REFUND] = Declined("generic_decline", "05")
    await refund(services, claim(), CreateRefund(payment=first, amount=100))
    said[Operation.REFUND] = NotSent("connect")
    await refund(services, claim(), CreateRefund(payment=first, amount=100))
    said.clear()
    world.clock.advance(HOUR)
    await world.until(at_rest)
    open_ = (await create(services, claim(), CreatePayment(amount=1000, currency="eur"))).answer.root.id
    await confirm(services, claim("again"), ConfirmPayment(payment=open_, payment_method=world.card()))
    await confirm(services, claim("again"), ConfirmPayment(payment=open_, payment_method=world.card()))
    world.clock.advance(8 * DAY)
    assert await expire_authorizations(services) == 1
    await world.until(at_rest)
    async with world.db.transaction() as connection:
        await note_accounts(connection, [(world.account, False)])
    await offer_refunds(services)
    world.clock.advance(15 * MINUTE)


async def test_no_growing_table_is_read_whole_and_no_list_is_compared_with_a_list(plans: Plans, world):
    """Accept, claim, settle, takeover and all reads between them, on tables that nobody has ever analysed."""
    await every_kind_of_payment(world)
    statements = {statement for _, statement in plans.seen}
    for begin in ("INSERT INTO payment ", "INSERT INTO ledger_transfer", "INSERT INTO event ", "INSERT INTO log_entry ", "UPDATE attempt_open"):
        assert any(begin in statement for statement in statements), begin
    assert plans.whole_reads() == set()
    assert plans.quadratic() == set()


async def test_the_check_itself_sees_a_table_that_is_read_whole(plans: Plans, world):
    """Else it would prove nothing."""
    await world.db.fetch("SELECT * FROM payment WHERE facts = $1", b"")
    assert {table for _, table in plans.whole_reads()} == {"payment"}
