"""Business events as chains of transfers: pure functions, one per event (docs/ledger.md has the same as a table).

Each returns one chain, which is booked whole or not at all. Ids are handed in. Which account a refund really draws on,
and what becomes of credits to a day that has been released, is decided by wallet_book under the head's lock.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from guilder.core.ensure import ensure
from guilder.core.ids import Ids
from guilder.ledger.model import AS_PENDING, AccountKey, Kind, Transfer
from guilder.wallet.chart import Books
from guilder.wallet.codes import Event

TRANSFER_PREFIX = "ltr"


def captured(books: Books, ids: Ids, *, gross: int, fee: int, day: int, charge: str) -> tuple[Transfer, ...]:
    """A purchase was approved: the PSP owes the gross amount, the merchant's day has it, the fee goes off."""
    funds = books.funds(day)
    gross_ = _fact(ids, Event.CAPTURED, charge, debit=books.clearing, credit=funds, amount=gross)
    return _chain([gross_, *_fee(books, ids, funds, fee, charge)])


def authorized(books: Books, *, hold: str, amount: int, charge: str) -> tuple[Transfer, ...]:
    """An authorization was approved: the amount is held.

    `hold` is the id of the pending transfer, to be kept with the charge.
    """
    return (
        Transfer(
            id=hold, debit=books.clearing, credit=books.authorized, amount=amount, kind=Kind.PENDING, code=Event.AUTHORIZED,
            fact=True, reference=charge,
        ),
    )  # fmt: skip


def hold_captured(
    books: Books, ids: Ids, *, hold: str, amount: int, fee: int, day: int, charge: str, rest: tuple[str, int] | None = None
) -> tuple[Transfer, ...]:
    """A held authorization was captured, whole or in part; what is not captured is released by the same posting.

    `rest` (id and amount of a new hold) keeps the remainder held, where the connector can capture more than once.
    """
    ensure(rest is None or rest[1] > 0, "a rest that is held is above zero", charge=charge)
    funds = books.funds(day)
    post = _resolution(ids, Kind.POST, Event.HOLD_CAPTURED, hold, charge, amount=amount)
    moved = _fact(ids, Event.HOLD_MOVED, charge, debit=books.authorized, credit=funds, amount=amount)
    held = authorized(books, hold=rest[0], amount=rest[1], charge=charge) if rest else ()
    return _chain([post, moved, *_fee(books, ids, funds, fee, charge), *held])


def hold_released(ids: Ids, *, hold: str, charge: str) -> tuple[Transfer, ...]:
    """An authorization was voided, or has expired, at the PSP: nothing is held any more."""
    return (_resolution(ids, Kind.VOID, Event.HOLD_RELEASED, hold, charge),)


def refund_reserved(books: Books, *, reservation: str, amount: int, day: int, refund: str) -> tuple[Transfer, ...]:
    """A refund is asked for: its amount is set aside. An intent, so it can be refused for lack of funds.

    `reservation` is the id of the pending transfer, which the refund's outcome resolves; `day` is its charge's day, and
    once that is released, wallet_book draws on available.
    """
    return (
        Transfer(
            id=reservation, debit=books.funds(day), credit=books.clearing, amount=amount, kind=Kind.PENDING,
            code=Event.REFUND_RESERVED, reference=refund,
        ),
    )  # fmt: skip


def refund_settled(ids: Ids, *, reservation: str, refund: str) -> tuple[Transfer, ...]:
    """The PSP has paid the refund: the reservation is posted."""
    return (_resolution(ids, Kind.POST, Event.REFUND_SETTLED, reservation, refund),)


def refund_failed(ids: Ids, *, reservation: str, refund: str) -> tuple[Transfer, ...]:
    """The PSP refused the refund: the reservation is voided, the money is the merchant's again."""
    return (_resolution(ids, Kind.VOID, Event.REFUND_FAILED, reservation, refund),)


def refund_found(books: Books, ids: Ids, *, amount: int, day: int, refund: str) -> tuple[Transfer, ...]:
    """A refund whose reservation is already resolved turns out to have been paid: a fact, booked without it."""
    return (_fact(ids, Event.REFUND_FOUND, refund, debit=books.funds(day), credit=books.clearing, amount=amount),)


def refund_returned(books: Books, ids: Ids, *, amount: int, day: int, refund: str) -> tuple[Transfer, ...]:
    """A refund that had been paid came back from the buyer's bank: the money is the merchant's again."""
    return (_fact(ids, Event.REFUND_RETURNED, refund, debit=books.clearing, credit=books.funds(day), amount=amount),)


def _fee(books: Books, ids: Ids, funds: AccountKey, fee: int, charge: str) -> tuple[Transfer, ...]:
    return (_fact(ids, Event.FEE, charge, debit=funds, credit=books.fees, amount=fee),) if fee else ()


def _fact(ids: Ids, event: Event, about: str, *, debit: AccountKey, credit: AccountKey, amount: int) -> Transfer:
    """It has happened outside, so no limit is asked."""
    return Transfer(
        id=ids.new(TRANSFER_PREFIX), debit=debit, credit=credit, amount=amount, code=event, fact=True, reference=about
    )  # fmt: skip


def _resolution(ids: Ids, kind: Kind, event: Event, pending: str, about: str, *, amount: int = AS_PENDING) -> Transfer:
    return Transfer(id=ids.new(TRANSFER_PREFIX), amount=amount, kind=kind, code=event, pending_id=pending, reference=about)


def _chain(transfers: Iterable[Transfer]) -> tuple[Transfer, ...]:
    members = tuple(transfers)
    return (*(replace(member, linked=True) for member in members[:-1]), members[-1])
