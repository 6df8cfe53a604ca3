"""Pages of objects by cursor: newest first, a total order that stays stable while rows are inserted.

The order is that of one column (ids are time-ordered; events have a number), so a page is one range of one index.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from guilder.core.clock import SECOND
from guilder.core.errors import Refusal
from guilder.db.connection import Record
from guilder.db.pool import Database

# The largest page that a client may ask for; the default is ten.
LIMIT_MAX: Final = 100


class Page(Struct, frozen=True, kw_only=True):
    """Which page: at most one cursor, the id of an object. `since` and `until` are epoch seconds, the second one excluded."""

    limit: int = 10
    starting_after: str | None = None
    ending_before: str | None = None
    since: int | None = None
    until: int | None = None


class Listing(Struct, frozen=True, kw_only=True):
    """What is listed: constants of our own code, never a client's text.

    Args:
        table: the table, with `account`, `livemode`, `created_at` and `id`.
        columns: what is selected.
        kind: the object's name in messages.
        order: the column that orders it.
    """

    table: str
    columns: str
    kind: str
    order: str = "id"


async def fetch_page(
    db: Database,
    listing: Listing,
    page: Page,
    *,
    account: str,
    livemode: bool,
    where: Sequence[tuple[str, object]] = (),
) -> tuple[list[Record], bool]:
    """The rows of a page, newest first, and whether there are more in the direction of travel.

    Args:
        where: further conditions with `?` for their one value: ("customer = ?", "cus_1").

    Raises:
        Refusal: 400 when both cursors are given, or when the cursor is no object of this account and mode.
    """
    conditions: list[tuple[str, object]] = [("account = ?", account), ("livemode = ?", livemode), *where]
    if page.since is not None:
        conditions.append(("created_at >= ?", page.since * SECOND))
    if page.until is not None:
        conditions.append(("created_at < ?", page.until * SECOND))
    backwards = page.ending_before is not None
    cursor = await _cursor(db, listing, page, account, livemode)
    if cursor is not None:
        conditions.append((f"{listing.order} {'>' if backwards else '<'} ?", cursor))
    texts = [text.replace("?", f"${number}") for number, (text, _) in enumerate(conditions, 1)]
    rows = await db.fetch(
        f"SELECT {listing.columns} FROM {listing.table} WHERE {' AND '.join(texts)} "
        f"ORDER BY {listing.order} {'ASC' if backwards else 'DESC'} LIMIT {min(page.limit, LIMIT_MAX) + 1}",
        *(value for _, value in conditions),
    )
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return (rows[::-1] if backwards else rows), more


async def _cursor(db: Database, listing: Listing, page: Page, account: str, livemode: bool) -> object:
    """The place of the cursor in the order, None without one."""
    if page.starting_after is not None and page.ending_before is not None:
        raise Refusal(
            "Received both starting_after and ending_before parameters. Please pass in only one.",
            code="parameters_exclusive",
            param="ending_before",
        )
    name = "ending_before" if page.ending_before is not None else "starting_after"
    id_ = page.ending_before or page.starting_after
    if id_ is None:
        return None
    place = await db.fetchval(
        f"SELECT {listing.order} FROM {listing.table} WHERE id = $1 AND account = $2 AND livemode = $3",
        id_,
        account,
        livemode,
    )
    if place is None:
        raise Refusal(f"No such {listing.kind}: '{id_}'", code="resource_missing", param=name)
    return place
