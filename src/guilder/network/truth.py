"""What `GET /truth` says: the effects that entries had, one JSON object a line (DESIGN section 8)."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from guilder.iso8583 import Code
from guilder.network.entries import UNDID_IN_ADVANCE, UNDID_REFUND_IN_PROGRESS, Entry, Kind, decode_line
from guilder.network.truth_file import read_lines

# So many lines of the file make a piece: a long truth never stands in memory, and reading a piece takes milliseconds,
# so whoever gives it out can let payments through in between.
PIECE_LINES: Final = 1000


_encode: Final = msgspec.json.Encoder().encode


# What an approved entry is told as; voids, reversals and returned refunds are told by what they undid.
_TOLD_AS: Final[Mapping[str, tuple[str, ...]]] = {
    Kind.AUTHORIZATION: (Kind.AUTHORIZATION,),
    Kind.PURCHASE: (Kind.AUTHORIZATION, Kind.CAPTURE),
    Kind.CAPTURE: (Kind.CAPTURE,),
    Kind.REFUND: (Kind.REFUND,),
    Kind.REFUND_SETTLED: (Kind.REFUND,),
    Kind.AUTHENTICATION: (Kind.AUTHENTICATION,),
    Kind.CHALLENGE_ANSWERED: (Kind.AUTHENTICATION,),
}


class Effect(Struct, frozen=True, kw_only=True):
    """Money that moved, or was held or freed; or what an issuer said of a buyer. `time` in microseconds since 1970 UTC, business time.

    `original`: the reference that it acts on. `reversed`, on reversals only: the kind of effect that was undone.
    `result`, on authentications only: what came of it so far; a challenge that was answered is told twice.
    `proof`: the authentication that an authorization was proved with.
    """

    reference: str
    original: str | None
    kind: str
    amount: int
    currency: str
    time: int
    reversed: str | UnsetType = UNSET
    result: str | UnsetType = UNSET
    proof: str | UnsetType = UNSET


def effects_of(entry: Entry) -> list[Effect]:
    """The effects of an entry: none for a decline, two for a purchase and for the reversal of one."""
    if entry.code != Code.APPROVED:
        return []
    kind = entry.kind
    if kind in _TOLD_AS:
        return [_effect(entry, told) for told in _TOLD_AS[kind]]
    if kind == Kind.REFUND_RETURNED:
        return [_undone(entry, Kind.REFUND, entry.amount)]
    undid = [(undone, amount) for undone, amount in entry.undid if undone not in (UNDID_IN_ADVANCE, UNDID_REFUND_IN_PROGRESS)]
    if kind == Kind.VOID:
        return [_effect(entry, Kind.VOID, amount) for _, amount in undid]
    return [_undone(entry, undone, amount) for undone, amount in undid]


def pieces(path: Path, size: int, reference: str | None = None) -> Iterator[bytes]:
    """The effects in the first `size` bytes of a truth file, or those of one reference, in pieces of whole lines.

    A piece can be empty.
    """
    # Looking for the bytes first spares decoding every line when one reference is asked for.
    wanted = f'"{reference}"'.encode() if reference is not None else b""
    lines = read_lines(path, size)
    while batch := list(islice(lines, PIECE_LINES)):
        entries = [decode_line(line) for line in batch if wanted in line]
        yield b"".join(
            _encode(effect) + b"\n"
            for entry in entries
            if isinstance(entry, Entry) and reference in (None, entry.reference, entry.repeats)
            for effect in effects_of(entry)
        )


def _effect(entry: Entry, kind: str, amount: int | None = None) -> Effect:
    return Effect(
        # What was done twice has two effects under the reference that its sender gave it.
        reference=entry.repeats or entry.reference,
        original=entry.original or None,
        kind=kind,
        amount=entry.amount if amount is None else amount,
        currency=entry.currency,
        time=entry.at,
        result=entry.result or UNSET,
        proof=(entry.proof if kind == Kind.AUTHORIZATION else "") or UNSET,
    )


def _undone(entry: Entry, undone: str, amount: int) -> Effect:
    """One effect that a reversal took back."""
    return Effect(
        reference=entry.reference,
        original=entry.original or None,
        kind=Kind.REVERSAL,
        amount=amount,
        currency=entry.currency,
        time=entry.at,
        reversed=undone,
    )
