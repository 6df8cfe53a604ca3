"""Business events as chains of transfers: pure functions, one per event (docs/ledger.md has the same as a table).

Each returns one chain, which is booked whole or not at all. Ids are handed in. Which account a refund really draws on,
and what becomes of credits to a day that has been released, is decided by wallet_book under the head's lock.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from guilder.core.ensure import ensure
from guilder.core.ids import Ids
from guilder.ledger.model import AccountKey, Kind, Transfer
from guilder.wallet.chart import Books
from guilder.wallet.codes import Event

TRANSFER_PREFIX = "ltr"


def captured(books: Books, ids: Ids, *, gross: int, fee: int, day: int, charge: str) -> tuple[Transfer, ...]:
    """A purchase was approved: the PSP owes the gross amount, the merchant's day has it, the fee goes off."""
    funds = books.funds(day)
    return _chain([_posted(ids, books.clearing, funds, gross, Event.CAPTURED, charge), *_fee(books, ids, funds, fee, charge)])


def authorized(books: Books, *, hold: str, amount: int, charge: str) -> tuple[Transfer, ...]:
    """An authorization was approved: the amount is held. `hold` is the id of the pending transfer, to be kept with the charge."""
    return (
        Transfer(
            id=hold, debit=books.clearing, credit=books.authorized, amount=amount, kind=Kind.PENDING, code=Event.AUTHORIZED, fact=True,
            reference=charge,
        ),
    )  # fmt: skip


def hold_captured(
    books: Books, ids: Ids, *, hold: str, amount: int, fee: int, day: int, charge: str, rest: tuple[str, int] | None = None,
) -> tuple[Transfer, ...]:
    """A held authorization was captured, whole or in part; what is not captured is released by the same posting.

    `rest` (id and amount of a new hold) keeps the remainder held, where the connector can capture more than once.
    """
    funds = books.funds(day)
    ensure(rest is None or rest[1] > 0, "a rest that is held is above zero", charge=charge)
    return _chain([
        Transfer(id=ids.new(TRANSFER_PREFIX), amount=amount, kind=Kind.POST, code=Event.HOLD_CAPTURED, pending_id=hold, reference=charge),
        _posted(ids, books.authorized, funds, amount, Event.HOLD_MOVED, charge),
        *_fee(books, ids, funds, fee, charge),
        *(authorized(books, hold=rest[0], amount=rest[1], charge=charge) if rest else ()),
    ])  # fmt: skip


def hold_released(ids: Ids, *, hold: str, charge: str) -> tuple[Transfer, ...]:
    """An authorization was voided, or has expired, at the PSP: nothing is held any more."""
    return (Transfer(id=ids.new(TRANSFER_PREFIX), kind=Kind.VOID, code=Event.HOLD_RELEASED, pending_id=hold, reference=charge),)


def refund_reserved(books: Books, *, reservation: str, amount: int, day: int, refund: str) -> tuple[Transfer, ...]:
    """A refund is asked for: its amount is set aside. An intent, so it can be refused for lack of funds.

    Args:
        reservation: the id of the pending transfer, which the refund's outcome resolves.
        day: its charge's day; once that is released, wallet_book draws on available.
    """
    return (
        Transfer(
            id=reservation, debit=books.funds(day), credit=books.clearing, amount=amount, kind=Kind.PENDING, code=Event.REFUND_RESERVED,
            reference=refund,
        ),
    )  # fmt: skip


def refund_settled(ids: Ids, *, reservation: str, refund: str) -> tuple[Transfer, ...]:
    """The PSP has paid the refund: the reservation is posted."""
    return (Transfer(id=ids.new(TRANSFER_PREFIX), kind=Kind.POST, code=Event.REFUND_SETTLED, pending_id=reservation, reference=refund),)


def refund_failed(ids: Ids, *, reservation: str, refund: str) -> tuple[Transfer, ...]:
    """The PSP refused the refund: the reservation is voided, the money is the merchant's again."""
    return (Transfer(id=ids.new(TRANSFER_PREFIX), kind=Kind.VOID, code=Event.REFUND_FAILED, pending_id=reservation, reference=refund),)


def refund_found(books: Books, ids: Ids, *, amount: int, day: int, refund: str) -> tuple[Transfer, ...]:
    """A refund whose reservation is already resolved turns out to have been paid: a fact, booked without it."""
    return (_posted(ids, books.funds(day), books.clearing, amount, Event.REFUND_FOUND, refund),)


def _fee(books: Books, ids: Ids, funds: AccountKey, fee: int, charge: str) -> tuple[Transfer, ...]:
    return (_posted(ids, funds, books.fees, fee, Event.FEE, charge),) if fee else ()


def _posted(ids: Ids, debit: AccountKey, credit: AccountKey, amount: int, event: Event, reference: str) -> Transfer:
    return Transfer(id=ids.new(TRANSFER_PREFIX), debit=debit, credit=credit, amount=amount, code=event, fact=True, reference=reference)


def _chain(transfers: Iterable[Transfer]) -> tuple[Transfer, ...]:
    members = tuple(transfers)
    return (*(replace(member, linked=True) for member in members[:-1]), members[-1])
