"""Reading an account's events. Their order is their number, which becomes visible in commit order."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from guilder.core.clock import epoch_seconds
from guilder.core.errors import missing
from guilder.db.connection import Record
from guilder.db.pages import Listing, Page, fetch_page
from guilder.db.pool import Database
from guilder.shapes.facts import EventFacts, decode_event

_COLUMNS: Final = "id, type, created_at, livemode, request_id, idempotency_key, facts"
_EVENTS: Final = Listing(table="event", columns=_COLUMNS, kind="event", order="number")


class StoredEvent(Struct, frozen=True, kw_only=True):
    """One event as its row holds it. `created` is in epoch seconds."""

    id: str
    type: str
    created: int
    livemode: bool
    request_id: str | None
    idempotency_key: str | None
    facts: EventFacts


async def retrieve_event(db: Database, account: str, livemode: bool, id_: str) -> StoredEvent:
    """One event. Raises Refusal (404)."""
    row = await db.fetchrow(
        f"SELECT {_COLUMNS} FROM event WHERE id = $1 AND account = $2 AND livemode = $3", id_, account, livemode
    )
    if row is None:
        raise missing("event", id_)
    return _event(row)


async def events_by_id(db: Database, ids: Sequence[str]) -> list[StoredEvent]:
    """The events of these ids, whoever they belong to, in no order."""
    return [_event(row) for row in await db.fetch(f"SELECT {_COLUMNS} FROM event WHERE id = ANY($1)", list(ids))]


async def types_of(db: Database, account: str, livemode: bool, ids: Sequence[str]) -> dict[str, str]:
    """The types of those of these events that are this account's, in this mode, by their ids."""
    sql = "SELECT id, type FROM event WHERE id = ANY($1) AND account = $2 AND livemode = $3"
    return {row["id"]: row["type"] for row in await db.fetch(sql, list(ids), account, livemode)}


async def list_events(
    db: Database,
    account: str,
    livemode: bool,
    page: Page,
    *,
    types: Sequence[str] = (),
    among: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> tuple[Sequence[StoredEvent], bool]:
    """A page of events, newest first, and whether there are more.

    Args:
        types: only these; a `*` in one stands for any characters, as in `charge.*`. Empty means all.
        among: only events of these ids; None means all.
        without: none of these ids.
    """
    where: list[tuple[str, object]] = [("type LIKE ANY (?)", [_pattern(one) for one in types])] if types else []
    if among is not None:
        where.append(("id = ANY (?)", list(among)))
    if without:
        where.append(("id <> ALL (?)", list(without)))
    rows, more = await fetch_page(db, _EVENTS, page, account=account, livemode=livemode, where=where)
    return [_event(row) for row in rows], more


def _pattern(type_: str) -> str:
    """A type as a LIKE pattern in which only `*` is special."""
    escaped = type_.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")


def _event(row: Record) -> StoredEvent:
    return StoredEvent(
        id=row["id"],
        type=row["type"],
        created=epoch_seconds(row["created_at"]),
        livemode=row["livemode"],
        request_id=row["request_id"],
        idempotency_key=row["idempotency_key"],
        facts=decode_event(row["facts"]),
    )
