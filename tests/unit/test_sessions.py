"""The pool's bookkeeping without a database: who gets which connection, and that none is lost."""

import asyncio

import pytest

from guilder.core.errors import Unavailable
from guilder.db.sessions import Sessions


class Line:
    """A connection that can be closed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True

    async def close(self, **_: float) -> None:
        self.closed = True


class Maker:
    """Makes connections, numbered; fails as often as told."""

    def __init__(self) -> None:
        self.made = 0
        self.failures = 0

    async def __call__(self) -> Line:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise ConnectionRefusedError
        self.made += 1
        return Line(self.made)


@pytest.fixture
def maker() -> Maker:
    """No connection yet."""
    return Maker()


async def settled(tasks: int = 3) -> None:
    """Let everybody who can go on do so."""
    for _ in range(tasks):
        await asyncio.sleep(0)


async def test_connections_are_made_when_needed_and_used_again(maker: Maker) -> None:
    """The last one given back is taken first."""
    sessions = Sessions(maker, 2)
    first, second = await sessions.take(), await sessions.take()
    sessions.give(first)
    sessions.give(second)
    assert await sessions.take() is second
    assert maker.made == 2


async def test_who_waits_longest_is_served_first(maker: Maker) -> None:
    """And gets the very connection that came back."""
    sessions = Sessions(maker, 1)
    only = await sessions.take()
    early, late = asyncio.create_task(sessions.take()), asyncio.create_task(sessions.take())
    await settled()
    sessions.give(only)
    assert await early is only
    assert not late.done()
    sessions.give(only)
    assert await late is only


async def test_a_dead_connection_makes_room_for_a_new_one(maker: Maker) -> None:
    """Whether it died idle, or in the hands of its user while another waited."""
    sessions = Sessions(maker, 1)
    dead = await sessions.take()
    waiting = asyncio.create_task(sessions.take())
    await settled()
    dead.terminate()
    sessions.give(dead)
    second = await waiting
    assert second.number == 2
    sessions.give(second)
    second.terminate()
    assert (await sessions.take()).number == 3
    assert sessions.size == 1


async def test_a_failed_connection_attempt_leaves_its_room_to_the_next(maker: Maker) -> None:
    """The error is the caller's, and nobody waits for a connection that nobody makes."""
    sessions = Sessions(maker, 1)
    maker.failures = 1
    failing = asyncio.create_task(sessions.take())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(sessions.take())
    with pytest.raises(ConnectionRefusedError):
        await failing
    assert (await waiting).number == 1


async def test_a_caller_that_goes_away_passes_on_what_it_was_just_given(maker: Maker) -> None:
    """Cancelled between the gift and its waking: the connection is not lost."""
    sessions = Sessions(maker, 1)
    only = await sessions.take()
    leaving, staying = asyncio.create_task(sessions.take()), asyncio.create_task(sessions.take())
    await settled()
    sessions.give(only)
    leaving.cancel()
    assert await staying is only
    assert leaving.cancelled()


async def test_waiting_has_an_end(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing was stored, and a later one is still served."""
    monkeypatch.setattr("guilder.db.sessions.ACQUIRE_TIMEOUT_SECONDS", 0.01)
    sessions = Sessions(maker, 1)
    only = await sessions.take()
    with pytest.raises(Unavailable):
        await sessions.take()
    sessions.give(only)
    assert await sessions.take() is only


async def test_closing_waits_for_what_is_in_use_and_refuses_the_rest(maker: Maker) -> None:
    """Whoever waits is told at once."""
    sessions = Sessions(maker, 2)
    used, idle = await sessions.take(), await sessions.take()
    sessions.give(idle)
    closing = asyncio.create_task(sessions.close())
    await settled()
    assert idle.closed
    assert not closing.done()
    with pytest.raises(Unavailable):
        await sessions.take()
    sessions.give(used)
    await closing
    assert used.closed
    assert sessions.size == 0
