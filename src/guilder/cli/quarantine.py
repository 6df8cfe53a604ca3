"""`guilder quarantine`: a database that has gone back behind what was done outside, and the way out."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.core.clock import Clock
    from guilder.db import Database

app = typer.Typer(
    help="Show and lift the quarantine of a database that was restored, or has lost what it had stored.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip
Result = TypeVar("Result")


@app.command()
def show(data: Data = None, as_json: Json = False) -> None:
    """Say whether the database is in quarantine, since when and why."""
    from guilder.cli.output import write_json, write_lines
    from guilder.cli.times import instant
    from guilder.db.quarantine import quarantined

    found = _with_database(data, lambda db, _clock: quarantined(db))
    if as_json:
        write_json({"quarantine": found})
    elif found is None:
        typer.echo("not in quarantine")
    else:
        write_lines([
            ("In quarantine since", instant(found.since)), ("Because", found.reason),
            ("To do", "compare the books with each PSP's records (`guilder check`: the sandbox's), then `guilder quarantine lift`"),
        ])  # fmt: skip


@app.command()
def lift(data: Data = None, as_json: Json = False) -> None:
    """Let the system accept and send again. Every open attempt counts as sent: its PSP is asked first. Safe to repeat."""
    from guilder.cli.output import write_json
    from guilder.core.ids import Ids
    from guilder.db.quarantine import lift_quarantine

    asked = _with_database(data, lambda db, clock: lift_quarantine(db, clock.now(), Ids(clock)))
    if as_json:
        write_json({"asked_about": asked})
    else:
        typer.echo(f"not in quarantine any more; PSPs are asked about {asked} open attempts")


def _with_database(data: Data, work: "Callable[[Database, Clock], Awaitable[Result]]") -> "Result":
    """Do something with the database of the system that the flags name."""
    from guilder.cli.system import with_database
    from guilder.core.clock import SystemClock
    from guilder.db import Database
    from guilder.role import run_in_loop
    from guilder.rooms import APP_ROLE, address

    with with_database(load(data_dir=data)) as settings:

        async def do() -> Result:
            db = await Database.connect(address(settings), role=APP_ROLE, max_size=1, name="quarantine")
            try:
                return await work(db, SystemClock(settings.clock_file))
            finally:
                await db.close()

        return run_in_loop(do())
