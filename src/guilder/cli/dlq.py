"""`guilder dlq`: entries of the log that failed on their whole schedule, and what a person decides about them."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.core.clock import Clock
    from guilder.db import Database
    from guilder.log.dead_letters import DeadLetter

app = typer.Typer(help="List, show, replay and discard dead letters.", no_args_is_help=True, rich_markup_mode=None)
Id = Annotated[str, typer.Argument(metavar="ID", help="The dead letter, from `guilder dlq list`.")]
Result = TypeVar("Result")

LISTED_MAX: Final = 1_000


@app.command("list")
def list_letters(
    closed: Annotated[bool, typer.Option("--all", help="Those too that were replayed or discarded.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first."""
    from guilder.cli.output import write_json, write_table
    from guilder.cli.times import instant
    from guilder.log.dead_letters import dead_letters

    found = _with_database(data, lambda db, _clock: dead_letters(db, closed=closed, limit=LISTED_MAX))
    if as_json:
        write_json({"dead_letters": found})
    elif not found:
        typer.echo("there are no dead letters")
    else:
        rows = [(one.id, instant(one.created_at), one.consumer, one.key, one.state, one.reason) for one in found]
        write_table("Dead letters", ["id", "since", "consumer", "key", "state", "reason"], rows)


@app.command()
def show(id_: Id, data: Data = None, as_json: Json = False) -> None:
    """Show a dead letter: which entry it was, why it failed, and where."""
    from guilder.cli.output import write_json, write_lines
    from guilder.cli.times import instant

    letter = _found(id_, data)
    if as_json:
        write_json(letter)
        return
    write_lines(
        [
            ("id", letter.id),
            ("state", letter.state if letter.closed_at is None else f"{letter.state} {instant(letter.closed_at)}"),
            ("since", instant(letter.created_at)),
            ("consumer", letter.consumer),
            ("entry", f"topic {letter.topic}, partition {letter.partition}, position {letter.position}"),
            ("key", f"{letter.key}: closed until this is replayed or discarded" if letter.state == "open" else letter.key),
            ("tries", letter.tries),
            ("reason", letter.reason),
        ]
    )
    typer.echo(f"\n{letter.trace}")


@app.command()
def replay(id_: Id, data: Data = None, as_json: Json = False) -> None:
    """Let the consumer try the entry again, at once and with a fresh schedule. Safe to repeat."""
    from guilder.log.dead_letters import replay as replay_letter

    done = _with_database(data, lambda db, clock: replay_letter(db, clock, id_))
    _report(id_, "replayed", data, done=done, as_json=as_json)


@app.command()
def discard(id_: Id, data: Data = None, as_json: Json = False) -> None:
    """Give the entry up: it is never handled, and its key is open again. Safe to repeat."""
    from guilder.log.dead_letters import discard as discard_letter

    done = _with_database(data, lambda db, clock: discard_letter(db, clock, id_))
    _report(id_, "discarded", data, done=done, as_json=as_json)


def _report(id_: str, word: str, data: Data, *, done: bool, as_json: bool) -> None:
    """What was done; exit status 1 when somebody had closed it in another way before."""
    from guilder.cli.output import fail, write_json

    letter = _found(id_, data)
    if not done and letter.state != word:
        fail(f"{id_} was {letter.state} before", as_json=as_json)
    if as_json:
        write_json(letter)
    else:
        typer.echo(f"{id_} is {word}")


def _found(id_: str, data: Data) -> "DeadLetter":
    from guilder.cli.system import NoSystem
    from guilder.log.dead_letters import dead_letter

    letter = _with_database(data, lambda db, _clock: dead_letter(db, id_))
    if letter is None:
        raise NoSystem(f"there is no dead letter {id_}; `guilder dlq list --all` shows what there is")
    return letter


def _with_database(data: Data, work: "Callable[[Database, Clock], Awaitable[Result]]") -> Result:
    """Do something with the database of the system that the flags name."""
    from guilder.bootstrap import APP_ROLE, address
    from guilder.cli.system import with_database
    from guilder.core.clock import SystemClock
    from guilder.db import Database
    from guilder.role import run_in_loop

    with with_database(load(data_dir=data)) as settings:

        async def do() -> Result:
            db = await Database.connect(address(settings), role=APP_ROLE, max_size=1, name="dlq")
            try:
                return await work(db, SystemClock(settings.clock_file))
            finally:
                await db.close()

        return run_in_loop(do())
