"""Many writers at once: one order, no gap, no lost cent."""

import asyncio
from random import Random

from ledger_world import book, open_as, standing, trial_balance_is_zero

from guilder.core.clock import ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger.accounts import Accounts, Opening
from guilder.ledger.book import Ledger
from guilder.ledger.model import AccountKey, Code, Kind, Refused, Transfer
from guilder.ledger.pure import PureAccount

WRITERS = 4
BATCHES = 25


async def test_four_writers_leave_an_index_without_gaps(database: str) -> None:
    """Index and time rise together, each flush has one time, and the balances are the sums of the transfers."""
    db = await Database.connect(database, role="guilder_app", max_size=WRITERS, hot=True, name="test")
    ids, random = Ids(ManualClock()), Random(4)
    numbers = await open_as(
        db, ids, False, [PureAccount(merchant="acct_a", debits_limited=place == 0, overdraft=500) for place in range(6)]
    )

    async def write(writer: int) -> int:
        stored = 0
        for turn in range(BATCHES):
            transfers = []
            for _ in range(random.randint(1, 9)):
                debit, credit = random.sample(numbers, 2)
                transfers.append(Transfer(id=ids.new("ltr"), debit=debit, credit=credit, amount=random.randint(1, 90), code=writer))
            stored += len(transfers) - len(await book(db, transfers, now=turn))
        return stored

    stored = sum(await asyncio.gather(*(write(writer) for writer in range(WRITERS))))
    rows = await db.fetch("SELECT * FROM ledger_transfer ORDER BY index")
    assert [row["index"] for row in rows] == list(range(1, stored + 1))
    times = [row["created_at"] for row in rows]
    assert times == sorted(times)
    for number, (_, debits, _, credits_) in zip(numbers, await standing(db, numbers), strict=True):
        assert debits == sum(row["amount"] for row in rows if row["debit"] == number)
        assert credits_ == sum(row["amount"] for row in rows if row["credit"] == number)
    flushes = await db.fetch("SELECT DISTINCT created_at, base, index FROM ledger_balance ORDER BY base")
    assert [row["base"] for row in flushes[1:]] == [row["index"] for row in flushes[:-1]]
    assert await trial_balance_is_zero(db)
    await db.close()


async def test_the_limit_holds_against_concurrent_debits(database: str) -> None:
    """Forty at once want ten each from an account that has a hundred: ten get it."""
    db = await Database.connect(database, role="guilder_app", max_size=WRITERS, hot=True, name="test")
    ids = Ids(ManualClock())
    purse, world = await open_as(db, ids, False, [PureAccount(merchant="acct_a", debits_limited=True), PureAccount(merchant="acct_a")])
    await book(db, [Transfer(id="fill", debit=world, credit=purse, amount=100, code=1)], now=1)
    answers = await asyncio.gather(
        *(book(db, [Transfer(id=f"t{one}", debit=purse, credit=world, amount=10, code=1)], now=2) for one in range(40))
    )
    assert sum(answer == [] for answer in answers) == 10
    assert sum(answer == [Refused(0, Code.EXCEEDS_CREDITS)] for answer in answers) == 30
    assert (await standing(db, [purse]))[0] == (0, 100, 0, 100)
    await db.close()


async def _ledger(db: Database) -> tuple[Ledger, AccountKey, AccountKey]:
    clock = ManualClock()

    async def opening(key: AccountKey) -> Opening:
        return Opening(debits_limited=key.owner == "limited")

    accounts = Accounts(db, clock, Ids(clock), opening)
    return (
        Ledger(db, accounts, clock),
        AccountKey("acct_a", False, "world", "own", "eur"),
        AccountKey("acct_a", False, "limited", "own", "eur"),
    )


async def test_concurrent_callers_share_flushes_and_get_their_own_answers(database: str) -> None:
    """Three hundred callers, a few of whom are refused: each learns of its own transfers only, with their place in the book."""
    db = await Database.connect(database, role="guilder_app", max_size=2, hot=True, name="test")
    ledger, world, limited = await _ledger(db)

    async def ask(one: int):
        bad = one % 50 == 7
        batch = [
            Transfer(id=f"{one}-a", debit=world, credit=limited, amount=1, code=1),
            Transfer(
                id=f"{one}-b",
                debit=limited if bad else world,
                credit=world if bad else limited,
                amount=10_000 if bad else 2,
                code=1,
            ),
        ]
        return bad, await ledger.book(False, batch)

    answers = await asyncio.gather(*(ask(one) for one in range(300)))
    places = {row["id"]: row["index"] for row in await db.fetch("SELECT id, index FROM ledger_transfer")}
    for one, (bad, booked) in enumerate(answers):
        assert booked.refused == ((Refused(1, Code.EXCEEDS_CREDITS),) if bad else ())
        assert booked.last_index == places[f"{one}-a" if bad else f"{one}-b"]
    assert await db.fetchval("SELECT count(DISTINCT created_at) FROM ledger_transfer") < 20
    await ledger.close()
    await db.close()


async def test_a_poisoned_batch_never_fails_its_neighbours(database: str) -> None:
    """A text that PostgreSQL cannot hold spoils only its own caller's batch."""
    db = await Database.connect(database, role="guilder_app", max_size=2, hot=True, name="test")
    ledger, world, limited = await _ledger(db)
    batches = [[Transfer(id=f"t{one}" if one != 60 else "nul\0", debit=world, credit=limited, amount=1, code=1)] for one in range(200)]
    answers = await asyncio.gather(*(ledger.book(False, batch) for batch in batches), return_exceptions=True)
    assert [one for one, answer in enumerate(answers) if isinstance(answer, Exception)] == [60]
    assert await db.fetchval("SELECT count(*) FROM ledger_transfer") == 199
    await ledger.close()
    await db.close()


async def test_a_chain_that_spans_currencies_is_one_whole(db: Database) -> None:
    """A currency exchange: each member has one currency, the chain has two."""
    ids = Ids(ManualClock())
    eur, desk_eur, desk_jpy, jpy = await open_as(
        db, ids, False,
        [PureAccount(merchant="acct_a", debits_limited=True), PureAccount(merchant="acct_a"),
         PureAccount(merchant="acct_a", currency="jpy"), PureAccount(merchant="acct_a", currency="jpy")],
    )  # fmt: skip
    exchange = [
        Transfer(id="out", debit=eur, credit=desk_eur, amount=100, code=1, linked=True),
        Transfer(id="in", debit=desk_jpy, credit=jpy, amount=16_000, code=1),
    ]
    assert await book(db, exchange, now=1) == [Refused(0, Code.EXCEEDS_CREDITS), Refused(1, Code.LINKED_EVENT_FAILED)]
    await book(db, [Transfer(id="fill", debit=desk_eur, credit=eur, amount=100, code=1)], now=2)
    assert await book(db, exchange, now=3) == []
    assert await standing(db, [eur, jpy]) == [(0, 100, 0, 100), (0, 0, 0, 16_000)]
    rows = await db.fetch("SELECT id, currency, linked FROM ledger_transfer ORDER BY index DESC LIMIT 2")
    assert [tuple(row) for row in rows] == [("in", "jpy", False), ("out", "eur", True)]


async def test_a_capture_in_part_that_leaves_more_to_capture_is_one_chain(db: Database) -> None:
    """Post the part, and hold the rest anew."""
    clearing, held = await open_as(db, Ids(ManualClock()), False, [PureAccount(merchant="acct_a"), PureAccount(merchant="acct_a")])
    await book(db, [Transfer(id="hold", debit=clearing, credit=held, amount=100, kind=Kind.PENDING, code=1)], now=1)
    part = [
        Transfer(id="part", amount=30, kind=Kind.POST, pending_id="hold", code=1, linked=True),
        Transfer(id="rest", debit=clearing, credit=held, amount=70, kind=Kind.PENDING, code=1),
    ]
    assert await book(db, part, now=2) == []
    assert await standing(db, [held]) == [(0, 0, 70, 30)]
    assert await book(db, part, now=3) == [Refused(0, Code.EXISTS), Refused(1, Code.EXISTS)]
