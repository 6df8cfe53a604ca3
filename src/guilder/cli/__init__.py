"""The command line: one file per group of commands, everything heavy imported inside the command that needs it.

Owns:       nothing.
Announces:  nothing.
May import: everything.
Start with: up.py.
"""

import sys
from typing import Annotated

import typer

from guilder import __version__
from guilder.cli import (
    brand,
    check,
    clock,
    config,
    demo,
    dlq,
    events,
    keys,
    listen,
    log,
    migrate,
    network,
    payments,
    psp,
    quarantine,
    revenue,
    route,
    run,
    up,
    webhooks,
)
from guilder.cli.output import fail
from guilder.core.errors import GuilderError

app = typer.Typer(
    name="guilder",
    help="A payment system that you run yourself.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: the rich one costs more than everything else of `guilder --help`.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.command("run")(run.run)
app.command("demo")(demo.demo)
app.command("migrate")(migrate.migrate)
app.command("check")(check.check)
app.command("revenue")(revenue.revenue)
app.command("network")(network.network)
app.command("listen")(listen.listen)
app.command("brand")(brand.brand)
app.add_typer(payments.app, name="payments")
app.add_typer(events.app, name="events")
app.add_typer(keys.app, name="keys")
app.add_typer(clock.app, name="clock")
app.add_typer(config.app, name="config")
app.add_typer(dlq.app, name="dlq")
app.add_typer(log.app, name="log")
app.add_typer(psp.app, name="psp")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(route.app, name="route")
app.add_typer(quarantine.app, name="quarantine")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's shape of a callback
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """A payment system that you run yourself."""


def main() -> None:
    """Run one command; whatever we refuse is one line on standard error and exit status 1."""
    try:
        app()
    except GuilderError as error:
        fail(str(error), as_json="--json" in sys.argv)
