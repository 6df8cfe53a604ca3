"""`guilder dlq`: entries of the log that failed on their whole schedule, and what a person decides about them."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.core.clock import Clock
    from guilder.db import Database
    from guilder.log.dead_letters import Action, DeadLetter, Done, Selection

app = typer.Typer(help="List, show, mend, replay and discard dead letters.", no_args_is_help=True, rich_markup_mode=None)
Result = TypeVar("Result")
Id = Annotated[str, typer.Argument(metavar="ID", help="The dead letter, from `guilder dlq list`.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Dead letters, from `guilder dlq list`.")]
Consumer = Annotated[str | None, typer.Option(help="Those of this consumer.")]
Key = Annotated[str | None, typer.Option(help="Those of this key, usually a payment.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Those whose reason contains this.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are open.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do to each, and do nothing.")]

LISTED_MAX: Final = 1_000


@app.command("list")
def list_letters(
    closed: Annotated[bool, typer.Option("--all", help="Those too that were replayed or discarded.")] = False,
    consumer: Consumer = None, key: Key = None, reason: Reason = None, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """List dead letters, newest first."""
    from guilder.cli.output import write_json, write_table
    from guilder.cli.times import instant
    from guilder.log.dead_letters import Selection, dead_letters

    wanted = Selection(consumer=consumer, key=key, reason=reason, closed=closed)
    found = _with_database(data, lambda db, _clock: dead_letters(db, wanted, limit=LISTED_MAX))
    if as_json:
        write_json({"dead_letters": found})
    elif not found:
        typer.echo("there are no dead letters")
    else:
        rows = [(one.id, instant(one.created_at), one.consumer, one.key, one.state, one.reason) for one in found]
        write_table("Dead letters", ["id", "since", "consumer", "key", "state", "reason"], rows)


@app.command()
def show(id_: Id, data: Data = None, as_json: Json = False) -> None:
    """Show a dead letter: which entry it was and what it says, why it failed each time, and where."""
    from guilder.cli.output import write_json, write_lines
    from guilder.cli.times import instant

    letter = _found(id_, data)
    if as_json:
        write_json(letter)
        return
    open_ = letter.state == "open"
    write_lines([
        ("id", letter.id),
        ("state", letter.state if letter.closed_at is None else f"{letter.state} {instant(letter.closed_at)}"),
        ("since", instant(letter.created_at)),
        ("consumer", letter.consumer),
        ("entry", f"topic {letter.topic}, partition {letter.partition}, position {letter.position}"),
        ("key", f"{letter.key}: closed until this is replayed or discarded" if open_ else letter.key),
        ("behind it", letter.behind),
        ("account", "nobody can tell" if letter.account is None else f"{letter.account} {'live' if letter.livemode else 'test'}"),
        ("content", letter.raw if letter.content is None else _json(letter.content)),
        *([("edited", _json(letter.edited))] if letter.edited is not None else []),
        ("tries", letter.tries),
        *((f"try {one.tries}", f"{instant(one.at)}  {one.reason}") for one in letter.history),
        ("reason", letter.reason),
    ])  # fmt: skip
    typer.echo(f"\n{letter.trace}")


@app.command()
def replay(
    ids: Ids = None, *, consumer: Consumer = None, key: Key = None, reason: Reason = None, everything: Everything = False,
    dry_run: DryRun = False, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Let the consumer try entries again, at once and with a fresh schedule. Safe to repeat."""
    from guilder.log.dead_letters import Action

    wanted = _selection(ids, consumer, key, reason, everything=everything)
    _act(Action.REPLAY, wanted, data, dry_run=dry_run, as_json=as_json)


@app.command()
def edit(
    id_: Id,
    payload: Annotated[Path, typer.Argument(metavar="FILE", help="Its new content as JSON, as `show` has it; - for standard input.")],
    dry_run: DryRun = False, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Put other content in an entry's place, and let the consumer try that. The entry stays in the log as it was."""
    from guilder.log.dead_letters import Action, payload_of

    letter = _found(id_, data)
    text = sys.stdin.buffer.read() if str(payload) == "-" else payload.read_bytes()
    new = _with_database(data, lambda db, _clock: payload_of(db, letter, text))
    _act(Action.REPLAY, _selection([id_], None, None, None), data, dry_run=dry_run, as_json=as_json, payload=new)


@app.command()
def discard(
    ids: Ids = None, *, consumer: Consumer = None, key: Key = None, reason: Reason = None, everything: Everything = False,
    dry_run: DryRun = False, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Give entries up: they are never handled, and their keys are open again. Safe to repeat."""
    from guilder.log.dead_letters import Action

    wanted = _selection(ids, consumer, key, reason, everything=everything)
    _act(Action.DISCARD, wanted, data, dry_run=dry_run, as_json=as_json)


def _selection(
    ids: list[str] | None, consumer: str | None, key: str | None, reason: str | None, *, everything: bool = False,
) -> "Selection":  # fmt: skip
    from guilder.cli.system import NoSystem
    from guilder.log.dead_letters import Selection

    if not (ids or consumer or key or reason or everything):
        raise NoSystem("say which: by their ids, --consumer, --key, --reason, or --all")
    return Selection(ids=tuple(ids or ()), consumer=consumer, key=key, reason=reason, closed=bool(ids))


def _act(
    action: "Action", wanted: "Selection", data: Data, *, dry_run: bool, as_json: bool, payload: bytes | None = None,
) -> None:  # fmt: skip
    """Do it and say what became of each; exit status 1 when a letter that was named was not open, or is not there."""
    from guilder.cli.output import fail, write_json
    from guilder.log.dead_letters import act, dead_letters

    async def do(db: "Database", clock: "Clock") -> "tuple[list[DeadLetter], list[Done]]":
        letters = await dead_letters(db, wanted)
        return letters, await act(db, clock, action, letters, dry_run=dry_run, payload=payload)

    letters, done = _with_database(data, do)
    missing = [one for one in wanted.ids if one not in {letter.id for letter in letters}]
    word = {"replay": "replayed", "discard": "discarded"}[action]
    other = [letter for letter in letters if letter.state not in ("open", word)]
    if missing or other:
        said = [f"there is no dead letter {one}" for one in missing] + [f"{one.id} was {one.state} before" for one in other]
        fail("; ".join(said), as_json=as_json)
    if as_json:
        write_json({"dead_letters": done})
    elif not done:
        typer.echo("there are no such dead letters")
    for one in () if as_json else done:
        typer.echo(f"{one.id}: {one.text}")


def _found(id_: str, data: Data) -> "DeadLetter":
    from guilder.cli.system import NoSystem
    from guilder.log.dead_letters import dead_letter

    letter = _with_database(data, lambda db, _clock: dead_letter(db, id_))
    if letter is None:
        raise NoSystem(f"there is no dead letter {id_}; `guilder dlq list --all` shows what there is")
    return letter


def _json(content: object) -> str:
    import msgspec

    return msgspec.json.encode(content).decode()


def _with_database(data: Data, work: "Callable[[Database, Clock], Awaitable[Result]]") -> Result:
    """Do something with the database of the system that the flags name."""
    from guilder.cli.system import with_database
    from guilder.core.clock import SystemClock
    from guilder.db import Database
    from guilder.role import run_in_loop
    from guilder.rooms import APP_ROLE, address

    with with_database(load(data_dir=data)) as settings:

        async def do() -> Result:
            db = await Database.connect(address(settings), role=APP_ROLE, max_size=1, name="dlq")
            try:
                return await work(db, SystemClock(settings.clock_file))
            finally:
                await db.close()

        return run_in_loop(do())
