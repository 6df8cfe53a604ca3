"""`guilder network`: the sandbox bank world alone, for those who test something else against it."""

from pathlib import Path
from typing import Annotated

import typer


def network(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Where it keeps its truth.")] = Path("guilder-network"),
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    iso_port: Annotated[int, typer.Option(help="ISO 8583 over TCP; 0: any free port.")] = 0,
    http_port: Annotated[int, typer.Option(help="The control port; 0: any free port.")] = 0,
    clock_file: Annotated[Path | None, typer.Option(help="Holds the offset of business time.")] = None,
) -> None:
    """Run the sandbox bank world alone. Prints one line of JSON when it is ready."""
    from guilder.network.__main__ import main

    words = ["--data", str(data), "--host", host, "--iso-port", str(iso_port), "--http-port", str(http_port)]
    raise typer.Exit(main(words + (["--clock-file", str(clock_file)] if clock_file else [])))
