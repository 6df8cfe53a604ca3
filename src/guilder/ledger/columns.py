"""Transfers as the arrays that ledger_book and wallet_book take: one array per column, nothing for columns that are all empty."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from guilder.core.ensure import ensure
from guilder.ledger.model import AccountKey, Transfer


class Columns(NamedTuple):
    """The parameters of ledger_book behind mode and time, in its order; wallet_book takes all but the last."""

    id: list[str]
    # The same number for members of one chain, which are adjacent; None when no transfer is linked.
    chain: list[int] | None
    debit: list[int]
    credit: list[int]
    amount: list[int]
    kind: list[int]
    pending_id: list[str | None] | None
    fact: list[bool] | None
    code: list[int]
    reference: list[str | None] | None
    timeout: list[int | None] | None


def encode(transfers: Sequence[Transfer], numbers: Mapping[AccountKey, int]) -> Columns:
    """Transfers as columns. `numbers` must know every account that is named by key (Accounts.numbers_of)."""
    pending = [transfer.pending_id for transfer in transfers]
    facts = [transfer.fact for transfer in transfers]
    references = [transfer.reference for transfer in transfers]
    timeouts = [transfer.timeout for transfer in transfers]
    return Columns(
        id=[transfer.id for transfer in transfers],
        chain=_chains(transfers),
        debit=[side if (side := transfer.debit).__class__ is int else numbers[side] for transfer in transfers],  # type: ignore[index]
        credit=[side if (side := transfer.credit).__class__ is int else numbers[side] for transfer in transfers],  # type: ignore[index]
        amount=[transfer.amount for transfer in transfers],
        kind=[transfer.kind for transfer in transfers],
        pending_id=pending if any(pending) else None,
        fact=facts if True in facts else None,
        code=[transfer.code for transfer in transfers],
        reference=references if any(references) else None,
        timeout=timeouts if timeouts.count(None) < len(timeouts) else None,
    )


def _chains(transfers: Sequence[Transfer]) -> list[int] | None:
    linked = [transfer.linked for transfer in transfers]
    if True not in linked:
        return None
    ensure(not linked[-1], "the last transfer of a list cannot be linked to a next one", transfer=transfers[-1].id)
    chains = []
    number = 0
    for is_linked in linked:
        chains.append(number)
        number += not is_linked
    return chains
