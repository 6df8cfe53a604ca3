"""Lists from a replica: they say how old they are, and what the replica does not have yet is the primary's to answer."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_world import Answer, ApiWorld, api_world

from guilder.db import replica
from standby import Pair, send

AGE = "guilder-data-age"
LISTS = ("/v1/payment_intents", "/v1/charges", "/v1/events", "/v1/balance_transactions")


@pytest.fixture
async def api(pair: Pair, tmp_path: Path) -> AsyncIterator[ApiWorld]:
    """The API on the primary, with the standby as its replica."""
    async with api_world(pair.primary.dsn(), tmp_path, replica_url=pair.standby.dsn()) as world:
        yield world


def ids(answer: Answer) -> list[str]:
    """What is listed."""
    return [one["id"] for one in answer.json["data"]]


async def test_lists_come_from_the_replica_with_their_age_and_everything_else_from_the_primary(
    pair: Pair, api: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that stands still shows what it had; what it does not know yet, and a replica that has gone, is no error."""
    monkeypatch.setattr(replica, "PATIENCE_SECONDS", 10.0)
    merchant = await api.merchant()
    pay = {"amount": 1_000, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    first = await api.post("/v1/payment_intents", merchant.secret, **pay, return_url="https://shop.example/back")
    assert first["status"] == "succeeded"
    await pair.until(f"SELECT pg_last_wal_replay_lsn() >= '{await pair.ask('SELECT pg_current_wal_lsn()::text')}'", pair.standby)
    for path in LISTS:
        listed = await api.get(path, merchant.secret)
        assert listed["data"], path
        assert 0 <= float(listed.headers[AGE]) < 60, path
    await pair.ask("SELECT pg_wal_replay_pause()", pair.standby)
    await pair.until("SELECT (pg_get_wal_replay_pause_state() = 'paused')::int", pair.standby)
    second = await api.post("/v1/payment_intents", merchant.secret, **pay, return_url="https://shop.example/back")
    old = await api.get(LISTS[0], merchant.secret)
    assert (ids(old), float(old.headers[AGE]) > 0) == ([first["id"]], True)
    one = await api.get(f"/v1/payment_intents/{second['id']}", merchant.secret)
    assert (one.status, AGE in one.headers) == (200, False)
    behind = await api.get(LISTS[0], merchant.secret, starting_after=second["id"])
    assert (ids(behind), AGE in behind.headers) == ([first["id"]], False)
    pair.standby.stop(seconds=0)
    fresh = await api.get(LISTS[0], merchant.secret)
    assert (ids(fresh), AGE in fresh.headers) == ([second["id"], first["id"]], False)


async def test_a_replica_that_takes_questions_and_says_nothing_is_not_waited_for(pair: Pair, api: ApiWorld) -> None:
    """Its machine has stopped, its connections stand: the primary answers, and the replica is asked again when it is back."""
    merchant = await api.merchant()

    async def from_the_replica() -> bool:
        return AGE in (await api.get(LISTS[0], merchant.secret)).headers

    async with asyncio.timeout(30):
        while not await from_the_replica():
            await asyncio.sleep(0.05)
    send(pair.standby, signal.SIGSTOP)
    try:
        async with asyncio.timeout(10):
            assert not await from_the_replica()
    finally:
        send(pair.standby, signal.SIGCONT)
    async with asyncio.timeout(30):
        while not await from_the_replica():
            await asyncio.sleep(0.05)
