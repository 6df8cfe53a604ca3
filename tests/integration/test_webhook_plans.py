"""The plans of the statements that every delivery goes through: no table is read from end to end, whatever is in it."""

import re

import pytest
from test_flush_plans import Plans, plans  # noqa: F401 - the fixture
from webhook_world import webhook_world

from guilder.core.clock import MINUTE
from receiver import Receiver, answer

TABLES = "webhook_delivery|webhook_retry|webhook_attempt|event"
# How the test itself waits.
OWN = "SELECT count(*) FROM webhook_delivery WHERE state = $1"


@pytest.mark.usefixtures("plans")
async def test_no_statement_of_a_delivery_reads_a_table_from_end_to_end(plans: Plans, database: str):  # noqa: F811
    """Fan-out, reading, retries, results: on tables without statistics, as in a fresh installation."""
    async with webhook_world(database) as world:
        receiver = await Receiver().start()
        await world.endpoint(receiver.url)
        receiver.behave = lambda request: answer(500 if request.number % 3 == 0 else 200)
        await world.worker()
        for number in range(30):
            await world.announce("payment_intent.succeeded", key=f"pi_{number}")
        await world.settled(20)
        world.clock.advance(MINUTE)
        receiver.behave = lambda _request: answer(200)
        await world.settled(30)
        await receiver.close()
    seen = {statement: plan for (_, statement), plan in plans.seen.items() if statement != OWN}
    assert len([plan for plan in seen.values() if "webhook_delivery" in plan]) > 5
    assert {statement for statement, plan in seen.items() if re.search(rf"Seq Scan on ({TABLES})\b", plan)} == set()
