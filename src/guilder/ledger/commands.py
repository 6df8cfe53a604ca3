"""What the ledger as a product is asked for, and which of it cannot be: pure checks of single fields."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from guilder.core.currencies import CURRENCIES
from guilder.core.errors import Refusal
from guilder.ledger.model import AMOUNT_MAX, BATCH_MAX, CODE_MAX, ID_LENGTH_MAX, REFERENCE_LENGTH_MAX, Code, Kind, StoredTransfer
from guilder.shapes.facts import Metadata

DESCRIPTION_LENGTH_MAX: Final = 500
# A month: longer holds are for agreements that somebody follows up, not for a timer.
TIMEOUT_SECONDS_MAX: Final = 31 * 24 * 3600
OVERDRAFT_MAX: Final = 100_000_000_000_000_000

ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_LENGTH_MAX}}}")


class Caller(Struct, frozen=True):
    """Whose books, in which mode."""

    account: str
    livemode: bool


class CreateAccount(Struct, frozen=True, kw_only=True):
    """An account to be opened. Limits as in LedgerAccount; an overdraft needs a limit."""

    currency: str
    debits_limited: bool = False
    credits_limited: bool = False
    overdraft: int = 0
    description: str | None = None
    metadata: Metadata = ()


class CreateTransfer(Struct, frozen=True, kw_only=True):
    """A transfer to be booked, as a client names it.

    Args:
        id: the client's; None to have one made.
        debit, credit: ids of own accounts; may be left out on a post or void.
        amount: minor units; left out on a post or void it is the whole of what was pending.
        currency: what the client takes it to be; must then be that of the accounts.
        pending: the id of the transfer that a post or void resolves.
        linked: the next one of the list belongs to the same chain.
    """

    id: str | None = None
    debit: str | None = None
    credit: str | None = None
    amount: int | None = None
    currency: str | None = None
    kind: Kind = Kind.POSTED
    pending: str | None = None
    code: int = 1
    reference: str | None = None
    linked: bool = False
    timeout_seconds: int | None = None


class Created(Struct, frozen=True):
    """What became of one transfer: as stored, or why not. EXISTS comes with the transfer that stands there."""

    id: str
    transfer: StoredTransfer | None
    code: Code | None = None


def parameter(place: int, name: str, *, listed: bool) -> str:
    """A field of a transfer as the request names it: `transfers[3][amount]` in a list, `amount` for one alone."""
    return f"transfers[{place}][{name}]" if listed else name


def check_account(command: CreateAccount) -> None:
    """Raise a Refusal for the first field that cannot be."""
    if command.currency not in CURRENCIES:
        raise Refusal(f"Invalid currency: {command.currency}. Use a three-letter ISO 4217 code in lower case.", param="currency")
    if not 0 <= command.overdraft <= OVERDRAFT_MAX:
        raise Refusal(f"An overdraft is between 0 and {OVERDRAFT_MAX}.", param="overdraft", code="parameter_invalid_integer")
    if command.overdraft and not (command.debits_limited or command.credits_limited):
        raise Refusal("An overdraft needs a limit that it softens.", param="overdraft")
    if command.description is not None and not 0 < len(command.description) <= DESCRIPTION_LENGTH_MAX:
        raise Refusal(f"A description has 1 to {DESCRIPTION_LENGTH_MAX} characters.", param="description")


def check_transfers(commands: Sequence[CreateTransfer], *, listed: bool) -> None:
    """Raise a Refusal for the first field that cannot be."""
    if not 0 < len(commands) <= BATCH_MAX:
        raise Refusal(f"A list has 1 to {BATCH_MAX} transfers, not {len(commands)}.", param="transfers")
    for place, command in enumerate(commands):
        problem = _problem(command)
        if problem:
            name, right, code = problem
            raise Refusal(right, param=parameter(place, name, listed=listed), code=code)
    if commands[-1].linked:
        name = parameter(len(commands) - 1, "linked", listed=listed)
        raise Refusal("The last transfer cannot be linked to a next one.", param=name)


# The fields that are whole numbers.
_WHOLE: Final = frozenset({"amount", "code", "timeout_seconds"})


def _problem(command: CreateTransfer) -> tuple[str, str, str | None] | None:
    """The first field that cannot be, what would be right, and the error's code."""
    if command.kind is Kind.EXPIRE:
        return "kind", "A transfer is posted, pending, a post or a void; expiring is done by the system.", None
    if command.kind not in (Kind.POST, Kind.VOID):
        for name, value in (("debit", command.debit), ("credit", command.credit), ("amount", command.amount)):
            if value is None:
                return name, f"Missing required param: {name}.", "parameter_missing"
    for name, fits, right in _rules(command):
        if not fits:
            return name, right, "parameter_invalid_integer" if name in _WHOLE else None
    return None


def _rules(command: CreateTransfer) -> Iterator[tuple[str, bool, str]]:
    """Field by field: its name, whether it can be, and what would be right."""
    an_id = f"An id has 1 to {ID_LENGTH_MAX} of the characters A-Z a-z 0-9 _ and -."
    yield "id", _is_id(command.id), an_id
    yield "pending_transfer", _is_id(command.pending), an_id
    yield (
        "amount",
        _within(command.amount, 1, AMOUNT_MAX),
        f"An amount is a whole number of minor units between 1 and {AMOUNT_MAX}.",
    )
    yield "code", _within(command.code, 0, CODE_MAX), f"A code is between 0 and {CODE_MAX}."
    yield "reference", _is_text(command.reference), f"A reference has 1 to {REFERENCE_LENGTH_MAX} printable characters."
    limit = TIMEOUT_SECONDS_MAX
    yield "timeout_seconds", _within(command.timeout_seconds, 1, limit), f"A time limit is between 1 and {limit} seconds."


def _is_id(value: str | None) -> bool:
    return value is None or ID.fullmatch(value) is not None


def _is_text(value: str | None) -> bool:
    return value is None or (0 < len(value) <= REFERENCE_LENGTH_MAX and value.isprintable())


def _within(value: int | None, lowest: int, highest: int) -> bool:
    return value is None or lowest <= value <= highest
