"""Requests that wait for their answers: until it is written, or until their time is over."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from guilder.core.clock import ManualClock
from guilder.core.errors import Refusal
from guilder.db import Database
from guilder.idempotency import Claim, once
from guilder.payments import waiting as module
from guilder.payments.waiting import Waiting
from guilder.shapes.facts import SHAPE, Answer

NOW = ManualClock().now()
LONG_SECONDS = 30.0


def claim(key: str) -> Claim:
    return Claim(account="acct_1", livemode=False, key=key, fingerprint=b"f", request_id="req_1", expand=())


def answer() -> Answer:
    return Answer(SHAPE, 400, None, Refusal("No.").facts, (), ())


@pytest.fixture
async def waiting(database: str) -> AsyncIterator[Waiting]:
    db = await Database.connect(database, role="guilder_app", max_size=1, hot=True, name="test hot")
    waiting = Waiting(db)
    await waiting.start()
    yield waiting
    await waiting.close()
    await db.close()


async def test_an_answer_that_nobody_announces_is_found_by_the_poll(waiting: Waiting, db: Database) -> None:
    """A lost notification costs a poll's pause."""
    asked = asyncio.ensure_future(waiting.answer(claim("k1"), LONG_SECONDS))

    async def effect(_connection: object) -> Answer:
        return answer()

    await once(db, claim("k1"), NOW, effect)
    assert await asyncio.wait_for(asked, LONG_SECONDS / 2) == answer()


async def test_nothing_is_the_answer_when_the_time_is_over(waiting: Waiting) -> None:
    """For those whose time it is; others wait on."""
    others = asyncio.ensure_future(waiting.answer(claim("k2"), LONG_SECONDS))
    assert await asyncio.wait_for(waiting.answer(claim("k1"), 0.0), LONG_SECONDS / 2) is None
    assert not others.done()
    others.cancel()


async def test_who_goes_away_leaves_nothing_behind(waiting: Waiting) -> None:
    """Neither by cancellation nor by the end of their time."""
    gone = asyncio.ensure_future(waiting.answer(claim("k1"), LONG_SECONDS))
    await asyncio.sleep(0)
    assert waiting._waiting
    gone.cancel()
    await asyncio.wait({gone})
    await waiting.answer(claim("k1"), 0.0)
    assert waiting._waiting == {}


async def test_the_end_releases_who_still_waits(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left that no poll looks after."""
    monkeypatch.setattr(module, "POLL_SECONDS", LONG_SECONDS)
    asked = asyncio.ensure_future(waiting.answer(claim("k1"), LONG_SECONDS))
    await asyncio.sleep(0)
    await waiting.close()
    assert await asyncio.wait_for(asked, LONG_SECONDS / 2) is None
