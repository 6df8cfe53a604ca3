"""`guilder psp`: how PSPs behave, measured, and what our timeouts make of it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Final

import typer
from msgspec import Struct

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.psp.measure import Histogram, Wait
    from guilder.tuning import Timeouts, Tuning

app = typer.Typer(help="How PSPs behave.", no_args_is_help=True, rich_markup_mode=None)

PERCENTILES: Final = (0.5, 0.9, 0.99, 0.999)


class Latency(Struct, frozen=True, kw_only=True):
    """One operation's waits. Seconds; a percentile is None where so many were never answered. `cut_off` is a share of all."""

    connector: str
    operation: str
    wait: str
    count: int
    unanswered: int
    percentiles: tuple[float | None, ...]
    timeout: float
    cut_off: float


@app.callback()
def _group() -> None:
    """How PSPs behave."""


@app.command()
def latency(
    days: Annotated[int, typer.Option(min=1, max=92, help="How many days back, today included.")] = 7,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Print how long PSPs took, in percentiles, and the share of all that each timeout would cut off.

    `none` are those that were never answered; they count as slower than everything.
    """
    from guilder.cli.output import write_json, write_table
    from guilder.tuning import TRY_SECONDS_MAX

    settings = load(data_dir=data)
    found = list(_rows(_measured(data, days), settings.tuning))
    if as_json:
        write_json({"percentiles": PERCENTILES, "latencies": found})
    elif not found:
        typer.echo("nothing has been measured yet: the executor stores what it measures every few seconds")
    else:
        percentiles = [f"p{100 * one:g}" for one in PERCENTILES]
        columns = ["wait", "count", "none", *percentiles, "timeout", "cut off"]
        cells = [
            (
                " ".join(dict.fromkeys((one.connector, one.operation, one.wait))), one.count, one.unanswered,
                *(f"> {TRY_SECONDS_MAX:g} s" if value is None else _short(value) for value in one.percentiles),
                f"{one.timeout:g} s", f"{one.cut_off:.3%}",
            ) for one in found
        ]  # fmt: skip
        write_table("Latencies", columns, cells)


def _rows(measured: "Mapping[tuple[str, str, Wait], Histogram]", tuning: "Tuning") -> Iterator[Latency]:
    for (connector, operation, wait), histogram in sorted(measured.items()):
        timeout = _timeout(tuning.connector(connector).timeouts, wait)
        yield Latency(
            connector=connector, operation=operation or "connect", wait=wait.value, count=histogram.answered + histogram.unanswered,
            unanswered=histogram.unanswered, percentiles=tuple(map(histogram.percentile, PERCENTILES)), timeout=timeout,
            cut_off=histogram.share_beyond(timeout),
        )  # fmt: skip


def _timeout(timeouts: "Timeouts", wait: "Wait") -> float:
    """The timeout that ends this kind of wait. To connect and to sign on may take the time each."""
    return {"connect": timeouts.connect_seconds, "read": timeouts.read_seconds, "total": timeouts.total_seconds}[wait.value]


def _measured(data: Data, days: int) -> "Mapping[tuple[str, str, Wait], Histogram]":
    from guilder.cli.system import with_database
    from guilder.core.clock import DAY, Micros, SystemClock
    from guilder.db import Database
    from guilder.psp.store import measured
    from guilder.role import run_in_loop
    from guilder.rooms import READER_ROLE, address

    with with_database(load(data_dir=data)) as settings:

        async def read() -> "Mapping[tuple[str, str, Wait], Histogram]":
            db = await Database.connect(address(settings), role=READER_ROLE, max_size=1, name="psp")
            try:
                return await measured(db, since=Micros(SystemClock(settings.clock_file).now() - (days - 1) * DAY))
            finally:
                await db.close()

        return run_in_loop(read())


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
