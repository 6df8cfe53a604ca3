"""A database that has gone back behind what was done: it shows itself, sends nothing, and is let go by a person only."""

import asyncio
from pathlib import Path

from conftest import PaymentsWorld
from guilder.core.clock import SECOND, ManualClock
from guilder.core.ids import Ids
from guilder.core.outcome import NotFound
from guilder.db import Database, installation
from guilder.db.quarantine import Quarantine, begin_quarantine, lift_quarantine, quarantined
from guilder.db.sender import Sender
from guilder.payments.commands import ConfirmPayment, CreatePayment
from guilder.payments.confirm import confirm
from guilder.payments.create import create
from guilder.psp.model import Operation


async def test_a_database_that_was_put_back_while_the_system_ran_shows_itself(db: Database, tmp_path: Path) -> None:
    """The number outside is ahead, without a start in between; the count goes on from there, and the first reason stays."""
    clock, file = ManualClock(), tmp_path / "generation"
    await installation.begin(db, file, clock, Ids(clock))
    backup = await db.fetchval("SELECT generation FROM installation")
    for _ in range(3):
        assert (await installation.raise_generation(db, file, clock)).behind == 0
    assert await Quarantine(db).look()
    await db.execute("UPDATE installation SET generation = $1", backup)
    assert (await installation.raise_generation(db, file, clock)).behind == 3
    assert (await installation.raise_generation(db, file, clock)).behind == 0
    assert not await Quarantine(db).look()
    await begin_quarantine(db, clock.now(), "another one")
    found = await quarantined(db)
    assert found is not None
    assert found.reason == "it lacks 3 of the 4 generations that the file generation counts"


async def test_a_start_on_a_database_that_is_behind_begins_the_quarantine(db: Database, tmp_path: Path) -> None:
    """As after a restore; lifting it is for a person, and no further start does."""
    clock, file = ManualClock(), tmp_path / "generation"
    file.write_text("5")
    assert (await installation.begin(db, file, clock, Ids(clock))).behind == 5
    assert (await installation.begin(db, file, clock, Ids(clock))).behind == 0
    assert await quarantined(db) is not None
    await lift_quarantine(db, clock.now(), Ids(clock))
    assert await quarantined(db) is None


async def test_a_sender_whose_beat_was_lost_sends_nothing_more_under_its_old_id(db: Database, tmp_path: Path) -> None:
    """An acknowledged beat that is gone proves that this is another database, such as a standby that had not caught up."""
    clock = ManualClock()
    ids = Ids(clock)
    await installation.begin(db, tmp_path / "generation", clock, ids)
    lost: list[str] = []
    sender = Sender(db, clock, ids, role="executor", lost=lost.append)
    await sender.start()
    before = sender.id
    await sender.beat()
    await sender.beat()
    await db.execute("UPDATE sender SET beat = 0 WHERE id = $1", before)
    await sender.beat()
    # Its own beat of each second may find it at the same time.
    assert set(lost) == {before}
    assert not sender.may_send(before)
    assert await quarantined(db) is not None
    await sender.close()


async def test_in_quarantine_nothing_is_claimed_and_afterwards_the_psp_is_asked_before_anything_is_sent(
    world: PaymentsWorld, tmp_path: Path,
) -> None:
    """What stands there as never sent may have been: it is asked about, reversed where it is not known, and never sent first."""
    await installation.begin(world.db, tmp_path / "generation", world.clock, world.ids)
    world.psp.answer = lambda order: NotFound() if order.operation is Operation.QUERY else None
    made = (await create(world.services, world.claim(), CreatePayment(amount=1_000, currency="eur"))).answer.root.id
    await begin_quarantine(world.db, world.clock.now(), "a restore")
    waiting = asyncio.create_task(confirm(world.services, world.claim(), ConfirmPayment(payment=made, payment_method=world.card())))

    async def accepted():
        world.clock.advance(SECOND)
        return await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE state = 'created' AND sender IS NULL")

    for _ in range(10):
        await world.until(accepted)
    assert world.psp.orders == []
    assert await lift_quarantine(world.db, world.clock.now(), world.ids) == 1

    async def reversing():
        world.clock.advance(SECOND)
        return world.psp.sent(Operation.REVERSAL)

    await world.until(reversing)
    assert world.psp.sent(Operation.PURCHASE) == []
    waiting.cancel()
