"""What the tests of several files do alike: waiting, and steps in a world of payments (conftest.py)."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from guilder.core.outcome import Approved
from guilder.payments.commands import CreatePayment
from guilder.payments.create import create
from guilder.psp.model import Operation

# Long enough for a machine that does other things as well.
WAIT_SECONDS = 10.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait, with a limit, until this is so."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def pay(world: Any, amount: int = 1000, claim: Any = None, **more: Any) -> Any:
    """Take a payment, of 10.00 euros unless something else is said; returns the result."""
    command = CreatePayment(**{"amount": amount, "currency": "eur", "confirm": True, "payment_method": world.card(), **more})
    return await create(world.services, claim or world.claim(), command)


def says(world: Any, **by_operation: Any) -> dict[Operation, Any]:
    """The PSP answers each operation so; what is not named is approved."""
    said = {Operation(name): outcome for name, outcome in by_operation.items()}
    world.psp.answer = lambda order: said.get(order.operation, Approved(order.reference, "123456"))
    return said


async def status_is(world: Any, payment: str, status: str) -> None:
    """Wait until the payment has this status."""

    async def reached() -> bool:
        return (await world.payment(payment)).status == status

    await world.until(reached)


async def stop_executor(world: Any) -> None:
    """So that nobody picks up what the test has put there."""
    world._running.cancel()
    await asyncio.gather(world._running, return_exceptions=True)


async def tamper(world: Any, sql: str) -> None:
    """Change what no role of ours may change, as the database's owner."""
    connection = await asyncpg.connect(world.dsn)
    try:
        assert not (await connection.execute(sql)).endswith(" 0"), "the tampering hits something"
    finally:
        await connection.close()
