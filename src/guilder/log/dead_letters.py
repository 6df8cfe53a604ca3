"""Dead letters: list, show, mend and replay, discard, singly and in bulk. Doing one of it twice has one effect.

A replay opens the key again, with a fresh schedule; a person may put other content in the entry's place, the letter keeps what it
said before. A plan says what either would do, and changes nothing.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, assert_never

import msgspec
from msgspec import Meta, Struct

from guilder.core.clock import Clock
from guilder.core.errors import Refusal
from guilder.db import Database
from guilder.db.pages import Listing, Page, fetch_page
from guilder.log.model import TOPIC_EVENTS, Announced, announced_bytes
from guilder.log.parking import Failure, announced_in, failures_from
from guilder.log.read import types_of
from guilder.metrics import Metrics, counted
from guilder.security.mask import mask_text

# Letters that one bulk command closes: enough for an incident, few enough to read its plan.
BULK_MAX: Final = 1_000

_COLUMNS: Final = (
    "id, consumer, topic, partition, position, key, payload, reason, trace, tries, created_at, state, closed_at, account, livemode, "
    "history, edited, (SELECT count(*) FROM log_parked b WHERE b.consumer = dead_letter.consumer AND b.key = dead_letter.key "
    "AND b.position > dead_letter.position) AS behind"
)
_SELECT: Final = f"""
SELECT {_COLUMNS} FROM dead_letter
WHERE (state = 'open' OR $1) AND (cardinality($2::text[]) = 0 OR id = ANY ($2)) AND ($3::text IS NULL OR consumer = $3)
  AND ($4::text IS NULL OR key = $4) AND ($5::text IS NULL OR position($5 IN reason) > 0)
  AND ($6::text IS NULL OR (account = $6 AND livemode = $7::boolean))
ORDER BY created_at DESC, id DESC LIMIT $8
"""
_LISTING: Final = Listing(table="dead_letter", columns=_COLUMNS, kind="dead letter")
_REPLAY: Final = """
WITH closed AS (UPDATE dead_letter SET state = 'replayed', closed_at = $2, edited = $3 WHERE id = $1 AND state = 'open' RETURNING id),
     opened AS (
    UPDATE log_parked p SET dead_letter = NULL, tries = 0, retry_at = $2, payload = coalesce($3, p.payload) FROM closed
    WHERE p.dead_letter = closed.id)
SELECT count(*) FROM closed
"""
_DISCARD: Final = """
WITH closed AS (UPDATE dead_letter SET state = 'discarded', closed_at = $2 WHERE id = $1 AND state = 'open' RETURNING id),
     gone AS (DELETE FROM log_parked p USING closed WHERE p.dead_letter = closed.id RETURNING p.consumer, p.key, p.position),
     next AS (
    UPDATE log_parked p SET retry_at = least(p.retry_at, $2) FROM gone WHERE p.consumer = gone.consumer AND p.key = gone.key)
SELECT count(*) FROM closed
"""


_WAITING: Final = """
SELECT consumer, count(*) FILTER (WHERE dead_letter IS NULL) AS parked, count(*) FILTER (WHERE dead_letter IS NOT NULL) AS dead
FROM log_parked GROUP BY consumer
"""


class Letters:
    """How many entries are parked and how many are open dead letters, by consumer, as they were when it last looked."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._counts: dict[str, tuple[int, int]] = {}

    async def run_once(self) -> int:
        """Look; returns how many there are."""
        rows = await self._db.fetch(_WAITING)
        # A consumer of which nothing waits any more is shown with nothing.
        self._counts = dict.fromkeys(self._counts, (0, 0)) | {row["consumer"]: (row["parked"], row["dead"]) for row in rows}
        return sum(parked + dead for parked, dead in self._counts.values())

    def expose(self, metrics: Metrics) -> None:
        """Register the numbers as metrics."""
        metrics.gauge(
            "log_parked_entries", "Entries that wait for another try, or behind one.", ("consumer",),
            lambda: counted({name: parked for name, (parked, _dead) in self._counts.items()}),
        )  # fmt: skip
        metrics.gauge(
            "dead_letters_open", "Entries that wait for a person.", ("consumer",),
            lambda: counted({name: dead for name, (_parked, dead) in self._counts.items()}),
        )  # fmt: skip


class Action(StrEnum):
    """What a person decides about a dead letter."""

    REPLAY = "replay"
    DISCARD = "discard"


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An entry that could not be handled, and why. `state` is open, replayed or discarded.

    Args:
        content: what the entry says, masked; None when it cannot be read, and then `raw` is its bytes in hexadecimal, masked.
        behind: later entries of its key, which wait for it.
        account, livemode: whose it is; None when it cannot be read.
        edited: what it was replayed with, where a person had mended it.
        history: the tries that failed, oldest first.
    """

    id: str
    consumer: str
    topic: int
    partition: int
    position: int
    key: str
    reason: str
    trace: str
    tries: int
    created_at: int
    state: str
    closed_at: int | None
    account: str | None
    livemode: bool | None
    behind: int
    content: dict[str, Any] | None
    raw: str | None
    edited: dict[str, Any] | None
    history: tuple[Failure, ...]


class Selection(Struct, frozen=True, kw_only=True):
    """Which letters: those that fit all that is given. `reason` is a part of it. With `account`, only that merchant's of one mode."""

    ids: tuple[str, ...] = ()
    consumer: str | None = None
    key: str | None = None
    reason: str | None = None
    closed: bool = False
    account: str | None = None
    livemode: bool = False


EVERY: Final = Selection()
"""All that are open."""


class Done(Struct, frozen=True):
    """What an action did to one letter, or would do."""

    id: str
    done: bool
    text: str


async def dead_letters(db: Database, selection: Selection = EVERY, *, limit: int = BULK_MAX) -> list[DeadLetter]:
    """The letters that a selection names, newest first."""
    rows = await db.fetch(
        _SELECT, selection.closed, list(selection.ids), selection.consumer, selection.key, selection.reason, selection.account,
        selection.livemode, limit,
    )  # fmt: skip
    return [_letter(row) for row in rows]


async def dead_letter(db: Database, id_: str) -> DeadLetter | None:
    """One dead letter, None when there is none of this id."""
    found = await dead_letters(db, Selection(ids=(id_,), closed=True), limit=1)
    return found[0] if found else None


async def page_of_letters(
    db: Database, account: str, page: Page, *, livemode: bool, consumer: str | None = None, key: str | None = None,
    state: str | None = None,
) -> tuple[Sequence[DeadLetter], bool]:  # fmt: skip
    """A page of a merchant's letters, newest first, and whether there are more."""
    where = [(f"{name} = ?", value) for name, value in (("consumer", consumer), ("key", key), ("state", state)) if value is not None]
    rows, more = await fetch_page(db, _LISTING, page, account=account, livemode=livemode, where=where)
    return [_letter(row) for row in rows], more


async def replay(db: Database, clock: Clock, id_: str, payload: bytes | None = None) -> bool:
    """Let the consumer try the entry again, at once, with a fresh schedule; with `payload` in place of what it says.

    False when it is not open (any more).
    """
    return bool(await db.fetchval(_REPLAY, id_, clock.now(), payload))


async def discard(db: Database, clock: Clock, id_: str) -> bool:
    """Give the entry up: it is never handled, and its key is open again. False when it is not open (any more)."""
    return bool(await db.fetchval(_DISCARD, id_, clock.now()))


async def act(
    db: Database, clock: Clock, action: Action, letters: Sequence[DeadLetter], *, dry_run: bool, payload: bytes | None = None,
) -> list[Done]:  # fmt: skip
    """Do it with each of these letters, oldest first and one commit each, or say what it would do."""
    done = []
    for letter in sorted(letters, key=lambda one: (one.created_at, one.id)):
        if letter.state != "open":
            done.append(Done(letter.id, False, f"nothing: it was {letter.state} before"))
            continue
        text = planned(action, letter, edited=payload is not None)
        if dry_run:
            done.append(Done(letter.id, False, f"would {text}"))
            continue
        match action:
            case Action.REPLAY:
                changed = await replay(db, clock, letter.id, payload)
            case Action.DISCARD:
                changed = await discard(db, clock, letter.id)
            case _:
                assert_never(action)
        done.append(Done(letter.id, changed, text if changed else "nothing: another has closed it meanwhile"))
    return done


def planned(action: Action, letter: DeadLetter, *, edited: bool = False) -> str:
    """What an action does to an open letter, in words."""
    entry = f"topic {letter.topic}, partition {letter.partition}, position {letter.position}"
    after = f"; {letter.behind} later {'entry' if letter.behind == 1 else 'entries'} of {letter.key} then follow" if letter.behind else ""
    if action is Action.DISCARD:
        return f"give up {entry}: {letter.consumer} never handles it, and {letter.key} is open again{after}"
    new = " with its new content" if edited else ""
    return f"hand {entry}{new} to {letter.consumer} again, at once and with a fresh schedule{after}"


async def payload_of(db: Database, letter: DeadLetter, text: str | bytes) -> bytes:
    """New content for an entry, given as JSON, as the bytes that its consumer reads.

    Raises Refusal (400) for what it could not read, and for events that are not the merchant's: what is announced is sent to him.
    """
    if letter.topic != TOPIC_EVENTS:
        raise Refusal(f"The entries of topic {letter.topic} cannot be edited.", param="payload")
    try:
        given = msgspec.json.decode(text, type=_Content)
    except msgspec.MsgspecError as error:
        raise Refusal(f"The new content cannot be read: {error}", param="payload") from error
    if letter.account is not None and (given.account, given.livemode) != (letter.account, letter.livemode):
        raise Refusal("An entry stays its merchant's, in its mode: leave `account` and `livemode` as they are.", param="payload")
    own = await types_of(db, given.account, given.livemode, [id_ for id_, _ in given.events])
    for id_, type_ in given.events:
        if own.get(id_) != type_:
            raise Refusal(f"This merchant has no event {id_} of the type {type_}.", param="payload")
    return announced_bytes(Announced(given.account, given.livemode, tuple(given.events)))


_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.]+$")]
"""Of a merchant, an event or its type."""


class _Content(Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of the events' topic, as people read and write it."""

    account: _Name
    livemode: bool
    events: list[tuple[_Name, _Name]]


def _shown(payload: bytes | None) -> dict[str, Any] | None:
    told = None if payload is None else announced_in(payload)
    if told is None:
        return None
    events = [[mask_text(id_), mask_text(type_)] for id_, type_ in told.events]
    return {"account": mask_text(told.account), "livemode": told.livemode, "events": events}


def _letter(row: Any) -> DeadLetter:  # noqa: ANN401 - a row of _COLUMNS
    known: Mapping[str, Any] = {name: row[name] for name in DeadLetter.__struct_fields__ if name in row.keys()}  # noqa: SIM118
    content = _shown(row["payload"])
    return DeadLetter(
        **{
            **known, "history": failures_from(row["history"]), "edited": _shown(row["edited"]), "content": content,
            "raw": None if content is not None else mask_text(row["payload"].decode("utf-8", "backslashreplace")),
        }
    )  # fmt: skip
