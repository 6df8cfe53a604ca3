"""`guilder check`: proves, from all of the books, that what we promise holds."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.config import Settings
    from guilder.integrity import Progress, Result



def check(
    data: Data = None,
    witness: Annotated[
        str | None,
        typer.Option("--witness", metavar="URL", help="The bank world's control port, where it is not this system's own."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every invariant. Exit status 1 when one is broken, with the first violation named."""
    from guilder.cli.output import write_json

    found = results(load(data_dir=data), witness, quiet=as_json)
    broken = [violation for result in found for violation in result.violations]
    if as_json:
        first = {"first_violation": broken[0]} if broken else {}
        write_json({"ok": not broken, **first, "checks": found})
    else:
        _show(found)
    if broken:
        sys.stderr.write(f"guilder: {broken[0].check}: {broken[0].subject}: {broken[0].message}\n")
        raise typer.Exit(1)


def results(settings: "Settings", witness: str | None, *, quiet: bool) -> "list[Result]":
    """Find the system and the bank world, and make every check."""
    from guilder import folder
    from guilder.cli.system import with_database
    from guilder.core.clock import SystemClock
    from guilder.integrity import examine, over_http
    from guilder.role import run_in_loop
    from guilder.rooms import address

    running = settings.database_url is not None or folder.is_alive(settings)
    with with_database(settings) as found, _witness(found, witness, running=running) as truth, _meter(quiet=quiet) as tell:

        async def look() -> "list[Result]":
            now = SystemClock(found.clock_file).now()
            lines = over_http(truth) if truth else None
            examined = examine(address(found), now=now, running=running, witness=lines, tell=tell, elsewhere=found.tuning.added)
            return [result async for result in examined]

        return run_in_loop(look())


@contextmanager
def _witness(settings: "Settings", given: str | None, *, running: bool) -> "Iterator[str | None]":
    """The control port of the bank world: the given one, the running system's, or one that is started for as long as it takes."""
    import socket

    from guilder import folder

    if given is not None:
        yield given.rstrip("/")
    elif running:
        known = folder.read_running(settings) if folder.is_alive(settings) else None
        address = known.network_control if known else settings.network_control
        host, _, port = (address or "").removeprefix("http://").rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
        except (OSError, ValueError):
            yield None
        else:
            yield address
    elif settings.network_dir.is_dir():
        with _own_bank_world(settings) as address:
            yield address
    else:
        yield None


@contextmanager
def _own_bank_world(settings: "Settings") -> Iterator[str]:
    """The stopped system's bank world, alone and on free ports, as a process of its own."""
    import json
    import subprocess

    places = ("--data", str(settings.network_dir), "--clock-file", str(settings.clock_file))
    command = [sys.executable, "-m", "guilder.network", *places]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - our own program
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                from guilder.integrity import WitnessSilent

                raise WitnessSilent(f"the bank world of {settings.network_dir} does not start; is another one running on it?")
            yield f"http://127.0.0.1:{json.loads(line)['http_port']}"
        finally:
            process.terminate()


@contextmanager
def _meter(*, quiet: bool) -> "Iterator[Callable[[Progress], None]]":
    """Shows how far the present check has come, where a person looks."""
    if quiet or not sys.stderr.isatty():
        yield lambda _progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Looking at the books", total=None)
        yield lambda progress: bar.update(task, description=progress.title, completed=progress.done, total=progress.total)


def _show(results: "list[Result]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name, side in (("", "left"), ("Invariant", "left"), ("Examined", "right"), ("Violated", "right"), ("Time", "right")):
        table.add_column(name, justify="right" if side == "right" else "left")
    for result in results:
        mark = "[yellow]-[/]" if result.skipped else "[red]✗[/]" if result.violated else "[green]✓[/]"
        violated = "" if result.skipped else str(result.violated)
        title = escape(result.title) + (f" [yellow](skipped: {escape(result.skipped)})[/]" if result.skipped else "")
        table.add_row(mark, title, f"{result.examined:,}", violated, f"{result.seconds:.2f} s")
    console.print(table)
    for result in results:
        for violation in result.violations:
            words = f"[bold]{escape(violation.subject)}[/] {escape(violation.message)}"
            console.print(f"[red]✗[/] {result.name}: {words}", highlight=False)
        if result.violated > len(result.violations):
            console.print(f"  and {result.violated - len(result.violations):,} more of {result.name}")
        for note in result.notes:
            console.print(f"[dim]note[/] {escape(note.subject)} {escape(note.message)}", highlight=False)
    if not any(result.violated for result in results):
        console.print("[bold green]Everything is as it should be.[/]")
