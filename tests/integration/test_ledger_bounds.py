"""Amounts at the edge of what a bigint holds: refused by their code as the pure model does, never an error of the database."""

from collections.abc import Callable, Sequence

import pytest
from ledger_world import book, open_as, owner_connection, standing, trial_balance_is_zero
from msgspec.structs import replace

from guilder.core.clock import ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger.model import AMOUNT_MAX, BATCH_MAX, Code, Kind, Transfer
from guilder.ledger.pure import ROOM, Book, PureAccount

ACCOUNTS = [PureAccount(), PureAccount(), PureAccount(debits_limited=True), PureAccount(credits_limited=True, overdraft=5)]


def transfer(id_: str, debit: int, credit: int, amount: int, **more: object) -> Transfer:
    return Transfer(id=id_, debit=debit, credit=credit, amount=amount, code=1, **more)  # type: ignore[arg-type]


async def agree(db: Database, batches: Callable[[list[int]], Sequence[Sequence[Transfer]]], *, stands: int = 0) -> None:
    """Book the batches and compare each answer, and what stands in the end, with the model's. `stands`: posted on both sides before."""
    numbers = await open_as(db, Ids(ManualClock()), False, ACCOUNTS)
    if stands:
        owner = await owner_connection(db.dsn)
        await owner.execute("UPDATE ledger_standing SET debits_posted = $1, credits_posted = $1", stands)
        await owner.close()
    model = Book({
        number: replace(account, debits_posted=stands, credits_posted=stands) for number, account in zip(numbers, ACCOUNTS, strict=True)
    })  # fmt: skip
    for now, batch in enumerate(batches(numbers), 10):
        assert await book(db, batch, now=now) == model.book(batch, now), batch
    assert await standing(db, numbers) == [
        (one.debits_pending, one.debits_posted, one.credits_pending, one.credits_posted) for one in model.accounts.values()
    ]
    assert await trial_balance_is_zero(db)


@pytest.mark.parametrize("amount", [2**63 - 1, -(2**63) + 1, ROOM, AMOUNT_MAX + 1, 0])
async def test_an_amount_that_cannot_be_is_refused_by_its_code(db: Database, amount: int) -> None:
    """Alone, and beside sound ones, which are booked."""
    await agree(db, lambda n: [
        [transfer("a", n[0], n[1], AMOUNT_MAX)],
        [transfer("b", n[0], n[1], amount)],
        [transfer("c", n[0], n[1], amount), transfer("d", n[0], n[1], amount), transfer("e", n[0], n[1], 5)],
    ])  # fmt: skip


async def test_an_account_is_filled_to_the_brim_and_not_beyond(db: Database) -> None:
    """On either side, limited or not, also by what is pending, and by a void that makes room for the next one."""
    await agree(db, lambda n: [
        [transfer("a", n[0], n[1], AMOUNT_MAX)],
        [transfer("b", n[0], n[1], 1)],
        [transfer("c", n[2], n[0], 1)],
        [transfer("d", n[3], n[2], AMOUNT_MAX, kind=Kind.PENDING), transfer("e", n[2], n[3], AMOUNT_MAX, kind=Kind.PENDING)],
        [transfer("f", n[3], n[2], 1)],
        [Transfer(id="g", kind=Kind.VOID, pending_id="d", code=1, amount=0), transfer("h", n[3], n[2], AMOUNT_MAX, kind=Kind.PENDING)],
    ], stands=ROOM - AMOUNT_MAX)  # fmt: skip


async def test_a_full_batch_of_the_largest_amounts_overflows_by_its_code(db: Database) -> None:
    """What still fits is booked, the rest is refused, though all of it together is beyond a bigint."""
    debit, credit, *_ = await open_as(db, Ids(ManualClock()), False, ACCOUNTS)
    for round_ in range(2):
        batch = [transfer(f"{round_}-{number}", debit, credit, AMOUNT_MAX) for number in range(BATCH_MAX)]
        refused = await book(db, batch, now=10 + round_)
        fits = 0 if round_ == 0 else 2 * BATCH_MAX - ROOM // AMOUNT_MAX
        assert (len(refused), {one.code for one in refused}) == (fits, {Code.OVERFLOWS_DEBITS} if fits else set())
    assert (await standing(db, [debit, credit])) == [(0, ROOM, 0, 0), (0, 0, 0, ROOM)]


async def test_chains_and_resolutions_in_one_batch_are_booked_as_one_after_the_other(db: Database) -> None:
    """What was pending in a refused chain is gone, a time limit passes at its moment, a fact lets a limit be exceeded."""
    await agree(db, lambda n: [
        [transfer("p", n[0], n[1], 10, kind=Kind.PENDING, linked=True),
         Transfer(id="q", kind=Kind.POST, pending_id="p", amount=4, code=1, linked=True), transfer("x", n[2], n[1], 1)],
        [transfer("p", n[0], n[1], 10, kind=Kind.PENDING), Transfer(id="q", kind=Kind.POST, pending_id="p", amount=4, code=1)],
        [Transfer(id="v", kind=Kind.VOID, pending_id="p", code=1, amount=0), transfer("f", n[0], n[2], 7, fact=True, linked=True),
         transfer("g", n[2], n[1], 8)],
        [transfer("f", n[0], n[2], 7), transfer("g", n[2], n[3], 7)],
        [transfer("h", n[2], n[3], 5, fact=True)],
        [transfer("i", n[3], n[0], 5)],
        [transfer("t", n[0], n[1], 9, kind=Kind.PENDING, timeout=3)],
        [],
        [transfer("j", n[0], n[1], 1)],
        [Transfer(id="r", kind=Kind.POST, pending_id="t", amount=0, code=1)],
    ])  # fmt: skip
