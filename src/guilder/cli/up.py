"""`guilder up`: the whole system in one go, until it is told to stop."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from guilder.cli.options import Data, Host, Json, Port, load

if TYPE_CHECKING:
    from guilder.children import Child
    from guilder.config import Settings
    from guilder.folder import Sandbox


def up(
    data: Data = None,
    port: Port = None,
    host: Host = None,
    api_processes: Annotated[
        int | None,
        typer.Option(help="How many processes serve the API.  [env GUILDER_API_PROCESSES; default 1]"),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="As root: run as this user, whose the data folder then is.  [env GUILDER_USER]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start everything, sandbox bank included, and stay."""
    from guilder.supervisor import Supervisor

    settings = load(user=user or os.environ.get("GUILDER_USER"), data_dir=data, port=port, host=host, api_processes=api_processes)
    if as_json:
        Supervisor(settings).run(_print_json)
        return
    narrator = Narrator(settings)
    try:
        Supervisor(settings, say=narrator.say).run(narrator.show)
    finally:
        narrator.close()


def _print_json(settings: "Settings", sandbox: "Sandbox") -> None:
    from guilder.cli.output import write_json

    write_json(
        {
            "ready": True,
            "api": settings.api_url,
            "checkout": settings.checkout_origin,
            "dashboard": None,
            "secret_key": sandbox.secret_key,
            "publishable_key": sandbox.publishable_key,
        }
    )


class Narrator:
    """Tells people what is being done. The spinner needs a thread, so it turns in a short-lived child of its own."""

    def __init__(self, settings: "Settings") -> None:
        from guilder.children import fork

        self._settings = settings
        self._child: Child | None = None
        if sys.stderr.isatty():
            hears, self._pipe = os.pipe2(os.O_CLOEXEC)
            self._child = fork(_spinning(hears), keep=[hears])
            os.close(hears)

    def say(self, text: str) -> None:
        """What is being done now, in a few words."""
        if self._child is not None:
            with suppress(BrokenPipeError):
                os.write(self._pipe, text.encode() + b"\n")
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def show(self, settings: "Settings", sandbox: "Sandbox") -> None:
        """Everything is ready: say where, and how to begin."""
        from guilder.cli.output import write_lines

        self.close()
        sys.stdout.write("\nGuilder is ready. Ctrl-C stops it.\n\n")
        write_lines(
            [
                ("API", settings.api_url),
                ("Payment page", settings.checkout_origin),
                ("Secret key", sandbox.secret_key),
                ("Publishable key", sandbox.publishable_key),
                ("Bank world", settings.network_control),
                ("Log", "PostgreSQL" if settings.kafka is None else f"Kafka at {settings.kafka.bootstrap}"),
                ("Data", settings.data_dir),
                ("Try", f"curl {settings.api_url}/v1/balance -u {sandbox.secret_key}:"),
            ]
        )

    def close(self) -> None:
        """End the spinner."""
        if self._child is None:
            return
        os.close(self._pipe)
        os.waitpid(self._child.pid, 0)
        self._child.close()
        self._child = None


def _spinning(hears: int) -> "Callable[[Callable[[str], None]], int]":
    def work(_tell: "Callable[[str], None]") -> int:
        from rich.console import Console

        with open(hears, encoding="utf-8") as lines, Console(stderr=True).status("Starting") as status:
            for line in lines:
                status.update(line.strip())
        return 0

    return work
