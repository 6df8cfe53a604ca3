"""`guilder events`: what happens, as it happens."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from guilder.cli.options import Account, Data, Json, load

if TYPE_CHECKING:
    from guilder.config import Settings
    from guilder.db import Database
    from guilder.log.read import StoredEvent

app = typer.Typer(help="Watch what happens.", no_args_is_help=True, rich_markup_mode=None)

# How often new events are looked for while they are followed.
POLL_SECONDS: Final = 0.2
PAGE: Final = 100
SHOWN: Final = 20


@app.callback()
def _group() -> None:
    """Keeps `tail` a command of its own while it is the only one."""


@app.command()
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and show new ones as they come. Ctrl-C ends it.")] = False,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only events of this type; a * stands for anything. May be given again."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=0, max=PAGE, help="How many of the past to begin with.")] = SHOWN,
    live: Annotated[bool, typer.Option("--live", help="Events of live mode instead of test mode.")] = False,
    *,
    account: Account = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show a merchant's newest events, oldest first; with --json one object a line, as the API and webhooks have it."""
    from contextlib import suppress

    from guilder import folder
    from guilder.cli.system import NoSystem, with_database
    from guilder.cli.types import chosen_types
    from guilder.role import run_in_loop

    settings = load(data_dir=data)
    chosen = chosen_types(types or ())
    sandbox = folder.read_sandbox(settings)
    id_ = account or (sandbox.account if sandbox else None)
    if id_ is None:
        raise NoSystem(f"there is no sandbox merchant in {settings.data_dir}; name the merchant with --account")
    if follow and settings.database_url is None and not folder.is_alive(settings):
        raise NoSystem(f"nothing runs in {settings.data_dir}, so nothing will happen; start it with `guilder up`")

    async def show(found: "Settings") -> None:
        async for event in _events(found, id_, live, chosen, count, follow=follow):
            _write(event, as_json)

    with with_database(settings) as found, suppress(KeyboardInterrupt):
        run_in_loop(show(found))


async def _events(
    settings: "Settings", account: str, livemode: bool, types: Sequence[str], count: int, *, follow: bool
) -> "AsyncIterator[StoredEvent]":
    """The newest events, oldest first, and with `follow` the new ones for ever."""
    from guilder.core.clock import sleep
    from guilder.core.errors import Unavailable
    from guilder.db import Database
    from guilder.db.pages import Page
    from guilder.log.read import list_events
    from guilder.rooms import address
    from guilder.webhooks.types import fits

    db = await Database.connect(address(settings), role="guilder_reader", max_size=1, name="events")
    try:
        newest = (await list_events(db, account, livemode, Page(limit=1)))[0]
        cursor = newest[0].id if newest else None
        first, _more = await list_events(db, account, livemode, Page(limit=max(count, 1)), types=types)
        # An event that happened between the two looks is shown once.
        shown = {event.id for event in first[:count]}
        for event in reversed(first[:count]):
            yield event
        wait = True
        while follow:
            if wait:
                await sleep(POLL_SECONDS)
            try:
                new, more = await _after(db, account, livemode, cursor)
            except Unavailable:
                # The database starts again; what happens meanwhile is shown when it is back.
                wait = True
                continue
            wait = not more
            for event in new:
                cursor = event.id
                if (not types or fits(event.type, types)) and event.id not in shown:
                    yield event
    finally:
        await db.close()


async def _after(db: "Database", account: str, livemode: bool, cursor: str | None) -> "tuple[Sequence[StoredEvent], bool]":
    """The next events after this one, oldest first, and whether there are more; the very first one alone where there was none."""
    from guilder.db.pages import Page
    from guilder.log.read import list_events

    if cursor is not None:
        found, more = await list_events(db, account, livemode, Page(limit=PAGE, ending_before=cursor))
        return found[::-1], more
    found, more = await list_events(db, account, livemode, Page(limit=PAGE))
    while more:
        found, more = await list_events(db, account, livemode, Page(limit=PAGE, starting_after=found[-1].id))
    return found[-1:], bool(found)


def _write(event: "StoredEvent", as_json: bool) -> None:
    import sys

    from guilder.cli.times import instant
    from guilder.shapes.render import EventHeader, event_json

    if as_json:
        header = EventHeader(
            id=event.id, type=event.type, created=event.created, livemode=event.livemode, request_id=event.request_id,
            idempotency_key=event.idempotency_key,
        )  # fmt: skip
        # Personal data stays sealed: it shows as null here.
        sys.stdout.write(bytes(event_json(header, event.facts, {})).decode() + "\n")
    else:
        sys.stdout.write(f"{instant(event.created * 1_000_000)}  {event.type:<42} {_about(event.facts.object)}  {event.id}\n")
    sys.stdout.flush()


def _about(facts: Any) -> str:
    """An object in a few words: id, amount, state."""
    from guilder.core.money import Money

    words = [str(getattr(facts, "id", ""))]
    if hasattr(facts, "amount") and hasattr(facts, "currency"):
        words.append(str(Money(facts.amount, facts.currency)))
    if hasattr(facts, "status"):
        words.append(facts.status)
    return "  ".join(words)
