"""`guilder payments`: what happened to one payment, from its first request to its last cent."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.integrity import Moment, Story

app = typer.Typer(help="Look at single payments.", no_args_is_help=True, rich_markup_mode=None)

_COLOURS: Final = {
    "request": "bold cyan", "fallback": "bold red", "attempt": "bold", "psp": "magenta", "outcome": "bold green",
    "challenge": "blue", "ledger": "yellow", "balance": "green", "event": "blue", "webhook": "blue", "open": "bold red",
    "order": "bold cyan",
}  # fmt: skip


@app.callback()
def _group() -> None:
    """Keeps `show` a command of its own while it is the only one."""


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A payment, or a charge, refund or attempt of it.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show a payment's whole story as one timeline; card data is masked."""
    from guilder.cli.output import write_json
    from guilder.cli.system import with_database
    from guilder.integrity import tell
    from guilder.role import run_in_loop
    from guilder.rooms import address

    with with_database(load(data_dir=data)) as settings:
        story = run_in_loop(tell(address(settings), id_))
    if as_json:
        write_json(story)
    else:
        _show(story)


def _show(story: "Story") -> None:
    from rich.console import Console
    from rich.table import Table

    from guilder.cli.times import instant
    from guilder.core.money import Money

    console = Console()
    mode = "live" if story.livemode else "test"
    console.print(
        f"[bold]{story.payment}[/]  {Money(story.amount, story.currency)}  [bold]{story.state.replace('_', ' ')}[/]\n"
        f"{story.account}, {mode} mode, created {instant(story.created_at)} UTC",
        highlight=False,
    )
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    day, before = "", ""
    for moment in story.moments:
        date, at = instant(moment.at, fine=True).split(" ")
        if date != day:
            table.add_row(f"\n[bold]{date}[/]")
            day, before = date, ""
        table.add_row(at if at != before else "", f"[{_COLOURS[moment.kind]}]{moment.kind}[/]", _words(moment))
        before = at
    console.print(table)
    if not story.all_events:
        console.print("\nThis account has had so many events since that only those around the moments above were looked for.")


def _words(moment: "Moment") -> str:
    """What a moment says, in one cell: itself, what it is about, and the rest below."""
    from rich.markup import escape

    row = " [dim](told by its row)[/]" if moment.told_by_row else ""
    about = f"  [dim]{escape(moment.about)}[/]" if moment.about else ""
    if moment.kind == "event":
        return f"{escape(moment.what)}{about}"
    detail = f"\n[dim]{escape(moment.detail)}[/]" if moment.detail else ""
    return f"{escape(moment.what)}{row}{about}{detail}"
