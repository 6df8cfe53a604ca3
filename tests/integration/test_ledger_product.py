"""The ledger as a product: a merchant's own accounts, transfers that may be repeated, the system's accounts read-only."""

from collections.abc import AsyncIterator

import pytest
from wallet_world import MERCHANT as SYSTEM_MERCHANT
from wallet_world import Wallet

from guilder.core.clock import ManualClock
from guilder.core.errors import Refusal
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.db.pages import Page
from guilder.ledger import expire
from guilder.ledger.accounts import Accounts, Opening
from guilder.ledger.book import Ledger
from guilder.ledger.commands import Caller, CreateAccount, CreateTransfer
from guilder.ledger.model import AccountKey, Code, Kind
from guilder.ledger.product import Books

ALICE = Caller("acct_alice", False)
ALICE_LIVE = Caller("acct_alice", True)
BOB = Caller("acct_bob", False)


class Product:
    """The verbs, and two accounts of Alice's."""

    def __init__(self, db: Database) -> None:
        async def opening(_key: AccountKey) -> Opening:
            return Opening()

        self.db = db
        self.clock = ManualClock()
        self.ids = Ids(self.clock)
        self.ledger = Ledger(db, Accounts(db, self.clock, self.ids, opening), self.clock)
        self.books = Books(db, self.ledger, self.clock, self.ids)

    async def start(self) -> None:
        """Open the accounts."""
        self.world = (await self.books.create_account(ALICE, CreateAccount(currency="eur"))).id
        self.purse = (await self.books.create_account(ALICE, CreateAccount(currency="eur", debits_limited=True))).id

    def fill(self, amount: int = 100, **fields) -> CreateTransfer:
        """From the world into the purse."""
        return CreateTransfer(debit=self.world, credit=self.purse, amount=amount, **fields)

    def spend(self, amount: int, **fields) -> CreateTransfer:
        """From the purse back into the world."""
        return CreateTransfer(debit=self.purse, credit=self.world, amount=amount, **fields)

    async def code(self, *commands: CreateTransfer, caller: Caller = ALICE) -> list[Code | None]:
        """The codes of a list."""
        return [one.code for one in await self.books.create_transfers(caller, commands)]


@pytest.fixture
async def product(db: Database) -> AsyncIterator[Product]:
    """A running product."""
    product = Product(db)
    await product.start()
    yield product
    await product.ledger.close()


async def test_a_transfer_is_answered_as_it_is_stored(product: Product) -> None:
    """Created, repeated and retrieved are the same."""
    command = product.fill(id="order-17", reference="inv 17", code=42, currency="eur")
    (created,) = await product.books.create_transfers(ALICE, [command])
    (repeated,) = await product.books.create_transfers(ALICE, [command])
    assert created.code is None
    assert repeated.code is Code.EXISTS
    assert created.transfer == repeated.transfer == await product.books.retrieve_transfer(ALICE, "order-17")
    assert created.transfer is not None
    assert (created.transfer.debit, created.transfer.index, created.transfer.code) == (product.world, 1, 42)


async def test_places_in_the_book_are_right_in_a_list_with_refusals(product: Product) -> None:
    """The index of each, as if it had been read back."""
    commands = [
        product.fill(5, id="a"),
        product.spend(900, id="b"),
        product.fill(7, id="c", kind=Kind.PENDING, timeout_seconds=60),
    ]
    created = await product.books.create_transfers(ALICE, commands)
    assert [one.code for one in created] == [None, Code.EXCEEDS_CREDITS, None]
    assert created[1].transfer is None
    for one in (created[0], created[2]):
        assert one.transfer == await product.books.retrieve_transfer(ALICE, one.id)


async def test_pending_is_posted_in_part_and_voided(product: Product) -> None:
    """Without naming the accounts again."""
    await product.code(product.fill())
    assert await product.code(product.spend(60, id="hold", kind=Kind.PENDING)) == [None]
    assert await product.code(product.spend(50)) == [Code.EXCEEDS_CREDITS]
    (posted,) = await product.books.create_transfers(ALICE, [CreateTransfer(id="part", kind=Kind.POST, pending="hold", amount=20)])
    assert posted.transfer is not None
    assert (posted.transfer.amount, posted.transfer.debit, posted.transfer.pending_id) == (20, product.purse, "hold")
    assert (await product.books.retrieve_transfer(ALICE, "hold")).resolved_by == "part"
    assert await product.code(CreateTransfer(kind=Kind.VOID, pending="hold")) == [Code.PENDING_TRANSFER_ALREADY_POSTED]
    assert await product.code(product.spend(80)) == [None]


async def test_a_chain_is_booked_whole_or_not_at_all(product: Product) -> None:
    """The member that failed says why, the others that it was not them."""
    await product.code(product.fill())
    commands = [product.spend(60, linked=True), product.spend(60), product.spend(30)]
    assert await product.code(*commands) == [Code.LINKED_EVENT_FAILED, Code.EXCEEDS_CREDITS, None]


async def test_a_time_limit_passes_and_the_reservation_goes(product: Product) -> None:
    """From the moment on it can only expire; the worker books that."""
    await product.code(product.fill())
    await product.code(product.spend(100, id="hold", kind=Kind.PENDING, timeout_seconds=60), product.spend(1, id="x", kind=Kind.PENDING))
    assert await expire.run_once(product.db, product.clock, product.ids) == 0
    product.clock.advance(61_000_000)
    assert await product.code(CreateTransfer(kind=Kind.POST, pending="hold")) == [Code.PENDING_TRANSFER_EXPIRED]
    assert await expire.run_once(product.db, product.clock, product.ids) == 1
    assert await expire.run_once(product.db, product.clock, product.ids) == 0
    assert await product.code(CreateTransfer(kind=Kind.VOID, pending="hold")) == [Code.PENDING_TRANSFER_EXPIRED]
    assert await product.code(product.spend(100)) == [None]


async def test_what_expires_in_turns_expires_completely(product: Product) -> None:
    """More than one statement takes, and others that come meanwhile."""
    await product.code(*(product.fill(1, kind=Kind.PENDING, timeout_seconds=10) for _ in range(5)))
    product.clock.advance(11_000_000)
    assert [await expire.run_once(product.db, product.clock, product.ids, limit=2) for _ in range(2)] == [2, 2]
    await product.code(product.fill(1, kind=Kind.PENDING, timeout_seconds=10))
    assert [await expire.run_once(product.db, product.clock, product.ids, limit=2) for _ in range(2)] == [1, 0]
    product.clock.advance(11_000_000)
    assert await expire.run_once(product.db, product.clock, product.ids, limit=2) == 1


async def test_two_merchants_and_two_modes_may_use_the_same_ids(product: Product) -> None:
    """And know nothing of each other's."""
    for caller in (ALICE, ALICE_LIVE, BOB):
        accounts = [(await product.books.create_account(caller, CreateAccount(currency="eur"))).id for _ in range(2)]
        command = CreateTransfer(id="1", debit=accounts[0], credit=accounts[1], amount=1)
        assert [one.code for one in await product.books.create_transfers(caller, [command])] == [None]
        assert (await product.books.retrieve_transfer(caller, "1")).debit == accounts[0]
        assert [one.id for one in (await product.books.list_transfers(caller, Page()))[0]] == ["1"]


async def test_an_account_of_somebody_else_does_not_exist(product: Product) -> None:
    """Neither to read nor to book on; nothing is stored."""
    for caller in (BOB, ALICE_LIVE):
        with pytest.raises(Refusal, match="No such ledger account") as raised:
            await product.books.create_transfers(caller, [product.fill()], listed=False)
        assert (raised.value.status, raised.value.facts.param) == (400, "debit")
        for verb in (product.books.retrieve_account, product.books.balance):
            with pytest.raises(Refusal) as raised:
                await verb(caller, product.world)
            assert raised.value.status == 404
    assert await product.db.fetchval("SELECT count(*) FROM ledger_transfer") == 0


async def test_the_systems_accounts_can_be_read_and_not_booked_on(product: Product) -> None:
    """Nobody pays himself out of the clearing account."""
    wallet = Wallet(product.db)
    await wallet.capture(1_000, fee=15)
    caller = Caller(SYSTEM_MERCHANT, False)
    accounts, more = await product.books.list_accounts(caller, Page(limit=100))
    assert {account.key.kind for account in accounts} == {"psp_clearing", "pending", "available", "fees"}
    assert not more
    by_kind = {account.key.kind: account for account in accounts}
    assert (await product.books.balance(caller, by_kind["pending"].id)).credits_posted == 1_000
    statement, _ = await product.books.list_transfers(caller, Page(), account_id=by_kind["pending"].id)
    assert [transfer.amount for transfer in statement] == [15, 1_000]
    assert await product.books.retrieve_transfer(caller, statement[0].id) == statement[0]
    own = await product.books.create_account(caller, CreateAccount(currency="eur"))
    for side in ({"debit": by_kind["available"].id, "credit": own.id}, {"debit": own.id, "credit": by_kind["available"].id}):
        with pytest.raises(Refusal, match="read-only"):
            await product.books.create_transfers(caller, [CreateTransfer(amount=1, **side)])
    (refused,) = await product.books.create_transfers(caller, [CreateTransfer(kind=Kind.VOID, pending=statement[0].id)])
    assert refused.code is Code.PENDING_TRANSFER_NOT_FOUND


async def test_a_key_makes_repeating_safe_without_ids(product: Product) -> None:
    """The same key and list: what stands there. Another content under the key is refused."""
    commands = [product.fill(1), product.fill(2)]
    first = await product.books.create_transfers(ALICE, commands, key="k1")
    again = await product.books.create_transfers(ALICE, commands, key="k1")
    assert [one.transfer for one in first] == [one.transfer for one in again]
    assert [one.code for one in again] == [Code.EXISTS] * 2
    other = await product.books.create_transfers(ALICE, [product.fill(3)], key="k1")
    assert [one.code for one in other] == [Code.EXISTS_WITH_DIFFERENT_AMOUNT]


async def test_an_account_can_be_asked_for_again_with_its_key(product: Product) -> None:
    """The same account comes back; other fields under the key are an idempotency_error."""
    wanted = CreateAccount(currency="jpy", credits_limited=True, overdraft=5, description="till 4", metadata=(("shop", "7"),))
    first = await product.books.create_account(ALICE, wanted, key="k1")
    assert await product.books.create_account(ALICE, wanted, key="k1") == first
    assert await product.books.retrieve_account(ALICE, first.id) == first
    with pytest.raises(Refusal) as raised:
        await product.books.create_account(ALICE, CreateAccount(currency="eur"), key="k1")
    assert raised.value.facts.type == "idempotency_error"
    assert (await product.books.create_account(BOB, CreateAccount(currency="eur"), key="k1")).id != first.id


async def test_pages_of_transfers_go_both_ways(product: Product) -> None:
    """By the ids that the client knows."""
    await product.code(*(product.fill(1, id=f"t{one}") for one in range(7)))

    async def page(**cursor) -> tuple[list[str], bool]:
        found, more = await product.books.list_transfers(ALICE, Page(limit=3, **cursor))
        return [transfer.id for transfer in found], more

    assert await page() == (["t6", "t5", "t4"], True)
    assert await page(starting_after="t4") == (["t3", "t2", "t1"], True)
    assert await page(starting_after="t1") == (["t0"], False)
    assert await page(ending_before="t1") == (["t4", "t3", "t2"], True)
    for cursor in ({"starting_after": "nowhere"}, {"starting_after": "t1", "ending_before": "t2"}):
        with pytest.raises(Refusal):
            await page(**cursor)
