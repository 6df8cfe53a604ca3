"""Fencing guards sending: whoever may write a first byte has not been taken over from (DESIGN section 3)."""

import random

import pytest

from guilder.core.clock import DAY, SECOND, ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.db.sender import GAP_SECONDS, SEND_SECONDS, TAKEOVER_SECONDS, Sender, tidy_senders


class Senders:
    """Processes that beat when the test says so, on one clock that the test moves."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.clock = ManualClock()
        self.ids = Ids(self.clock)
        self.lost: list[str] = []

    async def new(self, predecessor: str | None = None) -> Sender:
        """One more process, registered and not beating by itself."""
        sender = Sender(self.db, self.clock, self.ids, role="executor", lost=self.lost.append)
        await sender.start(predecessor)
        assert sender._task is not None
        sender._task.cancel()
        return sender

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(round(seconds * SECOND))

    async def living(self) -> set[str]:
        """Those from whom nobody has taken over."""
        return {row["id"] for row in await self.db.fetch("SELECT id FROM sender WHERE NOT lost")}


@pytest.fixture
async def senders(db: Database) -> Senders:
    """No process yet."""
    return Senders(db)


async def test_a_process_may_send_for_three_seconds_after_it_began_its_last_renewal(senders: Senders):
    """Not a moment longer, whatever anybody else has noticed by then."""
    one = await senders.new()
    senders.wait(SEND_SECONDS - 0.001)
    assert one.may_send(one.id)
    await one.beat()
    senders.wait(SEND_SECONDS)
    assert not one.may_send(one.id)
    await one.beat()
    assert one.may_send(one.id)
    assert not one.may_send("snd_another")


async def test_a_silent_process_is_taken_over_from_and_goes_on_under_a_new_name(senders: Senders):
    """After three and a half seconds of the same beat, looked at each second; its claims are void."""
    silent, watching = await senders.new(), await senders.new()
    before = silent.id
    await watching.beat()
    for _ in range(3):
        senders.wait(1)
        await watching.beat()
        assert before in await senders.living()
    senders.wait(1)
    await watching.beat()
    assert before not in await senders.living()
    assert not silent.may_send(before)
    await silent.beat()
    assert (senders.lost, silent.may_send(before), silent.may_send(silent.id)) == ([before], False, True)
    assert await senders.living() == {silent.id, watching.id}


async def test_a_watcher_that_was_away_itself_starts_to_count_again(senders: Senders):
    """Two looks far apart prove nothing about the time between them: the whole system may have stood still."""
    silent, watching = await senders.new(), await senders.new()
    await watching.beat()
    for _ in range(5):
        senders.wait(GAP_SECONDS + 0.1)
        await watching.beat()
    assert silent.id in await senders.living()


async def test_a_single_beat_starts_the_count_again(senders: Senders):
    """The same beat must be seen all the time."""
    slow, watching = await senders.new(), await senders.new()
    for second in range(9):
        if second % 3 == 0:
            await slow.beat()
        await watching.beat()
        senders.wait(1)
    assert slow.id in await senders.living()


async def test_nobody_takes_over_from_what_has_moved_since_it_was_looked_at(senders: Senders):
    """The takeover names the beat that was seen."""
    one = await senders.new()
    assert not await senders.db.fetchval("SELECT sender_take_over($1, 1, 7, 0)", one.id)
    await one.beat()
    assert not await senders.db.fetchval("SELECT sender_take_over($1, 1, 0, 0)", one.id)
    assert await senders.db.fetchval("SELECT sender_take_over($1, 1, 1, 0)", one.id)
    assert not await senders.db.fetchval("SELECT sender_take_over($1, 1, 1, 0)", one.id)


async def test_a_replacement_takes_over_at_once(senders: Senders):
    """The supervisor has reaped the process: nobody needs to wait for it."""
    dead = await senders.new()
    successor = await senders.new(dead.id)
    assert await senders.living() == {successor.id}


async def test_a_process_that_ends_gives_everything_back_and_may_send_no_more(senders: Senders):
    """A frame that still waits in it must not leave."""
    one = await senders.new()
    await one.close()
    assert not one.may_send(one.id)
    assert await senders.living() == set()


async def test_a_process_ends_although_the_database_is_away(senders: Senders):
    """There is nobody to give anything back to; whoever is there later takes over as from any silent process."""
    one = await senders.new()
    await senders.db.close()
    await one.close()
    assert not one.may_send(one.id)


async def test_a_lost_sender_is_deleted_after_a_day(senders: Senders):
    """And no other: whoever beats stays, however long, and so does one of whom nobody has noticed that it is silent."""
    silent, beating = await senders.new(), await senders.new()
    for _ in range(6):
        senders.wait(1)
        await beating.beat()
    unseen = await senders.new()
    assert await senders.living() == {beating.id, unseen.id}
    senders.clock.advance(DAY - 10 * SECOND)
    assert await tidy_senders(senders.db, senders.clock.now()) == 0
    senders.clock.advance(20 * SECOND)
    assert await tidy_senders(senders.db, senders.clock.now()) == 1
    assert await tidy_senders(senders.db, senders.clock.now()) == 0
    assert {row["id"] for row in await senders.db.fetch("SELECT id FROM sender")} == {beating.id, unseen.id}
    assert silent.id not in await senders.living()


async def test_a_process_whose_row_was_deleted_goes_on_under_a_new_name(senders: Senders):
    """It may not send before, and a takeover that comes after the deletion changes nothing."""
    silent, beating = await senders.new(), await senders.new()
    before, epoch = silent.id, silent.epoch
    beat = await senders.db.fetchval("SELECT beat FROM sender WHERE id = $1", before)
    for _ in range(6):
        senders.wait(1)
        await beating.beat()
    senders.clock.advance(2 * DAY)
    assert await tidy_senders(senders.db, senders.clock.now()) == 1
    assert not silent.may_send(before)
    assert await senders.db.fetchval("SELECT sender_take_over($1, $2, $3, 1)", before, epoch, beat) is False
    assert await senders.db.fetch("SELECT * FROM payments_claim($1, $2, 1, 1, 1, 1, NULL, NULL, NULL, NULL, '{}', '{}', '{}')", before, epoch) == []
    await silent.beat()
    assert (silent.id != before, silent.may_send(silent.id), silent.may_send(before)) == (True, True, False)
    assert senders.lost == [before]


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_stops_and_goes_on_nobody_sends_after_a_takeover(senders: Senders, seed: int):
    """Processes that pause, look seldom, and come back: at every moment, who may send is alive."""
    chance = random.Random(seed)
    processes = [await senders.new() for _ in range(4)]
    paused: dict[int, float] = {}
    for _ in range(150):
        senders.wait(chance.choice((0.2, 0.5, 0.9, 1.0, 1.4)))
        for number, process in enumerate(processes):
            if number in paused:
                if senders.clock.boot() < paused[number]:
                    continue
                del paused[number]
            elif chance.random() < 0.05:
                paused[number] = senders.clock.boot() + chance.uniform(0.5, 8)
                continue
            await process.beat()
            living = await senders.living()
            for other in processes:
                assert other.id in living or not other.may_send(other.id), "it may send, and another holds what was its"
    # And in the end: those that beat are alive, those that do not for long are not.
    silent = processes.pop()
    for _ in range(int(TAKEOVER_SECONDS) + 3):
        for process in processes:
            await process.beat()
        senders.wait(1)
    assert await senders.living() == {process.id for process in processes}
    assert not silent.may_send(silent.id)
