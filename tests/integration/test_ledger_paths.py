"""Both paths of ledger_book against the pure model: the same answers, the same books."""

import asyncio
from collections.abc import Iterator
from itertools import count
from random import Random

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_world import book, book_carefully, open_as, owner_connection, standing
from msgspec.structs import replace

from databases import drop_database
from guilder.core.clock import ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.ledger.columns import encode
from guilder.ledger.model import Kind, Transfer
from guilder.ledger.pure import Book, PureAccount, PureTransfer

ACCOUNTS = [
    PureAccount(merchant="acct_a"),
    PureAccount(merchant="acct_a"),
    PureAccount(merchant="acct_a", debits_limited=True),
    PureAccount(merchant="acct_a", debits_limited=True, overdraft=30),
    PureAccount(merchant="acct_a", credits_limited=True, overdraft=10),
    PureAccount(merchant="acct_a", currency="jpy"),
    PureAccount(merchant="acct_b"),
]
NOWHERE = 10**12
"""An account that is not there."""

_runs = count()


class Asker:
    """Draws batches. Most are sound, so that the fast path is taken too; the others break every rule there is."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.names: list[str] = []

    def batch(self, pending: list[PureTransfer]) -> list[Transfer]:
        """One to six transfers; `pending` are those of the books, those that are not resolved yet last."""
        sound = self.random.random() < 0.6
        transfers = []
        for _ in range(self.random.randint(1, 6)):
            transfer = self._resolution(pending) if pending and self.random.random() < 0.4 else self._new()
            transfers.append(transfer if sound and self.random.random() < 0.95 else self._twisted(transfer))
        self.names += [transfer.id for transfer in transfers]
        return [*transfers[:-1], replace(transfers[-1], linked=False)]

    def _new(self) -> Transfer:
        debit, credit = self.random.sample([1, 1, 2, 2, 3, 4, 5], 2)
        kind = self.random.choice([Kind.POSTED, Kind.PENDING, Kind.PENDING])
        timeout = self.random.choice([None, None, 2, 9]) if kind is Kind.PENDING else None
        return Transfer(
            id=f"n{len(self.names)}-{self.random.random()}", debit=debit, credit=credit, amount=self.random.choice([5, 10, 20]),
            code=1, kind=kind, timeout=timeout, fact=self.random.random() < 0.3, linked=self.random.random() < 0.2,
            reference=self.random.choice([None, "ch_1"]),
        )  # fmt: skip

    def _resolution(self, all_: list[PureTransfer]) -> Transfer:
        pending = self.random.choice(all_ if self.random.random() < 0.1 else all_[-3:])
        kind = self.random.choice([Kind.POST, Kind.POST, Kind.VOID])
        part = max(1, pending.amount // 2) if kind is Kind.POST or self.random.random() < 0.1 else 0
        more = pending.amount + 1 if self.random.random() < 0.1 else 0
        return Transfer(
            id=f"r{len(self.names)}-{self.random.random()}", kind=kind, code=1, pending_id=pending.asked.id,
            amount=self.random.choice([0, pending.amount, part, more]), linked=self.random.random() < 0.2,
        )  # fmt: skip

    def _twisted(self, transfer: Transfer) -> Transfer:
        """The transfer with one thing about it changed."""
        known = self.names or ["n"]
        changes: list[dict[str, object]] = [
            {"id": self.random.choice(["", self.random.choice(known)])},
            {"debit": self.random.choice([0, 1, 2, 6, 7, NOWHERE])},
            {"credit": self.random.choice([0, 1, 2, 6, 7, NOWHERE])},
            {"amount": self.random.choice([-1, 0, 1, 21, 10**15 + 1])},
            {"kind": self.random.choice(list(Kind))},
            {"code": 2},
            {"pending_id": self.random.choice([None, self.random.choice(known)])},
            {"fact": not transfer.fact},
            {"timeout": self.random.choice([-1, 0, 3])},
            {"reference": "other"},
        ]
        return replace(transfer, **self.random.choice(changes))


class Subject:
    """One database; the test book takes ledger_book's way, the live book the careful path."""

    def __init__(self, dsn: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.ids = Ids(ManualClock())
        self.run(self._connect(dsn))

    async def _connect(self, dsn: str) -> None:
        self.db = await Database.connect(dsn, role="guilder_app", max_size=1, hot=True, name="test")
        self.owner: asyncpg.Connection = await owner_connection(dsn)

    def run(self, work):
        """Wait for it."""
        return self.loop.run_until_complete(work)

    async def close(self) -> None:
        """Hang up."""
        await self.db.close()
        await self.owner.close()


@pytest.fixture
def subject(server: dict[str, str]) -> Iterator[Subject]:
    """A fresh database with a loop of its own, because hypothesis calls from plain functions."""
    loop = asyncio.new_event_loop()
    name = f"paths_{next(_runs)}_{id(loop)}"

    admin = loop.run_until_complete(asyncpg.connect(server["admin"]))
    loop.run_until_complete(admin.execute(f"CREATE DATABASE {name} TEMPLATE {server['template']}"))
    subject = Subject(server["dsn"].replace("DATABASE", name))
    yield subject
    subject.run(subject.close())
    subject.loop.close()
    loop.run_until_complete(drop_database(admin, name))
    loop.run_until_complete(admin.close())
    loop.close()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(random=st.randoms(use_true_random=False))
def test_both_paths_answer_and_store_what_the_model_does(subject: Subject, random: Random) -> None:
    """Random batches with repeated ids, chains, resolutions, limits, facts and time limits."""
    subject.run(_compare(subject, Asker(random), batches=8))


async def _compare(subject: Subject, asker: Asker, *, batches: int) -> None:
    numbers = {mode: await open_as(subject.db, subject.ids, mode, ACCOUNTS) for mode in (False, True)}
    heads = {row["livemode"]: row for row in await subject.db.fetch("SELECT * FROM ledger_head")}
    # The model has the accounts by their place; ids are unique in both books together, so each has its own prefix.
    model = Book(dict(enumerate(ACCOUNTS, 1)))
    prefixes = {mode: f"{next(_runs)}-" for mode in (False, True)}
    now = model.last_at = max(row["last_at"] for row in heads.values())
    await subject.owner.execute("UPDATE ledger_head SET last_at = $1", now)
    for _ in range(batches):
        now += asker.random.randint(0, 3)
        pending = [one for one in model.transfers.values() if one.asked.kind is Kind.PENDING]
        asked = asker.batch(sorted(pending, key=lambda one: one.asked.id not in model.resolutions))
        expected = model.book(asked, now)
        really = {mode: [_real(transfer, prefixes[mode], numbers[mode]) for transfer in asked] for mode in (False, True)}
        assert await book(subject.db, really[False], now=now) == expected, asked
        assert await book_carefully(subject.owner, encode(really[True], {}), now=now, livemode=True) == expected, asked
    for mode in (False, True):
        await _same_books(subject, mode, model, numbers[mode], prefixes[mode], heads[mode]["last_index"])


async def _same_books(subject: Subject, mode: bool, model: Book, numbers: list[int], prefix: str, base: int) -> None:
    assert await standing(subject.db, numbers) == [
        (one.debits_pending, one.debits_posted, one.credits_pending, one.credits_posted) for one in model.accounts.values()
    ]
    rows = await subject.db.fetch("SELECT * FROM ledger_transfer WHERE livemode = $1 AND index > $2 ORDER BY index", mode, base)
    stored = [
        (row["index"] - base, row["created_at"], row["id"], row["debit"], row["credit"], row["amount"], row["kind"],
         row["pending_id"], row["fact"], row["code"], row["reference"], row["expires_at"], row["linked"])
        for row in rows
    ]  # fmt: skip
    real = {one.index: _real(one.asked, prefix, numbers) for one in model.transfers.values()}
    assert stored == [
        (one.index, one.at, asked.id, numbers[one.debit - 1], numbers[one.credit - 1], one.amount, asked.kind, asked.pending_id,
         asked.fact, asked.code, asked.reference, one.expires_at, asked.linked)
        for one in model.transfers.values()
        for asked in [real[one.index]]
    ]  # fmt: skip


def _real(transfer: Transfer, prefix: str, numbers: list[int]) -> Transfer:
    """The transfer with ids of this run and the numbers of its accounts."""

    def number(side: object) -> int:
        return side if side in (0, NOWHERE) else numbers[side - 1]

    return replace(
        transfer,
        id=transfer.id and prefix + transfer.id,
        pending_id=transfer.pending_id and prefix + transfer.pending_id,
        debit=number(transfer.debit),
        credit=number(transfer.credit),
    )
