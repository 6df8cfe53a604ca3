"""What commands print: a table for people, one JSON document for programs."""

import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec

# Cells of so many characters are never folded: numbers, dates, states.
NARROW: Final = 12
# Wider than any table of ours.
PIPE_WIDTH: Final = 1_000


def write_json(content: object) -> None:
    """One line of JSON on standard output, flushed, so that whoever reads the pipe has it at once."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(content), indent=0).decode() + "\n")
    sys.stdout.flush()


def write_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output: as wide as it has to be for programs, and for people as their terminal is.

    What is narrow stays whole there, so that long texts are folded and numbers are not.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column, *below in zip(columns, *cells, strict=True):
        table.add_column(column, overflow="fold", no_wrap=max(map(len, below), default=0) <= NARROW)
    for row in cells:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def write_lines(pairs: Sequence[tuple[str, Any]]) -> None:
    """Names and values, aligned."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        sys.stdout.write(f"  {name.ljust(width)}   {value}\n")
    sys.stdout.flush()


def fail(message: str, *, as_json: bool) -> NoReturn:
    """Say what is wrong and exit with status 1."""
    if as_json:
        write_json({"error": message})
    sys.stderr.write(f"guilder: {message}\n")
    sys.exit(1)
