"""What commands print: a table for people, one JSON document for programs."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec


def write_json(content: object) -> None:
    """One line of JSON on standard output, flushed, so that whoever reads the pipe has it at once."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(content), indent=0).decode() + "\n")
    sys.stdout.flush()


def write_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console().print(table)


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
